//! How many cycles a loop takes, by LLVM's model of the processor: a guess of where it would wait, which a count of instructions
//! does not give.
//!
//! The model is that of the Neoverse N1, whose core is the Cortex-A76's; LLVM has none of the latter's own. In one thing it is
//! overruled: by some versions of LLVM the processor begins three parts of instructions a cycle, but it begins up to eight, of up to
//! four instructions. All data is taken to be in the fastest cache.
//!
//! It is a help and no check: where it is missing, or fails, the chore goes on and says so.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::disassembly::Instruction;

const MODEL: &str = "neoverse-n1";
/// What the processor takes apart, and begins, in a cycle at most.
const INSTRUCTIONS_A_CYCLE: f64 = 4.0;
const PARTS_A_CYCLE: u32 = 8;
/// How often the loop is run, so that its beginning does not count.
const RUNS: u32 = 100;
/// The first version of LLVM that is known to have the model (16 has not), and the last that is looked for by its number.
pub(super) const VERSION_MIN: u32 = 19;
const VERSION_MAX: u32 = 40;

/// LLVM's machine code analyzer.
pub(super) struct Model(String);

impl Model {
    /// Finds it, if one is installed that has the model.
    pub(super) fn find() -> Option<Self> {
        let numbered = (VERSION_MIN..=VERSION_MAX)
            .rev()
            .map(|version| format!("llvm-mca-{version}"));
        let mut names = numbered.chain(["llvm-mca".to_owned()]);
        names.find(|name| is_new_enough(name)).map(Self)
    }

    /// Cycles that a loop takes each time.
    ///
    /// # Errors
    /// If the analyzer does not know an instruction.
    pub(super) fn cycles(&self, body: &[Instruction<'_>]) -> Result<f64> {
        let mut analyzer = Command::new(&self.0)
            .args(["-mtriple=aarch64", &format!("-mcpu={MODEL}")])
            .arg(format!("--dispatch={PARTS_A_CYCLE}"))
            .arg(format!("--iterations={RUNS}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} cannot be started", self.0))?;
        let lines = body.iter().filter(|other| !other.names_an_address());
        let lines: String = lines
            .map(|line| format!("{} {}\n", line.operation, line.operands))
            .collect();
        let mut input = analyzer.stdin.take().context("standard input is piped")?;
        // An analyzer that ends before it has read all says why on its standard error.
        let written = input.write_all(lines.as_bytes());
        drop(input);
        let output = analyzer.wait_with_output()?;
        ensure!(
            output.status.success(),
            "{} ended with {}: {}",
            self.0,
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        written.context("the analyzer did not read all instructions")?;
        let all = total(&String::from_utf8_lossy(&output.stdout))? / f64::from(RUNS);
        Ok(all.max(body.len() as f64 / INSTRUCTIONS_A_CYCLE))
    }
}

fn is_new_enough(program: &str) -> bool {
    let output = Command::new(program).arg("--version").output();
    let version = output.map(|output| major_version(&String::from_utf8_lossy(&output.stdout)));
    version.is_ok_and(|version| version >= Some(VERSION_MIN))
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
