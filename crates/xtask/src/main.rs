//! Chores of the repository: `cargo xtask <chore>`.
//!
//! Each chore is a module with a clap argument struct and a `run`; this file only lists them. Chores that need the engine
//! are those of the package `postern-lab`, so that continuous integration does not build the engine before it begins.

mod aarch64;
mod ci;
mod lab;

use std::ffi::OsString;

use clap::Parser;

/// Chores of the repository.
#[derive(Parser)]
#[command(name = "xtask", bin_name = "cargo xtask", after_help = lab::CHORES)]
enum Chore {
    /// Run every check that guards the main branch: formatting, clippy, all tests, docs
    Ci,
    Aarch64(aarch64::Aarch64),
    #[command(external_subcommand)]
    Lab(Vec<OsString>),
}

fn main() -> anyhow::Result<()> {
    match Chore::parse() {
        Chore::Ci => ci::run(),
        Chore::Aarch64(chore) => chore.run(),
        Chore::Lab(arguments) => lab::run(&arguments),
    }
}
