//! Entries and configurations that must be refused, with nothing written.

use std::path::Path;

use postern_audit::{
    AuditConfig, AuditError, AuditLog, CallProblem, Class, DETAIL_BYTES_MAX, Entry, EntryProblem,
    Expired, NAME_BYTES_MAX, OPEN_CALLS_MAX, OUTPUT_BYTES_MAX, REDACTIONS_MAX, REFUSAL_CODES_MAX,
    RedactionCount, RefusalCount, Refused, RefusedMore, VARIABLES_MAX, read, verify,
};
use tempfile::TempDir;

use crate::fixtures::{admitted, completed, ended, open, plain, refused, refused_more, sealed};

fn change(change: impl FnOnce(&mut postern_audit::Admitted)) -> Entry {
    let mut entry = admitted("call", "x");
    if let Entry::Admitted(admitted) = &mut entry {
        change(admitted);
    }
    entry
}

fn turn_away(change: impl FnOnce(&mut Refused)) -> Entry {
    let mut entry = refused("call");
    if let Entry::Refused(refused) = &mut entry {
        change(refused);
    }
    entry
}

#[test]
fn malformed_entries_are_refused_by_field() {
    let many = |count: usize| (0..count).map(|at| (format!("v{at}"), String::new()));
    let redaction = RedactionCount {
        variable: "v".to_owned(),
        rule: "r".to_owned(),
        count: 1,
    };
    let cases = [
        (change(|a| a.request_id.clear()), "request_id"),
        (change(|a| a.request_id = "a b".to_owned()), "request_id"),
        (change(|a| a.request_id = "x".repeat(65)), "request_id"),
        (change(|a| a.identity.clear()), "identity"),
        (
            change(|a| a.identity = "x".repeat(NAME_BYTES_MAX + 1)),
            "identity",
        ),
        (change(|a| a.token_id = Some(String::new())), "token_id"),
        (
            change(|a| a.certificate_sha256 = "F".repeat(64)),
            "certificate_sha256",
        ),
        (turn_away(|r| r.token_id = Some(String::new())), "token_id"),
        (
            turn_away(|r| r.certificate_sha256 = "0".repeat(63)),
            "certificate_sha256",
        ),
        (Entry::RefusedMore(refused_more(0)), "counts"),
        (
            Entry::RefusedMore(refused_more(REFUSAL_CODES_MAX + 1)),
            "counts",
        ),
        (
            Entry::RefusedMore(RefusedMore {
                counts: vec![RefusalCount {
                    code: "x".repeat(NAME_BYTES_MAX + 1),
                    count: 1,
                }],
                ..refused_more(0)
            }),
            "counts",
        ),
        (change(|a| a.model.sha256 = "A".repeat(64)), "model.sha256"),
        (
            change(|a| a.model.tokenizer_sha256.clear()),
            "model.tokenizer_sha256",
        ),
        (change(|a| a.template.sha256.push('0')), "template.sha256"),
        (
            change(|a| a.policy_sha256 = "g".repeat(64)),
            "policy_sha256",
        ),
        (
            change(|a| a.variables.extend(many(VARIABLES_MAX))),
            "variables",
        ),
        (
            change(|a| a.redactions = vec![redaction.clone(); REDACTIONS_MAX + 1]),
            "redactions",
        ),
        (
            change(|a| a.parameters.temperature = f32::NAN),
            "parameters.temperature",
        ),
        (
            change(|a| a.parameters.temperature = f32::INFINITY),
            "parameters.temperature",
        ),
        (
            Entry::Opened {
                version: "1".to_owned(),
                cut: None,
            },
            "type",
        ),
        (
            Entry::Interrupted {
                request_id: "call".to_owned(),
                admitted_index: 1,
            },
            "type",
        ),
        (
            Entry::Expired(Expired {
                segment: 0,
                class: Class::Calls,
                reason: "age".to_owned(),
            }),
            "type",
        ),
    ];
    let dir = TempDir::new().unwrap();
    let (log, _) = open(dir.path(), &plain()).unwrap();
    for (entry, expected) in cases {
        match log.append(&entry) {
            Err(AuditError::InvalidEntry { field, .. }) => assert_eq!(field, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
    assert_eq!(verify(dir.path()).unwrap().records, 1);
}

#[test]
fn entries_that_do_not_fit_the_open_calls_are_refused() {
    let dir = TempDir::new().unwrap();
    let (log, _) = open(dir.path(), &plain()).unwrap();
    log.append(&admitted("a", "")).unwrap();
    let cases = [
        (
            admitted("a", ""),
            CallProblem::AlreadyOpen { admitted_index: 1 },
        ),
        (
            completed("b", 1),
            CallProblem::RequestId {
                admitted_index: 1,
                expected: "a".to_owned(),
                found: "b".to_owned(),
            },
        ),
        (
            completed("a", 2),
            CallProblem::NotOpen { admitted_index: 2 },
        ),
    ];
    for (entry, expected) in cases {
        match log.append(&entry) {
            Err(AuditError::Call { problem, .. }) => assert_eq!(problem, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
    log.append(&completed("a", 1)).unwrap();
    assert!(log.append(&completed("a", 1)).is_err(), "a call ends once");
    log.append(&admitted("a", "")).unwrap();
    assert_eq!(verify(dir.path()).unwrap().records, 4);
}

#[test]
fn open_calls_are_bounded() {
    let dir = TempDir::new().unwrap();
    let (log, _) = open(dir.path(), &plain()).unwrap();
    let admit = |from: usize, to: usize| {
        for call in from..to {
            log.append(&admitted(&format!("call-{call}"), ""))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let step = OPEN_CALLS_MAX / 64;
        for worker in 0..64 {
            scope.spawn(move || admit(worker * step, (worker + 1) * step).unwrap());
        }
    });
    let one_more: Result<(), AuditError> = admit(OPEN_CALLS_MAX, OPEN_CALLS_MAX + 1);
    let max = OPEN_CALLS_MAX;
    assert!(
        matches!(one_more, Err(AuditError::Call { problem: CallProblem::TooMany { max: found }, .. }) if found == max),
        "{one_more:?}"
    );
    assert_eq!(verify(dir.path()).unwrap().open_calls.len(), max);
    drop(log);
    let (_log, recovery) = open(dir.path(), &plain()).unwrap();
    assert_eq!(recovery.interrupted.len(), max);
}

#[test]
fn records_are_bounded() {
    let dir = TempDir::new().unwrap();
    let config = AuditConfig {
        record_bytes_max: 8192,
        ..plain()
    };
    let (log, _) = open(dir.path(), &config).unwrap();
    match log.append(&admitted("large", &"x".repeat(8192))) {
        Err(AuditError::RecordTooLarge { found, max: 8192 }) => assert!(found > 8192),
        other => panic!("{other:?}"),
    }
    log.append(&admitted("small", &"x".repeat(6000))).unwrap();
}

#[test]
fn a_kept_output_is_bounded() {
    let dir = TempDir::new().unwrap();
    let (log, _) = open(dir.path(), &plain()).unwrap();
    log.append(&admitted("call", "")).unwrap();
    let Entry::Completed(long) = ended("call", 1, Some("€".repeat(OUTPUT_BYTES_MAX))) else {
        unreachable!("it is an end");
    };
    let error = log.append(&Entry::Completed(long.clone())).unwrap_err();
    assert!(matches!(
        error,
        AuditError::InvalidEntry {
            field: "output",
            problem: EntryProblem::TooLong { .. }
        }
    ));
    let clipped = long.clipped();
    assert!(!clipped.keeps_whole_output());
    let kept = clipped.output.clone().unwrap();
    assert_eq!(kept, "€".repeat(OUTPUT_BYTES_MAX / "€".len()));
    log.append(&Entry::Completed(clipped)).unwrap();
    assert_eq!(kept_output(dir.path()), Some(kept));
}

#[test]
fn an_end_is_not_lost_for_the_text_of_its_output() {
    let dir = TempDir::new().unwrap();
    let config = AuditConfig {
        record_bytes_max: 8192,
        ..plain()
    };
    let (log, _) = open(dir.path(), &config).unwrap();
    for (length, keeps) in [(6000, true), (8192, false)] {
        let admitted_index = log.append(&admitted("call", "")).unwrap().index;
        let output = "x".repeat(length);
        let end = ended("call", admitted_index, Some(output.clone()));
        log.append(&end).unwrap();
        assert_eq!(kept_output(dir.path()), keeps.then_some(output));
    }
}

/// The text of the output in the last record.
fn kept_output(dir: &Path) -> Option<String> {
    let last = read(dir).unwrap().last().unwrap().unwrap();
    match last.content.into_entry() {
        Some(Entry::Completed(completed)) => completed.output,
        other => panic!("{other:?}"),
    }
}

#[test]
fn refusals_of_absurd_requests_can_be_clipped() {
    let absurd = Refused {
        request_id: "r".to_owned(),
        identity: Some("é".repeat(NAME_BYTES_MAX)),
        token_id: None,
        certificate_sha256: String::new(),
        template: Some("🦀".repeat(NAME_BYTES_MAX)),
        subject: None,
        code: "template-unknown".to_owned(),
        detail: "€".repeat(DETAIL_BYTES_MAX),
        rules_sha256: String::new(),
    };
    let dir = TempDir::new().unwrap();
    let (log, _) = open(dir.path(), &plain()).unwrap();
    let error = log.append(&Entry::Refused(absurd.clone())).unwrap_err();
    assert!(matches!(
        error,
        AuditError::InvalidEntry {
            field: "identity",
            problem: EntryProblem::TooLong { .. }
        }
    ));
    log.append(&Entry::Refused(absurd.clipped())).unwrap();
    log.append(&refused("next")).unwrap();
}

#[test]
fn counts_of_more_codes_than_have_room_are_put_together() {
    let many = refused_more(REFUSAL_CODES_MAX + 9);
    let total = many.total();
    let bounded = many.bounded();
    assert_eq!(bounded.counts.len(), REFUSAL_CODES_MAX);
    assert_eq!(bounded.total(), total, "nothing is lost");
    assert_eq!(
        bounded.counts[0].code, "code-073",
        "the most frequent first"
    );
    let other = bounded.counts.last().unwrap();
    // Those of the codes 1 to 10.
    assert_eq!((&*other.code, other.count), ("other", 55));

    let dir = TempDir::new().unwrap();
    let (log, _) = open(dir.path(), &plain()).unwrap();
    log.append(&Entry::RefusedMore(bounded)).unwrap();
    let few = refused_more(REFUSAL_CODES_MAX).bounded();
    assert!(few.counts.iter().all(|one| one.code != "other"));
    log.append(&Entry::RefusedMore(few)).unwrap();
    assert_eq!(verify(dir.path()).unwrap().records, 3);
}

#[test]
fn configurations_out_of_range_are_refused() {
    let valid = plain();
    let cases = [
        (
            AuditConfig {
                segment_bytes_max: 0,
                ..valid.clone()
            },
            "segment-bytes-max",
        ),
        (
            AuditConfig {
                segment_bytes_max: u64::MAX,
                ..valid.clone()
            },
            "segment-bytes-max",
        ),
        (
            AuditConfig {
                record_bytes_max: 1,
                ..valid.clone()
            },
            "record-bytes-max",
        ),
        (
            AuditConfig {
                record_bytes_max: u32::MAX,
                ..valid.clone()
            },
            "record-bytes-max",
        ),
        (
            AuditConfig {
                checkpoint_records: 0,
                ..valid.clone()
            },
            "checkpoint-records",
        ),
        (
            AuditConfig {
                checkpoint_seconds: 0,
                ..valid
            },
            "checkpoint-seconds",
        ),
    ];
    for (config, expected) in cases {
        match AuditLog::open(Path::new("/nonexistent"), &config) {
            Err(AuditError::Config { field, .. }) => assert_eq!(field, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn how_content_is_written_has_to_be_said() {
    let open =
        |config: &AuditConfig| AuditLog::open(Path::new("/nonexistent"), config).unwrap_err();
    let silent = AuditConfig::default();
    let error = open(&silent);
    assert!(matches!(error, AuditError::NoRecipients), "{error:?}");
    for part in ["age-keygen", "audit.plaintext = true"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    let both = AuditConfig {
        recipients: sealed().recipients,
        ..plain()
    };
    let error = open(&both);
    assert!(
        matches!(error, AuditError::PlaintextWithRecipients),
        "{error:?}"
    );
    for origin in ["", "a b", "a+b", "a\nb", &"x".repeat(1000)] {
        let named = AuditConfig {
            origin: origin.to_owned(),
            ..plain()
        };
        let error = open(&named);
        assert!(matches!(error, AuditError::Origin { .. }), "{error:?}");
    }
    let dir = TempDir::new().unwrap();
    let mistyped = AuditConfig {
        recipients: vec!["age1notakey".to_owned()],
        ..sealed()
    };
    let error = AuditLog::open(dir.path(), &mistyped).unwrap_err();
    assert!(matches!(error, AuditError::Recipients { .. }), "{error:?}");
}

#[test]
fn a_directory_without_a_log_is_not_a_whole_log() {
    let dir = TempDir::new().unwrap();
    assert!(matches!(verify(dir.path()), Err(AuditError::NoLog { .. })));
    let missing = verify(&dir.path().join("missing"));
    assert!(matches!(missing, Err(AuditError::Io { .. })));
}

#[test]
fn the_configuration_is_kebab_case_and_closed() {
    let read = serde_json::from_str::<AuditConfig>;
    assert_eq!(read("{}").unwrap(), AuditConfig::default());
    let some = read(r#"{"segment-bytes-max": 8192, "record-bytes-max": 4096}"#).unwrap();
    assert_eq!(
        (some.segment_bytes_max, some.record_bytes_max),
        (8192, 4096)
    );
    assert!(read(r#"{"segment_bytes_max": 8192}"#).is_err());
}
