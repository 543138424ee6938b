//! Calls that are answered, whole and as events, and calls whose client goes away.

use std::collections::BTreeMap;

use insta::assert_json_snapshot;
use postern_audit::{Entry, Outcome};
use postern_service::ServiceConfig;
use postern_testkit::client::{Client, EventReader, get, post};
use serde_json::{Value, json};

use crate::daemon::{Daemon, Plan, SAYING, completed, refused};
use crate::shown::{shown, shown_body};

/// A body that calls `template` with one variable, and with `more` on top.
pub(crate) fn body(template: &str, more: Value) -> String {
    let mut body = json!({ "template": template, "variables": { "text": "Something warm." } });
    let fields = body.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    body.to_string()
}

/// Begins a streamed call to `long.v1` and waits for its first token.
pub(crate) async fn begin_long(daemon: &Daemon, client: &Client) -> EventReader {
    let token = daemon.token("operator", &["long.v1"]);
    let request = post(
        "/v1/generate",
        Some(&token),
        body("long.v1", json!({ "stream": true })),
    );
    let mut connection = client.connect().await.unwrap();
    let response = connection.open(request).await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    let mut events = EventReader::over(connection, response);
    assert_eq!(events.next().await.unwrap().unwrap().event, "token");
    events
}

#[tokio::test]
async fn a_call_is_answered_over_both_protocols() {
    let daemon = Plan::short().start().await;
    let token = daemon.token("kiosk", &["short.v1"]);
    let client = daemon.client("kiosk");
    let ask = || post("/v1/generate", Some(&token), body("short.v1", json!({})));
    let reply = client.send(ask()).await.unwrap();
    assert_json_snapshot!("answer", shown(&reply));
    let answer: Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!(answer["text"], SAYING);
    assert_eq!(answer["id"], reply.headers["x-request-id"]);

    let over_http2 = client.over_http2().send(ask()).await.unwrap();
    assert_eq!(over_http2.status, 200);
    let answer: Value = serde_json::from_str(&over_http2.body).unwrap();
    assert_eq!(answer["text"], SAYING);

    let ends = completed(&daemon.stop().await);
    assert_eq!(ends.len(), 2);
    assert!(ends.iter().all(|end| end.outcome == Outcome::Completed));
}

#[tokio::test]
async fn events_come_in_order_and_done_equals_the_whole_answer() {
    let daemon = Plan::short().start().await;
    let token = daemon.token("kiosk", &["short.v1"]);
    let client = daemon.client("kiosk");
    let parameters = json!({ "seed": 7, "temperature": 1.5 });
    let request = post("/v1/generate", Some(&token), body("short.v1", parameters));
    let whole = client.send(request).await.unwrap();

    for client in [client.clone(), client.over_http2()] {
        let parameters = json!({ "seed": 7, "temperature": 1.5, "stream": true });
        let request = post("/v1/generate", Some(&token), body("short.v1", parameters));
        let mut connection = client.connect().await.unwrap();
        let response = connection.open(request).await.unwrap();
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(response.status().as_u16(), 200);
        assert_eq!(header("content-type"), "text/event-stream");
        assert_eq!(header("cache-control"), "no-store");
        assert_eq!(header("x-accel-buffering"), "no");
        let id = header("x-request-id");

        let mut events = EventReader::over(connection, response)
            .rest()
            .await
            .unwrap();
        let done = events.pop().unwrap();
        assert_eq!(done.event, "done");
        let text: String = events
            .iter()
            .map(|event| {
                assert_eq!(event.event, "token");
                let data: Value = serde_json::from_str(&event.data).unwrap();
                data["text"].as_str().unwrap().to_owned()
            })
            .collect();
        let answer: Value = serde_json::from_str(&done.data).unwrap();
        assert_eq!(answer["text"], text.as_str(), "the tokens are the answer");
        assert_eq!(answer["id"], id.as_str());
        let mut streamed = shown_body(&done.data);
        let mut expected = shown_body(&whole.body);
        for answer in [&mut streamed, &mut expected] {
            answer["audit"]["index"] = Value::Null;
        }
        assert_eq!(streamed, expected);
    }
    daemon.stop().await;
}

#[tokio::test]
async fn the_default_model_answers_under_the_rules_that_ship() {
    let daemon = Plan::coffee().start().await;
    let token = daemon.token("kiosk", &["coffee.v1"]);
    let wishes = "A quiet place with oat milk. My card is 4111 1111 1111 1111.";
    let call = json!({ "template": "coffee.v1", "variables": { "wishes": wishes } });
    let request = post("/v1/generate", Some(&token), call.to_string());
    let reply = daemon.client("kiosk").send(request).await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.body);
    let answer: Value = serde_json::from_str(&reply.body).unwrap();
    assert_ne!(answer["text"], "");
    assert_eq!(answer["template"]["id"], "coffee.v1");
    let redaction = json!([{ "variable": "wishes", "rule": "payment-card", "count": 1 }]);
    assert_eq!(answer["redactions"], redaction);
    daemon.stop().await;
}

#[tokio::test]
async fn listings_show_what_is_there_and_what_the_caller_may_use() {
    let daemon = Plan::short().start().await;
    let client = daemon.client("operator");
    let both = daemon.token("operator", &["long.v1", "short.v1"]);
    let one = daemon.token("operator", &["short.v1"]);
    let cases = [
        ("models", get("/v1/models", Some(&both))),
        ("templates", get("/v1/templates", Some(&both))),
        (
            "templates of a narrower token",
            get("/v1/templates", Some(&one)),
        ),
        ("healthz", get("/healthz", None)),
        ("readyz", get("/readyz", None)),
    ];
    let mut replies = BTreeMap::new();
    let mut connection = client.connect().await.unwrap();
    for (name, request) in cases {
        let reply = connection.send(request).await.unwrap();
        replies.insert(name.to_owned(), shown(&reply));
    }
    assert_json_snapshot!("listings", replies);

    let metrics = connection.send(get("/metrics", None)).await.unwrap();
    assert_eq!(metrics.status, 200);
    assert!(metrics.headers["content-type"].starts_with("text/plain; version=0.0.4"));
    assert!(metrics.body.contains("# TYPE postern_"), "{}", metrics.body);
    daemon.stop().await;
}

#[tokio::test]
async fn a_stopped_engine_shows_in_readyz_and_refuses_calls() {
    let daemon = Plan::short().start().await;
    let client = daemon.client("operator");
    daemon.engine.stop();
    let ready = client.send(get("/readyz", None)).await.unwrap();
    let token = daemon.token("operator", &["short.v1"]);
    let request = post("/v1/generate", Some(&token), body("short.v1", json!({})));
    let call = client.send(request).await.unwrap();
    let replies = BTreeMap::from([("readyz", shown(&ready)), ("call", shown(&call))]);
    assert_json_snapshot!("engine_stopped", replies);
    assert_eq!(refused(&daemon.stop().await)[0].code, "engine-stopped");
}

#[tokio::test]
async fn a_client_that_vanishes_cancels_its_call() {
    for (streamed, http2) in [(true, false), (true, true), (false, false), (false, true)] {
        let daemon = Plan::endless().start().await;
        let mut client = daemon.client("operator");
        if http2 {
            client = client.over_http2();
        }
        if streamed {
            drop(begin_long(&daemon, &client).await);
        } else {
            let token = daemon.token("operator", &["long.v1"]);
            let request = post("/v1/generate", Some(&token), body("long.v1", json!({})));
            let mut connection = client.connect().await.unwrap();
            let admitted = async {
                let is_admitted = |entry: &Entry| matches!(entry, Entry::Admitted(_));
                while !daemon.entries().iter().any(is_admitted) {
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
            };
            tokio::select! {
                _ = connection.send(request) => panic!("answered"),
                () = admitted => {}
            }
        }
        let end = daemon.wait_for_completed().await;
        let case = format!("streamed: {streamed}, HTTP/2: {http2}");
        assert_eq!(end.outcome, Outcome::Cancelled, "{case}");
        assert!(end.usage.completion_tokens < 30_000, "{case}");
        daemon.stop().await;
    }
}

#[tokio::test]
async fn a_call_past_its_deadline_ends_with_an_error_event() {
    let plan = Plan {
        service: ServiceConfig {
            deadline_s: 1,
            ..ServiceConfig::default()
        },
        ..Plan::endless()
    };
    let daemon = plan.start().await;
    let mut events = begin_long(&daemon, &daemon.client("operator")).await;
    let last = events.rest().await.unwrap().pop().unwrap();
    assert_eq!(last.event, "error");
    assert_json_snapshot!("deadline", shown_body(&last.data));
    let ends = completed(&daemon.stop().await);
    assert_eq!(ends[0].outcome, Outcome::Deadline);
}

#[tokio::test]
async fn one_call_more_than_may_run_is_told_when_to_come_back() {
    let plan = Plan {
        service: ServiceConfig {
            calls_max: 1,
            ..ServiceConfig::default()
        },
        ..Plan::endless()
    };
    let daemon = plan.start().await;
    let client = daemon.client("operator");
    let running = begin_long(&daemon, &client).await;
    let token = daemon.token("operator", &["short.v1"]);
    let request = post("/v1/generate", Some(&token), body("short.v1", json!({})));
    let reply = client.send(request).await.unwrap();
    assert_json_snapshot!("busy", shown(&reply));
    drop(running);
    daemon.stop().await;
}
