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

/// Loads the pinned model; also says how long that took.
///
/// # Errors
/// Whatever makes the model or the configuration unusable.
pub fn bare_engine(manifest: &ModelManifest, config: &EngineConfig) -> Result<(Engine, Duration)> {
    let start = Instant::now();
    let model = VerifiedModel::load(manifest, &mut |_| {})?;
    let engine = Engine::start(model, config)?;
    Ok((engine, start.elapsed()))
}

/// Continues `prompt` greedily by at most `tokens`.
///
/// # Errors
/// Whatever the engine reports about the job.
pub fn complete(engine: &Engine, prompt: Vec<u32>, tokens: usize) -> Result<Completion> {
    collect(&engine.submit(job(prompt, tokens))?)
}

/// Continues `prompt` greedily by at most `max_tokens`, for nobody in particular.
pub(crate) fn job(prompt: Vec<u32>, max_tokens: usize) -> Job {
    Job {
        prompt: Prompt::Tokens(prompt),
        sampling: Sampling::greedy(),
        max_tokens,
        stop: Vec::new(),
        tenant: String::new(),
        output: OutputFormat::Text,
    }
}

/// Waits for all of a generation.
pub(crate) fn collect(generation: &Generation) -> Result<Completion> {
    let (mut ids, mut text) = (Vec::new(), String::new());
    let finished = follow(generation, &mut |id, certain| {
        ids.push(id);
        text.push_str(certain);
    })?;
    text.push_str(&finished.text_tail);
    Ok(Completion {
        ids,
        text,
        finished,
    })
}

/// Waits for the end of a generation and shows each token, with the text that is certain by then, as it comes.
pub(crate) fn follow(generation: &Generation, show: &mut dyn FnMut(u32, &str)) -> Result<Finished> {
    loop {
        match generation.next(WAIT) {
            Next::Nothing | Next::Event(Event::Started { .. }) => {}
            Next::Event(Event::Token { id, text }) => show(id, &text),
            Next::Event(Event::Done(finished)) => return Ok(finished),
            Next::Event(Event::Failed(error)) => return Err(error.into()),
            Next::Ended => bail!("the generation ended without a last event"),
        }
    }
}
