//! A model that is not what its pin says never serves.

use std::{fs, path::Path, process::Output};

use postern_testkit::models::write_registry;
use tempfile::TempDir;

use crate::harness::{State, postern, succeed};

const MODEL: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../models/coffee/coffee-q8_0.gguf"
);

fn serve(state: &State, model: &Path) -> Output {
    let mut command = postern();
    command
        .args(["serve", "--audit-plaintext", "--port", "0", "--state-dir"])
        .arg(state.path())
        .arg("--model")
        .arg(model);
    let manifest = model.with_extension("manifest.json");
    if manifest.exists() {
        command.arg("--models").arg(write_registry(&manifest));
    }
    command.output().expect("the daemon can be started")
}

#[track_caller]
fn check_refused(change: impl Fn(&mut Vec<u8>), expected: &[&str]) {
    let state = State::new();
    let folder = TempDir::new().expect("a temporary folder can be made");
    let file = folder.path().join("model.gguf");
    fs::copy(MODEL, &file).expect("the default model is in the checkout");
    succeed(postern().args(["model", "pin"]).arg(&file));
    let mut bytes = fs::read(&file).expect("the copy can be read");
    change(&mut bytes);
    fs::write(&file, bytes).expect("the copy can be changed");
    let output = serve(&state, &file);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{message}");
    for part in expected {
        assert!(message.contains(part), "no `{part}` in: {message}");
    }
}

#[test]
fn a_model_of_another_digest_or_size_is_refused() {
    check_refused(
        |bytes| *bytes.last_mut().expect("not empty") ^= 1,
        &["model.gguf", "expected", "found"],
    );
    check_refused(|bytes| bytes.truncate(1000), &["model.gguf", "1000"]);
    check_refused(Vec::clear, &["model.gguf"]);
}

#[test]
fn a_model_without_a_pin_is_refused() {
    let (state, folder) = (
        State::new(),
        TempDir::new().expect("a temporary folder can be made"),
    );
    let file = folder.path().join("model.gguf");
    fs::copy(MODEL, &file).expect("the default model is in the checkout");
    let output = serve(&state, &file);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("model pin"));
}

#[test]
fn a_pinned_file_that_is_no_model_is_refused() {
    let (state, folder) = (
        State::new(),
        TempDir::new().expect("a temporary folder can be made"),
    );
    for (name, bytes) in [("empty", Vec::new()), ("garbage", vec![0xa5; 4096])] {
        let file = folder.path().join(format!("{name}.gguf"));
        fs::write(&file, bytes).expect("a file can be written");
        // Whether pinning refuses it or serving does: it never serves.
        if postern()
            .args(["model", "pin"])
            .arg(&file)
            .output()
            .expect("it runs")
            .status
            .success()
        {
            assert_eq!(serve(&state, &file).status.code(), Some(1), "{name}");
        }
    }
}
