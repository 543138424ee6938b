//! Admitted calls that end without an answer: each leaves its last record.

use std::sync::Arc;
use std::time::Duration;

use postern_audit::{Entry, Outcome};
use postern_engine::EngineConfig;
use postern_service::{NotReady, RefusalKind, ServiceConfig};
use postern_testkit::chain;

use crate::house::{
    House, LONG_CONTEXT, LONG_TOKENS, Plan, coffee, drain, first_text, long, short,
};

/// An engine that works on one call at a time and lets one more wait.
fn narrow() -> EngineConfig {
    EngineConfig {
        sequences_max: 1,
        queue_max: 1,
        ..EngineConfig::default()
    }
}

fn endless(engine: EngineConfig, service: ServiceConfig) -> House {
    let model = chain::endless(LONG_CONTEXT);
    Plan {
        engine,
        service,
        ..Plan::with_model(model)
    }
    .build()
}

fn failed(code: &str) -> Outcome {
    Outcome::Failed {
        code: code.to_owned(),
    }
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_generation() {
    let house = endless(EngineConfig::default(), ServiceConfig::default());
    let mut stream = house.call(long()).await.unwrap();
    first_text(&mut stream).await;
    drop(stream);
    let completed = house.wait_for_completed(1).await.remove(0);
    assert_eq!(completed.outcome, Outcome::Cancelled);
    let made = completed.usage.completion_tokens;
    assert!(
        (1..u64::from(LONG_TOKENS) / 4).contains(&made),
        "{made} tokens"
    );
    house.wait_for_metric("postern_calls_in_flight 0").await;
    assert_eq!(house.verify().open_calls, []);
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_ends_its_call_at_once() {
    let house = endless(narrow(), ServiceConfig::default());
    let mut running = house.call(long()).await.unwrap();
    first_text(&mut running).await;
    let waiting = house.call(long()).await.unwrap();
    house.wait_for_metric("postern_queue_depth 1").await;
    let id = waiting.id.to_string();
    drop(waiting);
    let completed = house.wait_for_completed(1).await.remove(0);
    assert_eq!(
        (completed.request_id, completed.outcome),
        (id, Outcome::Cancelled)
    );
    assert_eq!(completed.usage.completion_tokens, 0);
    house.wait_for_metric("postern_queue_depth 0").await;
    assert_eq!(house.completed().len(), 1, "the other call still runs");
}

#[tokio::test]
async fn a_client_that_leaves_before_the_admission_is_answered_is_recorded() {
    let house = endless(EngineConfig::default(), ServiceConfig::default());
    let caller = house.caller("operator", &["long.v1"]).await;
    let mut calling = Box::pin(house.service.generate(caller, long()));
    // One look starts the call; then its future is dropped.
    tokio::select! {
        biased;
        admitted = &mut calling => drop(admitted),
        () = std::future::ready(()) => {}
    }
    drop(calling);
    let completed = house.wait_for_completed(1).await.remove(0);
    assert_eq!(completed.outcome, Outcome::Cancelled);
}

#[tokio::test]
async fn the_deadline_cuts_running_and_waiting_calls() {
    let config = ServiceConfig {
        deadline_s: 1,
        ..ServiceConfig::default()
    };
    let house = endless(narrow(), config);
    let running = house.call(long()).await.unwrap();
    house.wait_for_metric("postern_queue_depth 0").await;
    let waiting = house.call(long()).await.unwrap();
    for stream in [running, waiting] {
        let refusal = drain(stream).await.refusal();
        assert_eq!(
            refusal.kind,
            RefusalKind::DeadlineExceeded { deadline_s: 1 }
        );
    }
    let completed = house.completed();
    assert!(
        completed
            .iter()
            .all(|call| call.outcome == Outcome::Deadline),
        "{completed:#?}"
    );
    assert_eq!(completed.len(), 2);
}

#[tokio::test]
async fn a_call_beyond_the_most_is_refused_as_busy() {
    let config = ServiceConfig {
        calls_max: 1,
        ..ServiceConfig::default()
    };
    let house = endless(EngineConfig::default(), config);
    let running = house.call(long()).await.unwrap();
    let refusal = house.ask(short()).await.refusal();
    assert_eq!(refusal.kind, RefusalKind::Busy);
    let refused = house.refused().remove(0);
    assert_eq!(
        (&*refused.request_id, &*refused.code),
        (&*refusal.id.to_string(), "busy")
    );
    drop(running);
    house.wait_for_completed(1).await;
    house.wait_for_metric("postern_calls_in_flight 0").await;
    house.ask(short()).await.answer();
}

#[tokio::test]
async fn a_full_queue_of_the_engine_is_busy_too_and_recorded() {
    let house = endless(narrow(), ServiceConfig::default());
    let mut running = house.call(long()).await.unwrap();
    first_text(&mut running).await;
    let _waiting = house.call(long()).await.unwrap();
    let refusal = house.ask(short()).await.refusal();
    assert_eq!(refusal.kind, RefusalKind::Busy);
    let completed = house.completed().remove(0);
    assert_eq!(completed.request_id, refusal.id.to_string());
    assert_eq!(completed.outcome, failed("busy"));
}

#[tokio::test]
async fn a_prompt_beyond_the_context_ends_before_a_token() {
    let house = Plan::with_model(chain::endless(64)).build();
    let refusal = house.ask(long()).await.refusal();
    let RefusalKind::ContextOverflow {
        max_tokens,
        context_tokens,
        ..
    } = refusal.kind
    else {
        panic!("{refusal}");
    };
    assert_eq!((max_tokens, context_tokens), (LONG_TOKENS as usize, 64));
    let completed = house.completed().remove(0);
    assert_eq!(completed.outcome, failed("context-overflow"));
    assert_eq!(completed.usage.completion_tokens, 0);
}

#[tokio::test]
async fn a_shutdown_lets_running_calls_finish_and_refuses_new_ones() {
    let house = Plan::default().build();
    let stream = house.call(coffee("A place with cake.")).await.unwrap();
    house.service.shutdown(Duration::from_secs(60)).await;
    let entries = house.entries();
    drain(stream).await.answer();
    assert!(
        matches!(entries.last(), Some(Entry::Completed(_))),
        "{entries:#?}"
    );
    assert_eq!(house.service.ready(), Err(NotReady::ShuttingDown));
    let refusal = house.ask(coffee("A place with cake.")).await.refusal();
    assert_eq!(refusal.kind, RefusalKind::ShuttingDown);
    assert_eq!(house.refused()[0].code, "shutting-down");
}

#[tokio::test]
async fn a_shutdown_cuts_at_its_deadline_what_still_runs() {
    let house = endless(narrow(), ServiceConfig::default());
    let running = house.call(long()).await.unwrap();
    house.wait_for_metric("postern_queue_depth 0").await;
    let waiting = house.call(long()).await.unwrap();
    house.service.shutdown(Duration::ZERO).await;
    let completed = house.completed();
    assert_eq!(completed.len(), 2, "all records are written");
    for call in &completed {
        assert_eq!(call.outcome, failed("shutting-down"));
    }
    for stream in [running, waiting] {
        assert_eq!(
            drain(stream).await.refusal().kind,
            RefusalKind::ShuttingDown
        );
    }
    assert_eq!(house.verify().open_calls, []);
}

#[tokio::test]
async fn a_shutdown_refuses_new_calls_while_an_old_one_runs() {
    let house = endless(EngineConfig::default(), ServiceConfig::default());
    let running = house.call(long()).await.unwrap();
    let service = Arc::clone(&house.service);
    let shutdown = tokio::spawn(async move { service.shutdown(Duration::from_secs(600)).await });
    while house.service.ready().is_ok() {
        tokio::task::yield_now().await;
    }
    let refusal = house.ask(short()).await.refusal();
    assert_eq!(refusal.kind, RefusalKind::ShuttingDown);
    assert_eq!(house.completed(), [], "the old call still runs");
    drop(running);
    shutdown.await.unwrap();
    assert_eq!(house.completed()[0].outcome, Outcome::Cancelled);
}

#[tokio::test]
async fn calls_that_the_engine_leaves_behind_are_told_that_it_stopped() {
    let house = endless(narrow(), ServiceConfig::default());
    let mut running = house.call(long()).await.unwrap();
    first_text(&mut running).await;
    let waiting = house.call(long()).await.unwrap();
    house.engine.stop();
    for stream in [running, waiting] {
        let refusal = drain(stream).await.refusal();
        assert_eq!(refusal.kind, RefusalKind::EngineStopped);
    }
    for call in house.completed() {
        assert_eq!(call.outcome, failed("engine-stopped"));
    }
    assert_eq!(house.verify().open_calls, []);
}
