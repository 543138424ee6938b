//! A daemon under load is killed two hundred times: every answer that a client received has its records.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use postern_audit::{Entry, Receipt, Witness, read, verify_against};
use postern_testkit::client::{Client, Reply, post};
use serde_json::{Value, json};

use crate::harness::{Daemon, State, WAIT_MAX};

const KILLS: u64 = 200;

/// Kills after which the log is judged, which takes longer the longer it is.
const KILLS_BETWEEN: u64 = 10;

/// Clients that call at once, without a pause.
const CALLERS: u64 = 4;

/// Most answered calls before the kill, and the longest time from the last of them to it.
const ANSWERED_MAX: u64 = 8;
const LOAD_US_MAX: u64 = 40_000;

/// So short that many calls begin and end before a kill.
const TOKENS_MAX: u64 = 3;

/// One of so many calls of a client is one that is refused.
const CALLS_TO_REFUSAL: u64 = 5;

#[test]
fn two_hundred_kills_take_no_record_of_an_answer() {
    let state = State::new();
    let mut answers = Vec::new();
    for kill in 0..KILLS {
        let daemon = Daemon::start_quiet(&state);
        if kill % KILLS_BETWEEN == 0 && kill > 0 {
            check(&state, &answers);
        }
        answers.extend(answers_until_killed(daemon, &state, kill));
    }
    let _last = Daemon::start_quiet(&state);
    let entries = check(&state, &answers);

    let interrupted = entries.iter();
    let interrupted = interrupted.filter(|entry| matches!(entry, Entry::Interrupted { .. }));
    let interrupted = interrupted.count();
    let refusals = answers.iter().filter(|answer| answer.receipt.is_none());
    let refusals = refusals.count();
    println!(
        "{} answers in {KILLS} kills, {refusals} of them refusals; {interrupted} calls were interrupted",
        answers.len()
    );
    assert!(interrupted > 0, "some kill came within a call");
    assert!(refusals > 0, "some calls were refused");
}

/// What a client knows of an answer that it received to the end.
struct Answer {
    request_id: String,
    /// Of a refusal there is none.
    receipt: Option<Receipt>,
}

impl Answer {
    fn of(reply: &Reply) -> Self {
        let mut body: Value = serde_json::from_str(&reply.body).expect("an answer in JSON");
        let is_refusal = reply.status == 403 || reply.status == 404;
        assert!(reply.status == 200 || is_refusal, "{reply:?}");
        let id = if is_refusal { "instance" } else { "id" };
        let receipt = body.get_mut("audit").and_then(Value::as_object_mut);
        let receipt = receipt.map(|receipt| {
            // It opens the way to a proof, and is no part of the receipt.
            receipt.remove("ticket");
            serde_json::from_value(Value::from(receipt.clone())).expect("a receipt")
        });
        assert_eq!(receipt.is_none(), is_refusal, "{reply:?}");
        Self {
            request_id: body[id].as_str().expect("an id").to_owned(),
            receipt,
        }
    }
}

/// Lets clients call, kills the daemon at a moment that `seed` chooses, and gives what they received.
fn answers_until_killed(daemon: Daemon, state: &State, seed: u64) -> Vec<Answer> {
    let (told, answers) = channel();
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (client, token) = (daemon.client(state, "kiosk"), state.token("kiosk"));
            let told = told.clone();
            thread::spawn(move || call_without_pause(&client, &token, caller, &told))
        })
        .collect();
    drop(told);
    let mut received = Vec::new();
    for _ in 0..=spread(seed) % ANSWERED_MAX {
        received.extend(until_answered(&answers));
    }
    thread::sleep(Duration::from_micros(spread(!seed) % LOAD_US_MAX));
    daemon.kill();
    for caller in callers {
        caller.join().expect("a client ends with the daemon");
    }
    received.extend(answers);
    received
}

/// The next answers, up to one that is no refusal.
fn until_answered(answers: &Receiver<Answer>) -> Vec<Answer> {
    let mut received = Vec::new();
    loop {
        let answer = answers.recv_timeout(WAIT_MAX).expect("an answer arrives");
        let is_refusal = answer.receipt.is_none();
        received.push(answer);
        if !is_refusal {
            return received;
        }
    }
}

/// Calls over one connection until it breaks.
fn call_without_pause(client: &Client, token: &str, caller: u64, told: &Sender<Answer>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let Ok(mut connection) = client.connect().await else {
            return;
        };
        for call in caller.. {
            let template = match call % CALLS_TO_REFUSAL {
                0 => "unheard-of.v9",
                _ => "coffee.v1",
            };
            let body = json!({
                "template": template,
                "variables": {"wishes": "a quiet place"},
                "max_tokens": TOKENS_MAX,
            });
            let request = post("/v1/generate", Some(token), body.to_string());
            let Ok(reply) = connection.send(request).await else {
                return;
            };
            told.send(Answer::of(&reply)).expect("the test listens");
        }
    });
}

/// Requires that the log is whole, closes each call and has the records of each answer; gives its entries. A daemon has
/// it open and is not called.
fn check(state: &State, answers: &[Answer]) -> Vec<Entry> {
    let dir = state.audit();
    let receipts = answers.iter().filter_map(|answer| answer.receipt.clone());
    let witness = Witness {
        receipts: receipts.collect(),
        ..Witness::default()
    };
    let verified = verify_against(&dir, &witness).expect("the log holds every receipt");
    assert_eq!(verified.open_calls, []);

    let stored = read(&dir).expect("the log can be read");
    let entries: Vec<Entry> = stored
        .map(|stored| stored.expect("a whole record").content.into_entry())
        .map(|entry| entry.expect("content in the clear"))
        .collect();
    let refused = entries.iter().filter_map(|entry| match entry {
        Entry::Refused(refused) => Some(&*refused.request_id),
        _ => None,
    });
    let refused: BTreeSet<&str> = refused.collect();
    for answer in answers {
        match &answer.receipt {
            Some(receipt) => check_call(&entries, receipt.index, &answer.request_id),
            None => assert!(refused.contains(&*answer.request_id)),
        }
    }
    entries
}

/// Requires both records of an answered call, the last of them at its place.
#[track_caller]
fn check_call(entries: &[Entry], index: u64, request_id: &str) {
    let at = |index: u64| &entries[usize::try_from(index).expect("an index fits")];
    let Entry::Completed(completed) = at(index) else {
        panic!("{request_id} is not completed at {index}: {:?}", at(index));
    };
    let Entry::Admitted(admitted) = at(completed.admitted_index) else {
        panic!("{request_id} is not admitted: {completed:?}");
    };
    assert_eq!(completed.request_id, request_id);
    assert_eq!(admitted.request_id, request_id);
}

/// Numbers that look drawn, the same for the same seed: the finalizer of SplitMix64.
fn spread(seed: u64) -> u64 {
    let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
