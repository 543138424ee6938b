//! Calls that are refused before they are admitted: one record each, and
//! nothing is generated.

use postern_audit::Entry;
use postern_service::{Call, NotReady, RefusalKind, RequestFault};
use postern_testkit::models;

use crate::house::{Plan, call, coffee, holder, shipped_rules};

struct Case {
    name: &'static str,
    identity: &'static str,
    scope: &'static str,
    call: Call,
    code: &'static str,
}

#[tokio::test]
async fn what_the_rules_deny_leaves_one_record_each() {
    let wishes = || coffee("Somewhere quiet.");
    let case = |name, identity, scope, call, code| Case {
        name,
        identity,
        scope,
        call,
        code,
    };
    let cases = [
        case(
            "identity",
            "stranger",
            "coffee.v1",
            wishes(),
            "unknown-identity",
        ),
        case(
            "template",
            "kiosk",
            "coffee.v1",
            call("tea.v1", &[]),
            "template-unknown",
        ),
        case("scope", "operator", "triage.v1", wishes(), "token-scope"),
        case(
            "policy",
            "ci-runner",
            "coffee.v1",
            wishes(),
            "template-not-allowed",
        ),
        case(
            "missing variable",
            "kiosk",
            "coffee.v1",
            call("coffee.v1", &[]),
            "variable-missing",
        ),
        case(
            "unknown variable",
            "kiosk",
            "coffee.v1",
            call("coffee.v1", &[("wishes", "cake"), ("more", "x")]),
            "variable-unknown",
        ),
        case(
            "oversized variable",
            "kiosk",
            "coffee.v1",
            coffee(&"x".repeat(1025)),
            "variable-oversized",
        ),
        case(
            "tokens",
            "kiosk",
            "coffee.v1",
            Call {
                max_tokens: Some(97),
                ..wishes()
            },
            "parameter-out-of-range",
        ),
        case(
            "temperature",
            "kiosk",
            "coffee.v1",
            Call {
                temperature: Some(f32::NAN),
                ..wishes()
            },
            "parameter-out-of-range",
        ),
    ];
    let house = Plan::default().build();
    let mut wrong = Vec::new();
    for (index, case) in cases.into_iter().enumerate() {
        let template = case.call.template.clone();
        let caller = house.caller(case.identity, &[case.scope]).await;
        let refusal = match house.service.generate(caller, case.call).await {
            Err(refusal) => refusal,
            Ok(stream) => panic!("{}: call {} was admitted", case.name, stream.id),
        };
        let entries = house.entries();
        let recorded = match entries.get(index) {
            Some(Entry::Refused(refused)) => {
                refused.code == case.code
                    && refused.request_id == refusal.id.to_string()
                    && refused.identity.as_deref() == Some(case.identity)
                    && refused.template == Some(template)
                    && refused.rules_sha256.len() == 64
            }
            _ => false,
        };
        let denied = matches!(refusal.kind, RefusalKind::Denied(_));
        if !denied || refusal.kind.code() != case.code || !recorded || entries.len() != index + 1 {
            wrong.push(format!(
                "{}: {refusal}, recorded as {:?}",
                case.name,
                entries.get(index)
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(house.verify().open_calls, []);
}

#[tokio::test]
async fn what_a_caller_wrote_is_not_kept_of_a_refused_call() {
    let house = Plan::default().build();
    let secret = "hunter2 is my password";
    house
        .ask(call("coffee.v1", &[("wish", secret)]))
        .await
        .refusal();
    let caller = house.caller("operator", &["coffee.v1"]).await;
    let named_by_secret = call(secret, &[(secret, secret)]);
    house
        .service
        .generate(caller, named_by_secret)
        .await
        .unwrap_err();
    let refused = house.refused();
    assert_eq!(refused.len(), 2);
    assert_eq!(refused[1].template, None);
    assert!(!format!("{refused:?}").contains("hunter2"), "{refused:#?}");
}

#[tokio::test]
async fn what_the_server_refuses_is_recorded_as_well() {
    let house = Plan::default().build();
    let kiosk = holder("kiosk");
    let kind = RefusalKind::Malformed(RequestFault::Json { line: 1, column: 7 });
    let refusal = house.service.refuse(&kiosk, kind.clone()).await;
    assert_eq!(refusal.kind, kind);
    let refused = house.refused().remove(0);
    assert_eq!(refused.request_id, refusal.id.to_string());
    assert_eq!(refused.identity.as_deref(), Some("kiosk"));
    assert_eq!(refused.code, "body-malformed");
}

#[tokio::test]
async fn a_stopped_engine_is_noticed_before_a_call_is_admitted() {
    let house = Plan::default().build();
    assert_eq!(house.service.ready(), Ok(()));
    house.engine.stop();
    assert_eq!(house.service.ready(), Err(NotReady::EngineStopped));
    let refusal = house.ask(coffee("Somewhere quiet.")).await.refusal();
    assert_eq!(refusal.kind, RefusalKind::EngineStopped);
    let refused = house.refused().remove(0);
    assert_eq!(refused.request_id, refusal.id.to_string());
    assert_eq!(refused.code, "engine-stopped");
    assert_eq!(house.entries().len(), 1);
}

#[tokio::test]
async fn a_caller_sees_the_templates_that_token_and_policy_both_open() {
    let house = Plan::default().build();
    let cases: [(&str, &[&str], &[&str]); 4] = [
        (
            "operator",
            &["coffee.v1", "triage.v1"],
            &["coffee.v1", "triage.v1"],
        ),
        ("operator", &["triage.v1"], &["triage.v1"]),
        ("kiosk", &["coffee.v1", "triage.v1"], &["coffee.v1"]),
        ("stranger", &["coffee.v1"], &[]),
    ];
    for (identity, scopes, expected) in cases {
        let caller = house.caller(identity, scopes).await;
        let summaries = house.service.templates(&caller);
        let ids: Vec<&str> = summaries.iter().map(|summary| &*summary.id).collect();
        assert_eq!(ids, expected, "{identity} with {scopes:?}");
    }
}

#[tokio::test]
async fn a_model_answers_only_what_it_is_registered_for() {
    let house = Plan::default().build();
    let model = house.service.models().remove(0);
    let registry = models::registry(&model.id, &model.sha256, "low", "recommendation");
    let rules = shipped_rules().with_registry(registry);
    house.service.replace_rules(rules);
    let both = &["coffee.v1", "triage.v1"];
    let caller = house.caller("operator", both).await;
    let summaries = house.service.templates(&caller);
    let ids: Vec<&str> = summaries.iter().map(|summary| &*summary.id).collect();
    assert_eq!(ids, ["coffee.v1"]);
    let triage = call("triage.v1", &[("log", "boom")]);
    let refusal = match house.service.generate(caller, triage).await {
        Ok(_) => panic!("admitted"),
        Err(refusal) => refusal,
    };
    assert_eq!(refusal.kind.code(), "model-use");
    assert_eq!(house.refused().remove(0).code, "model-use");
    house.ask(coffee("decaf")).await.answer();
}

#[test]
fn a_call_is_read_strictly() {
    let cases = [
        (r#"{"template":"coffee.v1"}"#, true),
        (
            r#"{"template":"coffee.v1","variables":{"a":"b"},"max_tokens":5,"temperature":0.5,"seed":1,"stream":true}"#,
            true,
        ),
        (r#"{"template":"coffee.v1","model":"other"}"#, false),
        (r#"{"variables":{}}"#, false),
        (r#"{"template":"coffee.v1","max_tokens":-1}"#, false),
        (r#"{"template":"coffee.v1","seed":1.5}"#, false),
        (r#"{"template":"coffee.v1","variables":{"a":1}}"#, false),
        (r#"{"template":"coffee.v1","template":"triage.v1"}"#, false),
        (
            r#"{"template":"coffee.v1","variables":{"wishes":"a","wishes":"b"}}"#,
            false,
        ),
        (
            r#"{"template":"coffee.v1","variables":{"wishes":"a","wi\u0073hes":"b"}}"#,
            false,
        ),
    ];
    for (json, expected) in cases {
        assert_eq!(
            serde_json::from_str::<Call>(json).is_ok(),
            expected,
            "{json}"
        );
    }
}
