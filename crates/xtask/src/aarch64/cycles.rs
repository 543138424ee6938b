//! How many cycles a loop takes, by LLVM's model of the processor: a guess of where it would wait, which a count of instructions
//! does not give.
//!
//! The model is that of the Neoverse N1, whose core is the Cortex-A76's; LLVM has none of the latter's own. Both take up
//! to four instructions a cycle apart, and begin up to eight of their parts. All data is taken to be in the fastest cache.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::disassembly::Instruction;

const MODEL: &str = "neoverse-n1";
const FEATURES: &str = "+dotprod,+fullfp16";
/// What the processor takes apart, and begins, in a cycle at most.
const INSTRUCTIONS_A_CYCLE: f64 = 4.0;
const PARTS_A_CYCLE: u32 = 8;
/// How often the loop is run, so that its beginning does not count.
const RUNS: u32 = 100;
/// The first version of LLVM that is known to have the model (16 has not), and the last that is looked for by its number.
const VERSION_MIN: u32 = 19;
const VERSION_MAX: u32 = 40;

/// LLVM's machine code analyzer.
pub(super) struct Model(PathBuf);

impl Model {
    /// Finds it, if one is installed that has the model.
    pub(super) fn find() -> Option<Self> {
        let numbered = (VERSION_MIN..=VERSION_MAX)
            .rev()
            .map(|version| format!("llvm-mca-{version}"));
        let mut names = numbered.chain(["llvm-mca".to_owned()]);
        names.find_map(|name| has_model(&name)).map(Self)
    }

    /// Cycles that a loop takes each time.
    ///
    /// # Errors
    /// If the analyzer does not know an instruction.
    pub(super) fn cycles(&self, body: &[Instruction<'_>]) -> Result<f64> {
        let mut analyzer = Command::new(&self.0)
            .args(["-mtriple=aarch64", &format!("-mcpu={MODEL}")])
            .arg(format!("-mattr={FEATURES}"))
            .arg(format!("--dispatch={PARTS_A_CYCLE}"))
            .arg(format!("--iterations={RUNS}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} cannot be started", self.0.display()))?;
        let mut input = analyzer.stdin.take().context("standard input is piped")?;
        for instruction in body.iter().filter(|other| !other.names_an_address()) {
            writeln!(input, "{} {}", instruction.operation, instruction.operands)?;
        }
        drop(input);
        let output = analyzer.wait_with_output()?;
        ensure!(
            output.status.success(),
            "{} ended with {}: {}",
            self.0.display(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        let all = total(&String::from_utf8_lossy(&output.stdout))? / f64::from(RUNS);
        Ok(all.max(body.len() as f64 / INSTRUCTIONS_A_CYCLE))
    }
}

/// The program, if it is there and new enough.
fn has_model(program: &str) -> Option<PathBuf> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let version = major_version(&String::from_utf8_lossy(&output.stdout))?;
    (version >= VERSION_MIN).then(|| program.into())
}

fn major_version(said: &str) -> Option<u32> {
    let (_, version) = said.split_once("LLVM version ")?;
    version.split('.').next()?.parse().ok()
}

/// The cycles of a report.
fn total(report: &str) -> Result<f64> {
    let line = report
        .lines()
        .find_map(|line| line.strip_prefix("Total Cycles:"));
    let cycles = line.context("the report names no cycles")?.trim();
    cycles
        .parse()
        .with_context(|| format!("{cycles} is no number of cycles"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_an_analyzer_is_found() {
        let said = "Debian LLVM version 14.0.6\n  Optimized build.\n";
        assert_eq!(major_version(said), Some(14));
        assert_eq!(major_version("llvm-mca"), None);
    }

    #[test]
    fn the_cycles_of_a_report_are_found() {
        let report = "Iterations:        100\nInstructions:      2200\nTotal Cycles:      2811\n";
        assert_eq!(total(report).expect("cycles"), 2811.0);
        for bad in ["", "Total Cycles: many"] {
            assert!(total(bad).is_err(), "{bad:?}");
        }
    }
}
