//! Calls from the command line to the log and back, good ones and those that must be refused.

use postern_testkit::{Credentials, Pki};
use serde_json::Value;

use crate::harness::{Daemon, State, postern, succeed};

/// Exit code of `generate` when something said no.
const REFUSED: i32 = 3;
/// Exit code of `generate` when there was no connection, or it broke off.
const UNREACHABLE: i32 = 5;

#[test]
fn an_answer_can_be_traced_from_its_receipt() {
    let state = State::new();
    let daemon = Daemon::start(&state);
    let wish = "wishes=a quiet place, my card is 4111 1111 1111 1111";
    let output = succeed(&mut daemon.generate(&state, "kiosk", "coffee.v1", wish));
    let answer: Value = serde_json::from_slice(&output.stdout).expect("an answer in JSON");

    let entries = state.entries();
    let index = answer["audit"]["index"]
        .as_u64()
        .expect("a receipt with an index");
    let completed = &entries[usize::try_from(index).expect("an index fits")];
    assert_eq!(completed["type"], "completed", "{completed}");
    let admitted = completed["admitted_index"].as_u64().expect("an index");
    let admitted = &entries[usize::try_from(admitted).expect("an index fits")];
    for (recorded, told) in [
        (&completed["request_id"], &answer["id"]),
        (&admitted["request_id"], &answer["id"]),
        (&admitted["model"]["sha256"], &answer["model"]["sha256"]),
        (
            &admitted["template"]["sha256"],
            &answer["template"]["sha256"],
        ),
        (
            &completed["usage"]["completion_tokens"],
            &answer["usage"]["completion_tokens"],
        ),
    ] {
        assert_eq!(recorded, told, "{admitted} {completed}");
    }
    assert_eq!(admitted["identity"], "kiosk");
    assert_eq!(
        admitted["variables"]["wishes"],
        "a quiet place, my card is [REDACTED:payment-card:1]"
    );
    let receipt = format!(
        "{index}:{}",
        answer["audit"]["head"]
            .as_str()
            .expect("a receipt with a head")
    );
    succeed(
        postern()
            .args(["audit", "verify", "--receipt", &receipt])
            .arg(state.audit()),
    );
}

#[test]
fn the_same_seed_gives_the_same_text() {
    let state = State::new();
    let daemon = Daemon::start(&state);
    let text = || {
        let mut command = daemon.generate(&state, "kiosk", "coffee.v1", "wishes=cake and a garden");
        let output = succeed(command.args(["--temperature", "0.9", "--seed", "7"]));
        let answer: Value = serde_json::from_slice(&output.stdout).expect("an answer in JSON");
        answer["text"].clone()
    };
    assert_eq!(text(), text());
}

#[test]
fn what_policy_does_not_allow_is_refused_and_recorded() {
    let state = State::new();
    state.issue("kiosk", &["coffee.v1", "triage.v1"]);
    let daemon = Daemon::start(&state);
    #[track_caller]
    fn check(state: &State, daemon: &Daemon, template: &str, variable: &str, code: &str) {
        let output = daemon
            .generate(state, "kiosk", template, variable)
            .output()
            .expect("the caller can be started");
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(REFUSED), "{shown}");
        assert!(shown.contains(code), "{shown}");
        let refused = state
            .entries_of("refused")
            .pop()
            .expect("a refusal is recorded");
        assert_eq!(refused["code"], code, "{refused}");
        assert_eq!(refused["identity"], "kiosk");
    }
    check(
        &state,
        &daemon,
        "triage.v1",
        "log=x",
        "template-not-allowed",
    );
    check(&state, &daemon, "impl-test-gen.v1", "diff=x", "token-scope");
    check(&state, &daemon, "tea.v1", "wishes=x", "template-unknown");
    check(&state, &daemon, "coffee.v1", "wish=x", "variable-missing");
    state.verified();
}

#[test]
fn only_the_right_certificate_and_token_come_in() {
    let state = State::new();
    let pki = Pki::new();
    let server = pki.server();
    let text = |path: &std::path::Path| path.to_str().expect("UTF-8").to_owned();
    let daemon = Daemon::start_with(
        &state,
        &[
            "--tls-cert",
            &text(&server.certificate),
            "--tls-key",
            &text(&server.key),
            "--client-ca",
            &text(pki.ca()),
        ],
    );
    let status = |client: &Credentials, token: &str| {
        let mut command = daemon.generate(&state, "kiosk", "coffee.v1", "wishes=cake");
        command.arg("--ca").arg(pki.ca());
        command.arg("--cert").arg(&client.certificate);
        command.arg("--key").arg(&client.key);
        command
            .arg("--token-file")
            .arg(state.path().join("tokens").join(token));
        command
            .output()
            .expect("the caller can be started")
            .status
            .code()
    };
    let forged = state.path().join("tokens/forged.token");
    std::fs::write(
        &forged,
        "pst1.e30.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    )
    .expect("a file");

    assert_eq!(status(&pki.client("kiosk"), "kiosk.token"), Some(0));
    // The server ends the handshake; whether its alert or the end of the connection is seen first is up to timing.
    for (why, client) in [
        ("a certificate of another CA", pki.foreign_client("kiosk")),
        ("an expired certificate", pki.expired_client("kiosk")),
    ] {
        let code = status(&client, "kiosk.token");
        assert!(
            [Some(REFUSED), Some(UNREACHABLE)].contains(&code),
            "{why}: {code:?}"
        );
    }
    for (why, identity, token) in [
        ("a token of another identity", "kiosk", "ci-runner.token"),
        (
            "a certificate of another identity",
            "ci-runner",
            "kiosk.token",
        ),
        ("a token that nobody signed", "kiosk", "forged.token"),
    ] {
        assert_eq!(status(&pki.client(identity), token), Some(REFUSED), "{why}");
    }
    assert_eq!(
        state.entries_of("admitted").len(),
        1,
        "only the right one came in"
    );
    state.verified();
}
