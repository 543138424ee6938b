//! Decodes given tokens with the backend alone: no queue, no sampling, no events. To count what a token costs the system,
//! run it for some tokens and for some more; the difference is that of the tokens:
//!
//! ```text
//! cargo build -p postern-benches --example decode_alone
//! for tokens in 100 300; do
//!     strace -f -c target/debug/examples/decode_alone models/coffee/manifest.json $tokens [SEQUENCES [THREADS]]
//! done
//! ```
//!
//! What is there to find: with one thread nothing; with several `futex`, by which a thread that slept is woken, and
//! `sched_yield`, by which the caller lets one that the system took from the processor come back.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use std::time::Instant;

use anyhow::{Context, Result};
use postern_engine::{EngineConfig, ForcedTokens, ModelManifest, VerifiedModel, forced_logits};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let manifest = arguments.next().context("give a model's manifest")?;
    let mut number = |otherwise: usize| match arguments.next() {
        Some(text) => text.parse().context("give a number"),
        None => Ok(otherwise),
    };
    let (tokens, sequences, threads) = (number(100)?, number(1)?, number(2)?);
    let config = EngineConfig {
        threads: Some(threads),
        sequences_max: sequences,
        ..EngineConfig::default()
    };
    let manifest = ModelManifest::read(manifest.as_ref())?;
    let model = VerifiedModel::load(&manifest, &mut |_| {})?;
    let next = vec![1; tokens];
    let forced = ForcedTokens {
        prompt: &[1],
        next: &next,
    };
    let mut first = None;
    let backend = forced_logits(model, &config, &vec![forced; sequences], &mut |_, _| {
        first.get_or_insert_with(Instant::now);
    })?;
    let seconds = first.context("no sequences")?.elapsed().as_secs_f64();
    println!(
        "{backend}: {tokens} tokens of {sequences} sequences with {threads} threads in {seconds:.3} s"
    );
    Ok(())
}
