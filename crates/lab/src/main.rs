//! Chores of the repository that need the engine or governance: `cargo xtask <chore>` builds this program optimized and
//! runs it.
//!
//! Each chore is a module with a clap argument struct and a `run`; this file only lists them.

mod baseline;
mod bench;
mod coffee;
mod complete;
mod gguf_write;
mod sanitizer;

use clap::Parser;

/// Chores of the repository that need the engine or governance.
#[derive(Parser)]
#[command(name = "postern-lab", bin_name = "cargo xtask")]
enum Chore {
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
        Chore::Bench(chore) => chore.run(),
        Chore::BenchChild(chore) => chore.run(),
        Chore::Complete(chore) => chore.run(),
        Chore::TrainCoffee(chore) => chore.run(),
        Chore::EvalCoffee(chore) => chore.run(),
        Chore::EvalSanitizer(chore) => chore.run(),
    }
}
