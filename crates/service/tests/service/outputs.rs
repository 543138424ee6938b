//! What the audit log keeps of outputs: what the caller was given, where policy and template have it kept.

use postern_audit::{Completed, OUTPUT_BYTES_MAX, Outcome};
use postern_governance::{Policy, RuleSet, TemplateSet};
use postern_service::{Call, ServiceConfig};
use postern_testkit::chain;
use postern_testkit::rules::{LONG_TOKENS, POLICY, template};

use crate::house::{House, LONG_CONTEXT, Plan, first_text, long, sha256, short};

/// A policy that says this beside its grants, and a template `short.v1` that has these lines more.
fn plan(model: Vec<u8>, policy: &str, of_short: &str) -> Plan {
    let long = template("long.v1", LONG_TOKENS);
    let short = template("short.v1", 32) + of_short;
    let sources = [("long.v1.yaml", &*long), ("short.v1.yaml", &*short)];
    let templates = TemplateSet::from_sources(sources).unwrap();
    let policy = Policy::from_source("policy.yaml", &format!("{POLICY}{policy}")).unwrap();
    Plan {
        rules: Some(RuleSet::new(templates, policy).unwrap()),
        ..Plan::with_model(model)
    }
}

fn house(model: Vec<u8>, policy: &str, of_short: &str) -> House {
    plan(model, policy, of_short).build()
}

const KEEP_TEXT: &str = "audit: {output: text}\n";

/// The end of the one call that is made, after its client left with the first text.
async fn cancelled(house: &House, call: Call) -> (String, Completed) {
    let mut stream = house.call(call).await.unwrap();
    let first = first_text(&mut stream).await;
    drop(stream);
    (first, house.wait_for_completed(1).await.remove(0))
}

#[tokio::test]
async fn an_answer_is_kept_as_policy_and_template_say() {
    let cases = [
        ("", "", false),
        ("audit: {output: hash}\n", "", false),
        (KEEP_TEXT, "", true),
        (KEEP_TEXT, "audit: {output: hash}\n", false),
    ];
    for (policy, of_short, keeps) in cases {
        for stream in [true, false] {
            let house = house(chain::endless(256), policy, of_short);
            let call = Call { stream, ..short() };
            let answer = house.ask(call).await.answer();
            let completed = house.completed().remove(0);
            let shown = format!("{policy}{of_short}stream: {stream}");
            assert_eq!(completed.output_sha256, sha256(&answer.text), "{shown}");
            assert_eq!(completed.output, keeps.then_some(answer.text), "{shown}");
            assert_eq!(completed.keeps_whole_output(), keeps, "{shown}");
        }
    }
}

#[tokio::test]
async fn text_is_kept_as_the_output_filter_left_it() {
    let secret = "sk-ABCDEFGHIJLMNOPQRTUVWXYZ0123";
    let house = house(chain::saying(secret, 256), KEEP_TEXT, "");
    let answer = house.ask(short()).await.answer();
    let kept = house.completed().remove(0).output;
    assert_eq!(kept.as_deref(), Some("[REDACTED:openai-api-key:1]"));
    assert_eq!(kept, Some(answer.text));
}

#[tokio::test]
async fn of_a_call_that_is_cancelled_what_was_streamed_is_kept() {
    let streaming = house(chain::endless(LONG_CONTEXT), KEEP_TEXT, "");
    let (first, completed) = cancelled(&streaming, long()).await;
    assert_eq!(completed.outcome, Outcome::Cancelled);
    let kept = completed.output.clone().unwrap();
    assert!(kept.starts_with(&first), "{kept}");
    assert!(completed.keeps_whole_output());

    let hashing = house(chain::endless(LONG_CONTEXT), "", "");
    let (_, completed) = cancelled(&hashing, long()).await;
    assert_eq!(completed.output, None);
}

#[tokio::test]
async fn what_the_caller_was_not_given_is_not_kept() {
    let house = house(chain::endless(LONG_CONTEXT), KEEP_TEXT, "");
    // The service makes text of it all the same, but the caller waits for the whole.
    let whole = Call {
        stream: false,
        ..long()
    };
    let (_, completed) = cancelled(&house, whole).await;
    assert_eq!(completed.outcome, Outcome::Cancelled);
    assert_eq!(completed.output, None);
}

#[tokio::test]
async fn of_a_call_that_reaches_its_deadline_what_was_streamed_is_kept() {
    let service = ServiceConfig {
        deadline_s: 1,
        ..ServiceConfig::default()
    };
    let plan = Plan {
        service,
        ..plan(chain::endless(LONG_CONTEXT), KEEP_TEXT, "")
    };
    let house = plan.build();
    let outcome = house.ask(long()).await;
    let completed = house.completed().remove(0);
    assert_eq!(completed.outcome, Outcome::Deadline);
    let streamed = outcome.tokens.concat();
    let kept = completed.output.clone().unwrap();
    assert_eq!(completed.output_sha256, sha256(&streamed));
    let bound = streamed.len().min(OUTPUT_BYTES_MAX);
    assert_eq!(kept, streamed[..bound]);
}
