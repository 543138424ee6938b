//! Chores of the repository: `cargo xtask <chore>`.
//!
//! Each chore is a module with a clap argument struct and a `run`; this file only lists them.

mod aarch64;
mod baseline;
mod bench;
mod ci;
mod coffee;
mod complete;
mod gguf_write;
mod sanitizer;

use clap::Parser;

/// Chores of the repository.
#[derive(Parser)]
#[command(name = "xtask")]
enum Chore {
    /// Runs every check that guards the main branch: formatting, clippy, all tests, docs.
    Ci,
    Aarch64(aarch64::Aarch64),
    Bench(Box<bench::Bench>),
    #[command(hide = true)]
    BenchChild(bench::BenchChild),
    Complete(complete::Complete),
    TrainCoffee(coffee::TrainCoffee),
    EvalCoffee(coffee::EvalCoffee),
    EvalSanitizer(sanitizer::EvalSanitizer),
}

fn main() -> anyhow::Result<()> {
    match Chore::parse() {
        Chore::Ci => ci::run(),
        Chore::Aarch64(chore) => chore.run(),
        Chore::Bench(chore) => chore.run(),
        Chore::BenchChild(chore) => chore.run(),
        Chore::Complete(chore) => chore.run(),
        Chore::TrainCoffee(chore) => chore.run(),
        Chore::EvalCoffee(chore) => chore.run(),
        Chore::EvalSanitizer(chore) => chore.run(),
    }
}
