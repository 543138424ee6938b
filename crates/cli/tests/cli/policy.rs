//! `postern policy`: check, explain, schema and redteam.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;

use crate::run::{Ran, home, postern};

const POLICY: &str = "\
version: 1
authorization: [team.cedar]
roles: {ci: {}, night: {}}
identities:
  ann: {roles: [ci]}
  bob: {}
";

const CEDAR: &str = "\
@id(\"ci-triage\")
permit (principal in Role::\"ci\", action == Action::\"generate\", resource == Template::\"triage.v1\");

@id(\"not-on-sundays\")
forbid (principal, action, resource)
when { context.weekday == \"sunday\" };
";

/// Lets the embedded model answer everything.
const MODELS: &str = "\
version: 1
approved_risk: low
models:
  - id: coffee-1
    version: '1'
    provider: us
    sha256: d5ac1fb30074409a58c5d4de257c19b010f5d91a9cbd948e3f5ef9a1bcb7113c
    intended_uses: [any]
    limitations: [none]
    data_provenance: ours
    licence: Apache-2.0
    risk: low
    card: card.md
";

fn with_policy(policy: &str, cedar: &str) -> TempDir {
    let home = home();
    fs::write(home.path().join("models.yaml"), MODELS).expect("a file");
    fs::write(home.path().join("card.md"), "# A card\n").expect("a file");
    fs::write(home.path().join("policy.yaml"), policy).expect("a file");
    fs::write(home.path().join("team.cedar"), cedar).expect("a file");
    home
}

fn explain(home: &Path, identity: &str, more: &[&str]) -> Ran {
    let fixed = [
        "policy",
        "explain",
        "--policy",
        "policy.yaml",
        "--models",
        "models.yaml",
        "--template",
        "triage.v1",
    ];
    postern(
        home,
        fixed.iter().chain(&["--identity", identity]).chain(more),
    )
}

#[test]
fn the_embedded_policy_has_no_warnings_and_opens_what_it_should() {
    let home = home();
    postern(home.path(), ["policy", "check", "--strict"]).exits(0);
    for (identity, template, exit) in [
        ("kiosk", "coffee.v1", 0),
        ("kiosk", "triage.v1", 3),
        // The rules permit these two, and the embedded model is not meant for them.
        ("ci-runner", "triage.v1", 3),
        ("ci-runner", "impl-test-gen.v1", 3),
        ("ci-runner", "coffee.v1", 3),
        ("operator", "coffee.v1", 0),
        ("stranger", "coffee.v1", 3),
    ] {
        let arguments = [
            "policy",
            "explain",
            "--identity",
            identity,
            "--template",
            template,
        ];
        postern(home.path(), arguments).exits(exit);
    }
}

#[test]
fn explain_names_the_rules_that_decide() {
    let home = with_policy(POLICY, CEDAR);
    let saturday = ["--at", "2026-11-28T12:00:00Z"];
    let sunday = ["--at", "2026-11-29T12:00:00Z"];
    let ran = explain(home.path(), "ann", &saturday).exits(0);
    insta::assert_snapshot!("explain_allowed", ran.stdout);
    let ran = explain(home.path(), "ann", &sunday).exits(3);
    insta::assert_snapshot!("explain_forbidden", ran.stdout);
    assert_eq!(ran.stderr, "postern: the call would be refused\n");
    let ran = explain(home.path(), "bob", &saturday).exits(3);
    assert_eq!(
        ran.stdout,
        "bob -> triage.v1: refused, no rule permits it, and what nothing permits is refused\n"
    );
    let ran = explain(home.path(), "eve", &saturday).exits(3);
    assert_eq!(
        ran.stdout,
        "eve -> triage.v1: refused, the policy does not list the identity `eve`\n"
    );
}

#[test]
fn explain_says_that_the_model_is_not_meant_for_it() {
    let arguments = [
        "policy",
        "explain",
        "--identity",
        "ci-runner",
        "--template",
        "triage.v1",
    ];
    let ran = postern(home().path(), arguments).exits(3);
    insta::assert_snapshot!("explain_model", ran.stdout);
}

#[test]
fn explain_answers_scripts() {
    let home = with_policy(POLICY, CEDAR);
    let ran = explain(
        home.path(),
        "ann",
        &["--json", "--at", "2026-11-29T12:00:00Z"],
    )
    .exits(3);
    let json = ran.json();
    assert_eq!(json["allowed"], false);
    assert_eq!(json["rules"][0]["id"], "not-on-sundays");
    assert_eq!(json["rules"][0]["place"], "team.cedar:4");
    assert_eq!(json["roles"][0], "ci");
    assert_eq!(ran.stderr, "", "the reason stands in the JSON");
}

#[test]
fn check_warns_of_what_looks_like_a_mistake() {
    let home = with_policy(POLICY, CEDAR);
    let arguments = ["policy", "check", "--policy", "policy.yaml"];
    let ran = postern(home.path(), arguments).exits(0);
    for expected in [
        "warning: policy.yaml: the identity `bob` has no role and no template",
        "warning: policy.yaml: no identity has the role `night`",
        "warning: no rule opens the template `coffee.v1` to anybody now",
        "2 rules over 3 templates",
    ] {
        assert!(ran.stdout.contains(expected), "{expected}: {ran:#?}");
    }
    let ran = postern(home.path(), arguments.iter().chain(&["--strict", "--json"])).exits(6);
    assert_eq!(ran.json()["passed"], false);
}

#[test]
fn check_and_explain_say_what_the_log_keeps_of_outputs() {
    let policy = format!(
        "{POLICY}audit: {{output: text}}\ntemplates: {{coffee.v1: {{audit: {{output: hash}}}}}}\n"
    );
    let home = with_policy(&policy, CEDAR);
    let check = ["policy", "check", "--policy", "policy.yaml"];
    let ran = postern(home.path(), check).exits(0);
    let kept = "  outputs in log   text of impl-test-gen.v1, triage.v1; hash of coffee.v1\n";
    assert!(ran.stdout.ends_with(kept), "{ran:#?}");
    let json = postern(home.path(), check.iter().chain(&["--json"]))
        .exits(0)
        .json();
    assert_eq!(json["outputs"]["coffee.v1"], "hash");
    assert_eq!(json["outputs"]["triage.v1"], "text");
    let saturday = ["--json", "--at", "2026-11-28T12:00:00Z"];
    let json = explain(home.path(), "ann", &saturday).exits(0).json();
    assert_eq!(json["output_record"], "text");
}

#[test]
fn what_is_wrong_in_a_rule_is_told_with_its_line() {
    let home = with_policy(POLICY, &CEDAR.replace("Role::\"ci\"", "Role::\"cj\""));
    let ran = postern(home.path(), ["policy", "check", "--policy", "policy.yaml"]).exits(1);
    assert_eq!(
        ran.stderr,
        "postern: team.cedar:1: rule `ci-triage`: names Role::\"cj\", which is not among the `roles` \
         of the policy; declare it there\n"
    );
}

#[test]
fn rules_that_others_may_write_are_refused() {
    let home = with_policy(POLICY, CEDAR);
    let file = home.path().join("team.cedar");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).expect("permissions");
    let ran = explain(home.path(), "ann", &[]).exits(1);
    assert!(ran.stderr.contains("team.cedar"), "{ran:#?}");
}

#[test]
fn the_schema_is_printed_for_editors() {
    let ran = postern(home().path(), ["policy", "schema"]).exits(0);
    assert!(ran.stdout.contains("action approve appliesTo"), "{ran:#?}");
}

#[test]
fn the_shipped_policy_passes_the_red_team() {
    let ran = postern(home().path(), ["policy", "redteam", "--json"]).exits(0);
    assert_eq!(ran.json()["passed"], true);
}

#[test]
fn a_policy_that_lets_everything_through_fails_the_red_team() {
    let home = home();
    let policy =
        "version: 1\nidentities: {}\ninjection: {low: allow, medium: allow, high: allow}\n";
    fs::write(home.path().join("policy.yaml"), policy).expect("a file");
    postern(
        home.path(),
        ["policy", "redteam", "--policy", "policy.yaml"],
    )
    .exits(6);
}
