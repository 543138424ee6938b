//! SIGINT and SIGTERM while a call runs: the command ends at once, and the call has its last record.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use postern_testkit::models::write_registry;
use postern_testkit::{chain, rules};
use serde_json::Value;

use crate::run::{Ran, command, home, postern};

/// Longest wait for something that must happen.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A folder with a model that answers without end, and templates and policy for it.
fn endless() -> tempfile::TempDir {
    let home = home();
    let write = |name: &str, content: &[u8]| {
        fs::write(home.path().join(name), content).expect("a file");
    };
    fs::create_dir(home.path().join("prompts")).expect("a folder");
    for (id, max_tokens) in [
        ("long.v1", rules::LONG_TOKENS),
        ("short.v1", rules::SHORT_TOKENS),
    ] {
        let template = rules::template(id, max_tokens);
        write(&format!("prompts/{id}.yaml"), template.as_bytes());
    }
    write("policy.yaml", rules::POLICY.as_bytes());
    write("endless.gguf", &chain::endless(rules::LONG_CONTEXT));
    postern(home.path(), ["model", "pin", "endless.gguf"]).exits(0);
    write_registry(&home.path().join("endless.manifest.json"));
    home
}

/// A local call that takes seconds.
fn call(home: &Path, more: &[&str]) -> Child {
    command(home)
        .args([
            "generate",
            "--audit-plaintext",
            "--state-dir",
            "state",
            "--model",
        ])
        .args(["endless.gguf", "--models", "models.yaml", "--prompts"])
        .args(["prompts", "--policy", "policy.yaml"])
        .args(["--template", "long.v1", "--var", "text=go"])
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs")
}

/// Waits until `child` has written something to standard output.
fn first_output(child: &mut Child) {
    let stdout = child.stdout.as_mut().expect("a pipe");
    stdout.read_exact(&mut [0]).expect("output");
}

fn send(signal: &str, child: &Child) {
    let status = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status()
        .expect("kill runs");
    assert!(status.success());
}

/// What `child` left, without what was read of it before.
fn end(child: Child) -> Ran {
    let output = child.wait_with_output().expect("the binary ends");
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// The audit records so far.
fn records(home: &Path) -> Vec<Value> {
    let shown = postern(home, ["audit", "show", "state/audit", "--json"]);
    let lines = shown.stdout.lines();
    lines.filter_map(|l| serde_json::from_str(l).ok()).collect()
}

/// Requires that the one call was recorded as cancelled, in a log that is whole.
#[track_caller]
fn check_cancelled(home: &Path) {
    let verified = postern(home, ["audit", "verify", "state/audit", "--json"]).exits(0);
    assert_eq!(verified.json()["verified"], true);
    let records = records(home);
    let text = records.last().expect("a record").to_string();
    assert!(text.contains("completed"), "{records:#?}");
    assert!(text.contains("cancelled"), "{records:#?}");
}

#[test]
fn a_signal_ends_a_streamed_call() {
    for signal in ["-INT", "-TERM"] {
        let home = endless();
        let mut child = call(home.path(), &["--stream"]);
        first_output(&mut child);
        send(signal, &child);
        let ran = end(child).exits(130);
        assert!(ran.stderr.contains("postern: interrupted"), "{ran:#?}");
        check_cancelled(home.path());
    }
}

#[test]
fn a_signal_ends_a_call_that_shows_nothing_yet() {
    let home = endless();
    let child = call(home.path(), &[]);
    let begun = Instant::now();
    let admitted = |record: &Value| record.to_string().contains("admitted");
    while !records(home.path()).iter().any(admitted) {
        assert!(begun.elapsed() < WAIT_MAX, "the call never began");
    }
    send("-INT", &child);
    let ran = end(child).exits(130);
    assert_eq!(ran.stdout, "", "half an answer is none: {ran:#?}");
    check_cancelled(home.path());
}

#[test]
fn a_script_is_told_of_the_signal_as_json() {
    let home = endless();
    let mut child = call(home.path(), &["--stream", "--json"]);
    first_output(&mut child);
    send("-TERM", &child);
    let ran = end(child).exits(130);
    let last = ran.stdout.lines().last().expect("a line");
    let last: Value = serde_json::from_str(last).expect("JSON to the end");
    assert_eq!(last["error"]["code"], "interrupted");
    assert_eq!(last["error"]["exit_code"], 130);
    check_cancelled(home.path());
}
