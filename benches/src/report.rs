//! What a run found: plain data, the same for the table and for JSON.
//!
//! Invariant: a figure without its counterpart says so by `None`, never by a number.

use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::make::ModelFile;
use crate::recipe::Quantization;
use crate::rounds::Plan;

/// One run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// Threads of both engines.
    pub threads: usize,
    /// Rounds; every figure is a median over them.
    pub rounds: usize,
    /// Whether this build of ours was optimized; figures of one that was not mean nothing.
    pub optimized: bool,
    /// Build of llama.cpp, or why there is none.
    pub peer: String,
    /// The best that was seen of the machine, where it was measured.
    pub read_bytes_per_s: Option<f64>,
    /// One for each model file.
    pub files: Vec<FileReport>,
}

/// What was found with one model file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FileReport {
    /// Name of the shape.
    pub model: String,
    /// Mix of storage types.
    pub quantization: Quantization,
    /// Size of the file.
    pub bytes: u64,
    /// What of ours computed; nothing where nothing was timed.
    pub backend: Option<String>,
    /// What was measured.
    pub figures: Vec<Figure>,
}

/// One measurement and what it is held against.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// Unit of both values.
    pub unit: String,
    /// Whether this is llama.cpp's, shown beside ours and not judged.
    pub of_peer: bool,
    /// What was found.
    pub value: f64,
    /// What it is held against.
    pub against: String,
    /// Its value, where it could be had.
    pub against_value: Option<f64>,
    /// The median of the rounds' ratios, of the value to what it is held against.
    pub ratio: Option<f64>,
    /// The ratio of each round, in their order: how far they lie apart tells how quiet the machine was.
    pub ratios: Vec<f64>,
    /// Whether more is better.
    pub more_is_better: bool,
    /// Where the ratio should be.
    pub wanted: Option<Bound>,
}

/// Where a ratio should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

impl Report {
    /// A report of a run that begins. `peer` says which llama.cpp it is, or why there is none.
    pub fn new(plan: &Plan, peer: String) -> Self {
        Self {
            machine: Machine::this(),
            threads: plan.threads,
            rounds: plan.rounds,
            optimized: !cfg!(debug_assertions),
            peer,
            read_bytes_per_s: None,
            files: Vec::new(),
        }
    }

    /// Whether every figure that has a bound is within it.
    pub fn holds(&self) -> bool {
        self.files
            .iter()
            .flat_map(|file| &file.figures)
            .all(|figure| match (figure.wanted, figure.ratio) {
                (Some(bound), Some(ratio)) => bound.holds(ratio),
                (Some(_), None) => false,
                (None, _) => true,
            })
    }
}

impl FileReport {
    /// A report of a file of which nothing was measured yet.
    pub fn new(model: &ModelFile) -> Self {
        Self {
            model: model.shape.name.to_owned(),
            quantization: model.quantization,
            bytes: model.manifest.bytes,
            backend: None,
            figures: Vec::new(),
        }
    }
}

impl Bound {
    /// Whether a ratio is where it should be.
    pub fn holds(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(least) => ratio >= least,
            Self::AtMost(most) => ratio <= most,
        }
    }
}

impl Figure {
    /// A figure of values that were measured in pairs, one pair a round.
    pub(crate) fn paired(
        name: impl Into<String>,
        unit: &str,
        values: &[f64],
        against: &str,
        against_values: Option<&[f64]>,
    ) -> Self {
        let ratios: Vec<f64> = against_values
            .map(|against| values.iter().zip(against).map(|(a, b)| a / b).collect())
            .unwrap_or_default();
        Self {
            name: name.into(),
            unit: unit.to_owned(),
            of_peer: false,
            value: median(values),
            against: against.to_owned(),
            against_value: against_values.map(median),
            ratio: against_values.map(|_| median(&ratios)),
            ratios,
            more_is_better: true,
            wanted: None,
        }
    }

    /// The same as a figure of llama.cpp.
    pub(crate) fn of_peer(mut self) -> Self {
        self.of_peer = true;
        self
    }

    /// The same where less is better.
    pub(crate) fn less_is_better(mut self) -> Self {
        self.more_is_better = false;
        self
    }

    /// The same with a bound for the ratio.
    pub(crate) fn wanted(mut self, bound: Option<Bound>) -> Self {
        self.wanted = bound;
        self
    }
}

/// The middle value, or the mean of the two in the middle; not a number where there is none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        // The machine slowed down after the first round: the ratio of medians would hide who was faster.
        let figure = Figure::paired("f", "u", &[10.0, 4.0, 2.0], "peer", Some(&[5.0, 2.0, 4.0]));
        assert_eq!((figure.value, figure.against_value), (4.0, Some(4.0)));
        assert_eq!(figure.ratio, Some(2.0));
    }

    #[test]
    fn without_a_peer_there_is_no_number() {
        let figure = Figure::paired("f", "u", &[1.0, 3.0], "peer", None);
        assert_eq!(
            (figure.value, figure.against_value, figure.ratio),
            (2.0, None, None)
        );
    }

    #[test]
    fn a_bound_holds_at_its_value() {
        assert!(Bound::AtLeast(1.25).holds(1.25) && !Bound::AtLeast(1.25).holds(1.24));
        assert!(Bound::AtMost(1.5).holds(1.5) && !Bound::AtMost(1.5).holds(1.51));
    }
}
