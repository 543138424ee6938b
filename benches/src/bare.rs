//! The bare engine: token ids in, token ids out, greedily, without template, policy or log.
//!
//! The product has no such door: every call of it goes through a template, a policy and the audit log.
//! Invariant: whatever is measured or compared goes through here, so that it is the engine that ships.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use postern_engine::{
    Engine, EngineConfig, Event, Finished, Generation, Job, ModelManifest, Next, OutputFormat,
    Prompt, Sampling, VerifiedModel,
};

/// How long one look for an event waits; it only bounds how late an end is noticed.
const WAIT: Duration = Duration::from_secs(1);

/// What the bare engine generated.
#[derive(Debug, Clone)]
pub struct Completion {
    /// The tokens.
    pub ids: Vec<u32>,
    /// Their text.
    pub text: String,
    /// How it ended, and where the time went.
    pub finished: Finished,
}

/// Loads the pinned model, for one sequence at a time; also says how long that took.
///
/// # Errors
/// Whatever makes the model or the configuration unusable.
pub fn bare_engine(manifest: &ModelManifest, config: &EngineConfig) -> Result<(Engine, Duration)> {
    let start = Instant::now();
    let model = VerifiedModel::load(manifest, &mut |_| {})?;
    let config = EngineConfig {
        sequences_max: 1,
        ..config.clone()
    };
    let engine = Engine::start(model, &config)?;
    Ok((engine, start.elapsed()))
}

/// Continues `prompt` greedily by at most `tokens`.
///
/// # Errors
/// Whatever the engine reports about the job.
pub fn complete(engine: &Engine, prompt: Vec<u32>, tokens: usize) -> Result<Completion> {
    let generation = engine.submit(Job {
        prompt: Prompt::Tokens(prompt),
        sampling: Sampling::greedy(),
        max_tokens: tokens,
        stop: Vec::new(),
        tenant: String::new(),
        output: OutputFormat::Text,
    })?;
    collect(&generation)
}

fn collect(generation: &Generation) -> Result<Completion> {
    let (mut ids, mut text) = (Vec::new(), String::new());
    loop {
        match generation.next(WAIT) {
            Next::Nothing | Next::Event(Event::Started { .. }) => {}
            Next::Event(Event::Token { id, text: certain }) => {
                ids.push(id);
                text.push_str(&certain);
            }
            Next::Event(Event::Done(finished)) => {
                text.push_str(&finished.text_tail);
                return Ok(Completion {
                    ids,
                    text,
                    finished,
                });
            }
            Next::Event(Event::Failed(error)) => return Err(error.into()),
            Next::Ended => bail!("the generation ended without a last event"),
        }
    }
}
