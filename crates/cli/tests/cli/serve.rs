//! `serve` and `generate --url`: the real daemon and a real client, over mutual TLS.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::run::{Ran, command, home, postern};

/// Longest wait for a witness, which is told within a second.
const WITNESS_WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(60);

/// A daemon that ends with the test.
struct Daemon {
    child: Child,
    url: String,
}

impl Daemon {
    fn start(home: &Path, arguments: &[&str]) -> Self {
        let mut child = command(home)
            .args(["serve", "--port", "0", "--audit-plaintext"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let stdout = child.stdout.take().expect("standard output is a pipe");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let Some((_, url)) = line.trim().split_once(" ready at ") else {
            let mut log = String::new();
            let stderr = child.stderr.take().expect("standard error is a pipe");
            let _ = BufReader::new(stderr).read_to_string(&mut log);
            panic!("no ready line but {line:?}: {log}");
        };
        let url = url.to_owned();
        Self { child, url }
    }

    /// SIGTERM, and what the daemon logged until it was gone.
    fn terminate(mut self) -> String {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .expect("kill runs");
        assert!(sent.success());
        let mut log = String::new();
        let mut stderr = self.child.stderr.take().expect("standard error is a pipe");
        stderr.read_to_string(&mut log).expect("UTF-8");
        let status = self.child.wait().expect("the daemon ends");
        assert_eq!(status.code(), Some(0), "{log}");
        log
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _already_waited = self.child.wait();
    }
}

fn with_state() -> tempfile::TempDir {
    let home = home();
    postern(home.path(), ["certs", "dev", "--dir", "state"]).exits(0);
    for (identity, template) in [("kiosk", "coffee.v1"), ("ci-runner", "triage.v1")] {
        let out = format!("state/tokens/{identity}.token");
        let fixed = ["token", "issue", "--key", "state/token.key", "--out", &out];
        let claims = ["--identity", identity, "--template", template];
        postern(home.path(), fixed.iter().chain(&claims)).exits(0);
    }
    home
}

fn ask(home: &Path, url: &str, arguments: &[&str]) -> Ran {
    let fixed = ["generate", "--url", url, "--state-dir", "state"];
    let wish = [
        "--template",
        "coffee.v1",
        "--var",
        "wishes=I need wifi and decaf.",
    ];
    postern(home, fixed.iter().chain(&wish).chain(arguments))
}

#[test]
fn the_daemon_answers_over_mutual_tls_until_sigterm() {
    let home = with_state();
    let daemon = Daemon::start(home.path(), &["--state-dir", "state"]);
    let kiosk = ["--identity", "kiosk"];
    let whole = ask(home.path(), &daemon.url, &kiosk).exits(0).stdout;
    assert!(!whole.trim().is_empty());
    let streamed = ask(
        home.path(),
        &daemon.url,
        &[kiosk.as_slice(), &["--stream"]].concat(),
    );
    assert_eq!(streamed.exits(0).stdout, whole);
    let json = ask(
        home.path(),
        &daemon.url,
        &[kiosk.as_slice(), &["--json"]].concat(),
    )
    .exits(0);
    assert_eq!(
        format!("{}\n", json.json()["text"].as_str().expect("text")),
        whole
    );

    // While it runs, nobody else writes to its log, but anyone may verify it.
    let local = [
        "generate",
        "--state-dir",
        "state",
        "--template",
        "coffee.v1",
        "--var",
        "wishes=x",
    ];
    let locked = postern(home.path(), local).exits(1);
    assert!(locked.stderr.contains("already open"), "{locked:#?}");
    postern(home.path(), ["audit", "verify", "state/audit"]).exits(0);

    // Budgets are asked of it, as it has the ledger.
    let budgets = ["budget", "show", "--state-dir", "state"];
    let in_use = postern(home.path(), budgets).exits(1);
    assert!(in_use.stderr.contains("in use"), "{in_use:#?}");
    let remote = ["--url", &daemon.url, "--identity", "kiosk"];
    let asked = postern(home.path(), budgets.iter().chain(&remote)).exits(0);
    assert!(asked.stdout.contains("identity/kiosk"), "{asked:#?}");

    let log = daemon.terminate();
    assert!(log.contains("SIGTERM"), "{log}");
    assert!(
        !log.contains("decaf") && !log.contains("pst1."),
        "no content in the log: {log}"
    );
    let verify = ["audit", "verify", "--json", "state/audit"];
    let verified = postern(home.path(), verify).exits(0).json();
    assert_eq!(
        verified["records_after_checkpoint"], 0,
        "a checkpoint ends it: {verified}"
    );
}

#[test]
fn whoever_is_not_believed_is_told_apart_by_the_exit_code() {
    let home = with_state();
    let daemon = Daemon::start(home.path(), &["--state-dir", "state"]);
    let check = |what: &str, arguments: &[&str], code: i32, expected: &str| {
        let ran = ask(home.path(), &daemon.url, arguments);
        assert_eq!(ran.code, Some(code), "{what}: {ran:#?}");
        assert!(ran.stderr.contains(expected), "{what}: {ran:#?}");
    };
    let stolen = [
        "--identity",
        "ci-runner",
        "--token-file",
        "state/tokens/kiosk.token",
    ];
    check("a token of another identity", &stolen, 3, "401");
    check(
        "a template that the token does not open",
        &["--identity", "ci-runner"],
        3,
        "403",
    );
    std::fs::write(home.path().join("bad.token"), "pst1.e30.AAAA\n").expect("a file");
    check(
        "a made-up token",
        &["--identity", "kiosk", "--token-file", "bad.token"],
        3,
        "401",
    );

    postern(home.path(), ["certs", "dev", "--dir", "foreign"]).exits(0);
    let foreign = [
        "--identity",
        "kiosk",
        "--cert",
        "foreign/clients/kiosk.pem",
        "--key",
        "foreign/clients/kiosk.key",
    ];
    check(
        "a certificate of another authority",
        &foreign,
        3,
        "refuses the client certificate",
    );
    let distrusted = ["--identity", "kiosk", "--ca", "foreign/ca.pem"];
    check("a server of another authority", &distrusted, 5, "--ca");
    let mismatched = ["--identity", "kiosk", "--key", "foreign/clients/kiosk.key"];
    check(
        "a key of another certificate",
        &mismatched,
        1,
        "do not belong together",
    );
    daemon.terminate();
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let home = with_state();
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("https://{}", free.local_addr().expect("an address"));
    drop(free);
    let ran = ask(home.path(), &url, &["--identity", "kiosk", "--json"]).exits(5);
    assert_eq!(ran.json()["error"]["code"], "unreachable");
}

#[test]
fn flags_override_the_file() {
    let home = with_state();
    let text = "[server]\nlisten = \"127.0.0.1:1\"\ntls-cert = \"nowhere.pem\"\n";
    std::fs::write(home.path().join("postern.toml"), text).expect("a file");
    let arguments = [
        "--config",
        "postern.toml",
        "--state-dir",
        "state",
        "--tls-cert",
        "state/server.pem",
    ];
    let daemon = Daemon::start(home.path(), &arguments);
    ask(home.path(), &daemon.url, &["--identity", "kiosk"]).exits(0);
    daemon.terminate();
}

#[test]
fn the_example_configuration_serves() {
    let home = with_state();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/config/postern.toml");
    let example = example.to_str().expect("a UTF-8 path");
    let daemon = Daemon::start(home.path(), &["--config", example, "--state-dir", "state"]);
    daemon.terminate();
}

/// Sends SIGHUP and waits until the daemon logs `message`.
fn reload(daemon: &Daemon, log: &mut impl BufRead, message: &str) {
    let pid = daemon.child.id().to_string();
    let sent = Command::new("kill").args(["-HUP", &pid]).status();
    assert!(sent.expect("kill runs").success());
    let mut line = String::new();
    while !line.contains(message) {
        line.clear();
        let bytes = log.read_line(&mut line).expect("UTF-8");
        assert_ne!(bytes, 0, "the daemon ended before it logged {message:?}");
    }
}

#[test]
fn rules_are_reloaded_at_sighup_and_bad_ones_leave_the_old_in_force() {
    let home = with_state();
    let prompts = home.path().join("prompts");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/prompts");
    std::fs::create_dir(&prompts).expect("a folder");
    for entry in shipped.read_dir().expect("the shipped prompts") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), prompts.join(entry.file_name())).expect("a copy");
    }
    let arguments = ["--state-dir", "state", "--prompts", "prompts"];
    let mut daemon = Daemon::start(home.path(), &arguments);
    let stderr = daemon
        .child
        .stderr
        .take()
        .expect("standard error is a pipe");
    let mut log = BufReader::new(stderr);
    let kiosk = ["--identity", "kiosk"];
    let answer = ask(home.path(), &daemon.url, &kiosk).exits(0).stdout;
    let coffee = prompts.join("coffee.v1.yaml");
    let text = std::fs::read_to_string(&coffee).expect("a template");

    // Changed under its id; of two ids; not YAML: the old set answers on, byte for byte.
    for bad in [
        text.replace("meets every wish", "is far away"),
        text.replace("id: coffee.v1", "id: coffee.v2"),
        "a: &a [*a]".to_owned(),
    ] {
        std::fs::write(&coffee, bad).expect("a file");
        reload(&daemon, &mut log, "the old ones stay in force");
        assert_eq!(
            ask(home.path(), &daemon.url, &kiosk).exits(0).stdout,
            answer
        );
    }

    let shorter = text.replace("max_tokens: 96", "max_tokens: 3");
    std::fs::write(&coffee, shorter).expect("a file");
    postern(
        home.path(),
        ["prompt", "lock", "prompts", "--renew", "coffee.v1"],
    )
    .exits(0);
    reload(&daemon, &mut log, "were read again");
    let short = ask(home.path(), &daemon.url, &kiosk).exits(0).stdout;
    assert!(short.len() < answer.len() && answer.starts_with(short.trim_end()));
}

#[test]
fn a_registry_without_the_loaded_model_is_not_put_in_force() {
    let home = with_state();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/policy");
    for file in ["models.yaml", "coffee-1.md"] {
        std::fs::copy(shipped.join(file), home.path().join(file)).expect("a copy");
    }
    let arguments = ["--state-dir", "state", "--models", "models.yaml"];
    let mut daemon = Daemon::start(home.path(), &arguments);
    let stderr = daemon.child.stderr.take();
    let mut log = BufReader::new(stderr.expect("standard error is a pipe"));
    let kiosk = ["--identity", "kiosk"];
    let registry = home.path().join("models.yaml");
    let text = std::fs::read_to_string(&registry).expect("a registry");
    for (from, to) in [
        ("id: coffee-1", "id: coffee-2"),
        ("d5ac1fb3", "00000000"),
        ("    risk: low", "    risk: high"),
        ("[recommendation]", "[poetry]"),
        ("coffee-1.md", "coffee-2.md"),
    ] {
        std::fs::write(&registry, text.replace(from, to)).expect("a file");
        reload(&daemon, &mut log, "the old ones stay in force");
        ask(home.path(), &daemon.url, &kiosk).exits(0);
    }
    std::fs::write(&registry, text.replace("medium", "low")).expect("a file");
    reload(&daemon, &mut log, "were read again");
    ask(home.path(), &daemon.url, &kiosk).exits(0);
}

#[test]
fn a_witness_keeps_the_last_checkpoint_and_the_public_key_lies_beside_the_secret_one() {
    let home = with_state();
    let config = "[audit.witness]\nfile = \"kept\"\n";
    std::fs::write(home.path().join("postern.toml"), config).expect("a file");
    let arguments = ["--config", "postern.toml", "--state-dir", "state"];
    let daemon = Daemon::start(home.path(), &arguments);
    ask(home.path(), &daemon.url, &["--identity", "kiosk"]).exits(0);
    daemon.terminate();
    let kept = std::fs::read_to_string(home.path().join("kept")).expect("a checkpoint");
    let newest = postern(home.path(), ["audit", "checkpoint", "state/audit"]).exits(0);
    assert_eq!(newest.stdout, kept);
    let verify = [
        "audit",
        "verify",
        "state/audit",
        "--pubkey",
        "state/audit.pub",
        "--checkpoint",
        "kept",
        "--json",
    ];
    let verified = postern(home.path(), verify).exits(0).json();
    assert_eq!(verified["witnessed_records"], verified["records"]);
    assert_eq!(verified["signer_given"], true);
}

#[test]
fn a_witness_keeps_the_newest_checkpoint() {
    let home = home();
    let config = "[audit]\ncheckpoint-records = 1\n[audit.witness]\nfile = \"kept/checkpoint\"\njournal = true\n";
    std::fs::write(home.path().join("postern.toml"), config).expect("a file");
    std::fs::create_dir(home.path().join("kept")).expect("a folder");
    postern(home.path(), ["certs", "dev", "--dir", "state"]).exits(0);
    let arguments = ["--config", "postern.toml", "--state-dir", "state"];
    let daemon = Daemon::start(home.path(), &arguments);
    let kept = home.path().join("kept/checkpoint");
    let begun = std::time::Instant::now();
    while !kept.exists() {
        assert!(begun.elapsed() < WITNESS_WAIT_MAX, "no checkpoint is kept");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let log = daemon.terminate();
    assert!(log.contains("checkpoint of the audit log"), "{log}");
    let verify = [
        "audit",
        "verify",
        "state/audit",
        "--checkpoint",
        "kept/checkpoint",
    ];
    postern(home.path(), verify).exits(0);
}
