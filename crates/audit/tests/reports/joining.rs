//! Two records become one call.

use std::convert::Infallible;

use postern_audit::{
    Call, Calls, EndManner, Entry, Event, OPEN_CALLS_BYTES_MAX, OPEN_CALLS_MAX, Outcome,
    OutcomeKind, Record,
};

use crate::records::{admitted, completed, interrupted, opened, record, refused};

fn join(records: Vec<Record>) -> Vec<Event> {
    let records = records.into_iter().map(Ok::<_, Infallible>);
    Calls::new(records).map(|event| event.unwrap()).collect()
}

/// The index of each event's first record, and the kind of what is a call.
fn outline(events: &[Event]) -> Vec<(u64, Option<OutcomeKind>)> {
    let line = |event: &Event| match event {
        Event::Call(call) => (call.index, Some(call.outcome())),
        Event::Single(record) => (record.index, None),
    };
    events.iter().map(line).collect()
}

#[test]
fn calls_come_whole_at_their_ends_and_all_else_in_its_place() {
    let events = join(vec![
        record(0, opened(None)),
        record(1, Entry::Admitted(admitted("a", "kiosk", "coffee.v1"))),
        record(2, Entry::Admitted(admitted("b", "kiosk", "coffee.v1"))),
        record(3, Entry::Refused(refused("c", None, "token-missing"))),
        record(4, Entry::Completed(completed("b", 2, Outcome::Length))),
        record(5, Entry::Admitted(admitted("d", "kiosk", "coffee.v1"))),
        record(6, interrupted("a", 1)),
        record(
            7,
            Entry::Completed(completed("unseen", 999, Outcome::Completed)),
        ),
    ]);
    let expected = [
        (0, None),
        (3, None),
        (2, Some(OutcomeKind::Length)),
        (1, Some(OutcomeKind::Interrupted)),
        (7, None),
        (5, Some(OutcomeKind::Open)),
    ];
    assert_eq!(outline(&events), expected);
    let Event::Call(call) = &events[2] else {
        panic!("{:?} is no call", events[2]);
    };
    let Call { admitted, end, .. } = &**call;
    assert_eq!(admitted.request_id, "b");
    let end = end.as_ref().unwrap();
    assert_eq!(end.index, 4);
    let expected = EndManner::Completed(completed("b", 2, Outcome::Length));
    assert_eq!(end.manner, expected);
}

#[test]
fn an_error_comes_at_its_place_and_open_calls_after_it() {
    let records = [
        Ok(record(
            1,
            Entry::Admitted(admitted("a", "kiosk", "coffee.v1")),
        )),
        Err("torn"),
    ];
    let mut calls = Calls::new(records);
    assert_eq!(calls.next(), Some(Err("torn")));
    assert!(matches!(calls.next(), Some(Ok(Event::Call(call))) if call.end.is_none()));
    assert_eq!(calls.next(), None);
}

#[test]
fn more_open_calls_than_a_log_can_have_do_not_grow_memory() {
    let too_many = OPEN_CALLS_MAX as u64 + 1;
    let admissions = (0..too_many)
        .map(|index| record(index, Entry::Admitted(admitted("a", "kiosk", "coffee.v1"))));
    let last = record(
        too_many,
        Entry::Completed(completed("a", 0, Outcome::Completed)),
    );
    let events = join(admissions.chain([last]).collect());
    assert_eq!(events.len() as u64, too_many + 1);
    assert_eq!(outline(&events[..1]), [(0, Some(OutcomeKind::Open))]);
    assert_eq!(outline(&events[1..2]), [(too_many, None)]);
}

#[test]
fn long_variables_of_open_calls_do_not_grow_memory() {
    let mut wordy = admitted("a", "kiosk", "coffee.v1");
    let half = "x".repeat(OPEN_CALLS_BYTES_MAX / 2);
    wordy.variables.insert("wishes".to_owned(), half);
    let events = join(vec![
        record(1, Entry::Admitted(wordy.clone())),
        record(2, Entry::Admitted(wordy)),
        record(3, opened(None)),
    ]);
    let expected = [
        (1, Some(OutcomeKind::Open)),
        (3, None),
        (2, Some(OutcomeKind::Open)),
    ];
    assert_eq!(outline(&events), expected);
}
