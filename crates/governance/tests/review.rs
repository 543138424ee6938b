//! Which outputs the policy wants a person to look at.

use std::collections::BTreeMap;

use postern_governance::{
    CallRequest, Decision, ModelRef, Policy, ReviewPlan, RuleSet, Source, TemplateSet, decide,
};

/// What the policy with this `review` section plans for a template of risk `medium` with an output schema.
fn plan(section: &str) -> ReviewPlan {
    const TEMPLATE: &str = "\
id: triage.v1
description: d
author: a
intent: i
risk: medium
max_tokens: 64
user: '{{log}}'
variables: {log: {}}
output: {schema: {type: object}}
";
    let policy =
        format!("version: 1\nidentities: {{ann: {{templates: {{triage.v1: {{}}}}}}}}\n{section}");
    let policy = Policy::from_source("policy.yaml", &policy).expect("a policy");
    let templates = TemplateSet::from_sources([("triage.v1.yaml", TEMPLATE)]).expect("templates");
    let rules = RuleSet::new(templates, policy).expect("a rule set");
    let request = CallRequest {
        identity: "ann".parse().expect("an identity"),
        scopes: vec!["triage.v1".to_owned()],
        template: "triage.v1".to_owned(),
        variables: BTreeMap::from([("log".to_owned(), "it failed".to_owned())]),
        max_tokens: None,
        temperature: None,
        seed: None,
        model: ModelRef {
            id: "tiny".to_owned(),
            sha256: "00".repeat(32),
        },
        source: Source::Network,
        time_unix_s: 1_800_000_000,
    };
    match decide(&rules, &request) {
        Decision::Allow(prompt) => prompt.review,
        Decision::Deny(denial) => panic!("denied: {denial}"),
    }
}

fn codes(plan: &ReviewPlan, fault: Option<&str>, probability: Option<f32>) -> Vec<&'static str> {
    let reasons = plan.reasons(fault, probability);
    reasons.iter().map(|reason| reason.code()).collect()
}

#[test]
fn without_a_section_nothing_is_held() {
    let plan = plan("");
    assert!(!plan.may_hold());
    assert_eq!(codes(&plan, Some("wrong"), Some(0.01)), [""; 0]);
}

#[test]
fn a_risk_at_or_above_the_bound_is_held_whatever_comes() {
    for (risk, expected) in [("low", true), ("medium", true), ("high", false)] {
        let plan = plan(&format!("review: {{risk: {risk}}}\n"));
        assert_eq!(plan.may_hold(), expected, "{risk}");
        assert_eq!(
            codes(&plan, None, None).contains(&"risk"),
            expected,
            "{risk}"
        );
    }
}

#[test]
fn an_output_that_breaks_its_schema_or_is_unsure_is_held() {
    let plan = plan("review: {schema_failure: true, probability_min: 0.5, expires_hours: 2}\n");
    assert!(plan.may_hold());
    assert_eq!(plan.expires_hours, 2);
    assert_eq!(codes(&plan, None, Some(0.5)), [""; 0]);
    assert_eq!(codes(&plan, None, Some(0.49)), ["low-probability"]);
    assert_eq!(codes(&plan, Some("wrong"), None), ["schema-failure"]);
    let both = plan.reasons(Some("wrong"), Some(0.1));
    let texts: Vec<_> = both.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "the output does not keep to its schema: wrong",
            "the mean probability of its tokens is 0.100, and the policy wants 0.5"
        ]
    );
}

#[test]
fn wrong_values_are_told_with_their_line() {
    let cases = [
        (
            "review: {probability_min: 0}",
            "policy.yaml:3: field `review.probability_min` must be above 0",
        ),
        ("review: {probability_min: 1.5}", "at most 1"),
        ("review: {probability_min: -1}", "must be above 0"),
        (
            "review: {expires_hours: 0}",
            "field `review.expires_hours` must be from 1 to 2160",
        ),
        ("review: {expires_hours: 5000}", "must be from 1 to 2160"),
        ("review: {expires_hours: -1}", "policy.yaml:3:"),
        ("review: {risk: dire}", "policy.yaml:3:"),
        ("review: {colour: red}", "colour"),
    ];
    for (section, expected) in cases {
        let policy = format!("version: 1\nidentities: {{}}\n{section}\n");
        let error = Policy::from_source("policy.yaml", &policy).expect_err(section);
        assert!(error.to_string().contains(expected), "{section}: {error}");
    }
}
