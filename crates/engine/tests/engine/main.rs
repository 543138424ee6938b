//! The engine through its public interface, on tiny real models that the tests make.

#![expect(
    clippy::unwrap_used,
    reason = "a failed expectation of a test is a panic"
)]

#[path = "../arbitrary_gguf/mod.rs"]
mod arbitrary_gguf;
mod forced;
mod generation;
mod gguf_reader;
mod inspection;
mod model_files;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use postern_engine::{
    Engine, EngineConfig, EngineError, Event, Finished, Generation, Job, ModelManifest, Next,
    Prompt, Result, Sampling, VerifiedModel,
};
use postern_testkit::gguf::TinyModel;

/// Longer than anything here takes on a busy machine; reached only when something hangs.
const PATIENCE: Duration = Duration::from_secs(60);

fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn load(file: &Path) -> Result<VerifiedModel> {
    VerifiedModel::load(&ModelManifest::pin(file, "tiny")?, &mut |_| {})
}

fn try_start(bytes: &[u8], config: &EngineConfig) -> Result<Engine> {
    let folder = tempfile::tempdir().unwrap();
    Engine::start(load(&write(folder.path(), "tiny.gguf", bytes))?, config)
}

fn start(bytes: &[u8], config: &EngineConfig) -> Engine {
    try_start(bytes, config).unwrap()
}

fn tiny_llama() -> Engine {
    start(&TinyModel::new("llama").build(), &EngineConfig::default())
}

fn job(prompt: &str, max_tokens: usize) -> Job {
    Job {
        prompt: Prompt::Text(prompt.to_owned()),
        sampling: Sampling::greedy(),
        max_tokens,
        stop: Vec::new(),
    }
}

/// The next event, however long it takes.
fn next(generation: &Generation) -> Option<Event> {
    let start = Instant::now();
    loop {
        match generation.next(Duration::from_millis(200)) {
            Next::Event(event) => return Some(event),
            Next::Ended => return None,
            Next::Nothing => assert!(start.elapsed() < PATIENCE, "nothing happens"),
        }
    }
}

/// What a whole generation gave.
#[derive(Debug)]
struct Answer {
    prompt_tokens: usize,
    ids: Vec<u32>,
    /// The text of each token event, then the tail.
    texts: Vec<String>,
    finished: Finished,
}

impl Answer {
    fn text(&self) -> String {
        self.texts.concat()
    }
}

fn collect(generation: &Generation) -> Result<Answer> {
    let Some(Event::Started { prompt_tokens }) = next_or_fail(generation)? else {
        panic!("the first event is not `Started`");
    };
    let (mut ids, mut texts) = (Vec::new(), Vec::new());
    loop {
        match next_or_fail(generation)? {
            Some(Event::Token { id, text }) => {
                ids.push(id);
                texts.push(text);
            }
            Some(Event::Done(finished)) => {
                assert!(
                    matches!(generation.next(PATIENCE), Next::Ended),
                    "nothing follows the end"
                );
                texts.push(finished.text_tail.clone());
                return Ok(Answer {
                    prompt_tokens,
                    ids,
                    texts,
                    finished,
                });
            }
            other => panic!("{other:?}"),
        }
    }
}

fn next_or_fail(generation: &Generation) -> Result<Option<Event>> {
    match next(generation) {
        Some(Event::Failed(error)) => {
            assert!(
                matches!(generation.next(PATIENCE), Next::Ended),
                "nothing follows a failure"
            );
            Err(error)
        }
        event => Ok(event),
    }
}

fn run(engine: &Engine, job: Job) -> Result<Answer, EngineError> {
    collect(&engine.submit(job)?)
}
