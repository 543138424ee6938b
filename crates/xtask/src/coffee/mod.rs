//! The default model: a small guide to the coffee shops of a fictional town, and the recipe that makes it.
//!
//! `town` and `wording` are the facts and the language, `corpus` draws examples from them, `vocab`,
//! `net`, `ops` and `train` make the model, `export` writes it and `eval` measures it.

mod answer;
mod corpus;
mod eval;
mod export;
mod net;
mod ops;
mod town;
mod train;
mod vocab;
mod wording;

use anyhow::{Result, ensure};
use clap::Args;
use std::{
    env,
    io::{Write, stderr, stdout},
    path::PathBuf,
    process::Command,
};
use train::Recipe;

/// Where the committed model lies, from the root of the repository.
const MODEL_FILE: &str = "models/coffee/coffee-q8_0.gguf";

/// The variable from which the tensor library takes the number of its threads.
const TENSOR_THREADS: &str = "RAYON_NUM_THREADS";

/// Trains the default model and writes it with its manifest.
#[derive(Args, Debug)]
pub(crate) struct TrainCoffee {
    /// File to write; its manifest goes beside it.
    #[arg(long, value_name = "FILE", default_value = MODEL_FILE)]
    out: PathBuf,
    /// Seed of everything that is drawn.
    #[arg(long, default_value_t = Recipe::COMMITTED.seed)]
    seed: u64,
    /// Number of steps.
    #[arg(long, default_value_t = Recipe::COMMITTED.steps)]
    steps: usize,
}

impl TrainCoffee {
    /// # Errors
    /// When training fails or a file cannot be written.
    pub(crate) fn run(&self) -> Result<()> {
        if env::var_os(TENSOR_THREADS).is_none() {
            return run_again_with_one_tensor_thread();
        }
        let recipe = Recipe {
            seed: self.seed,
            steps: self.steps,
            ..Recipe::COMMITTED
        };
        let (met, held_out) = corpus::count_combinations();
        writeln!(
            stderr(),
            "{met} combinations of wishes, {held_out} held out"
        )?;
        let (vocabulary, net) = train::train(&recipe, &mut stderr())?;
        let manifest = export::write(&self.out, &vocabulary, &net)?;
        let (file, bytes, sha256) = (self.out.display(), manifest.bytes, &manifest.sha256);
        writeln!(stdout(), "{file}  {bytes} bytes  sha256 {sha256}")?;
        Ok(())
    }
}

/// Starts this chore again, so that a shard of a batch is computed on its own thread alone. Left to
/// itself, the tensor library spreads each operation over all cores, and the shards wait for each other.
/// It takes the number of its threads from the environment only.
fn run_again_with_one_tensor_thread() -> Result<()> {
    let mut again = Command::new(env::current_exe()?);
    let status = again
        .args(env::args_os().skip(1))
        .env(TENSOR_THREADS, "1")
        .status()?;
    ensure!(status.success(), "training ended with {status}");
    Ok(())
}

/// Measures a model on held-out wishes; the last line is the percentage of right answers.
#[derive(Args, Debug)]
pub(crate) struct EvalCoffee {
    /// Model to measure.
    #[arg(long, value_name = "FILE", default_value = MODEL_FILE)]
    model: PathBuf,
    /// Number of held-out wishes.
    #[arg(long, value_name = "N", default_value_t = 500)]
    wishes: usize,
    /// Print N held-out prompts as JSON lines instead.
    #[arg(long, value_name = "N")]
    list: Option<usize>,
}

impl EvalCoffee {
    /// # Errors
    /// When the model cannot be loaded or run.
    pub(crate) fn run(&self) -> Result<()> {
        let mut out = stdout().lock();
        if let Some(count) = self.list {
            for asked in eval::held_out(count) {
                let line = serde_json::json!({
                    "message": asked.message,
                    "wishes": asked.wishes.to_string(),
                    "prompt": vocab::prompt(&asked.message),
                });
                writeln!(out, "{line}")?;
            }
            return Ok(());
        }
        let score = eval::run(&self.model, self.wishes)?;
        for (miss, cases) in &score.misses {
            writeln!(out, "{}: {}", miss.describe(), cases.len())?;
            for (asked, answer) in cases.iter().take(5) {
                writeln!(
                    out,
                    "  [{}] {}\n    -> {answer}",
                    asked.wishes, asked.message
                )?;
            }
        }
        writeln!(out, "{:?}", score.by_count)?;
        writeln!(out, "{:.1}", score.percentage())?;
        Ok(())
    }
}
