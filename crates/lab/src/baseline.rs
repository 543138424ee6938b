//! The earlier build that `bench --quick` holds this one against.
//!
//! `benches/baseline.json` names its commit. A commit that is better on purpose takes its place there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Which build it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Baseline {
    /// Its commit in this repository.
    pub(crate) commit: String,
    /// When it became the baseline.
    pub(crate) date: String,
    /// The package, and the program of that name, that measures there.
    package: String,
}

impl Baseline {
    /// The one that this repository names.
    pub(crate) fn stored() -> Result<Self> {
        serde_json::from_str(include_str!("../../../benches/baseline.json"))
            .context("benches/baseline.json names no commit, date and package")
    }

    /// This chore's program as the baseline has it, built under `folder` unless it is there.
    pub(crate) fn program(&self, folder: &Path) -> Result<PathBuf> {
        // Cargo runs in another folder than this.
        let folder = std::path::absolute(folder)
            .with_context(|| format!("{} is no path", folder.display()))?;
        let program = folder.join(&self.commit).join(&self.package);
        if program.exists() {
            return Ok(program);
        }
        let sources = folder.join(&self.commit).join("sources");
        let targets = folder.join("target");
        self.check_out(&sources)?;
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args(["build", "--release", "--locked", "--package"])
            .arg(&self.package)
            .arg("--target-dir")
            .arg(&targets)
            .current_dir(&sources)
            .status()
            .context("cargo cannot be started to build the baseline")?;
        ensure!(built.success(), "building the baseline ended with {built}");
        // Under its own name, as the next baseline is built in the same place.
        std::fs::copy(targets.join("release").join(&self.package), &program)
            .with_context(|| format!("{} cannot be written", program.display()))?;
        Ok(program)
    }

    /// The commit's files, without touching the work tree.
    fn check_out(&self, into: &Path) -> Result<()> {
        std::fs::create_dir_all(into)
            .with_context(|| format!("{} cannot be made", into.display()))?;
        let mut archive = Command::new("git")
            .args(["archive", "--format=tar", &self.commit])
            .current_dir(REPOSITORY)
            .stdout(Stdio::piped())
            .spawn()
            .context("git cannot be started to check the baseline out")?;
        let unpacked = Command::new("tar")
            .args(["-x", "-C"])
            .arg(into)
            .stdin(archive.stdout.take().context("git's output was taken")?)
            .status()
            .context("tar cannot be started to check the baseline out")?;
        let archived = archive.wait().context("git did not end")?;
        ensure!(
            archived.success() && unpacked.success(),
            "commit {} cannot be checked out; in a shallow clone, `git fetch --unshallow` brings it",
            self.commit
        );
        Ok(())
    }
}
