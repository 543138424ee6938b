//! What the audit log keeps of outputs: what the policy says, unless the template is stricter.

use std::collections::BTreeMap;

use postern_governance::{
    CallRequest, Decision, ModelRef, OutputRecord, Policy, RuleSet, Source, TemplateSet, decide,
};

const TEMPLATE: &str = "\
id: triage.v1
description: d
author: a
intent: i
risk: low
max_tokens: 64
user: '{{log}}'
variables: {log: {}}
";

fn rules(policy: &str, template: &str) -> RuleSet {
    let policy =
        format!("version: 1\nidentities: {{ann: {{templates: {{triage.v1: {{}}}}}}}}\n{policy}");
    let template = format!("{TEMPLATE}{template}");
    let policy = Policy::from_source("policy.yaml", &policy).expect("a policy");
    let templates = TemplateSet::from_sources([("triage.v1.yaml", template.as_str())]);
    RuleSet::new(templates.expect("templates"), policy).expect("a rule set")
}

/// What a call that is let in carries.
fn decided(rules: &RuleSet) -> OutputRecord {
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
    match decide(rules, &request) {
        Decision::Allow(prompt) => prompt.output_record,
        Decision::Deny(denial) => panic!("denied: {denial}"),
    }
}

#[test]
fn the_policy_decides_and_the_template_may_be_stricter() {
    use OutputRecord::{Hash, Text};
    let strict = "audit: {output: hash}\n";
    let all_text = "audit: {output: text}\n";
    let this_text = "templates: {triage.v1: {audit: {output: text}}}\n";
    let this_hash = "templates: {triage.v1: {audit: {output: hash}}}\n";
    let cases = [
        // In general, of this template, in the template's file: what is kept.
        ("", "", "", Hash),
        ("", "", strict, Hash),
        ("", this_text, "", Text),
        ("", this_text, strict, Hash),
        ("", this_hash, "", Hash),
        (strict, "", "", Hash),
        (strict, this_text, "", Text),
        (strict, this_text, strict, Hash),
        (all_text, "", "", Text),
        (all_text, "", strict, Hash),
        (all_text, this_hash, "", Hash),
        (all_text, this_hash, strict, Hash),
        (all_text, this_text, "", Text),
        (all_text, this_text, strict, Hash),
    ];
    for (general, single, template, expected) in cases {
        let rules = rules(&format!("{general}{single}"), template);
        let shown = format!("{general}{single}{template}");
        assert_eq!(decided(&rules), expected, "{shown}");
        let known = rules.templates.get("triage.v1").expect("the template");
        assert_eq!(rules.output_record(known), expected, "{shown}");
    }
}

#[test]
fn checksums_cover_what_is_kept() {
    let checksum = |policy: &str| rules(policy, "").policy.checksum().to_owned();
    let of_none = checksum("");
    // What is written out and changes nothing counts as left out.
    assert_eq!(checksum("audit: {output: hash}\n"), of_none);
    assert_eq!(
        checksum("templates: {triage.v1: {audit: {output: hash}}}\n"),
        of_none
    );
    let of_all = checksum("audit: {output: text}\n");
    let of_one = checksum("templates: {triage.v1: {audit: {output: text}}}\n");
    assert!(of_all != of_none && of_one != of_none && of_one != of_all);

    let template = |more: &str| {
        let rules = rules("", more);
        let template = rules.templates.get("triage.v1").expect("the template");
        (template.checksum.clone(), rules.checksum().to_owned())
    };
    let (plain, strict) = (template(""), template("audit: {output: hash}\n"));
    assert!(plain.0 != strict.0 && plain.1 != strict.1);
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    let policies = [
        ("audit: {output: none}", "policy.yaml:3:"),
        ("audit: {}", "output"),
        ("audit:", "policy.yaml:3:"),
        ("templates: {triage.v1: {audit: }}", "policy.yaml:3:"),
        ("audit: {output: hash, text: all}", "text"),
        (
            "templates: {triage.v1: {audit: {output: all}}}",
            "policy.yaml:3:",
        ),
        (
            "templates: {\n  other.v1: {audit: {output: text}}}",
            "policy.yaml:4: field `templates.other.v1` names a template that does not exist",
        ),
    ];
    for (section, expected) in policies {
        let policy = format!("version: 1\nidentities: {{}}\n{section}\n");
        let templates = TemplateSet::from_sources([("triage.v1.yaml", TEMPLATE)]);
        let error = Policy::from_source("policy.yaml", &policy)
            .and_then(|policy| RuleSet::new(templates.expect("templates"), policy))
            .expect_err(section);
        assert!(error.to_string().contains(expected), "{section}: {error}");
    }
    let empty = format!("{TEMPLATE}audit:\n");
    let error = TemplateSet::from_sources([("triage.v1.yaml", empty.as_str())])
        .expect_err("a section says something");
    assert!(error.to_string().contains("triage.v1.yaml:9:"), "{error}");
    let weaker = format!("{TEMPLATE}audit: {{output: text}}\n");
    let error = TemplateSet::from_sources([("triage.v1.yaml", weaker.as_str())])
        .expect_err("a template cannot ask for text");
    assert_eq!(
        error.to_string(),
        "triage.v1.yaml:9: field `audit.output` can only be `hash` here, as whether texts are kept is for the policy \
         to say; remove the line"
    );
}
