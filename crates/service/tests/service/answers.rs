//! Calls that are answered.

use postern_audit::{Entry, Outcome};
use postern_service::{AnswerEnd, Call};
use postern_testkit::chain;

use crate::house::{Plan, call, coffee, drain, sha256, short};

const WISHES: &str = "I would like a quiet place with oat milk.";

#[tokio::test]
async fn an_answer_and_its_two_records_say_the_same() {
    let house = Plan::default().build();
    let outcome = house.ask(coffee(WISHES)).await;
    // The records are on disk at the moment the answer is there.
    let entries = house.entries();
    let verified = house.verify();
    let tokens = outcome.tokens.concat();
    let answer = outcome.answer();

    let [Entry::Admitted(admitted), Entry::Completed(completed)] = entries.as_slice() else {
        panic!("{entries:#?}");
    };
    assert!(!answer.text.is_empty());
    assert_eq!(tokens, answer.text, "the stream is the answer");
    assert_eq!(admitted.request_id, answer.id.to_string());
    assert_eq!(admitted.identity, "operator");
    assert!(admitted.token_id.is_some());
    assert_eq!(admitted.model.id, answer.model.id);
    assert_eq!(admitted.model.sha256, answer.model.sha256);
    assert!(admitted.model.chat_template_sha256.is_some());
    assert_eq!(admitted.template.id, "coffee.v1");
    assert_eq!(admitted.template.sha256, answer.template.sha256);
    assert_eq!(admitted.variables["wishes"], WISHES);
    assert_eq!(admitted.parameters.max_tokens, 96);
    assert!(admitted.parameters.stream);
    assert_eq!(completed.request_id, admitted.request_id);
    // After the log's own record and that of the loaded model.
    assert_eq!(completed.admitted_index, 2);
    assert_eq!(completed.output_sha256, sha256(&answer.text));
    assert_eq!(
        completed.usage.prompt_tokens,
        answer.usage.prompt_tokens as u64
    );
    assert_eq!(
        completed.usage.completion_tokens,
        answer.usage.completion_tokens as u64
    );
    assert_eq!(answer.audit.index, 3);
    assert_eq!(answer.audit.head, verified.head);
    assert_eq!(verified.open_calls, []);
    assert!(answer.timings.first_token_ms <= answer.timings.total_ms);
}

#[tokio::test]
async fn the_answer_serializes_as_the_response() {
    let house = Plan::default().build();
    let answer = house.ask(coffee(WISHES)).await.answer();
    let json = serde_json::to_value(&answer).unwrap();
    let mut fields: Vec<&str> = json
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    fields.sort_unstable();
    let expected = [
        "audit",
        "finish_reason",
        "id",
        "model",
        "redactions",
        "template",
        "text",
        "timings",
        "usage",
    ];
    assert_eq!(fields, expected);
    assert_eq!(json["id"], answer.id.to_string());
    assert_eq!(json["finish_reason"], "stop");
    assert_eq!(json["audit"]["head"].as_str().unwrap().len(), 64);
}

#[tokio::test]
async fn the_same_seed_gives_the_same_text() {
    let house = Plan::default().build();
    let ask = async |seed| {
        let call = Call {
            temperature: Some(1.5),
            seed: Some(seed),
            ..coffee(WISHES)
        };
        house.ask(call).await.answer().text
    };
    let texts = [ask(7).await, ask(8).await, ask(9).await];
    assert_eq!(ask(7).await, texts[0]);
    assert!(texts.iter().any(|text| *text != texts[0]), "{texts:?}");
}

#[tokio::test]
async fn a_seed_that_the_service_drew_is_recorded_and_gives_the_text_again() {
    let house = Plan::default().build();
    let call = Call {
        temperature: Some(1.5),
        ..coffee(WISHES)
    };
    let text = house.ask(call.clone()).await.answer().text;
    let Entry::Admitted(admitted) = house.entries().remove(0) else {
        panic!("not admitted");
    };
    let again = Call {
        seed: Some(admitted.parameters.seed),
        ..call
    };
    assert_eq!(house.ask(again).await.answer().text, text);
}

#[tokio::test]
async fn an_answer_may_end_at_its_most_tokens() {
    let house = Plan::with_model(chain::endless(256)).build();
    let answer = house.ask(short()).await.answer();
    assert_eq!(answer.finish_reason, AnswerEnd::Length);
    assert_eq!(answer.usage.completion_tokens, 32);
    assert_eq!(answer.text, "on ".repeat(11)[..32]);
    assert_eq!(house.completed()[0].outcome, Outcome::Length);
}

#[tokio::test]
async fn secrets_in_a_variable_reach_neither_model_nor_log() {
    let house = Plan::default().build();
    let card = "4111 1111 1111 1111";
    let key = format!("sk-{}", "Q7wE9rT2yU4iO6pA8sD1fG3h");
    let answer = house
        .ask(coffee(&format!(
            "Quiet. Pay with {card}, {card}, key {key}."
        )))
        .await
        .answer();
    let clean = "Quiet. Pay with [REDACTED:payment-card:1], [REDACTED:payment-card:1], \
                 key [REDACTED:openai-api-key:1].";
    let Entry::Admitted(admitted) = house.entries().remove(0) else {
        panic!("not admitted");
    };
    assert_eq!(admitted.variables["wishes"], clean);
    let mut counted: Vec<(&str, &str, u64)> = answer
        .redactions
        .iter()
        .map(|redaction| (&*redaction.variable, &*redaction.rule, redaction.count))
        .collect();
    counted.sort_unstable();
    assert_eq!(
        counted,
        [
            ("wishes", "openai-api-key", 1),
            ("wishes", "payment-card", 2)
        ]
    );
    assert_eq!(admitted.redactions.len(), 2);
    // The model read what was recorded: the same words give the same answer.
    let same = house.ask(coffee(clean)).await.answer();
    assert_eq!(same.usage.prompt_tokens, answer.usage.prompt_tokens);
    assert_eq!(same.text, answer.text);
    let log = log_bytes(&house.audit_dir);
    assert!(!log.contains(card) && !log.contains(&key));
}

#[tokio::test]
async fn what_was_computed_for_one_identity_serves_no_other() {
    let house = Plan::with_model(chain::endless(256)).build();
    let cached = async |identity: &str| {
        let caller = house.caller(identity, &["short.v1"]).await;
        let text = "the same question ".repeat(5);
        let call = call("short.v1", &[("text", &text)]);
        let stream = house.service.generate(caller, call).await.unwrap();
        drain(stream).await.answer().usage.cached_prompt_tokens
    };
    assert_eq!(cached("operator").await, 0);
    let again = cached("operator").await;
    assert!(again >= 64, "{again}");
    // What the chat template writes before every text is shorter than a page.
    assert_eq!(cached("kiosk").await, 0);
    let metrics = house.service.metrics_text();
    for line in [
        format!("postern_engine_cached_prompt_tokens_total {again}\n"),
        "postern_kv_cache_pages{state=\"in-use\"} 0\n".to_owned(),
    ] {
        assert!(metrics.contains(&line), "no {line}in\n{metrics}");
    }
}

#[tokio::test]
async fn a_secret_that_the_model_writes_never_leaves() {
    let secret = "sk-ABCDEFGHIJLMNOPQRTUVWXYZ0123";
    let house = Plan::with_model(chain::saying(secret, 256)).build();
    let outcome = house.ask(short()).await;
    assert_eq!(outcome.tokens, ["[REDACTED:openai-api-key:1]"]);
    let answer = outcome.answer();
    assert_eq!(answer.text, "[REDACTED:openai-api-key:1]");
    assert_eq!(answer.finish_reason, AnswerEnd::Stop);
    assert_eq!(answer.redactions[0].variable, "output");
    let completed = &house.completed()[0];
    assert_eq!(completed.output_redactions[0].rule, "openai-api-key");
    assert_eq!(completed.output_sha256, sha256(&answer.text));
    assert!(!log_bytes(&house.audit_dir).contains(secret));
}

#[tokio::test]
async fn text_that_the_filter_held_back_is_in_the_answer() {
    // The filter holds the last word back, since a secret may begin there.
    let house = Plan::with_model(chain::saying("Go. Bye", 256)).build();
    let answer = house.ask(short()).await.answer();
    assert_eq!(answer.text, "Go. Bye");
}

#[tokio::test]
async fn calls_run_side_by_side() {
    let house = Plan::default().build();
    let alone = house.ask(coffee(WISHES)).await.answer().text;
    let mut streams = Vec::new();
    for _ in 0..6 {
        streams.push(house.call(coffee(WISHES)).await.unwrap());
    }
    for stream in streams {
        assert_eq!(drain(stream).await.answer().text, alone);
    }
    assert_eq!(house.verify().open_calls, []);
}

fn log_bytes(dir: &std::path::Path) -> String {
    let files = std::fs::read_dir(dir).unwrap();
    let bytes = files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap());
    String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
}
