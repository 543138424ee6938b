//! Attacked logs that are kept in `tests/data/audit`, one a folder: what was once found stays
//! found, also by a verifier that never wrote such a log, and by the one in Python.
//!
//! `cargo test -p postern-audit --test audit -- --ignored write_attack_folders` writes them anew,
//! which only a new version of the format needs.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use postern_audit::{AuditLog, Receipt, Witness, verify, verify_against};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::attacks::ATTACKS;
use crate::fixtures::{
    admitted, broken, completed, frame_offsets, refused, sealed, segments, signed_ends,
};
use crate::format::python_says;
use crate::victim::{Victim, victim};

/// In each folder: what a verifier says.
const TOLD_NAME: &str = "told.json";
/// The one log that is whole: its device's clock was set back.
const CLOCK_FOLDER: &str = "clock-rolled-back";

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Told {
    /// What was kept elsewhere and is handed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    receipt: Option<Receipt>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checkpoint: Option<String>,
    file: String,
    offset: u64,
    index: u64,
    reason: String,
}

impl Told {
    fn of(dir: &Path, receipt: Option<Receipt>, checkpoint: Option<String>) -> Self {
        let witness = Witness {
            receipts: receipt.iter().cloned().collect(),
            checkpoints: checkpoint.iter().cloned().collect(),
            ..Witness::default()
        };
        let place = broken(verify_against(dir, &witness));
        Self {
            receipt,
            checkpoint,
            file: place.file.file_name().unwrap().to_str().unwrap().to_owned(),
            offset: place.offset,
            index: place.index,
            reason: place.reason.to_string(),
        }
    }
}

#[test]
fn kept_attacks_are_told_as_ever() {
    let mut count = 0;
    for folder in folders() {
        if folder.ends_with(CLOCK_FOLDER) {
            continue;
        }
        let told: Told = serde_json::from_value(kept_told(&folder)).unwrap();
        let found = Told::of(&folder, told.receipt.clone(), told.checkpoint.clone());
        assert_eq!(found, told, "{}", folder.display());
        if told.receipt.is_none() && told.checkpoint.is_none() {
            check_python(&folder, &told);
        }
        count += 1;
    }
    assert_eq!(count, ATTACKS.len() + WITNESSED.len());
}

#[test]
fn a_kept_clock_that_was_rolled_back_is_told_as_ever() {
    let folder = data().join(CLOCK_FOLDER);
    assert_eq!(told_of_clock(&folder), kept_told(&folder));
    if let Some(said) = python_says(&folder) {
        said.expect("the log is whole");
    }
}

#[test]
fn a_clock_that_was_rolled_back_is_told_with_its_place() {
    let dir = rolled_back();
    let second = fs::read(&segments(dir.path())[1]).unwrap();
    let step = json!({
        "segment": 1, "offset": frame_offsets(&second)[0], "index": 3, "back_us": 3_000_000_000_u64,
    });
    assert_eq!(told_of_clock(dir.path()), json!({ "clock_steps": [step] }));
}

/// A log whose device came up in the past after a restart, by fifty minutes.
fn rolled_back() -> TempDir {
    let dir = TempDir::new().unwrap();
    let at = |second: i64| move || Timestamp::from_second(second).unwrap();
    let (log, _) = AuditLog::open_with_clock(dir.path(), &sealed(), at(5000)).unwrap();
    let call = log.append(&admitted("call", "")).unwrap();
    log.append(&completed("call", call.index)).unwrap();
    drop(log);
    let (log, _) = AuditLog::open_with_clock(dir.path(), &sealed(), at(2000)).unwrap();
    log.append(&refused("later")).unwrap();
    drop(log);
    dir
}

fn told_of_clock(dir: &Path) -> Value {
    let verified = verify(dir).unwrap();
    let steps = verified.clock_steps.iter().map(|step| {
        json!({
            "segment": step.segment,
            "offset": step.offset,
            "index": step.index,
            "back_us": step.back_us,
        })
    });
    json!({ "clock_steps": steps.collect::<Vec<_>>() })
}

fn kept_told(folder: &Path) -> Value {
    let told = fs::read(folder.join(TOLD_NAME)).unwrap();
    serde_json::from_slice(&told).unwrap()
}

/// The other verifier names the same place; where the log just ends too early, it says so.
fn check_python(folder: &Path, told: &Told) {
    let Some(said) = python_says(folder) else {
        return;
    };
    let said = said.expect_err("an attack is found");
    let place = format!("{} byte {} record {}:", told.file, told.offset, told.index);
    let is_cut_off = told.reason.contains("its end was cut off");
    let expected = if is_cut_off {
        "its checkpoint covers"
    } else {
        &place
    };
    assert!(said.contains(expected), "{said}, not {expected}");
}

/// Attacks that the files alone cannot show.
type Witnessed = (&'static str, fn(&Victim), fn(&Victim) -> Told);

const WITNESSED: [Witnessed; 3] = [
    (
        "tail-cut-above-the-checkpoint",
        |victim| {
            let bytes = victim.without_last_checkpoint();
            victim.cut_last_segment(&bytes, 1);
        },
        |victim| Told::of(victim.dir.path(), Some(victim.last.clone()), None),
    ),
    (
        "tail-cut-and-the-checkpoint-beside-it-removed",
        |victim| {
            let bytes = victim.without_last_checkpoint();
            victim.cut_last_segment(&bytes, 2);
        },
        |victim| {
            let checkpoint = victim.whole.checkpoint.clone().unwrap().note;
            Told::of(victim.dir.path(), None, Some(checkpoint))
        },
    ),
    (
        "log-of-another-run-with-the-same-key",
        |victim| {
            let other = victim.like_it();
            for path in segments(other.path()) {
                let name = path.file_name().unwrap();
                fs::copy(&path, victim.dir.path().join(name)).unwrap();
            }
            fs::remove_file(victim.dir.path().join("checkpoint")).unwrap();
        },
        |victim| Told::of(victim.dir.path(), Some(victim.last.clone()), None),
    ),
];

impl Victim {
    /// Takes the checkpoint of the clean close away, in the log and beside it.
    fn without_last_checkpoint(&self) -> Vec<u8> {
        fs::remove_file(self.dir.path().join("checkpoint")).unwrap();
        let mut bytes = fs::read(self.last_segment()).unwrap();
        let ends = signed_ends(&bytes);
        bytes.truncate(ends[ends.len() - 2]);
        bytes
    }

    fn cut_last_segment(&self, bytes: &[u8], writes: usize) {
        let ends = signed_ends(bytes);
        let end = ends[ends.len() - 1 - writes];
        fs::write(self.last_segment(), &bytes[..end]).unwrap();
    }
}

#[test]
#[ignore = "writes the folders anew"]
fn write_attack_folders() {
    for attack in &ATTACKS {
        let victim = attack.on(victim(sealed()));
        let told = Told::of(victim.dir.path(), None, None);
        keep(attack.name, victim.dir.path(), &told);
    }
    for (name, act, tell) in WITNESSED {
        let victim = victim(sealed());
        act(&victim);
        keep(name, victim.dir.path(), &tell(&victim));
    }
    write_clock_folder();
}

#[test]
#[ignore = "writes the folder anew"]
fn write_clock_folder() {
    let dir = rolled_back();
    keep(CLOCK_FOLDER, dir.path(), &told_of_clock(dir.path()));
}

fn keep(name: &str, dir: &Path, told: &impl Serialize) {
    let folder = data().join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    for path in segments(dir) {
        fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
    let checkpoint = dir.join("checkpoint");
    if checkpoint.exists() {
        fs::copy(checkpoint, folder.join("checkpoint")).unwrap();
    }
    let told = serde_json::to_string_pretty(told).unwrap();
    fs::write(folder.join(TOLD_NAME), told + "\n").unwrap();
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/audit")
}

fn folders() -> Vec<PathBuf> {
    let items = fs::read_dir(data()).unwrap();
    let paths = items.map(|item| item.unwrap().path());
    let mut folders: Vec<PathBuf> = paths.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}
