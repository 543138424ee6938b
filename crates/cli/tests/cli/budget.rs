//! `postern budget`, and local runs that a budget ends.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::run::{Ran, home, postern};

/// Three calls of `coffee.v1` fit.
const POLICY: &str = "\
version: 1
limits: {tokens_per_day: 700}
identities:
  operator:
    templates:
      coffee.v1: {max_tokens: 40}
";

fn with_policy() -> tempfile::TempDir {
    let home = home();
    fs::write(home.path().join("policy.yaml"), POLICY).expect("a policy file");
    home
}

fn run(home: &Path, command: &[&str]) -> Ran {
    let where_to = ["--state-dir", "state", "--policy", "policy.yaml"];
    postern(home, command.iter().chain(&where_to))
}

fn generate(home: &Path) -> Ran {
    let wish = "wishes=I need wifi and decaf.";
    run(
        home,
        &[
            "generate",
            "--template",
            "coffee.v1",
            "--var",
            wish,
            "--json",
        ],
    )
}

fn tokens(answer: &Value) -> u64 {
    let usage = &answer["usage"];
    let count = |name: &str| usage[name].as_u64().expect("a count");
    count("prompt_tokens") + count("completion_tokens")
}

fn day(home: &Path) -> Value {
    let shown = run(home, &["budget", "show", "--json"]).exits(0).json();
    shown["budgets"][0]["day"].clone()
}

#[test]
fn local_runs_spend_the_budget_and_a_person_gives_more() {
    let home = with_policy();
    let home = home.path();
    let missing = run(home, &["budget", "show"]).exits(1);
    assert!(
        missing.stderr.contains("there is no ledger"),
        "{missing:#?}"
    );

    let mut used = 0;
    let refused = loop {
        let ran = generate(home);
        if ran.code != Some(0) {
            break ran.exits(3);
        }
        used += tokens(&ran.json());
    };
    assert!(used > 0);
    let problem = &refused.json()["error"]["problem"];
    assert_eq!(problem["type"], "urn:postern:problem:budget-exhausted");
    assert_eq!(problem["used"], used);
    assert_eq!(day(home)["used"], used);
    assert_eq!(day(home)["reserved"], 0);
    let text = run(home, &["budget", "show"]).exits(0).stdout;
    assert!(
        text.contains("identity/operator\n")
            && text.contains(&format!("{used} of 700 used, 0 reserved")),
        "{text}"
    );

    let granted = ["budget", "set", "identity/operator", "--day-grant", "700"];
    let said = run(home, &granted).exits(0).stdout;
    assert!(said.contains("of 700 and 700 granted used"), "{said}");
    generate(home).exits(0);
    let reset = [
        "budget",
        "set",
        "identity/operator",
        "--day-used",
        "0",
        "--json",
    ];
    let set = run(home, &reset).exits(0).json();
    assert_eq!(set["budget"]["day"]["used"], 0);

    let log = postern(home, ["audit", "show", "state/audit"])
        .exits(0)
        .stdout;
    assert!(
        log.contains("at the device: budget-set identity/operator")
            && log.contains("day: granted 700 (was 0)"),
        "{log}"
    );
    postern(home, ["audit", "verify", "state/audit"]).exits(0);
}

#[test]
fn what_has_no_budget_cannot_be_set() {
    let home = with_policy();
    let home = home.path();
    generate(home).exits(0);
    let unknown = run(home, &["budget", "set", "role/ci", "--day-used", "0"]).exits(1);
    assert!(
        unknown.stderr.contains("no budget of a day or month"),
        "{unknown:#?}"
    );
    run(home, &["budget", "set", "identity/operator"]).exits(2);
    run(home, &["budget", "set", "operator", "--day-used", "0"]).exits(2);
    run(
        home,
        &["budget", "set", "identity/operator", "--day-used", "-1"],
    )
    .exits(2);
}
