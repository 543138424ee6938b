//! Rules that are replaced while the service runs, and output that has to keep to a schema.

use postern_audit::{Entry, Outcome};
use postern_governance::{Policy, RuleSet, TemplateSet};
use serde_json::Value;

use crate::house::{House, Plan, call};

const POLICY: &str = "\
version: 1
identities:
  operator: {templates: {pick.v1: {}}}
";

/// A template whose output has this schema.
fn rules(schema: &str) -> RuleSet {
    let file = format!(
        "id: pick.v1\ndescription: d\nauthor: a\nintent: i\nrisk: low\nmax_tokens: 64\n\
         system: Say what you think.\nuser: \"{{{{ text }}}}\"\n\
         variables:\n  text: {{fence: message}}\noutput:\n  schema: {schema}\n"
    );
    let templates = TemplateSet::from_sources([("pick.v1.yaml", file.as_str())]).unwrap();
    RuleSet::new(
        templates,
        Policy::from_source("policy.yaml", POLICY).unwrap(),
    )
    .unwrap()
}

/// How the last call ended, and whether its output fitted the schema.
fn last_end(house: &House) -> (Outcome, Option<bool>) {
    let end = house.completed().pop().unwrap();
    (end.outcome, end.schema_valid)
}

#[tokio::test]
async fn output_keeps_to_the_schema_of_its_template() {
    let house = Plan::default().build();
    house.service.replace_rules(rules(
        "{type: object, properties: {quiet: {type: boolean}, cake: {enum: [good, bad]}}, \
         required: [quiet, cake], additionalProperties: false}",
    ));
    let answer = house
        .ask(call("pick.v1", &[("text", "cake")]))
        .await
        .answer();
    let json: Value = serde_json::from_str(&answer.text).unwrap();
    assert!(json["quiet"].is_boolean(), "{json}");
    assert!(json["cake"] == "good" || json["cake"] == "bad", "{json}");
    assert_eq!(last_end(&house), (Outcome::Completed, Some(true)));
}

#[tokio::test]
async fn output_that_does_not_keep_to_its_schema_is_refused_and_recorded() {
    let house = Plan::default().build();
    house
        .service
        .replace_rules(rules("{enum: [a long word that no two tokens can write]}"));
    let mut cut = call("pick.v1", &[("text", "cake")]);
    cut.max_tokens = Some(2);
    let refusal = house.ask(cut).await.refusal();
    assert_eq!(refusal.kind.code(), "output-invalid");
    assert!(
        refusal.to_string().contains("it was cut at max_tokens"),
        "{refusal}"
    );
    let code = "output-invalid".to_owned();
    assert_eq!(last_end(&house), (Outcome::Failed { code }, Some(false)));

    // The engine cannot enforce `not`; the check of the whole output still does.
    house
        .service
        .replace_rules(rules("{type: object, not: {required: [x]}}"));
    let refusal = house
        .ask(call("pick.v1", &[("text", "cake")]))
        .await
        .refusal();
    assert_eq!(refusal.kind.code(), "output-invalid");
    assert!(matches!(house.entries().last(), Some(Entry::Completed(_))));
}

#[tokio::test]
async fn replaced_rules_decide_from_the_next_call_on() {
    let house = Plan::default().build();
    house
        .ask(call("coffee.v1", &[("wishes", "cake")]))
        .await
        .answer();
    house.service.replace_rules(rules("{enum: [yes]}"));
    let refusal = house
        .ask(call("coffee.v1", &[("wishes", "cake")]))
        .await
        .refusal();
    assert_eq!(refusal.kind.code(), "template-unknown");
    let answer = house
        .ask(call("pick.v1", &[("text", "cake")]))
        .await
        .answer();
    assert_eq!(answer.text, "\"yes\"");
}
