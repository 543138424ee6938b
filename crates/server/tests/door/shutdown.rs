//! Closing in order.

use insta::assert_json_snapshot;
use postern_audit::{Entry, Outcome};
use postern_testkit::client::{Client, get, post};
use serde_json::{Value, json};

use crate::calls::{begin_long, body};
use crate::daemon::{Plan, completed};
use crate::shown::shown_body;

/// True once nobody listens any more.
async fn is_closed(client: &Client) -> bool {
    client.connect().await.is_err()
}

#[tokio::test]
async fn a_running_call_finishes_before_the_end() {
    for http2 in [false, true] {
        let daemon = Plan::endless().start().await;
        let mut client = daemon.client("operator");
        if http2 {
            client = client.over_http2();
        }
        let token = daemon.token("operator", &["long.v1"]);
        let parameters = json!({ "stream": true, "max_tokens": 3000 });
        let request = post("/v1/generate", Some(&token), body("long.v1", parameters));
        let mut connection = client.connect().await.unwrap();
        let response = connection.open(request).await.unwrap();
        let mut events = postern_testkit::client::EventReader::over(connection, response);
        assert_eq!(events.next().await.unwrap().unwrap().event, "token");

        let mut idle = client.connect().await.unwrap();
        assert_eq!(idle.send(get("/healthz", None)).await.unwrap().status, 200);

        let stopping = daemon.begin_stop();
        let last = events.rest().await.unwrap().pop().unwrap();
        assert_eq!(last.event, "done", "{}", last.data);
        let answer: Value = serde_json::from_str(&last.data).unwrap();
        assert_eq!(answer["usage"]["completion_tokens"], 3000);

        let entries = stopping.wait().await;
        assert_eq!(completed(&entries)[0].outcome, Outcome::Length);
        assert!(is_closed(&client).await);
        let late = idle.send(get("/healthz", None)).await;
        assert!(late.is_err(), "{late:?}");
    }
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_cut_and_recorded() {
    let plan = Plan::endless().with(|config| config.shutdown_deadline_ms = 100);
    let daemon = plan.start().await;
    let client = daemon.client("operator");
    let mut events = begin_long(&daemon, &client).await;
    let stopping = daemon.begin_stop();
    let last = events.rest().await.unwrap().pop().unwrap();
    assert_eq!(last.event, "error");
    assert_json_snapshot!("cut-at-shutdown", shown_body(&last.data));
    let entries = stopping.wait().await;
    let Some(Entry::Completed(end)) = entries.last() else {
        panic!("{entries:#?}");
    };
    assert!(
        !matches!(end.outcome, Outcome::Completed | Outcome::Length),
        "{end:?}"
    );
}

#[tokio::test]
async fn a_silent_connection_does_not_hold_up_the_end() {
    let daemon = Plan::short().start().await;
    let client = daemon.client("kiosk");
    let raw = tokio::net::TcpStream::connect(daemon.address)
        .await
        .unwrap();
    let shaken = client.connect_raw().await.unwrap();
    let stopping = daemon.begin_stop();
    let entries = stopping.wait().await;
    assert_eq!(
        entries.len(),
        2,
        "only the log's own first record and that of the model: {entries:#?}"
    );
    drop((raw, shaken));
}
