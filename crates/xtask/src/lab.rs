//! Chores that need the engine: an optimized build of `postern-lab` does them.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// What `--help` says of them.
pub(crate) const CHORES: &str = "\
Chores of an optimized build, which is made first; each has a --help of its own:
  bench           Measure the engine side by side with llama.cpp
  complete        Continue a text with the bare engine
  train-coffee    Train the default model again
  eval-coffee     Judge it on wishes that its training never saw
  eval-sanitizer  Count what the sanitizer finds and misses";

/// Builds the program and runs it with `arguments`.
pub(crate) fn run(arguments: &[OsString]) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["run", "--release", "--quiet", "--locked"])
        .args(["--package", "postern-lab", "--"])
        .args(arguments)
        .status()
        .context("cargo cannot be started for an optimized build")?;
    if !status.success() {
        bail!("the optimized build of this chore ended with {status}");
    }
    Ok(())
}
