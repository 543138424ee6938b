//! Calls beyond a limit: their status, their numbers, and when to come back.

use jiff::{SignedDuration, Timestamp};
use postern_audit::Entry;
use postern_governance::{Policy, RuleSet, TemplateSet};
use postern_service::{Right, TokenClaims, issue};
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

#[tokio::test]
async fn whoever_may_administer_sees_and_sets_all_budgets() {
    let policy = "version: 1\nauthorization: [rules.cedar]\nlimits: {tokens_per_day: 90}\n\
                  identities: {kiosk: {templates: {short.v1: {}}}, operator: {}}\n";
    let rules = "@id(\"budgets\")\npermit (principal == Identity::\"operator\", action == Action::\"administer\", resource);";
    let short = template("short.v1", 32);
    let templates = TemplateSet::from_sources([("short.v1.yaml", &*short)]).unwrap();
    let policy = Policy::from_sources("policy.yaml", policy, &[("rules.cedar", rules)]).unwrap();
    let daemon = Plan {
        rules: RuleSet::new(templates, policy).unwrap(),
        ..Plan::short()
    }
    .start()
    .await;
    while call(&daemon).await.status == 200 {}

    let ask = async |identity: &str, method: &str, path: &str, body: Value| {
        let rights = vec![Right::Administer];
        let hour = SignedDuration::from_hours(1);
        let claims = TokenClaims::with_rights(
            identity.parse().unwrap(),
            Vec::new(),
            rights,
            Timestamp::now(),
            hour,
        );
        let token = issue(&daemon.key, &claims.unwrap());
        let mut request = post(path, Some(&token), body.to_string());
        *request.method_mut() = method.parse().unwrap();
        daemon.client(identity).send(request).await.unwrap()
    };
    let all = ask("operator", "GET", "/v1/budgets", Value::Null).await;
    let all: Value = serde_json::from_str(&all.body).unwrap();
    let accounts = all["budgets"].as_array().unwrap().iter();
    let accounts: Vec<&str> = accounts
        .map(|budget| budget["account"].as_str().unwrap())
        .collect();
    assert_eq!(accounts, ["identity/kiosk", "identity/operator"]);

    // A token alone is not enough, and neither is a name that has no budget.
    let kiosk = "/v1/budgets/identity/kiosk";
    let figures = json!({ "day_used": 0, "day_grant": 10 });
    let refused = ask("kiosk", "PUT", kiosk, figures.clone()).await;
    assert_eq!(refused.status, 403, "{}", refused.body);
    assert_eq!(problem(&refused)["right"], "administer");
    for path in ["/v1/budgets/identity/nobody!", "/v1/budgets/role/none"] {
        let unknown = ask("operator", "PUT", path, figures.clone()).await;
        assert_eq!(unknown.status, 404, "{}", unknown.body);
    }
    for wrong in [json!({ "day_used": -1 }), json!({ "day": 0 }), json!([])] {
        assert_eq!(ask("operator", "PUT", kiosk, wrong).await.status, 400);
    }

    let set = ask("operator", "PUT", kiosk, figures).await;
    assert_eq!(set.status, 200, "{}", set.body);
    let set: Value = serde_json::from_str(&set.body).unwrap();
    assert_eq!(
        (&set["day"]["used"], &set["day"]["left"]),
        (&json!(0), &json!(100))
    );
    assert_eq!(call(&daemon).await.status, 200);
    let entries = daemon.stop().await;
    let administered = entries.iter().find_map(|entry| match entry {
        Entry::Administered(one) if one.action != "model-loaded" => Some(one),
        _ => None,
    });
    let administered = administered.unwrap();
    assert_eq!(administered.identity.as_deref(), Some("operator"));
    assert_eq!(administered.action, "budget-set");
    assert!(administered.detail.contains("day: granted 10 (was 0)"));
}
