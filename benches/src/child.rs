//! What is measured of ours, in a process of its own: its threads and its memory are those of one engine.
//!
//! Invariant: the process answers one request with one line of JSON on its standard output.
//! Absent: the peer, and any comparison.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use postern_engine::{
    Engine, EngineConfig, FinishReason, ForcedTokens, ModelManifest, VerifiedModel,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::bare::{bare_engine, complete};
use crate::callers::{CallersRequest, serve_callers, serve_texts};
use crate::machine::{peak_bytes, read_bytes_per_s};

/// The chore of the calling program that hands its argument to [`serve`].
pub const CHILD_CHORE: &str = "bench-child";
/// Tokens of the generation before the first measured one; it touches all weights on both paths.
const WARM_UP_TOKENS: usize = 8;

/// What a child is asked for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// How fast, and how much memory.
    Speed(SpeedRequest),
    /// Logits of given tokens.
    Logits(LogitsRequest),
    /// What several callers get.
    Callers(CallersRequest),
    /// How fast given texts are decoded.
    Texts(CallersRequest),
}

/// What is to be timed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SpeedRequest {
    pub(crate) manifest: PathBuf,
    pub(crate) threads: usize,
    pub(crate) prefill_tokens: Vec<usize>,
    pub(crate) decode_tokens: usize,
    pub(crate) prefill_chunk_tokens: Option<usize>,
}

impl SpeedRequest {
    /// Tokens of the longest text, for which there is a KV cache.
    pub(crate) fn tokens_max(&self) -> usize {
        let prompts = self.prefill_tokens.iter().map(|tokens| tokens + 1);
        prompts
            .chain([self.decode_tokens + 2, WARM_UP_TOKENS + 2])
            .max()
            .unwrap_or(0)
    }
}

/// What was timed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Speed {
    pub(crate) backend: String,
    pub(crate) load_s: f64,
    /// As many as were asked for, in the same order.
    pub(crate) prefill_tokens_per_s: Vec<f64>,
    pub(crate) decode_tokens_per_s: f64,
    pub(crate) peak_bytes: u64,
    /// What as many threads read from memory, right after decoding: what else the machine does changes from second to
    /// second. An earlier build may not say it.
    #[serde(default)]
    pub(crate) read_bytes_per_s: f64,
}

/// Logits after `prompt`, which is one prefill, and after each of `next`, which are decoded one by one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LogitsRequest {
    pub(crate) manifest: PathBuf,
    pub(crate) threads: usize,
    pub(crate) prompt: Vec<u32>,
    pub(crate) next: Vec<u32>,
    /// The file that receives them, 32-bit floats in the machine's order.
    pub(crate) to: PathBuf,
}

/// Runs `program` as a child that serves `request`.
///
/// # Errors
/// When it cannot be started, fails, or answers something else.
pub(crate) fn ask<T: DeserializeOwned>(program: &Path, request: &Request) -> Result<T> {
    let output = Command::new(program)
        .arg(CHILD_CHORE)
        .arg(serde_json::to_string(request)?)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("{} cannot be started", program.display()))?;
    ensure!(
        output.status.success(),
        "the measuring process ended with {}; what it said stands above",
        output.status
    );
    serde_json::from_slice(&output.stdout).context("the measuring process answered no JSON")
}

/// Serves the request that [`CHILD_CHORE`] was given and writes the answer.
///
/// # Errors
/// When the request is none, or cannot be served.
pub fn serve(request: &str, answer: &mut impl Write) -> Result<()> {
    match serde_json::from_str(request).context("this chore is for `cargo xtask bench` only")? {
        Request::Speed(request) => serde_json::to_writer(answer, &time(&request)?)?,
        Request::Logits(request) => serde_json::to_writer(answer, &force(&request)?)?,
        Request::Callers(request) => serde_json::to_writer(answer, &serve_callers(&request)?)?,
        Request::Texts(request) => serde_json::to_writer(answer, &serve_texts(&request)?)?,
    }
    Ok(())
}

fn time(request: &SpeedRequest) -> Result<Speed> {
    let manifest = ModelManifest::read(&request.manifest)?;
    let mut config = EngineConfig {
        threads: Some(request.threads),
        sequences_max: 1,
        context_tokens_max: Some(request.tokens_max()),
        // What one token costs is measured: what can be guessed depends on the text.
        prompt_lookup: false,
        ..EngineConfig::default()
    };
    if let Some(tokens) = request.prefill_chunk_tokens {
        config.prefill_chunk_tokens = tokens;
    }
    let (engine, load) = bare_engine(&manifest, &config)?;
    complete(&engine, prompt(&engine, WARM_UP_TOKENS), 2)?;

    let mut prefill_tokens_per_s = Vec::new();
    for &tokens in &request.prefill_tokens {
        let timings = complete(&engine, prompt(&engine, tokens), 1)?
            .finished
            .timings;
        prefill_tokens_per_s.push(per_second(tokens, timings.prefill_ms));
    }
    // The first token comes with the prefill.
    let decoded = complete(&engine, prompt(&engine, 1), request.decode_tokens + 1)?.finished;
    ensure!(
        decoded.finish_reason == FinishReason::Length,
        "the model ended its text after {} tokens, so decoding {} was not timed; use another model",
        decoded.usage.completion_tokens,
        request.decode_tokens
    );
    // Before the buffer that reading needs.
    let peak_bytes = peak_bytes("self").context("the system does not say its peak memory")?;
    Ok(Speed {
        backend: engine.info().backend.to_owned(),
        load_s: load.as_secs_f64(),
        prefill_tokens_per_s,
        decode_tokens_per_s: per_second(request.decode_tokens, decoded.timings.decode_ms),
        peak_bytes,
        read_bytes_per_s: read_bytes_per_s(request.threads),
    })
}

/// Tokens without a sense, the same in every run.
fn prompt(engine: &Engine, tokens: usize) -> Vec<u32> {
    let random = &mut ChaCha8Rng::seed_from_u64(tokens as u64);
    let vocabulary = engine.info().vocabulary as u32;
    (0..tokens)
        .map(|_| random.random_range(0..vocabulary))
        .collect()
}

fn per_second(tokens: usize, milliseconds: f64) -> f64 {
    tokens as f64 * 1e3 / milliseconds
}

/// Writes the logits and answers with the name of the backend that computed them.
fn force(request: &LogitsRequest) -> Result<String> {
    let manifest = ModelManifest::read(&request.manifest)?;
    let config = EngineConfig {
        threads: Some(request.threads),
        context_tokens_max: Some(request.prompt.len() + request.next.len() + 1),
        ..EngineConfig::default()
    };
    let model = VerifiedModel::load(&manifest, &mut |_| {})?;
    let mut file = BufWriter::new(File::create(&request.to)?);
    let mut written = Ok(());
    let backend = postern_engine::forced_logits(
        model,
        &config,
        &[ForcedTokens {
            prompt: &request.prompt,
            next: &request.next,
        }],
        &mut |_, logits| {
            if written.is_ok() {
                written = logits
                    .iter()
                    .try_for_each(|logit| file.write_all(&logit.to_ne_bytes()));
            }
        },
    )?;
    written?;
    file.flush()?;
    Ok(backend.to_owned())
}
