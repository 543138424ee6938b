//! Constrained generations through the engine, with random weights.

use std::time::Duration;

use postern_engine::{
    BackendChoice, Engine, EngineConfig, EngineError, Event, FinishReason, Finished, Job,
    ModelManifest, Next, OutputFormat, Prompt, Result, Sampling, VerifiedModel,
};
use postern_testkit::gguf::TinyModel;
use serde_json::{Value, json};

use crate::{fault, schemas};

/// Longer than anything here takes on a busy machine; reached only when something hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// More than the longest output of the bounded schemas has, at one token a byte.
const MAX_TOKENS: usize = 400;

fn start(backend: BackendChoice) -> Engine {
    let folder = tempfile::tempdir().expect("a folder for the model");
    let file = folder.path().join("tiny.gguf");
    let model = TinyModel {
        context_tokens: 512,
        ..TinyModel::new("llama")
    };
    std::fs::write(&file, model.build()).expect("room for the model");
    let manifest = ModelManifest::pin(&file, "tiny").expect("a model file");
    let model = VerifiedModel::load(&manifest, &mut |_| {}).expect("the file was just pinned");
    let config = EngineConfig {
        backend,
        ..EngineConfig::default()
    };
    Engine::start(model, &config).expect("a sound model")
}

fn job(schema: &Value, sampling: Sampling) -> Job {
    Job {
        prompt: Prompt::Text("order: ".to_owned()),
        sampling,
        max_tokens: MAX_TOKENS,
        stop: Vec::new(),
        tenant: String::new(),
        output: OutputFormat::JsonSchema(schema.clone()),
    }
}

fn warm(seed: u64) -> Sampling {
    Sampling {
        temperature: 1.5,
        repetition_penalty: Some(1.2),
        min_p: Some(0.01),
        seed,
        ..Sampling::greedy()
    }
}

/// Text, number of token events, and the end.
fn run(engine: &Engine, job: Job) -> Result<(String, usize, Finished)> {
    let generation = engine.submit(job)?;
    let (mut text, mut tokens) = (String::new(), 0);
    loop {
        match generation.next(PATIENCE) {
            Next::Event(Event::Started { .. }) => {}
            Next::Event(Event::Token { text: part, .. }) => {
                text.push_str(&part);
                tokens += 1;
            }
            Next::Event(Event::Done(finished)) => {
                text.push_str(&finished.text_tail);
                return Ok((text, tokens, finished));
            }
            Next::Event(Event::Failed(error)) => return Err(error),
            Next::Nothing | Next::Ended => panic!("no end within {PATIENCE:?}"),
        }
    }
}

#[test]
fn output_validates_on_every_backend_greedy_and_sampled() {
    let mut faults = Vec::new();
    for backend in [BackendChoice::Native, BackendChoice::Candle] {
        let engine = start(backend);
        let samplings = std::iter::once(Sampling::greedy()).chain((1..=3).map(warm));
        for sampling in samplings {
            for (name, schema) in schemas::bounded() {
                let job = job(&schema, sampling.clone());
                let (text, _, finished) =
                    run(&engine, job).unwrap_or_else(|error| panic!("{name}: {error}"));
                if finished.finish_reason != FinishReason::Stop {
                    faults.push(format!("{name}: {text:?} ended with {finished:?}"));
                } else if let Some(fault) = fault(&schema, &text) {
                    faults.push(format!("{name}, {backend:?}, {sampling:?}: {fault}"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn members_come_compactly_in_the_order_of_the_schema_and_then_it_ends() {
    let schema = json!({
        "type": "object",
        "properties": { "b": { "const": 1 }, "a": { "const": [true, "x y"] } },
        "required": ["a", "b"],
        "additionalProperties": false,
    });
    let engine = start(BackendChoice::Native);
    let (text, tokens, finished) = run(&engine, job(&schema, warm(1))).expect("it is allowed");
    assert_eq!(text, r#"{"b":1,"a":[true,"x y"]}"#);
    assert_eq!(finished.finish_reason, FinishReason::Stop);
    assert_eq!(finished.usage.completion_tokens, tokens);
}

#[test]
fn the_seed_decides_alone_and_in_company() {
    let engine = start(BackendChoice::Native);
    let (_, schema) = schemas::bounded().swap_remove(0);
    let alone = |seed| {
        run(&engine, job(&schema, warm(seed)))
            .expect("it is allowed")
            .0
    };
    let texts: Vec<String> = (0..8).map(alone).collect();
    assert!(texts.iter().any(|text| *text != texts[0]), "{texts:?}");
    std::thread::scope(|scope| {
        for (seed, text) in (0..).zip(&texts) {
            scope.spawn(move || assert_eq!(alone(seed), *text));
        }
    });
}

#[test]
fn output_that_is_cut_short_says_so() {
    let engine = start(BackendChoice::Native);
    let (_, schema) = schemas::bounded().swap_remove(0);
    let short = Job {
        max_tokens: 9,
        ..job(&schema, Sampling::greedy())
    };
    let (text, _, finished) = run(&engine, short).expect("it is allowed");
    assert_eq!(finished.finish_reason, FinishReason::Length);
    assert_eq!(finished.usage.completion_tokens, 9);
    assert_eq!(text, r#"{"drink":{"#);

    let stopped = Job {
        stop: vec!["drink".to_owned()],
        ..job(&schema, Sampling::greedy())
    };
    let (text, _, finished) = run(&engine, stopped).expect("it is allowed");
    assert_eq!(
        (text.as_str(), finished.finish_reason),
        (r#"{""#, FinishReason::Stop)
    );
}

#[test]
fn an_unusable_schema_is_refused_and_others_go_on() {
    let engine = start(BackendChoice::Native);
    let refused = run(&engine, job(&json!({ "type": "tea" }), Sampling::greedy()));
    assert!(
        matches!(refused, Err(EngineError::SchemaInvalid { .. })),
        "{refused:?}"
    );
    let free = Job {
        output: OutputFormat::default(),
        max_tokens: 5,
        ..job(&Value::Null, Sampling::greedy())
    };
    assert!(run(&engine, free).is_ok());
}
