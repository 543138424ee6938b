//! `cargo xtask complete`: the bare engine, greedy, without a template, for comparing engines.
//!
//! The product has no such door: every call of it goes through a template, a policy and the audit log.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use postern_engine::{
    Engine, EngineConfig, Event, Finished, Generation, Job, ModelManifest, Next, Prompt, Sampling,
    Tokenizer, VerifiedModel,
};
use serde::Serialize;

/// How long one look for an event waits; it only bounds how late an end is noticed.
const WAIT: Duration = Duration::from_secs(1);

/// Continue a text with the bare engine, greedily, and print what was generated and how fast.
#[derive(Args)]
pub(crate) struct Complete {
    /// A GGUF file, or a manifest (*.json) that pins one
    #[arg(long)]
    model: PathBuf,
    /// The text to continue; special tokens in it are recognised
    #[arg(long)]
    prompt: String,
    /// Most tokens to generate
    #[arg(short, long = "tokens", default_value_t = 64)]
    n: usize,
    /// Threads to compute with; when absent, one for a small model and one a core for others
    #[arg(long)]
    threads: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Completion {
    ids: Vec<u32>,
    text: String,
    prompt_tokens: usize,
    prefill_tokens_per_s: f64,
    decode_tokens_per_s: f64,
    load_s: f64,
}

impl Complete {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let completion = self.complete()?;
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string(&completion)?)?;
            return Ok(());
        }
        writeln!(out, "{}", completion.text)?;
        writeln!(
            out,
            "-- {} prompt tokens at {:.1}/s, {} new ones at {:.1}/s, loaded in {:.2} s",
            completion.prompt_tokens,
            completion.prefill_tokens_per_s,
            completion.ids.len(),
            completion.decode_tokens_per_s,
            completion.load_s
        )?;
        Ok(())
    }

    fn complete(&self) -> anyhow::Result<Completion> {
        let manifest = manifest(&self.model)?;
        let start = Instant::now();
        let model = VerifiedModel::load(&manifest, &mut |_| {})?;
        let config = EngineConfig {
            threads: self.threads,
            sequences_max: 1,
            ..EngineConfig::default()
        };
        let engine = Engine::start(model, &config)?;
        let load_s = start.elapsed().as_secs_f64();

        let generation = engine.submit(Job {
            prompt: Prompt::Tokens(prompt_tokens(&manifest.path, &self.prompt)?),
            sampling: Sampling::greedy(),
            max_tokens: self.n,
            stop: Vec::new(),
        })?;
        let (ids, text, finished) = collect(&generation)?;
        let (usage, timings) = (finished.usage, finished.timings);
        Ok(Completion {
            ids,
            text,
            prompt_tokens: usage.prompt_tokens,
            prefill_tokens_per_s: per_second(usage.prompt_tokens, timings.prefill_ms),
            // The first token comes with the prefill.
            decode_tokens_per_s: per_second(
                usage.completion_tokens.saturating_sub(1),
                timings.decode_ms,
            ),
            load_s,
        })
    }
}

/// A manifest as it is, or a fresh pin of a model file, which then guards only this run.
fn manifest(path: &Path) -> anyhow::Result<ModelManifest> {
    let read = match path.extension() {
        Some(extension) if extension == "json" => ModelManifest::read(path),
        _ => ModelManifest::pin(path, "unpinned"),
    };
    read.with_context(|| format!("the model {} cannot be used", path.display()))
}

/// The prompt as other engines' bare commands read it: special tokens are recognised, BOS comes first where the
/// model asks for it, and nothing else is added.
fn prompt_tokens(model: &Path, prompt: &str) -> anyhow::Result<Vec<u32>> {
    let tokenizer = Tokenizer::from_gguf_file(model)?;
    let mut ids = tokenizer.encode(prompt, true)?;
    let special = tokenizer.special();
    if let (true, Some(bos)) = (special.add_bos, special.bos) {
        ids.insert(0, bos);
    }
    Ok(ids)
}

fn collect(generation: &Generation) -> anyhow::Result<(Vec<u32>, String, Finished)> {
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
                return Ok((ids, text, finished));
            }
            Next::Event(Event::Failed(error)) => return Err(error.into()),
            Next::Ended => bail!("the generation ended without a last event"),
        }
    }
}

fn per_second(tokens: usize, milliseconds: f64) -> f64 {
    if milliseconds > 0.0 {
        tokens as f64 * 1e3 / milliseconds
    } else {
        0.0
    }
}
