//! Outputs that are held: what their callers are told, and who may decide on them.

use jiff::{SignedDuration, Timestamp};
use postern_governance::{Policy, RuleSet, TemplateSet};
use postern_service::{Right, TokenClaims, issue};
use postern_testkit::client::{Reply, get, post};
use postern_testkit::rules::template;
use serde_json::{Value, json};

use crate::calls::body;
use crate::daemon::{Daemon, Plan, refused};

const POLICY: &str = "\
version: 1
authorization: [team.cedar]
roles: {lead: {}}
identities:
  kiosk: {templates: {short.v1: {}}}
  operator: {roles: [lead]}
review: {risk: low}
";

const CEDAR: &str =
    "permit (principal in Role::\"lead\", action == Action::\"approve\", resource);";

async fn holding() -> Daemon {
    let short = template("short.v1", 32);
    let templates = TemplateSet::from_sources([("short.v1.yaml", &*short)]).unwrap();
    let policy = Policy::from_sources("policy.yaml", POLICY, &[("team.cedar", CEDAR)]).unwrap();
    let plan = Plan {
        rules: RuleSet::new(templates, policy).unwrap(),
        ..Plan::short()
    };
    plan.start().await
}

async fn call(daemon: &Daemon, stream: bool) -> Reply {
    let token = daemon.token("kiosk", &["short.v1"]);
    let call = body(
        "short.v1",
        json!({ "variables": { "text": "go" }, "stream": stream }),
    );
    let client = daemon.client("kiosk");
    client
        .send(post("/v1/generate", Some(&token), call))
        .await
        .unwrap()
}

fn reviewer_token(daemon: &Daemon, identity: &str) -> String {
    let claims = TokenClaims::with_rights(
        identity.parse().unwrap(),
        Vec::new(),
        vec![Right::Approve],
        Timestamp::now(),
        SignedDuration::from_hours(1),
    );
    issue(&daemon.key, &claims.unwrap())
}

async fn show(daemon: &Daemon, identity: &str, token: &str, path: &str) -> Reply {
    let client = daemon.client(identity);
    client.send(get(path, Some(token))).await.unwrap()
}

async fn decide(daemon: &Daemon, identity: &str, path: &str, decision: &Value) -> Reply {
    let token = reviewer_token(daemon, identity);
    let mut request = post(path, Some(&token), decision.to_string());
    *request.method_mut() = "PUT".parse().unwrap();
    daemon.client(identity).send(request).await.unwrap()
}

fn parsed(reply: &Reply, status: u16) -> Value {
    assert_eq!(reply.status, status, "{}", reply.body);
    serde_json::from_str(&reply.body).unwrap()
}

#[tokio::test]
async fn a_held_call_is_202_and_its_answer_comes_once_it_is_approved() {
    let daemon = holding().await;
    let held = parsed(&call(&daemon, false).await, 202);
    assert_eq!(held["status"], "pending");
    assert_eq!(held["reasons"][0]["code"], "risk");
    assert_eq!(held.get("text"), None);
    let path = format!("/v1/reviews/{}", held["id"].as_str().unwrap());
    let own = daemon.token("kiosk", &["short.v1"]);

    let pending = parsed(&show(&daemon, "kiosk", &own, &path).await, 200);
    assert_eq!(pending["status"], "pending");
    assert_eq!(
        (pending.get("answer"), pending.get("variables")),
        (None, None)
    );

    let approve = json!({ "decision": "approve", "why": "it is fine" });
    let decided = parsed(&decide(&daemon, "operator", &path, &approve).await, 200);
    assert_eq!(decided["status"], "approved");
    assert_eq!(decided["decision"]["by"], "operator");
    let released = parsed(&show(&daemon, "kiosk", &own, &path).await, 200);
    assert_eq!(released["answer"]["id"], held["id"]);
    assert_eq!(released["answer"], decided["answer"]);
    assert!(!released["answer"]["text"].as_str().unwrap().is_empty());

    let again = parsed(&decide(&daemon, "operator", &path, &approve).await, 409);
    assert_eq!(again["type"], "urn:postern:problem:review-closed");
    assert_eq!(again["review_status"], "approved");
}

#[tokio::test]
async fn a_streamed_call_that_is_held_gives_no_text() {
    let daemon = holding().await;
    let reply = call(&daemon, true).await;
    assert_eq!(reply.status, 200);
    assert!(reply.body.contains("event: held"), "{}", reply.body);
    for absent in ["event: token", "event: done"] {
        assert!(!reply.body.contains(absent), "{}", reply.body);
    }
}

#[tokio::test]
async fn who_may_not_decide_is_told_so() {
    let daemon = holding().await;
    let held = parsed(&call(&daemon, false).await, 202);
    let path = format!("/v1/reviews/{}", held["id"].as_str().unwrap());
    let approve = json!({ "decision": "approve", "why": "mine" });
    let cases = [
        ("kiosk", &*path, approve.clone(), 403, "review-own"),
        (
            "operator",
            "/v1/reviews/nonsense",
            approve.clone(),
            404,
            "review-unknown",
        ),
        (
            "operator",
            "/v1/reviews/%ff",
            approve.clone(),
            404,
            "review-unknown",
        ),
        (
            "operator",
            &path,
            json!({ "decision": "approve", "why": " " }),
            422,
            "review-why",
        ),
        (
            "operator",
            &path,
            json!({ "decision": "maybe", "why": "x" }),
            400,
            "body-malformed",
        ),
    ];
    for (identity, path, decision, status, code) in cases {
        let reply = decide(&daemon, identity, path, &decision).await;
        let problem = parsed(&reply, status);
        assert_eq!(problem["type"], format!("urn:postern:problem:{code}"));
    }
    let unable = daemon.token("operator", &["short.v1"]);
    let reply = show(&daemon, "operator", &unable, &path).await;
    assert_eq!(
        parsed(&reply, 404)["type"],
        "urn:postern:problem:review-unknown"
    );
    let refused = refused(&daemon.stop().await);
    let refused = refused.iter();
    let told: Vec<_> = refused
        .map(|entry| (&*entry.code, entry.subject.as_deref()))
        .collect();
    let about = held["id"].as_str();
    assert_eq!(
        told,
        [
            ("review-own", about),
            ("review-unknown", None),
            ("review-unknown", None),
            ("review-why", about),
            ("body-malformed", None),
            ("review-unknown", about)
        ]
    );
}
