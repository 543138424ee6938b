//! Every help text, as a user reads it.

use crate::run::{home, postern};

#[track_caller]
fn check(name: &str, arguments: &[&str]) {
    let home = home();
    let ran = postern(home.path(), arguments.iter().copied().chain(["--help"])).exits(0);
    let too_wide = ran.stdout.lines().find(|line| line.chars().count() > 100);
    assert_eq!(too_wide, None, "{name}");
    insta::assert_snapshot!(format!("help_{name}"), ran.stdout);
}

#[test]
fn help_says_what_each_command_does() {
    check("postern", &[]);
    check("demo", &["demo"]);
    check("serve", &["serve"]);
    check("generate", &["generate"]);
    check("model", &["model"]);
    check("model_pin", &["model", "pin"]);
    check("model_register", &["model", "register"]);
    check("model_check", &["model", "check"]);
    check("model_inspect", &["model", "inspect"]);
    check("model_tokenize", &["model", "tokenize"]);
    check("prompt", &["prompt"]);
    check("prompt_check", &["prompt", "check"]);
    check("prompt_render", &["prompt", "render"]);
    check("prompt_test", &["prompt", "test"]);
    check("prompt_diff", &["prompt", "diff"]);
    check("prompt_lock", &["prompt", "lock"]);
    check("token_issue", &["token", "issue"]);
    check("certs_dev", &["certs", "dev"]);
    check("audit", &["audit"]);
    check("audit_verify", &["audit", "verify"]);
    check("audit_show", &["audit", "show"]);
    check("audit_export", &["audit", "export"]);
    check("audit_prove", &["audit", "prove"]);
    check("audit_checkpoint", &["audit", "checkpoint"]);
    check("audit_stats", &["audit", "stats"]);
    check("audit_keygen", &["audit", "keygen"]);
    check("budget_show", &["budget", "show"]);
    check("budget_set", &["budget", "set"]);
    check("sanitize", &["sanitize"]);
    check("policy", &["policy"]);
    check("policy_check", &["policy", "check"]);
    check("policy_explain", &["policy", "explain"]);
    check("policy_schema", &["policy", "schema"]);
    check("policy_redteam", &["policy", "redteam"]);
    check("completions", &["completions"]);
}

#[test]
fn what_is_not_understood_is_a_usage_error() {
    #[track_caller]
    fn check(arguments: &[&str], expected: &str) {
        let ran = postern(home().path(), arguments).exits(2);
        assert!(ran.stderr.contains(expected), "{ran:#?}");
    }
    check(&[], "Usage: postern <COMMAND>");
    check(&["frobnicate"], "unrecognized subcommand");
    check(&["serve", "--port", "70000"], "70000");
    check(&["generate", "--var", "a=b"], "--template");
    check(
        &["generate", "--template", "coffee.v1", "--var", "wishes"],
        "name=value",
    );
    check(
        &["generate", "--template", "coffee.v1", "--cert", "x.pem"],
        "--url",
    );
    check(
        &["token", "issue", "--identity", "kiosk", "--key", "k"],
        "--template",
    );
    check(
        &[
            "token",
            "issue",
            "--identity",
            "a",
            "--template",
            "b.v1",
            "--key",
            "k",
            "--ttl",
            "soon",
        ],
        "90s, 15m or 1h",
    );
    check(&["certs", "dev", "--days", "0"], "1..=365");
    check(&["certs", "dev", "--days", "366"], "1..=365");
    check(&["audit", "verify", "x", "--receipt", "7:x"], "INDEX:HEAD");
    check(&["audit", "prove", "--proof", "p.json"], "--pubkey");
    check(&["audit", "prove", "x"], "--index");
    check(
        &[
            "audit",
            "export",
            "x",
            "--format",
            "ecs",
            "--to",
            "udp://x:1",
        ],
        "tcp://HOST:PORT",
    );
    check(
        &["audit", "query", "x", "--outcome", "refuse"],
        "no outcome",
    );
}

#[test]
fn completions_exist_for_common_shells() {
    #[track_caller]
    fn check(shell: &str, expected: &str) {
        let ran = postern(home().path(), ["completions", shell]).exits(0);
        assert!(ran.stdout.contains(expected), "{shell}: {ran:#?}");
    }
    check("bash", "complete -F _postern");
    check("zsh", "#compdef postern");
    check("fish", "complete -c postern");
}

#[test]
fn output_is_plain_without_a_terminal() {
    let home = home();
    for arguments in [["--help"].as_slice(), &["certs", "dev"]] {
        let ran = postern(home.path(), arguments).exits(0);
        assert!(!ran.stdout.contains('\u{1b}'), "{ran:#?}");
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let home = home();
    let mut child = crate::run::command(home.path())
        .args(["completions", "bash"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the binary runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("the binary ends");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}
