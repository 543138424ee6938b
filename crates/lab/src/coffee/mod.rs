//! The default model: a small guide to the coffee shops of a fictional town, and the recipe that makes it.
//!
//! `town` holds the facts, `phrases` and `wording` the language, `corpus` draws examples from them, `vocab`,
//! `net`, `ops` and `train` make the model, `export` writes it and `eval` measures it.

mod answer;
mod corpus;
mod eval;
mod export;
mod net;
mod ops;
mod phrases;
mod town;
mod train;
mod vocab;
mod wording;

use answer::Miss;
use anyhow::{Result, ensure};
use clap::Args;
use eval::Score;
use serde_json::json;
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
    /// Print one JSON object instead of lines.
    #[arg(long)]
    json: bool,
    /// Print N held-out prompts as JSON lines, and measure nothing.
    #[arg(long, value_name = "N", conflicts_with = "json")]
    list: Option<usize>,
}

impl EvalCoffee {
    /// # Errors
    /// When the model cannot be loaded or run.
    pub(crate) fn run(&self) -> Result<()> {
        if let Some(count) = self.list {
            return list_prompts(count);
        }
        let score = eval::run(&self.model, self.wishes)?;
        if self.json {
            writeln!(stdout(), "{}", as_json(&score))?;
        } else {
            print_score(&score, &mut stdout().lock())?;
        }
        Ok(())
    }
}

fn list_prompts(count: usize) -> Result<()> {
    for asked in eval::held_out(count) {
        let line = json!({
            "wishes": asked.message,
            "prompt": vocab::prompt(&asked.message),
            "meant": asked.wishes.to_string(),
        });
        writeln!(stdout(), "{line}")?;
    }
    Ok(())
}

fn as_json(score: &Score) -> serde_json::Value {
    let answers = score.answered.iter().map(|answered| {
        json!({
            "wishes": answered.asked.message,
            "meant": answered.asked.wishes.to_string(),
            "answer": answered.answer,
            "miss": answered.miss.map(Miss::describe),
        })
    });
    json!({
        "asked": score.whole.asked,
        "right": score.whole.right,
        "percentage": score.whole.percentage(),
        "impossible_asked": score.declined.asked,
        "impossible_declined": score.declined.right,
        "answers": answers.collect::<Vec<_>>(),
    })
}

fn print_score(score: &Score, out: &mut impl Write) -> Result<()> {
    for answered in score
        .answered
        .iter()
        .filter(|answered| answered.miss.is_some())
    {
        writeln!(out, "{}\n  -> {}", answered.asked.message, answered.answer)?;
    }
    for kind in Miss::ALL {
        let of_kind = |answered: &&eval::Answered| answered.miss == Some(kind);
        let count = score.answered.iter().filter(of_kind).count();
        writeln!(out, "{count:>4}  {}", kind.describe())?;
    }
    for (wishes, share) in &score.by_wishes {
        writeln!(
            out,
            "{:>4} of {} right with {wishes} wishes",
            share.right, share.asked
        )?;
    }
    let declined = score.declined;
    writeln!(
        out,
        "{:>4} of {} impossible wishes declined",
        declined.right, declined.asked
    )?;
    writeln!(out, "{:.1}", score.whole.percentage())?;
    Ok(())
}
