//! Power may go at any instruction: what the log says after a crash, a signal, a full disk, a vanished caller.

use crate::harness::{Daemon, RunningCall, State, slow_model, succeed, wait_until};

const LONG_CALL: (&str, &str, &str) = ("ci-runner", "triage.v1", "log=the build failed");

fn long_call(daemon: &Daemon, state: &State) -> RunningCall {
    let (identity, template, variable) = LONG_CALL;
    RunningCall::start(daemon.generate(state, identity, template, variable))
}

#[test]
fn a_killed_daemon_leaves_a_log_that_verifies_and_closes_its_calls_on_the_next_start() {
    let state = State::new();
    let daemon = Daemon::start_with(&state, &slow_model());
    let call = long_call(&daemon, &state);
    daemon.kill();
    let (_, status) = call.finish();
    assert!(
        !status.success(),
        "a caller whose answer was cut must not report success"
    );

    let cut = state.verified();
    let open = cut["open_calls"].as_array().expect("open calls are listed");
    assert_eq!(open.len(), 1, "{cut}");

    let restarted = Daemon::start_with(&state, &slow_model());
    let interrupted = state.entries_of("interrupted");
    assert_eq!(interrupted.len(), 1, "{interrupted:?}");
    assert_eq!(interrupted[0]["admitted_index"], open[0]["admitted_index"]);
    let admitted = &state.entries_of("admitted")[0];
    assert_eq!(interrupted[0]["request_id"], admitted["request_id"]);
    assert_eq!(state.verified()["open_calls"], serde_json::json!([]));
    drop(restarted);
}

#[test]
fn a_log_survives_many_kills() {
    const KILLS: usize = 4;
    let state = State::new();
    for _ in 0..KILLS {
        let daemon = Daemon::start_with(&state, &slow_model());
        let calls = [long_call(&daemon, &state), long_call(&daemon, &state)];
        daemon.kill();
        for call in calls {
            assert!(!call.finish().1.success());
        }
        state.verified();
    }
    drop(Daemon::start_with(&state, &slow_model()));
    assert_eq!(state.entries_of("admitted").len(), 2 * KILLS);
    assert_eq!(state.entries_of("interrupted").len(), 2 * KILLS);
    assert_eq!(state.verified()["open_calls"], serde_json::json!([]));
}

#[test]
fn a_caller_that_vanishes_stops_its_generation_and_is_recorded() {
    let state = State::new();
    let daemon = Daemon::start_with(&state, &slow_model());
    let mut call = long_call(&daemon, &state);
    call.kill();
    let completed = wait_until("the vanished call is recorded", || {
        state.entries_of("completed").pop()
    });
    assert_eq!(completed["outcome"]["kind"], "cancelled", "{completed}");
    let admitted = state.entries_of("admitted").remove(0);
    let generated = completed["usage"]["completion_tokens"]
        .as_u64()
        .expect("a count");
    let allowed = admitted["parameters"]["max_tokens"]
        .as_u64()
        .expect("a bound");
    assert!(
        generated < allowed,
        "{generated} of {allowed} tokens were generated for nobody"
    );
}

#[test]
fn sigterm_ends_in_order_with_every_record_written() {
    let state = State::new();
    let daemon = Daemon::start_with(&state, &slow_model());
    let call = long_call(&daemon, &state);
    daemon.terminate();
    let (last, caller) = call.finish();
    assert_eq!(daemon.wait().code(), Some(0));

    let last = last.expect("the caller hears how its call ended");
    let completed = state.entries_of("completed");
    assert_eq!(completed.len(), 1, "{completed:?}");
    assert_eq!(last["event"] == "done", caller.success(), "{last}");
    assert_eq!(state.verified()["open_calls"], serde_json::json!([]));
}

#[test]
fn a_full_disk_refuses_calls_before_a_token_is_generated() {
    const BYTES_MAX: u64 = 16 << 10;
    const CALLS_MAX: usize = 100;
    let state = State::new();
    let daemon = Daemon::start(&state);
    daemon.limit_files(BYTES_MAX);
    let call = || {
        daemon
            .generate(&state, "kiosk", "coffee.v1", "wishes=a quiet place")
            .output()
            .expect("the caller can be started")
    };
    let filled = (0..CALLS_MAX).any(|_| !call().status.success());
    assert!(filled, "a log of bounded size is full at some time");

    let admitted = state.entries_of("admitted").len();
    let refused = call();
    let shown = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(!refused.status.success(), "{shown}");
    assert!(
        shown.contains("audit-unavailable"),
        "the reason is named: {shown}"
    );
    assert_eq!(
        state.entries_of("admitted").len(),
        admitted,
        "nothing was generated for it"
    );
    state.verified();
    daemon.kill();

    let with_room = Daemon::start(&state);
    succeed(&mut with_room.generate(&state, "kiosk", "coffee.v1", "wishes=a quiet place"));
    assert_eq!(state.verified()["open_calls"], serde_json::json!([]));
}
