//! Entries, logs and child processes that the tests share.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use postern_audit::{
    Admitted, AuditConfig, AuditError, AuditLog, Completed, Entry, Identities, ModelRef, Outcome,
    Parameters, Reason, Receipt, Recovery, RedactionCount, RefusalCount, Refused, RefusedMore,
    SigningKey, TemplateRef, Timings, Usage,
};
use tempfile::TempDir;

/// Names the directory to a child process.
pub(crate) const DIR_VARIABLE: &str = "POSTERN_AUDIT_TEST_DIR";

pub(crate) fn digest(letter: char) -> String {
    letter.to_string().repeat(64)
}

pub(crate) fn admitted(request_id: &str, wishes: &str) -> Entry {
    Entry::Admitted(Admitted {
        request_id: request_id.to_owned(),
        identity: "kiosk".to_owned(),
        token_id: Some("t-1".to_owned()),
        certificate_sha256: String::new(),
        model: ModelRef {
            id: "coffee".to_owned(),
            sha256: digest('a'),
            tokenizer_sha256: digest('b'),
            chat_template_sha256: None,
        },
        template: TemplateRef {
            id: "coffee.v1".to_owned(),
            sha256: digest('c'),
        },
        policy_sha256: digest('d'),
        rules_sha256: digest('e'),
        rules: vec!["kiosk-coffee".to_owned()],
        variables: BTreeMap::from([("wishes".to_owned(), wishes.to_owned())]),
        redactions: vec![RedactionCount {
            variable: "wishes".to_owned(),
            rule: "payment-card".to_owned(),
            count: 1,
        }],
        injection_score: None,
        parameters: Parameters {
            max_tokens: 96,
            temperature: 0.7,
            seed: u64::MAX,
            stream: true,
        },
        budgets: Vec::new(),
    })
}

pub(crate) fn completed(request_id: &str, admitted_index: u64) -> Entry {
    ended(request_id, admitted_index, None)
}

/// The end of a call, with the text of its output where that is kept.
pub(crate) fn ended(request_id: &str, admitted_index: u64, output: Option<String>) -> Entry {
    Entry::Completed(Completed {
        request_id: request_id.to_owned(),
        admitted_index,
        outcome: Outcome::Failed {
            code: "engine-stopped".to_owned(),
        },
        output_sha256: digest('e'),
        output,
        usage: Usage {
            prompt_tokens: 12,
            completion_tokens: 34,
        },
        output_redactions: Vec::new(),
        schema_valid: None,
        mean_probability: None,
        timings: Timings {
            queued_us: 1,
            first_token_us: Some(2),
            total_us: 3,
        },
    })
}

pub(crate) fn refused(request_id: &str) -> Entry {
    Entry::Refused(Refused {
        request_id: request_id.to_owned(),
        identity: None,
        token_id: None,
        certificate_sha256: String::new(),
        template: Some("unheard-of.v9".to_owned()),
        subject: None,
        code: "template-unknown".to_owned(),
        detail: "no such template: \u{7} \"é\" \\ 🦀".to_owned(),
        rules_sha256: String::new(),
    })
}

pub(crate) fn refused_more(codes: usize) -> RefusedMore {
    let counts = (1..=codes).map(|number| RefusalCount {
        code: format!("code-{number:03}"),
        count: number as u64,
    });
    RefusedMore {
        counts: counts.collect(),
        since_us: 1_000_000,
        until_us: 1_500_000,
    }
}

/// A log whose content lies open, signed with one key for all tests.
pub(crate) fn plain() -> AuditConfig {
    AuditConfig {
        plaintext: true,
        signing_key: Some(signing_key("signing.key")),
        ..AuditConfig::default()
    }
}

/// A log whose content is sealed to [`auditor`].
pub(crate) fn sealed() -> AuditConfig {
    AuditConfig {
        plaintext: false,
        recipients: auditor().recipients().keys().collect(),
        ..plain()
    }
}

/// An auditor, the same for all tests of one process.
pub(crate) fn auditor() -> &'static Identities {
    static AUDITOR: OnceLock<Identities> = OnceLock::new();
    AUDITOR.get_or_init(Identities::generate)
}

/// Path of a signing key that all processes of the tests share.
pub(crate) fn signing_key(name: &str) -> PathBuf {
    let path = unmade_key(name);
    // Two tests may make it at once; one of them is the first.
    let origin = AuditConfig::default().origin.parse().unwrap();
    if SigningKey::load_or_create(&path, origin).is_err() {
        assert!(path.exists());
    }
    path
}

/// Path of a signing key that nobody has made.
pub(crate) fn unmade_key(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Segments of a few records each.
pub(crate) fn small_segments() -> AuditConfig {
    AuditConfig {
        segment_bytes_max: 4096,
        ..plain()
    }
}

/// Opens a log with a clock that starts at the epoch and steps by one and a half seconds.
pub(crate) fn open(dir: &Path, config: &AuditConfig) -> Result<(AuditLog, Recovery), AuditError> {
    let ticks = AtomicI64::new(0);
    AuditLog::open_with_clock(dir, config, move || {
        let tick = ticks.fetch_add(1, Ordering::Relaxed);
        Timestamp::from_millisecond(tick * 1500).unwrap()
    })
}

/// A closed log of three segments or more, with every kind of entry, and its last receipt.
pub(crate) fn sample(dir: &Path) -> Receipt {
    sample_with(dir, &small_segments())
}

/// The same under another configuration.
pub(crate) fn sample_with(dir: &Path, config: &AuditConfig) -> Receipt {
    let (log, _) = open(dir, config).unwrap();
    let cut_off = log.append(&admitted("cut-off", "quiet")).unwrap();
    drop(log);
    let (log, recovery) = open(dir, config).unwrap();
    assert_eq!(recovery.interrupted, [cut_off.index]);
    for call in 0..5 {
        let id = format!("call-{call}");
        let receipt = log.append(&admitted(&id, "a view of the sea")).unwrap();
        log.append(&refused("refused")).unwrap();
        log.append(&completed(&id, receipt.index)).unwrap();
    }
    let last = log.append(&refused("last")).unwrap();
    drop(log);
    assert!(segments(dir).len() >= 3, "the sample log rotates");
    last
}

/// The segment files in order.
pub(crate) fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|item| item.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    paths.sort();
    paths
}

/// Copies the files of a log to a new directory.
pub(crate) fn copy(dir: &Path) -> TempDir {
    let to = TempDir::new().unwrap();
    for item in fs::read_dir(dir).unwrap() {
        let item = item.unwrap();
        fs::copy(item.path(), to.path().join(item.file_name())).unwrap();
    }
    to
}

/// Where each frame of a segment begins, and where the file ends.
pub(crate) fn frame_offsets(bytes: &[u8]) -> Vec<usize> {
    let length_at = |at: usize| {
        let length: [u8; 4] = bytes[at..at + 4].try_into().unwrap();
        u32::from_be_bytes(length) as usize
    };
    let keys = 16 + length_at(12);
    let mut offsets = vec![keys + 4 + length_at(keys) + 32];
    loop {
        let at = *offsets.last().unwrap();
        if at == bytes.len() {
            return offsets;
        }
        offsets.push(at + 8 + length_at(at) + 32);
    }
}

/// Where each frame with a record begins.
pub(crate) fn record_offsets(bytes: &[u8]) -> Vec<usize> {
    let mut offsets = frame_offsets(bytes);
    offsets.pop();
    offsets.retain(|at| matches!(bytes[at + 8], 1 | 3));
    offsets
}

/// Where a segment may end: after each of its signatures.
pub(crate) fn signed_ends(bytes: &[u8]) -> Vec<usize> {
    let offsets = frame_offsets(bytes);
    let frames = offsets.windows(2);
    let signatures = frames.filter(|frame| bytes[frame[0] + 8] == 4);
    signatures.map(|frame| frame[1]).collect()
}

/// Takes the checkpoint that a clean close writes off the end of a log, as a kill would leave it,
/// with every record whole.
pub(crate) fn uncheckpointed(dir: &Path) {
    let path = segments(dir).pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    let offsets = frame_offsets(&bytes);
    let last = offsets[offsets.len() - 3];
    assert_eq!(bytes[last + 8], 2, "a closed log ends with a checkpoint");
    fs::write(&path, &bytes[..last]).unwrap();
    // A kill before the checkpoint leaves an older one here; none is as good for a test.
    fs::remove_file(dir.join("checkpoint")).unwrap();
}

/// The place and reason of a broken log; anything else fails the test.
pub(crate) fn broken<T: std::fmt::Debug>(result: Result<T, AuditError>) -> Place {
    match result {
        Err(AuditError::Broken {
            file,
            offset,
            index,
            reason,
        }) => Place {
            file,
            offset,
            index,
            reason,
        },
        other => panic!("expected a broken log, got {other:?}"),
    }
}

#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) file: PathBuf,
    pub(crate) offset: u64,
    pub(crate) index: u64,
    pub(crate) reason: Reason,
}

/// Runs one ignored test of this binary as a process of its own, on a directory, with SIGXFSZ
/// ignored so that a file size limit shows as an error.
pub(crate) fn child(test: &str, dir: &Path) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", r#"trap "" XFSZ; exec "$0" "$@""#])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(DIR_VARIABLE, dir);
    command
}

/// The directory that a child process was given, or nothing where a person ran ignored tests.
pub(crate) fn child_dir() -> Option<PathBuf> {
    std::env::var_os(DIR_VARIABLE).map(PathBuf::from)
}
