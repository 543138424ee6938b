//! Calls beyond a limit: their status, their numbers, and when to come back.

use jiff::Timestamp;
use postern_governance::{Policy, RuleSet, TemplateSet};
use postern_testkit::client::{Reply, get, post};
use postern_testkit::rules::template;
use serde_json::{Value, json};

use crate::calls::body;
use crate::daemon::{Daemon, Plan, refused};

fn limited(limits: &str) -> Plan {
    let policy = format!(
        "version: 1\nlimits: {limits}\nidentities: {{kiosk: {{templates: {{short.v1: {{}}}}}}}}\n"
    );
    let short = template("short.v1", 32);
    let templates = TemplateSet::from_sources([("short.v1.yaml", &*short)]).unwrap();
    let policy = Policy::from_source("policy.yaml", &policy).unwrap();
    Plan {
        rules: RuleSet::new(templates, policy).unwrap(),
        ..Plan::short()
    }
}

async fn call(daemon: &Daemon) -> Reply {
    let token = daemon.token("kiosk", &["short.v1"]);
    let call = body("short.v1", json!({ "variables": { "text": "go" } }));
    let client = daemon.client("kiosk");
    client
        .send(post("/v1/generate", Some(&token), call))
        .await
        .unwrap()
}

async fn budgets(daemon: &Daemon) -> Value {
    let token = daemon.token("kiosk", &["short.v1"]);
    let client = daemon.client("kiosk");
    let reply = client.send(get("/v1/budgets", Some(&token))).await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.body);
    serde_json::from_str(&reply.body).unwrap()
}

fn problem(reply: &Reply) -> Value {
    assert_eq!(reply.headers["content-type"], "application/problem+json");
    serde_json::from_str(&reply.body).unwrap()
}

#[tokio::test]
async fn a_used_up_budget_is_429_with_its_numbers() {
    let daemon = limited("{tokens_per_day: 90}").start().await;
    let mut answered = 0;
    let reply = loop {
        let reply = call(&daemon).await;
        if reply.status != 200 {
            break reply;
        }
        let answer: Value = serde_json::from_str(&reply.body).unwrap();
        let usage = &answer["usage"];
        answered += usage["prompt_tokens"].as_u64().unwrap();
        answered += usage["completion_tokens"].as_u64().unwrap();
    };
    assert_eq!(reply.status, 429);
    let problem = problem(&reply);
    let told = |name: &str| problem[name].clone();
    assert_eq!(told("type"), "urn:postern:problem:budget-exhausted");
    assert_eq!(told("account"), "identity/kiosk");
    assert_eq!(told("limit"), "tokens_per_day");
    assert_eq!(told("allowed"), 90);
    assert_eq!(told("used"), answered);
    assert_eq!(told("reserved"), 0);
    assert!(told("asked").as_u64().unwrap() > 90 - answered);
    let retry_after: i64 = reply.headers["retry-after"].parse().unwrap();
    assert_eq!(told("retry_after_s"), retry_after);
    let resets_at: Timestamp = told("resets_at").as_str().unwrap().parse().unwrap();
    let away = resets_at.duration_since(Timestamp::now()).as_secs();
    assert!(
        (away - 60..=away + 60).contains(&retry_after),
        "{away} {retry_after}"
    );

    let day = &budgets(&daemon).await["budgets"][0]["day"];
    assert_eq!(day["used"], answered);
    assert_eq!(day["limit"], 90);
    assert_eq!(day["left"], 90 - answered);
    assert_eq!(day["resets_at"], told("resets_at"));
    let entries = daemon.stop().await;
    assert_eq!(refused(&entries)[0].code, "budget-exhausted");
}

#[tokio::test]
async fn other_limits_have_codes_of_their_own() {
    let cases = [
        ("{requests_per_minute: 1}", 429, "rate-limited"),
        ("{prompt_tokens: 1}", 422, "call-over-limit"),
        ("{tokens_per_month: 3}", 422, "call-over-limit"),
    ];
    for (limits, status, code) in cases {
        let daemon = limited(limits).start().await;
        let reply = loop {
            let reply = call(&daemon).await;
            if reply.status != 200 {
                break reply;
            }
        };
        assert_eq!(reply.status, status, "{limits}: {}", reply.body);
        let kind = format!("urn:postern:problem:{code}");
        assert_eq!(problem(&reply)["type"], kind, "{limits}");
        let retry_after_s = reply.headers.get("retry-after");
        let retry_after_s = retry_after_s.map(|told| told.parse::<u64>().unwrap());
        assert_eq!(retry_after_s.is_some(), status == 429, "{limits}");
        assert!(
            retry_after_s.is_none_or(|s| (1..=60).contains(&s)),
            "{limits}"
        );
    }
}

#[tokio::test]
async fn what_is_not_limited_has_no_budget() {
    let daemon = limited("{}").start().await;
    assert_eq!(call(&daemon).await.status, 200);
    assert_eq!(budgets(&daemon).await, json!({ "budgets": [] }));
}
