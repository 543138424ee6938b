//! What is counted, and that memory does not grow with what is counted.

use jiff::SignedDuration;
use postern_audit::{
    Collector, Count, DAYS_MAX, DURATION_US_MAX, Distribution, Entry, NAMES_MAX, Outcome,
    RELATIVE_ERROR_MAX, REVIEW_APPROVED, REVIEW_REJECTED, REVIEWS_PENDING_MAX, Record, Stats,
    UsageFigures,
};
use proptest::prelude::*;

use crate::records::{
    administered, admitted, completed, every_kind, held, opened, record, redaction, refused,
    refused_more, time,
};

pub(crate) fn collect(records: &[Record]) -> Stats {
    let mut collector = Collector::new();
    for record in records {
        collector.add(record);
    }
    collector.stats()
}

fn every_record() -> Vec<Record> {
    every_kind().into_iter().map(|(_, record)| record).collect()
}

#[test]
fn every_kind_is_counted() {
    let stats = collect(&every_record());
    insta::with_settings!({ sort_maps => true, omit_expression => true }, {
        insta::assert_json_snapshot!("figures", stats);
    });
}

#[test]
fn the_table_is_as_it_was() {
    let stats = collect(&every_record());
    insta::with_settings!({ omit_expression => true }, {
        insta::assert_snapshot!("table", stats.to_text());
    });
}

#[test]
fn nothing_counts_as_nothing() {
    let stats = collect(&[]);
    assert_eq!(stats.records, 0);
    assert_eq!((stats.first_time, stats.latency.total), (None, None));
    assert!(stats.to_text().starts_with("Period      no records\n"));
}

#[test]
fn names_move_no_cursor_of_a_terminal() {
    let call = admitted("a", "kiosk\u{1b}[2J\u{202e}", "coffee.v1");
    let text = collect(&[record(0, Entry::Admitted(call))]).to_text();
    assert!(text.contains("kiosk\\u{1b}[2J\\u{202e}"), "{text}");
    assert!(
        text.chars()
            .all(|character| !character.is_control() || character == '\n')
    );
}

#[test]
fn tokens_of_a_skipped_admission_are_its_callers() {
    let mut collector = Collector::new();
    collector.skip(&record(
        0,
        Entry::Admitted(admitted("a", "kiosk", "coffee.v1")),
    ));
    collector.add(&record(
        1,
        Entry::Completed(completed("a", 0, Outcome::Completed)),
    ));
    collector.add(&record(
        2,
        Entry::Completed(completed("b", 999, Outcome::Completed)),
    ));
    let stats = collector.stats();
    assert_eq!(stats.totals.calls, 0);
    assert_eq!(stats.totals.completion_tokens, 120);
    let tokens = UsageFigures {
        prompt_tokens: 40,
        completion_tokens: 60,
        ..UsageFigures::default()
    };
    assert_eq!(stats.templates.rows[0].name, "coffee.v1");
    assert_eq!(stats.templates.rows[0].figures, tokens);
    assert_eq!(stats.templates.other, tokens);
}

#[test]
fn more_names_than_have_room_are_counted_as_other() {
    let names = NAMES_MAX as u64 + 50;
    let calls = (0..names).map(|index| {
        let call = admitted("a", &format!("identity-{index:04}"), "coffee.v1");
        record(index, Entry::Admitted(call))
    });
    let stats = collect(&calls.collect::<Vec<_>>());
    assert_eq!(stats.identities.rows.len(), NAMES_MAX);
    assert_eq!(stats.identities.other.calls, 50);
    assert_eq!(stats.templates.rows[0].figures.calls, names);
    // The text shows the first rows, and sums the rest.
    let text = stats.to_text();
    assert!(
        text.contains("identity-0019") && !text.contains("identity-0020"),
        "{text}"
    );
    let other = text
        .lines()
        .find(|line| line.starts_with("(other)"))
        .unwrap();
    assert_eq!(other.split_whitespace().nth(1), Some("230"));
}

#[test]
fn names_of_refused_calls_make_room_for_names_of_admitted_ones() {
    let refusals = (0..NAMES_MAX as u64 + 5).map(|index| {
        let mut refusal = refused("r", Some("kiosk"), "template-unknown");
        refusal.template = Some(format!("guess-{index:04}"));
        record(index, Entry::Refused(refusal))
    });
    let mut records: Vec<Record> = refusals.collect();
    records.push(record(
        900,
        Entry::Admitted(admitted("a", "kiosk", "coffee.v1")),
    ));
    let stats = collect(&records);
    assert_eq!(stats.templates.rows.len(), NAMES_MAX);
    assert_eq!(stats.templates.rows[0].name, "coffee.v1");
    // Five found no room, one lost it, and none is lost from the sum.
    assert_eq!(stats.templates.other.refusals, 6);
    let listed: u64 = stats
        .templates
        .rows
        .iter()
        .map(|row| row.figures.refusals)
        .sum();
    assert_eq!(listed + 6, stats.totals.refusals);
    assert_eq!(
        stats.refusals.rows,
        [Count {
            name: "template-unknown".to_owned(),
            count: 205
        }]
    );
}

#[test]
fn refusals_without_records_of_their_own_count_by_code() {
    let stats = collect(&[
        record(0, Entry::Refused(refused("r", None, "token-missing"))),
        record(1, refused_more()),
        record(2, refused_more()),
    ]);
    assert_eq!((stats.records, stats.totals.refusals), (3, 401));
    assert_eq!(stats.days[0].figures.refusals, 401);
    let rows = stats.refusals.rows.iter();
    let rows: Vec<_> = rows.map(|row| (&*row.name, row.count)).collect();
    assert_eq!(rows, [("handshake-failed", 340), ("token-missing", 61)]);
}

#[test]
fn absurd_numbers_are_summed_without_overflow() {
    let mut end = completed("a", 0, Outcome::Completed);
    end.usage.prompt_tokens = u64::MAX;
    end.output_redactions = vec![redaction("output", "email", u64::MAX); 2];
    end.timings.total_us = u64::MAX;
    let stats = collect(&[
        record(1, Entry::Completed(end.clone())),
        record(2, Entry::Completed(end)),
    ]);
    assert_eq!(stats.totals.prompt_tokens, u64::MAX);
    assert_eq!(stats.redactions.rows[0].count, u64::MAX);
    let total = stats.latency.total.unwrap();
    assert_eq!((total.mean_us, total.max_us), (u64::MAX, u64::MAX));
    let _text = stats.to_text();
    let _page = stats.to_html("pi-5");
}

#[test]
fn reviews_are_timed_from_holding_to_deciding() {
    let hold =
        |index, id: &str| record(index, Entry::Completed(completed(id, 999, held(&["risk"]))));
    let decide = |index, action: &str, id: &str| {
        record(
            index,
            Entry::Administered(administered(Some("alice"), action, id)),
        )
    };
    let stats = collect(&[
        hold(10, "a"),
        hold(20, "b"),
        hold(30, "c"),
        decide(40, REVIEW_APPROVED, "a"),
        decide(50, REVIEW_REJECTED, "b"),
        decide(60, REVIEW_APPROVED, "unseen"),
        decide(70, "budget-set", "c"),
    ]);
    let reviews = &stats.reviews;
    assert_eq!(
        (reviews.held, reviews.approved, reviews.rejected),
        (3, 2, 1)
    );
    assert_eq!(reviews.pending, 1);
    let waited = reviews.time_to_decision.unwrap();
    assert_eq!(
        (waited.count, waited.mean_us, waited.max_us),
        (2, 30_000_000, 30_000_000)
    );
    assert_eq!(stats.totals.administrative_actions, 4);
}

#[test]
fn a_decision_before_its_hold_took_no_time() {
    let hold = record(60, Entry::Completed(completed("a", 999, held(&["risk"]))));
    let decision = administered(Some("alice"), REVIEW_APPROVED, "a");
    let decision = Record {
        time: time(10),
        ..record(61, Entry::Administered(decision))
    };
    let stats = collect(&[hold, decision]);
    assert_eq!(stats.reviews.time_to_decision.unwrap().max_us, 0);
    assert_eq!(
        (stats.first_time, stats.last_time),
        (Some(time(10)), Some(time(60)))
    );
}

#[test]
fn held_answers_that_nobody_decides_on_do_not_grow_memory() {
    let held_count = REVIEWS_PENDING_MAX as u64 + 10;
    let holds = (0..held_count).map(|index| {
        record(
            index,
            Entry::Completed(completed(&format!("call-{index}"), 999_999, held(&[]))),
        )
    });
    let stats = collect(&holds.collect::<Vec<_>>());
    assert_eq!(stats.reviews.held, held_count);
    assert_eq!(stats.reviews.pending, REVIEWS_PENDING_MAX as u64);
}

#[test]
fn days_beyond_the_last_are_one_sum() {
    let day = |number: i64| Record {
        time: time(0) + SignedDuration::from_hours(24 * number),
        ..record(0, Entry::Refused(refused("r", None, "token-missing")))
    };
    let days = DAYS_MAX as i64;
    // A clock that is set back comes to a day that has no place any more.
    let records: Vec<Record> = (0..days + 3).chain([0, days]).map(day).collect();
    let stats = collect(&records);
    assert_eq!(stats.days.len(), DAYS_MAX);
    assert_eq!(stats.days[0].day.to_string(), "2026-11-30");
    assert_eq!(stats.earlier.unwrap().refusals, 4);
    let listed: u64 = stats.days.iter().map(|day| day.figures.refusals).sum();
    assert_eq!(listed + 4, stats.totals.refusals);
}

#[test]
fn days_end_at_midnight_in_utc() {
    let records = [43_199, 43_200].map(|seconds| Record {
        time: time(seconds),
        ..record(0, opened(None))
    });
    let mut refusals = records.map(|record| Record {
        entry: Entry::Refused(refused("r", None, "token-missing")),
        ..record
    });
    refusals.sort_by_key(|record| record.time);
    let days = collect(&refusals).days;
    let days: Vec<String> = days.iter().map(|day| day.day.to_string()).collect();
    assert_eq!(days, ["2026-11-27", "2026-11-28"]);
}

proptest! {
    #[test]
    fn percentiles_are_as_exact_as_is_said(
        durations in prop::collection::vec(
            prop_oneof![0..2_000_u64, 0..10_000_000_u64, 0..=DURATION_US_MAX],
            1..300,
        ),
    ) {
        let ends = durations.iter().map(|&total_us| {
            let mut end = completed("a", 0, Outcome::Completed);
            end.timings.total_us = total_us;
            record(1, Entry::Completed(end))
        });
        let found = collect(&ends.collect::<Vec<_>>()).latency.total.unwrap();
        let mut sorted = durations;
        sorted.sort_unstable();
        check_percentiles(&found, &sorted)?;
    }
}

fn check_percentiles(found: &Distribution, sorted: &[u64]) -> Result<(), TestCaseError> {
    let count = sorted.len();
    prop_assert_eq!(found.count, count as u64);
    prop_assert_eq!(found.max_us, sorted[count - 1]);
    let percentiles = [
        (50, found.p50_us),
        (90, found.p90_us),
        (95, found.p95_us),
        (99, found.p99_us),
    ];
    for (percent, found_us) in percentiles {
        let exact_us = sorted[(count * percent).div_ceil(100) - 1];
        let most_us = (exact_us as f64 * (1.0 + RELATIVE_ERROR_MAX)).ceil();
        prop_assert!(
            found_us >= exact_us && found_us as f64 <= most_us,
            "{} %: {} instead of {}",
            percent,
            found_us,
            exact_us
        );
    }
    Ok(())
}
