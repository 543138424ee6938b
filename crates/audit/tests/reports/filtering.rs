//! What a query finds.

use std::convert::Infallible;

use postern_audit::{
    AuditError, Calls, Criteria, Entry, Event, Filter, Outcome, OutcomeKind, REVIEW_APPROVED,
    Record,
};

use crate::records::{
    administered, admitted, completed, digest, expired, failed, held, interrupted, opened, record,
    refused, refused_more, time,
};

/// A short history; each record stands as many seconds after noon as its index.
fn history() -> Vec<Record> {
    vec![
        record(0, opened(None)),
        record(1, Entry::Admitted(admitted("a", "kiosk", "coffee.v1"))),
        record(2, Entry::Admitted(admitted("b", "till", "bill.v2"))),
        record(3, Entry::Refused(refused("c", None, "token-missing"))),
        record(
            4,
            Entry::Refused(refused("d", Some("till"), "rate-limited")),
        ),
        record(5, Entry::Completed(completed("a", 1, Outcome::Completed))),
        record(6, Entry::Completed(completed("b", 2, held(&["risk-high"])))),
        record(
            7,
            Entry::Administered(administered(Some("alice"), REVIEW_APPROVED, "b")),
        ),
        record(8, Entry::Admitted(admitted("e", "kiosk", "coffee.v1"))),
        record(
            9,
            Entry::Completed(completed("e", 8, failed("engine-stopped"))),
        ),
        record(10, Entry::Admitted(admitted("f", "kiosk", "coffee.v1"))),
        record(11, interrupted("f", 10)),
        record(12, Entry::Admitted(admitted("g", "kiosk", "coffee.v1"))),
        record(13, expired()),
        record(14, refused_more()),
    ]
}

/// The first record of each event that is found, in the order of their ends.
fn find(criteria: Criteria) -> Vec<u64> {
    let filter = Filter::new(criteria);
    let records = history().into_iter().map(Ok::<_, Infallible>);
    let events = Calls::new(records).map(|event| event.unwrap());
    let found = events.filter(|event| filter.passes(event));
    let index = |event: Event| match event {
        Event::Call(call) => call.index,
        Event::Single(record) => record.index,
    };
    found.map(index).collect()
}

fn name(name: &str) -> Option<String> {
    Some(name.to_owned())
}

#[test]
fn each_criterion_narrows() {
    let any = Criteria::default;
    let cases = [
        (any(), vec![0, 3, 4, 1, 2, 7, 8, 10, 13, 14, 12]),
        (
            Criteria {
                identity: name("kiosk"),
                ..any()
            },
            vec![1, 8, 10, 12],
        ),
        (
            Criteria {
                identity: name("till"),
                ..any()
            },
            vec![4, 2],
        ),
        (
            Criteria {
                identity: name("alice"),
                ..any()
            },
            vec![7],
        ),
        (
            Criteria {
                template: name("bill.v2"),
                ..any()
            },
            vec![2],
        ),
        (
            Criteria {
                template: name("coffee.v9"),
                ..any()
            },
            vec![4],
        ),
        (
            Criteria {
                template: name("coffee"),
                ..any()
            },
            vec![],
        ),
        (
            Criteria {
                model: name("coffee-1"),
                ..any()
            },
            vec![1, 2, 8, 10, 12],
        ),
        (
            Criteria {
                model: Some(digest('a')),
                ..any()
            },
            vec![1, 2, 8, 10, 12],
        ),
        (
            Criteria {
                model: name("tea-1"),
                ..any()
            },
            vec![],
        ),
        (
            Criteria {
                request_id: name("b"),
                ..any()
            },
            vec![2, 7],
        ),
        (
            Criteria {
                text: name("QUIET place"),
                ..any()
            },
            vec![1, 2, 8, 10, 12],
        ),
        // The texts of outputs that are kept are searched, too.
        (
            Criteria {
                text: name("COPPER kettle"),
                ..any()
            },
            vec![1],
        ),
        (
            Criteria {
                text: name("décaf"),
                ..any()
            },
            vec![3, 4],
        ),
        (
            Criteria {
                text: name("100 TO 200"),
                ..any()
            },
            vec![7],
        ),
        (
            Criteria {
                text: name("nowhere"),
                ..any()
            },
            vec![],
        ),
        // A call is in a range of time with either of its records.
        (
            Criteria {
                since: Some(time(6)),
                ..any()
            },
            vec![2, 7, 8, 10, 13, 14, 12],
        ),
        (
            Criteria {
                until: Some(time(2)),
                ..any()
            },
            vec![0, 1],
        ),
        (
            Criteria {
                since: Some(time(3)),
                until: Some(time(5)),
                ..any()
            },
            vec![3, 4],
        ),
        (
            Criteria {
                identity: name("kiosk"),
                template: name("bill.v2"),
                ..any()
            },
            vec![],
        ),
    ];
    for (criteria, expected) in cases {
        let shown = format!("{criteria:?}");
        assert_eq!(find(criteria), expected, "{shown}");
    }
}

#[test]
fn outcomes_are_found_by_kind_and_code() {
    let cases: [(&[&str], &[u64]); 19] = [
        (&["opened"], &[0]),
        (&["admitted"], &[1, 2, 8, 10, 12]),
        (&["open"], &[12]),
        // Whoever asks for refusals is told of those that were only counted.
        (&["refused"], &[3, 4, 14]),
        (&["refused:handshake-failed"], &[14]),
        (&["refused-more"], &[14]),
        (&["refused-more:rate-limited"], &[]),
        (&["refused:rate-limited"], &[4]),
        (&["refused:rate"], &[]),
        (&["completed"], &[1]),
        (&["held"], &[2]),
        (&["held:risk-high"], &[2]),
        (&["failed:engine-stopped"], &[8]),
        (&["interrupted"], &[10]),
        (&["administered:review-approved"], &[7]),
        (&["length"], &[]),
        (&["expired"], &[13]),
        (&["expired:bytes"], &[]),
        (
            &["completed", "held:injection", "refused:token-missing"],
            &[3, 1, 14],
        ),
    ];
    for (outcomes, expected) in cases {
        let outcomes = outcomes.iter().map(|text| text.parse().unwrap()).collect();
        let criteria = Criteria {
            outcomes,
            ..Criteria::default()
        };
        let shown = format!("{criteria:?}");
        assert_eq!(find(criteria), expected, "{shown}");
    }
}

#[test]
fn every_kind_of_outcome_reads_back() {
    for kind in OutcomeKind::ALL {
        let pattern = kind.as_str().parse::<postern_audit::OutcomePattern>();
        assert!(pattern.is_ok(), "{kind}");
    }
}

#[test]
fn what_is_no_outcome_is_refused_with_those_that_are() {
    for text in [
        "",
        "refuse",
        "refused:",
        "completed:stop",
        "open:1",
        ":held",
    ] {
        let error = text.parse::<postern_audit::OutcomePattern>().unwrap_err();
        assert!(matches!(&error, AuditError::OutcomePattern { found } if found == text));
        assert!(
            error
                .to_string()
                .contains("opened, admitted, open, refused,"),
            "{error}"
        );
    }
}

#[test]
fn a_record_by_itself_is_asked_for_what_it_says() {
    let end = record(5, Entry::Completed(completed("a", 1, Outcome::Completed)));
    let by_id = Filter::new(Criteria {
        request_id: name("a"),
        ..Criteria::default()
    });
    assert!(by_id.passes_record(&end));
    let by_identity = Filter::new(Criteria {
        identity: name("kiosk"),
        ..Criteria::default()
    });
    assert!(!by_identity.passes_record(&end));
    let by_text = |text| {
        Filter::new(Criteria {
            text: name(text),
            ..Criteria::default()
        })
    };
    let mut refusal = refused("x", Some("till"), "review-unknown");
    refusal.subject = name("a");
    assert!(by_id.passes_record(&record(6, Entry::Refused(refusal))));
    assert!(by_text("kettle").passes_record(&end));
    assert!(!by_text("quiet").passes_record(&end));
    assert!(by_identity.passes_record(&history()[1]));
}
