//! What the metrics show, and what never becomes a label.

use postern_testkit::chain;

use crate::house::{Plan, call, short};

fn value(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find(|line| {
        line.rsplit_once(' ')
            .is_some_and(|(name, _)| name == series)
    })?;
    line.rsplit_once(' ')?.1.parse().ok()
}

#[tokio::test]
async fn calls_tokens_times_and_redactions_are_counted() {
    let secret = "sk-ABCDEFGHIJLMNOPQRTUVWXYZ0123";
    let house = Plan::with_model(chain::saying(secret, 256)).build();
    let answer = house.ask(short()).await.answer();
    let card = call("short.v1", &[("text", "4111 1111 1111 1111")]);
    house.ask(card).await.answer();
    house.ask(call("short.v1", &[])).await.refusal();
    house.wait_for_metric("postern_calls_in_flight 0").await;
    let text = house.service.metrics_text();
    let expected = [
        (
            r#"postern_requests_total{outcome="completed",template="short.v1"}"#,
            2.0,
        ),
        (
            r#"postern_requests_total{outcome="variable-missing",template="short.v1"}"#,
            1.0,
        ),
        (
            r#"postern_completion_tokens_total{template="short.v1"}"#,
            2.0 * answer.usage.completion_tokens as f64,
        ),
        (
            r#"postern_redactions_total{direction="output",rule="openai-api-key"}"#,
            2.0,
        ),
        (
            r#"postern_redactions_total{direction="input",rule="payment-card"}"#,
            1.0,
        ),
        ("postern_first_token_seconds_count", 2.0),
        ("postern_tokens_per_second_count", 2.0),
        ("postern_queue_depth", 0.0),
        ("postern_calls_in_flight", 0.0),
        ("postern_audit_failures_total", 0.0),
    ];
    for (series, count) in expected {
        assert_eq!(value(&text, series), Some(count), "{series} in\n{text}");
    }
}

#[tokio::test]
async fn what_a_caller_writes_never_becomes_a_label() {
    let house = Plan::with_model(chain::saying("x", 256)).build();
    for name in ["made-up.v1", "made-up.v2", "made up"] {
        house.ask(call("short.v1", &[(name, name)])).await.refusal();
        let caller = house.caller("operator", &["short.v1"]).await;
        house
            .service
            .generate(caller, call(name, &[]))
            .await
            .unwrap_err();
    }
    let text = house.service.metrics_text();
    assert!(!text.contains("made"), "{text}");
    let series = r#"postern_requests_total{outcome="template-unknown",template="none"}"#;
    assert_eq!(value(&text, series), Some(3.0), "{text}");
}
