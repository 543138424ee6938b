//! `token issue`: its output, its bounds and its key.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::run::{Ran, home, postern};

fn issue(home: &Path, arguments: &[&str]) -> Ran {
    let fixed = ["token", "issue", "--key", "state/token.key"];
    postern(home, fixed.iter().chain(arguments))
}

fn with_key() -> tempfile::TempDir {
    let home = home();
    postern(
        home.path(),
        ["certs", "dev", "--dir", "state", "--client", "kiosk"],
    )
    .exits(0);
    home
}

const KIOSK: [&str; 4] = ["--identity", "kiosk", "--template", "coffee.v1"];

#[test]
fn a_token_is_one_line_and_no_two_are_alike() {
    let home = with_key();
    let first = issue(home.path(), &KIOSK).exits(0).stdout;
    let second = issue(home.path(), &KIOSK).exits(0).stdout;
    assert!(first.starts_with("pst1."), "{first}");
    assert_eq!(first.lines().count(), 1);
    assert_ne!(first, second);
}

#[test]
fn a_token_file_is_private_and_kept() {
    let home = with_key();
    let to_file = [KIOSK.as_slice(), &["--out", "tokens/kiosk.token"]].concat();
    let ran = issue(home.path(), &to_file).exits(0);
    assert_eq!(ran.stdout, "", "the token went to the file only");
    let path = home.path().join("tokens/kiosk.token");
    let mode = fs::metadata(&path).expect("the file").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let token = fs::read_to_string(&path).expect("the file");

    let refused = issue(home.path(), &to_file).exits(1);
    assert!(
        refused.stderr.contains("kiosk.token exists"),
        "{refused:#?}"
    );
    assert_eq!(fs::read_to_string(&path).expect("the file"), token);

    issue(home.path(), &[to_file.as_slice(), &["--force"]].concat()).exits(0);
    assert_ne!(fs::read_to_string(&path).expect("the file"), token);
}

#[test]
fn claims_out_of_bounds_are_refused() {
    #[track_caller]
    fn check(arguments: &[&str], code: i32, expected: &str) {
        let home = with_key();
        let ran = issue(home.path(), arguments).exits(code);
        assert!(ran.stderr.contains(expected), "{ran:#?}");
        assert_eq!(ran.stdout, "");
    }
    check(&[KIOSK.as_slice(), &["--ttl", "25h"]].concat(), 1, "86400");
    check(
        &["--identity", "No One", "--template", "coffee.v1"],
        2,
        "No One",
    );
    check(
        &["--identity", "kiosk", "--template", "coffee"],
        2,
        "coffee",
    );
}

#[test]
fn without_a_private_key_there_is_no_token() {
    let home = with_key();
    let key = home.path().join("state/token.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("our own file");
    let exposed = issue(home.path(), &KIOSK).exits(1);
    assert!(exposed.stderr.contains("0644"), "{exposed:#?}");

    fs::remove_file(&key).expect("removable");
    let missing = issue(home.path(), &KIOSK).exits(1);
    assert!(missing.stderr.contains("postern certs dev"), "{missing:#?}");
    assert!(!key.exists(), "a key is never made by the way");
}
