//! `audit verify` over the attacked logs that are kept in `tests/data/audit`: a person is told the file, the byte and the
//! record, also where only what was kept elsewhere shows the attack.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::run::{Ran, home, postern};

/// Exit code for a log that is broken, or lacks what a witness shows.
const BROKEN: i32 = 4;

/// In each folder: the place that a verifier names, and what was kept elsewhere.
const TOLD_NAME: &str = "told.json";

/// The one log that is whole: its device's clock was set back.
const CLOCK_FOLDER: &str = "clock-rolled-back";

/// Attacks that the files alone do not show.
const WITNESSED: [&str; 3] = [
    "log-of-another-run-with-the-same-key",
    "tail-cut-above-the-checkpoint",
    "tail-cut-and-the-checkpoint-beside-it-removed",
];

#[test]
fn each_attack_is_told_with_its_place() {
    let mut witnessed = Vec::new();
    for folder in folders() {
        if folder.ends_with(CLOCK_FOLDER) {
            continue;
        }
        let told = told(&folder);
        let home = home();
        let witness = witness(home.path(), &told);
        check_told(&verify(home.path(), &folder, &witness), &folder, &told);
        if !witness.is_empty() {
            verify(home.path(), &folder, &[]).exits(0);
            witnessed.push(folder.file_name().expect("a name").to_owned());
        }
    }
    assert_eq!(witnessed, WITNESSED);
}

/// A clock can be wrong without anybody's guilt, so the log is not called broken for it.
#[test]
fn a_clock_that_was_rolled_back_is_told_with_its_place() {
    let (home, folder) = (home(), data().join(CLOCK_FOLDER));
    let told = &told(&folder)["clock_steps"];
    let json = verify(home.path(), &folder, &["--json".to_owned()]).exits(0);
    let said: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(&said["clock_steps"], told);
    let text = verify(home.path(), &folder, &[]).exits(0);
    let expected = "set back once, first before #3 in segment 1, by 3000.000 s";
    assert!(text.stdout.contains(expected), "{text:#?}");
}

fn told(folder: &Path) -> Value {
    let told = fs::read(folder.join(TOLD_NAME)).expect("what is told");
    serde_json::from_slice(&told).expect("JSON")
}

/// Arguments that hand in what was kept elsewhere, each in a file.
fn witness(home: &Path, told: &Value) -> Vec<String> {
    let mut arguments = Vec::new();
    let kept = [
        (
            "receipt",
            told["receipt"]
                .is_object()
                .then(|| told["receipt"].to_string()),
        ),
        ("checkpoint", told["checkpoint"].as_str().map(str::to_owned)),
    ];
    for (name, content) in kept {
        if let Some(content) = content {
            fs::write(home.join(name), content).expect("a file");
            arguments.extend([format!("--{name}"), name.to_owned()]);
        }
    }
    arguments
}

fn verify(home: &Path, folder: &Path, witness: &[String]) -> Ran {
    let folder = folder.to_str().expect("a path in UTF-8").to_owned();
    let arguments = ["audit", "verify"].map(str::to_owned);
    postern(home, arguments.iter().chain([&folder]).chain(witness))
}

#[track_caller]
fn check_told(ran: &Ran, folder: &Path, told: &Value) {
    let what = format!("{}: {ran:#?}", folder.display());
    assert_eq!(ran.code, Some(BROKEN), "{what}");
    assert_eq!(ran.stdout, "", "{what}");
    let file = folder.join(told["file"].as_str().expect("a file"));
    let expected = format!(
        "{} at byte {}, record {}: {}",
        file.display(),
        told["offset"],
        told["index"],
        told["reason"].as_str().expect("a reason")
    );
    assert!(ran.stderr.contains(&expected), "{expected:?} in {what}");
}

fn folders() -> Vec<PathBuf> {
    let items = fs::read_dir(data()).expect("the attacked logs");
    let paths = items.map(|item| item.expect("an entry").path());
    let mut folders: Vec<PathBuf> = paths.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/audit")
}
