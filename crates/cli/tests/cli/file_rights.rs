//! What every user of the machine could change is not gone by: a clear refusal before any call.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use crate::run::{home, postern};

/// A user that is neither root nor, as a rule, anybody.
const STRANGER: u32 = 65534;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("our own file");
}

/// A folder with all that `serve` can be given, each in a file of its own.
fn with_everything() -> tempfile::TempDir {
    let home = home();
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    let copy = |from: &str, to: &str| {
        fs::copy(deploy.join(from), home.path().join(to)).expect("a copy");
    };
    for folder in ["rules", "rules/prompts"] {
        fs::create_dir(home.path().join(folder)).expect("a folder");
        set_mode(&home.path().join(folder), 0o755);
    }
    for file in [
        "policy.yaml",
        "authorization.cedar",
        "models.yaml",
        "coffee-1.md",
    ] {
        copy(&format!("policy/{file}"), &format!("rules/{file}"));
    }
    for template in ["coffee.v1", "impl-test-gen.v1", "triage.v1"] {
        let file = format!("prompts/{template}.yaml");
        copy(&file, &format!("rules/{file}"));
    }
    let text = "[governance]\nprompts = \"rules/prompts\"\npolicy = \"rules/policy.yaml\"\n\
                models = \"rules/models.yaml\"\n";
    fs::write(home.path().join("postern.toml"), text).expect("a file");
    postern(home.path(), ["certs", "dev", "--dir", "state"]).exits(0);
    home
}

/// `serve` must refuse to start after `name` got `mode`, and tell path, mode and remedy.
#[track_caller]
fn check_refused(name: &str, mode: u32, told: &str) {
    let home = with_everything();
    let path = home.path().join(name);
    set_mode(&path, mode);
    let serve = ["serve", "--config", "postern.toml", "--state-dir", "state"];
    let ran = postern(home.path(), serve).exits(1);
    for part in [told, &format!("{mode:04o}"), "chmod"] {
        assert!(ran.stderr.contains(part), "{name}: {part:?}: {ran:#?}");
    }
    let facts = fs::metadata(&path).expect("it is still there");
    assert_eq!(
        facts.mode() & 0o7777,
        mode,
        "{name}: the mode is left alone"
    );
}

#[test]
fn a_file_that_every_user_may_change_is_refused() {
    for name in [
        "postern.toml",
        "rules/policy.yaml",
        "rules/authorization.cedar",
        "rules/models.yaml",
        "rules/coffee-1.md",
        "rules/prompts/coffee.v1.yaml",
        "state/ca.pem",
        "state/server.pem",
        "state/server.key",
        "state/token.key",
    ] {
        check_refused(name, 0o666, name);
    }
}

#[test]
fn a_folder_in_which_every_user_may_replace_files_is_refused() {
    check_refused("state", 0o777, "state/server.pem");
    check_refused("rules", 0o777, "chmod o-w rules");
    check_refused("rules/prompts", 0o777, "rules/prompts");
    check_refused("rules/prompts", 0o1777, "rules/prompts");
}

#[test]
fn no_keys_are_made_in_a_folder_that_every_user_may_change() {
    let home = home();
    let open = home.path().join("open");
    fs::create_dir(&open).expect("a folder");
    set_mode(&open, 0o777);
    let ran = postern(home.path(), ["certs", "dev", "--dir", "open"]).exits(1);
    assert!(ran.stderr.contains("chmod o-w open"), "{ran:#?}");
    assert_eq!(fs::read_dir(&open).expect("the folder").count(), 0);
}

#[test]
fn an_audit_folder_that_others_may_write_to_is_refused() {
    let home = home();
    let shared = home.path().join("shared");
    fs::create_dir(&shared).expect("a folder");
    set_mode(&shared, 0o770);
    let call = ["generate", "--template", "coffee.v1", "--var", "wishes=x"];
    let ran = postern(home.path(), call.iter().chain(&["--audit-dir", "shared"])).exits(1);
    assert!(ran.stderr.contains("chmod 700 shared"), "{ran:#?}");
    assert_eq!(fs::read_dir(&shared).expect("the folder").count(), 0);
}

#[test]
fn in_a_folder_such_as_tmp_only_the_own_files_count() {
    let home = with_everything();
    set_mode(&home.path().join("rules"), 0o1777);
    let call = [
        "generate",
        "--policy",
        "rules/policy.yaml",
        "--template",
        "coffee.v1",
        "--var",
        "wishes=x",
        "--max-tokens",
        "1",
    ];
    postern(home.path(), call).exits(0);

    let planted = home.path().join("rules/policy.yaml");
    if let Err(error) = chown(&planted, Some(STRANGER), None) {
        println!("skipped: only root can give a file away ({error})");
        return;
    }
    let ran = postern(home.path(), call).exits(1);
    let told = format!("rules/policy.yaml is not used, since it belongs to user {STRANGER}");
    assert!(ran.stderr.contains(&told), "{ran:#?}");
}
