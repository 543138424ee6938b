//! What may not stand in a log line: tokens, secrets, variables, texts.

use std::sync::Mutex;

use jiff::Timestamp;
use log::kv::{Key, Value, VisitSource};
use log::{LevelFilter, Log, Metadata, Record};
use postern_service::issue;
use postern_testkit::chain;

use crate::house::{Plan, call, claims, holder};

/// Keeps every line of this process, fields included.
struct Lines(Mutex<Vec<String>>);

static LINES: Lines = Lines(Mutex::new(Vec::new()));

struct Fields<'a>(&'a mut String);

impl<'kvs> VisitSource<'kvs> for Fields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
        self.0.push_str(&format!(" {key}={value}"));
        Ok(())
    }
}

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mut line = format!("{} {}", record.target(), record.args());
        record.key_values().visit(&mut Fields(&mut line)).unwrap();
        self.0.lock().unwrap().push(line);
    }

    fn flush(&self) {}
}

#[tokio::test]
async fn no_line_repeats_what_went_in_or_out() {
    log::set_logger(&LINES).unwrap();
    log::set_max_level(LevelFilter::Trace);
    let said = "pqrstuvw";
    let house = Plan::with_model(chain::saying(said, 256)).build();
    let secret = format!("sk-{}", "Zx9wE7rT5yU3iO1pA2sD4fG6");
    let words = "seventeen violet umbrellas";
    let answered = call("short.v1", &[("text", &format!("{words} {secret}"))]);
    let answer = house.ask(answered).await.answer();
    let denied = call("short.v1", &[("text", words), (words, words)]);
    let refusal = house.ask(denied).await.refusal();
    let token = issue(
        &house.key,
        &claims("operator", &["short.v1"], Timestamp::UNIX_EPOCH),
    );
    let operator = holder("operator");
    let expired = house
        .service
        .authenticate(&operator, Some(&token))
        .await
        .unwrap_err();

    assert_eq!(answer.text, said);
    let lines = LINES.0.lock().unwrap().join("\n");
    for id in [answer.id, refusal.id, expired.id] {
        assert!(lines.contains(&id.to_string()), "call {id} is in no line");
    }
    let (_, claims_and_signature) = token.split_once('.').unwrap();
    for hidden in [said, &secret, "umbrellas", claims_and_signature] {
        assert!(!lines.contains(hidden), "{hidden} stands in a line");
    }
}
