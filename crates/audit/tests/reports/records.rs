//! Records that the tests share: one of every kind, at fixed times.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use postern_audit::{
    Administered, Admitted, BudgetUse, Class, Completed, Cut, Entry, Expired, ModelRef, Outcome,
    Parameters, REVIEW_APPROVED, REVIEW_READ, REVIEW_REJECTED, Record, RedactionCount,
    RefusalCount, Refused, RefusedMore, TemplateRef, Timings, Usage,
};

pub(crate) fn digest(letter: char) -> String {
    letter.to_string().repeat(64)
}

/// The time so many seconds after a certain noon.
pub(crate) fn time(seconds: i64) -> Timestamp {
    let noon: Timestamp = "2026-11-27T12:00:00.000250Z".parse().unwrap();
    noon + SignedDuration::from_secs(seconds)
}

/// A record that was written as many seconds after noon as its index.
pub(crate) fn record(index: u64, entry: Entry) -> Record {
    let time = time(i64::try_from(index).unwrap());
    Record { index, time, entry }
}

pub(crate) fn opened(cut: Option<Cut>) -> Entry {
    let version = "0.0.9".to_owned();
    Entry::Opened { version, cut }
}

pub(crate) fn cut() -> Cut {
    Cut {
        segment: 3,
        offset: 4096,
        bytes: 17,
        sha256: digest('f'),
    }
}

pub(crate) fn admitted(request_id: &str, identity: &str, template: &str) -> Admitted {
    Admitted {
        request_id: request_id.to_owned(),
        identity: identity.to_owned(),
        token_id: Some("t-1".to_owned()),
        certificate_sha256: digest('8'),
        model: ModelRef {
            id: "coffee-1".to_owned(),
            sha256: digest('a'),
            tokenizer_sha256: digest('b'),
            chat_template_sha256: None,
        },
        template: TemplateRef {
            id: template.to_owned(),
            sha256: digest('c'),
        },
        policy_sha256: digest('d'),
        rules_sha256: digest('e'),
        rules: vec!["kiosk-coffee".to_owned()],
        variables: BTreeMap::from([("wishes".to_owned(), "a Quiet place\nwith cake".to_owned())]),
        redactions: vec![redaction("wishes", "payment-card", 2)],
        injection_score: Some(35),
        parameters: Parameters {
            max_tokens: 96,
            temperature: 0.7,
            seed: u64::MAX,
            stream: true,
        },
        budgets: vec![BudgetUse {
            account: "identity:kiosk".to_owned(),
            limit: "tokens-per-day".to_owned(),
            allowed: 10_000,
            before: 120,
            after: 240,
        }],
    }
}

pub(crate) fn redaction(variable: &str, rule: &str, count: u64) -> RedactionCount {
    RedactionCount {
        variable: variable.to_owned(),
        rule: rule.to_owned(),
        count,
    }
}

pub(crate) fn completed(request_id: &str, admitted_index: u64, outcome: Outcome) -> Completed {
    Completed {
        request_id: request_id.to_owned(),
        admitted_index,
        output: (outcome == Outcome::Completed).then(|| "Go to\nCopper Kettle".to_owned()),
        outcome,
        output_sha256: digest('9'),
        usage: Usage {
            prompt_tokens: 40,
            completion_tokens: 60,
        },
        output_redactions: vec![redaction("output", "email", 1)],
        schema_valid: Some(true),
        mean_probability: Some(0.8125),
        timings: Timings {
            queued_us: 1_500,
            first_token_us: Some(90_000),
            total_us: 1_250_000,
        },
    }
}

pub(crate) fn refused(request_id: &str, identity: Option<&str>, code: &str) -> Refused {
    Refused {
        request_id: request_id.to_owned(),
        identity: identity.map(str::to_owned),
        token_id: identity.map(|_| "t-2".to_owned()),
        certificate_sha256: identity.map_or_else(String::new, |_| digest('8')),
        template: identity.map(|_| "coffee.v9".to_owned()),
        subject: None,
        code: code.to_owned(),
        detail: "no such template: \"Décaf\"".to_owned(),
        rules_sha256: digest('e'),
    }
}

/// Of two codes, in the minute before noon.
pub(crate) fn refused_more() -> Entry {
    let count = |code: &str, count| RefusalCount {
        code: code.to_owned(),
        count,
    };
    Entry::RefusedMore(RefusedMore {
        counts: vec![count("handshake-failed", 170), count("token-missing", 30)],
        since_us: time(-60).as_microsecond(),
        until_us: time(-1).as_microsecond(),
    })
}

pub(crate) fn administered(identity: Option<&str>, action: &str, subject: &str) -> Administered {
    Administered {
        identity: identity.map(str::to_owned),
        action: action.to_owned(),
        subject: subject.to_owned(),
        detail: "from 100 to 200".to_owned(),
        rules_sha256: String::new(),
    }
}

pub(crate) fn held(reasons: &[&str]) -> Outcome {
    Outcome::Held {
        reasons: reasons.iter().map(|&reason| reason.to_owned()).collect(),
    }
}

pub(crate) fn failed(code: &str) -> Outcome {
    let code = code.to_owned();
    Outcome::Failed { code }
}

pub(crate) fn interrupted(request_id: &str, admitted_index: u64) -> Entry {
    let request_id = request_id.to_owned();
    Entry::Interrupted {
        request_id,
        admitted_index,
    }
}

pub(crate) fn expired() -> Entry {
    Entry::Expired(Expired {
        segment: 2,
        class: Class::Calls,
        reason: "age".to_owned(),
    })
}

/// One record of every kind and of every end, in the order of a real log, and what each shows.
pub(crate) fn every_kind() -> Vec<(&'static str, Record)> {
    let mut entries = vec![
        ("opened", opened(None)),
        ("opened after a torn write", opened(Some(cut()))),
    ];
    let ends = [
        ("completed", Outcome::Completed),
        ("length", Outcome::Length),
        ("cancelled", Outcome::Cancelled),
        ("deadline", Outcome::Deadline),
        ("filtered", Outcome::Filtered),
        ("held", held(&["risk-high", "injection"])),
        ("failed", failed("engine-stopped")),
    ];
    for (name, outcome) in ends {
        let admitted_index = entries.len() as u64;
        let id = format!("call-{name}");
        let admission = Entry::Admitted(admitted(&id, "kiosk", "coffee.v1"));
        entries.push(("admitted", admission));
        entries.push((
            name,
            Entry::Completed(completed(&id, admitted_index, outcome)),
        ));
    }
    entries.extend([
        (
            "end of a call that was not seen",
            Entry::Completed(completed("unseen", 9_999, Outcome::Completed)),
        ),
        (
            "refused",
            Entry::Refused(refused("r-1", Some("kiosk"), "template-unknown")),
        ),
        (
            "refused, nobody known",
            Entry::Refused(refused("r-2", None, "token-missing")),
        ),
        ("refused, only counted", refused_more()),
        (
            "administered at the device",
            Entry::Administered(administered(None, "budget-set", "identity:kiosk")),
        ),
        (
            "review approved",
            Entry::Administered(administered(Some("alice"), REVIEW_APPROVED, "call-held")),
        ),
        (
            "review rejected",
            Entry::Administered(administered(Some("alice"), REVIEW_REJECTED, "call-held")),
        ),
    ]);
    let admitted_index = entries.len() as u64;
    let admission = Entry::Admitted(admitted("cut-off", "kiosk", "coffee.v1"));
    entries.push(("admitted", admission));
    entries.push(("interrupted", interrupted("cut-off", admitted_index)));
    entries.push(("expired", expired()));
    let about_held = Refused {
        template: None,
        subject: Some("call-held".to_owned()),
        ..refused("r-3", Some("till"), "review-unknown")
    };
    entries.push(("refused, about a held answer", Entry::Refused(about_held)));
    let read = administered(Some("alice"), REVIEW_READ, "call-held");
    entries.push(("review read", Entry::Administered(read)));
    let numbered = entries.into_iter().zip(0..);
    let records = numbered.map(|((shows, entry), index)| (shows, record(index, entry)));
    records.collect()
}
