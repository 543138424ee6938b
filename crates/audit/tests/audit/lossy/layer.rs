//! The file layer of `layer.c`: how a process gets it, and what it wrote down.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fixtures::child;

/// Names the journal to the layer.
const JOURNAL_VARIABLE: &str = "POSTERN_AUDIT_TEST_JOURNAL";
/// Bytes of a journal's entry before what it counts.
const ENTRY_BYTES: usize = 24;

/// One thing that a process did to the folder.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Another process began, with no file open.
    Begin,
    /// A file was opened, and made if it was not there; the folder itself has an empty name.
    Open {
        descriptor: i32,
        name: String,
        is_cut: bool,
    },
    Write {
        descriptor: i32,
        offset: usize,
        bytes: Vec<u8>,
    },
    Cut {
        descriptor: i32,
        bytes: usize,
    },
    Sync {
        descriptor: i32,
    },
    Close {
        descriptor: i32,
    },
    Rename {
        from: String,
        to: String,
    },
    Link {
        from: String,
        to: String,
    },
    Remove {
        name: String,
    },
    /// The process told something.
    Tell(Vec<u8>),
}

/// The layer, ready to be loaded.
pub(super) struct Layer {
    library: PathBuf,
}

impl Layer {
    /// Compiles the layer; nothing where that cannot be.
    #[expect(clippy::print_stdout, reason = "a test that does nothing says why")]
    pub(super) fn build() -> Option<Self> {
        if !cfg!(all(
            target_os = "linux",
            target_env = "gnu",
            target_pointer_width = "64",
            target_endian = "little"
        )) {
            println!("skipped: the lossy file layer is for glibc on 64-bit Linux");
            return None;
        }
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/audit/lossy/layer.c");
        let made = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-pthread", "-U_FORTIFY_SOURCE", "-o"]);
        let Ok(output) = compile.arg(made.path()).arg(source).output() else {
            println!("skipped: there is no C compiler `cc`");
            return None;
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "the layer does not compile: {said}"
        );
        // Whole under its name at once, whoever else makes or loads it at this moment.
        let library = made.path().with_file_name("lossy.so");
        made.persist(&library).unwrap();
        Some(Self { library })
    }

    /// Runs an ignored test on a folder, over this layer, to its end; gives what it did.
    pub(super) fn run(&self, test: &str, folder: &Path) -> Vec<Step> {
        let journal = tempfile::NamedTempFile::new().unwrap();
        let output = child(test, folder)
            .env("LD_PRELOAD", &self.library)
            .env(JOURNAL_VARIABLE, journal.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{test}: {}: {said}", output.status);
        read(&fs::read(journal.path()).unwrap())
    }
}

/// What of a step shows which moment of the log's work it is: its kind, and the file without its number.
pub(super) fn moment(step: &Step, name: &str) -> String {
    let kind = match step {
        Step::Begin => "begin",
        Step::Open { is_cut: true, .. } => "empty",
        Step::Open { .. } => "open",
        Step::Write { .. } => "write",
        Step::Cut { .. } => "cut",
        Step::Sync { .. } => "sync",
        Step::Close { .. } => "close",
        Step::Rename { .. } => "rename",
        Step::Link { .. } => "link",
        Step::Remove { .. } => "remove",
        Step::Tell(_) => "tell",
    };
    let is_segment = Path::new(name).extension() == Some(OsStr::new("seg"));
    format!("{kind} {}", if is_segment { "segment" } else { name })
}

fn read(mut journal: &[u8]) -> Vec<Step> {
    let mut steps = Vec::new();
    while !journal.is_empty() {
        let (step, rest) = read_entry(journal);
        steps.push(step);
        journal = rest;
    }
    steps
}

fn read_entry(journal: &[u8]) -> (Step, &[u8]) {
    let (entry, rest) = journal.split_at(ENTRY_BYTES);
    let word = |at: usize| u32::from_le_bytes(entry[at..at + 4].try_into().unwrap());
    let number = u64::from_le_bytes(entry[8..16].try_into().unwrap());
    let number = usize::try_from(number).unwrap();
    let descriptor = word(4).cast_signed();
    let (first, rest) = rest.split_at(word(16) as usize);
    let (second, rest) = rest.split_at(word(20) as usize);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let step = match u8::try_from(word(0)).unwrap() {
        b'S' => Step::Begin,
        b'O' => Step::Open {
            descriptor,
            name: text(first),
            is_cut: number != 0,
        },
        b'W' => Step::Write {
            descriptor,
            offset: number,
            bytes: first.to_vec(),
        },
        b'T' => Step::Cut {
            descriptor,
            bytes: number,
        },
        b'F' => Step::Sync { descriptor },
        b'C' => Step::Close { descriptor },
        b'R' => Step::Rename {
            from: text(first),
            to: text(second),
        },
        b'L' => Step::Link {
            from: text(first),
            to: text(second),
        },
        b'U' => Step::Remove { name: text(first) },
        b'P' => Step::Tell(first.to_vec()),
        kind => panic!("an entry of kind {kind}"),
    };
    (step, rest)
}
