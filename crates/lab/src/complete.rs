//! `cargo xtask complete`: the bare engine, greedy, without a template, for comparing engines.
//!
//! The product has no such door: every call of it goes through a template, a policy and the audit log.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use postern_benches::{bare_engine, complete};
use postern_engine::{EngineConfig, ModelManifest, Tokenizer};
use serde::Serialize;

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
        let config = EngineConfig {
            threads: self.threads,
            ..EngineConfig::default()
        };
        let (engine, load) = bare_engine(&manifest, &config)?;
        let prompt = prompt_tokens(&manifest.path, &self.prompt)?;
        let generated = complete(&engine, prompt, self.n)?;
        let finished = &generated.finished;
        let (usage, timings) = (finished.usage, finished.timings);
        Ok(Completion {
            ids: generated.ids,
            text: generated.text,
            prompt_tokens: usage.prompt_tokens,
            prefill_tokens_per_s: per_second(usage.prompt_tokens, timings.prefill_ms),
            // The first token comes with the prefill.
            decode_tokens_per_s: per_second(
                usage.completion_tokens.saturating_sub(1),
                timings.decode_ms,
            ),
            load_s: load.as_secs_f64(),
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

fn per_second(tokens: usize, milliseconds: f64) -> f64 {
    if milliseconds > 0.0 {
        tokens as f64 * 1e3 / milliseconds
    } else {
        0.0
    }
}
