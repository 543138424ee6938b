//! `model pin`, `inspect` and `tokenize`, on the default model and on files that are none.

use std::fs;

use postern_testkit::gguf::{Entry, GgufBuilder, TinyModel};
use postern_testkit::models::write_registry;
use serde_json::{Value, json};

use crate::run::{coffee_model, home, on_terminal, postern, postern_fed};

#[test]
fn a_pin_names_the_file_its_size_and_digest() {
    let home = home();
    let file = home.path().join("my model.gguf");
    fs::copy(coffee_model(), &file).expect("a copy");
    postern(home.path(), ["model", "pin", "my model.gguf"]).exits(0);
    let manifest = fs::read(home.path().join("my model.manifest.json")).expect("the manifest");
    let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
    let shipped = fs::read(coffee_model().with_file_name("manifest.json")).expect("shipped");
    let shipped: Value = serde_json::from_slice(&shipped).expect("JSON");
    assert_eq!(
        manifest,
        json!({
            "id": "my-model",
            "path": "my model.gguf",
            "sha256": shipped["sha256"],
            "bytes": shipped["bytes"],
        })
    );

    let again = postern(home.path(), ["model", "pin", "my model.gguf"]).exits(1);
    assert!(
        again.stderr.contains("my model.manifest.json exists"),
        "{again:#?}"
    );
    let arguments = ["model", "pin", "my model.gguf", "--force", "--id", "other"];
    assert!(
        postern(home.path(), arguments)
            .exits(0)
            .stdout
            .contains("as other")
    );
}

#[test]
fn a_pin_needs_a_file_and_a_valid_id() {
    let home = home();
    let missing = postern(home.path(), ["model", "pin", "no.gguf"]).exits(1);
    assert!(missing.stderr.contains("no.gguf"), "{missing:#?}");
    fs::copy(coffee_model(), home.path().join("a.gguf")).expect("a copy");
    let bad = postern(home.path(), ["model", "pin", "a.gguf", "--id", "a b"]).exits(1);
    assert!(bad.stderr.contains("invalid `id`"), "{bad:#?}");
    assert!(!home.path().join("a.manifest.json").exists());
}

#[test]
fn inspection_shows_the_default_model() {
    let home = home();
    let file = coffee_model();
    let file = file.to_str().expect("a UTF-8 path");
    let json = postern(home.path(), ["model", "inspect", file, "--json"])
        .exits(0)
        .json();
    assert_eq!(json["architecture"], "llama");
    assert_eq!(json["chat_template"], true);
    assert!(json["by_quantization"].is_array(), "{json}");
    assert!(json["backend"].is_string(), "{json}");
    let tensors = json["tensors"].as_array().expect("an array");
    assert!(
        tensors
            .iter()
            .any(|tensor| tensor["quantization"] == "Q8_0")
    );

    let text = postern(home.path(), ["model", "inspect", file])
        .exits(0)
        .stdout;
    for expected in [
        "architecture    llama",
        "chat template   yes",
        "Q8_0",
        "Tensors",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn tokens_give_the_text_back() {
    let home = home();
    let file = coffee_model();
    let file = file.to_str().expect("a UTF-8 path");
    let text = "a quiet room, please";
    let tokenize = |extra: &[&str]| {
        let arguments = ["model", "tokenize", file]
            .into_iter()
            .chain(extra.iter().copied());
        postern_fed(home.path(), arguments, text).exits(0)
    };
    let from_argument = tokenize(&[text, "--json"]).json();
    let from_stdin = tokenize(&["-", "--json"]).json();
    assert_eq!(from_argument, from_stdin);
    assert_eq!(
        from_argument,
        tokenize(&["--json"]).json(),
        "standard input is the default"
    );

    let ids = from_argument["ids"].as_array().expect("ids");
    let pieces = from_argument["pieces"].as_array().expect("pieces");
    assert_eq!(ids.len(), pieces.len());
    let joined: String = pieces
        .iter()
        .map(|piece| piece.as_str().expect("a string"))
        .collect();
    assert_eq!(joined.replace(['Ġ', '▁'], " ").trim_start(), text);

    let plain = tokenize(&[text]).stdout;
    assert_eq!(plain.lines().count(), ids.len());
}

#[test]
fn files_that_are_no_models_are_told_apart() {
    #[track_caller]
    fn check(content: &[u8]) {
        let home = home();
        fs::write(home.path().join("bad.gguf"), content).expect("a file");
        for command in ["inspect", "tokenize"] {
            let ran = postern(home.path(), ["model", command, "bad.gguf", "--json"]).exits(1);
            let json = ran.json();
            let message = json["error"]["message"].as_str().expect("a message");
            assert!(message.contains("bad.gguf"), "{message}");
            assert_eq!(json["error"]["exit_code"], 1);
        }
        let ran = postern(home.path(), ["model", "pin", "bad.gguf"]).exits(1);
        assert!(ran.stderr.contains("bad.gguf: not a usable"), "{ran:#?}");
        assert!(!home.path().join("bad.manifest.json").exists());
    }
    check(b"");
    check(b"GGUF");
    check(b"not a model at all, but long enough to hold a header of some kind");
    // Version 3, and then counts that no memory could hold.
    check(&[b"GGUF\x03\0\0\0".as_slice(), &[0xff; 64]].concat());
    let whole = fs::read(coffee_model()).expect("the model");
    check(&whole[..whole.len() / 1000]);
}

#[test]
fn a_vocabulary_without_weights_is_shown_but_not_pinned() {
    let home = home();
    let vocabulary = GgufBuilder::new()
        .entry("general.architecture", Entry::Text("llama".to_owned()))
        .build();
    fs::write(home.path().join("vocabulary.gguf"), vocabulary).expect("a file");
    let pinned = postern(home.path(), ["model", "pin", "vocabulary.gguf"]).exits(1);
    assert!(
        pinned.stderr.contains("vocabulary.gguf: it has no tensors"),
        "{pinned:#?}"
    );
    assert!(!home.path().join("vocabulary.manifest.json").exists());

    let shown = postern(home.path(), ["model", "inspect", "vocabulary.gguf"]).exits(0);
    for expected in ["cannot be served", "no tensors"] {
        assert!(shown.stdout.contains(expected), "{shown:#?}");
    }
}

#[test]
fn an_unknown_architecture_is_pinned_with_a_warning() {
    let home = home();
    let model = TinyModel::new("llama")
        .builder()
        .entry("general.architecture", Entry::Text("mamba".to_owned()))
        .build();
    fs::write(home.path().join("other.gguf"), model).expect("a file");
    let pinned = postern(home.path(), ["model", "pin", "other.gguf"]).exits(0);
    for expected in ["warning: other.gguf is pinned", "\"mamba\""] {
        assert!(pinned.stderr.contains(expected), "{pinned:#?}");
    }
    assert!(
        !pinned.stdout.contains("postern serve"),
        "no advice that cannot work: {pinned:#?}"
    );

    write_registry(&home.path().join("other.manifest.json"));
    let local = [
        "generate",
        "--model",
        "other.gguf",
        "--models",
        "models.yaml",
        "--state-dir",
        "state",
        "--template",
        "coffee.v1",
    ];
    let ran = postern(home.path(), local).exits(1);
    for expected in ["other.gguf: the architecture \"mamba\"", "llama"] {
        assert!(ran.stderr.contains(expected), "{ran:#?}");
    }
}

#[test]
fn progress_is_shown_once_there_is_something_to_measure() {
    let home = home();
    fs::copy(coffee_model(), home.path().join("m.gguf")).expect("a copy");
    // Under its own id the embedded registry knows it.
    postern(home.path(), ["model", "pin", "m.gguf", "--id", "coffee-1"]).exits(0);
    let call = "generate --audit-plaintext --model m.gguf --state-dir state --template coffee.v1 --var wishes=cake";
    let shown = on_terminal(home.path(), 100, call);
    assert!(shown.contains("checking coffee-1  ["), "{shown:?}");
    assert!(!shown.contains("of 0 B"), "{shown:?}");
}
