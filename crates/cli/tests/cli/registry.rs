//! `model register` and `model check`, and what a start does with a model that is not registered.

use std::fs;
use std::path::Path;

use postern_testkit::gguf::{Entry, TinyModel};
use postern_testkit::models::write_registry;

use crate::run::{Ran, coffee_model, home, postern};

/// A folder with a pinned copy of the default model under another id.
fn with_model(id: &str) -> tempfile::TempDir {
    let home = home();
    fs::copy(coffee_model(), home.path().join("m.gguf")).expect("a copy");
    postern(home.path(), ["model", "pin", "m.gguf", "--id", id]).exits(0);
    home
}

/// A local call to `m.gguf`.
fn generate(home: &Path, more: &[&str]) -> Ran {
    let call = ["generate", "--model", "m.gguf", "--state-dir", "state"];
    let wish = ["--template", "coffee.v1", "--var", "wishes=decaf"];
    postern(home, call.iter().chain(&wish).chain(more))
}

/// The shipped registry with some changes, and its card, in `home`.
fn write_shipped(home: &Path, changes: &[(&str, &str)]) {
    let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/policy");
    let mut text = fs::read_to_string(policy.join("models.yaml")).expect("the shipped registry");
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    fs::write(home.join("models.yaml"), text).expect("a registry");
    fs::copy(policy.join("coffee-1.md"), home.join("coffee-1.md")).expect("a card");
}

#[test]
fn an_entry_is_printed_filled_in_and_served() {
    let home = with_model("mine");
    let printed = postern(home.path(), ["model", "register", "m.gguf"]).exits(0);
    let entry = postern(home.path(), ["model", "register", "m.gguf", "--entry"]).exits(0);
    assert!(printed.stdout.ends_with(&entry.stdout), "{entry:#?}");
    assert!(
        entry.stdout.starts_with(
            "  # The file says: Postern Coffee 1, llama, 1 049 728 weights in F32 and Q8_0, "
        ),
        "{entry:#?}"
    );

    let file = home.path().join("models.yaml");
    let serve = ["--models", "models.yaml"];
    let mut text = printed.stdout;
    for (empty, filled) in [
        ("data_provenance: \"\"", "data_provenance: generated"),
        ("intended_uses: []", "intended_uses: [recommendation]"),
        ("licence: \"\"", "licence: Apache-2.0"),
        ("limitations: []", "limitations: [It knows one town.]"),
        ("provider: \"\"", "provider: us"),
        ("risk: \"\"", "risk: low"),
        ("version: \"\"", "version: \"1\""),
    ] {
        // What the file says itself is filled in already.
        if text.contains(empty) {
            fs::write(&file, &text).expect("a registry");
            let field = empty.split(':').next().expect("a field");
            let refused = generate(home.path(), &serve).exits(1);
            assert!(refused.stderr.contains("is empty"), "{field}: {refused:#?}");
            assert!(refused.stderr.contains("models.yaml:"), "{refused:#?}");
            text = text.replace(empty, filled);
        }
    }
    fs::write(&file, &text).expect("a registry");
    let cardless = generate(home.path(), &serve).exits(1);
    for part in ["models.mine.card` names `mine.md`", "cannot be read"] {
        assert!(cardless.stderr.contains(part), "{cardless:#?}");
    }
    fs::write(home.path().join("mine.md"), "# mine\n").expect("a card");
    let check = [
        "model",
        "check",
        "models.yaml",
        "--model",
        "m.gguf",
        "--template",
        "coffee.v1",
    ];
    postern(home.path(), check).exits(0);
    generate(home.path(), &serve).exits(0);
}

#[test]
fn an_entry_has_what_the_model_file_says_and_nothing_that_could_break_it() {
    let home = home();
    let model = TinyModel::new("llama")
        .builder()
        .entry("general.version", Entry::Text("v\"1\": x".to_owned()))
        .entry("general.organization", Entry::Text("two\nlines".to_owned()))
        .entry("general.license", Entry::Text("mit".to_owned()))
        .build();
    fs::write(home.path().join("t.gguf"), model).expect("a file");
    postern(home.path(), ["model", "pin", "t.gguf"]).exits(0);
    let printed = postern(home.path(), ["model", "register", "t.gguf"]).exits(0);
    for line in [
        "    version: \"v\\\"1\\\": x\" ",
        "    provider: \"\" ",
        "    licence: \"mit\" ",
        "    card: \"t.md\" ",
    ] {
        assert!(printed.stdout.contains(line), "{line}: {printed:#?}");
    }
}

#[test]
fn a_model_that_is_not_registered_is_not_served() {
    let home = with_model("mine");
    let refused = generate(home.path(), &[]).exits(1);
    for part in [
        "the embedded models.yaml",
        "`mine` is not in the registry",
        "postern model register",
        "`[governance] models`",
    ] {
        assert!(refused.stderr.contains(part), "{part}: {refused:#?}");
    }
    assert!(!home.path().join("state").exists(), "nothing was begun");

    postern(home.path(), ["certs", "dev", "--dir", "state"]).exits(0);
    let serve = ["serve", "--state-dir", "state", "--model", "m.gguf"];
    let refused = postern(home.path(), serve).exits(1);
    assert!(
        refused.stderr.contains("`mine` is not in the registry"),
        "{refused:#?}"
    );
}

#[test]
fn a_registered_model_is_served_within_risk_and_use_only() {
    #[track_caller]
    fn check(changes: &[(&str, &str)], expected: &str) {
        let home = with_model("coffee-1");
        write_shipped(home.path(), changes);
        let refused = generate(home.path(), &["--models", "models.yaml"]).exits(1);
        assert!(refused.stderr.contains(expected), "{refused:#?}");
        assert!(refused.stderr.contains("models.yaml:"), "{refused:#?}");
    }
    check(
        &[("    risk: low", "    risk: high")],
        "has the risk high, and only risks up to medium are approved",
    );
    check(&[("d5ac1fb3", "00000000")], "with another SHA-256");
    check(
        &[("[recommendation]", "[poetry]")],
        "is meant for poetry, and no template is",
    );
    check(
        &[("    card: coffee-1.md\n", "")],
        "field `models.coffee-1.card` is missing",
    );

    // It serves for one template, and each call to another is refused.
    let home = home();
    let triage = [
        "generate",
        "--state-dir",
        "state",
        "--template",
        "triage.v1",
    ];
    let call = ["--var", "log=boom", "--json"];
    let refused = postern(home.path(), triage.iter().chain(&call)).exits(3);
    let kind = &refused.json()["error"]["problem"]["type"];
    assert_eq!(kind, "urn:postern:problem:model-use");
}

#[test]
fn a_check_tells_which_model_covers_which_template() {
    let home = home();
    let shipped = postern(home.path(), ["model", "check"]).exits(6);
    for part in ["recommendation: coffee-1", "test-generation: no model"] {
        assert!(shipped.stdout.contains(part), "{part}: {shipped:#?}");
    }
    assert!(
        shipped
            .stderr
            .contains("2 of 3 templates are covered by no model"),
        "{shipped:#?}"
    );
    postern(home.path(), ["model", "check", "--template", "coffee.v1"]).exits(0);
    let unknown = ["model", "check", "--template", "tea.v1"];
    let unknown = postern(home.path(), unknown).exits(1);
    assert!(
        unknown.stderr.contains("there is no template `tea.v1`"),
        "{unknown:#?}"
    );

    let json = postern(home.path(), ["model", "check", "--json"])
        .exits(6)
        .json();
    assert_eq!(json["passed"], false);
    assert_eq!(json["models"][0]["id"], "coffee-1");
    assert_eq!(json["models"][0]["approved"], true);
    assert_eq!(json["models"][0]["templates"][0], "coffee.v1");
    assert_eq!(json["templates"][0]["models"][0], "coffee-1");
    assert_eq!(json["templates"][2]["use_case"], "triage");
    assert_eq!(json["templates"][2]["models"], serde_json::json!([]));
}

#[test]
fn a_check_fails_on_risk_and_on_a_bad_registry() {
    let home = home();
    write_shipped(home.path(), &[("    risk: low", "    risk: high")]);
    let check = ["model", "check", "models.yaml", "--template", "coffee.v1"];
    let risky = postern(home.path(), check).exits(6);
    assert!(
        risky
            .stderr
            .contains("1 of 1 models have a risk above medium"),
        "{risky:#?}"
    );

    write_shipped(home.path(), &[("    card: coffee-1.md\n", "")]);
    let json = [check.as_slice(), &["--json"]].concat();
    let bad = postern(home.path(), json).exits(1).json();
    let message = bad["error"]["message"].as_str().expect("a message");
    assert!(
        message.contains("models.coffee-1.card` is missing"),
        "{message}"
    );
}

#[test]
fn a_check_of_one_model_counts_no_other() {
    let home = with_model("mine");
    let check = |more: &[&str]| {
        let fixed = ["model", "check", "--json", "--model", "m.gguf"];
        postern(home.path(), fixed.iter().chain(more))
    };
    let embedded = check(&["--template", "coffee.v1"]).exits(6).json();
    let refused = embedded["model"]["refused"].as_str().expect("a reason");
    assert!(
        refused.contains("`mine` is not in the registry"),
        "{refused}"
    );
    assert_eq!(embedded["templates"][0]["models"], serde_json::json!([]));

    write_registry(&home.path().join("m.manifest.json"));
    let json = check(&["models.yaml"]).exits(0).json();
    assert_eq!(json["model"]["refused"], serde_json::Value::Null);
    assert_eq!(json["passed"], true);
}
