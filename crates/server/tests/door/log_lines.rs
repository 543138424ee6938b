//! What the product logs while it is used, well and badly.

use std::sync::{Mutex, Once, PoisonError};

use log::{LevelFilter, Log, Metadata, Record};
use postern_testkit::client::{get, post};
use serde_json::json;

use crate::calls::body;
use crate::daemon::Plan;

/// Every line of ours, whatever test it comes from.
struct Lines(Mutex<String>);

static LINES: Lines = Lines(Mutex::new(String::new()));
static INSTALL: Once = Once::new();

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("postern")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            lines.push_str(&format!("{} {}\n", record.level(), record.args()));
        }
    }

    fn flush(&self) {}
}

#[tokio::test]
async fn no_token_variable_or_answer_reaches_a_log_line() {
    INSTALL.call_once(|| {
        log::set_logger(&LINES).unwrap();
        log::set_max_level(LevelFilter::Trace);
    });
    let mut plan = Plan::short();
    plan.model = postern_testkit::chain::saying("Quick yarn!", 256);
    let daemon = plan.start().await;
    let token = daemon.token("kiosk", &["short.v1"]);
    let wrong = "pst1.Y2FuYXJ5LXRva2Vu.Y2FuYXJ5";
    let client = daemon.client("kiosk");
    let with = |text: &str| body("short.v1", json!({ "variables": { "text": text } }));
    let requests = [
        post("/v1/generate", Some(&token), with("canary-variable")),
        post(
            "/v1/generate",
            Some(&token),
            with(&"canary-variable ".repeat(99)),
        ),
        post("/v1/generate", Some(wrong), with("canary-variable")),
        post("/v1/generate", Some(&token), "canary-body"),
        get("/canary-path?canary-query", Some(&token)),
    ];
    let mut ids = Vec::new();
    for request in requests {
        let reply = client.send(request).await.unwrap();
        ids.push(reply.headers["x-request-id"].clone());
    }
    daemon.stop().await;
    let lines = LINES
        .0
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    for id in ids {
        assert!(lines.contains(&id), "{id} is not in\n{lines}");
    }
    let signature = token.rsplit_once('.').unwrap().1;
    for secret in ["canary", "Quick yarn!", wrong, signature] {
        assert!(!lines.contains(secret), "{secret} stands in\n{lines}");
    }
}
