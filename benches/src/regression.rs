//! Whether a run is worse than an earlier one.
//!
//! It compares ratios, because both sides of a ratio saw the same machine at the same time; values a second of two
//! runs may come from two machines, or from one that had other work.
//!
//! Invariant: a figure that only one of the runs has is not compared, and its number is said.

use crate::report::{Figure, Report};

/// How two runs compare.
#[derive(Debug, Clone, PartialEq)]
pub struct Regression {
    /// Figures that both runs have a ratio for.
    pub compared: usize,
    /// Figures of the later run that the earlier has no ratio for, or that have none themselves.
    pub not_compared: usize,
    /// One line for each figure that got worse by more than was allowed.
    pub worse: Vec<String>,
}

/// Compares figures of ours in `now` with those in `before`. A figure is worse when its ratio moved the wrong way by more than `share`, a share
/// of the earlier ratio.
pub fn regression(before: &Report, now: &Report, share: f64) -> Regression {
    let mut found = Regression {
        compared: 0,
        not_compared: 0,
        worse: Vec::new(),
    };
    for file in &now.files {
        let earlier = before
            .files
            .iter()
            .find(|earlier| {
                (&earlier.model, earlier.quantization) == (&file.model, file.quantization)
            })
            .map_or(&[][..], |earlier| &earlier.figures);
        for figure in file.figures.iter().filter(|figure| !figure.of_peer) {
            let is_same = |earlier: &&Figure| {
                (&earlier.name, &earlier.against) == (&figure.name, &figure.against)
            };
            let ratio_before = earlier.iter().find(is_same).and_then(|found| found.ratio);
            let (Some(before), Some(now)) = (ratio_before, figure.ratio) else {
                found.not_compared += 1;
                continue;
            };
            found.compared += 1;
            let loss = if figure.more_is_better {
                1.0 - now / before
            } else {
                now / before - 1.0
            };
            if loss > share {
                found.worse.push(format!(
                    "{} {} {}: {now:.2} of {}, was {before:.2}",
                    file.model,
                    file.quantization.as_str(),
                    figure.name,
                    figure.against
                ));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;
    use crate::recipe::Quantization;
    use crate::report::FileReport;

    fn report(figures: Vec<Figure>) -> Report {
        Report {
            machine: Machine::this(),
            threads: 2,
            rounds: 1,
            optimized: true,
            peer: String::new(),
            read_bytes_per_s: 1.0,
            files: vec![FileReport {
                model: "m".to_owned(),
                quantization: Quantization::Q8_0,
                bytes: 1,
                backend: "b".to_owned(),
                figures,
            }],
        }
    }

    fn speed(ratio: f64) -> Figure {
        Figure::paired("decode", "tok/s", &[ratio], "peer", Some(&[1.0]))
    }

    #[test]
    fn less_speed_and_more_memory_are_worse() {
        let memory = |ratio: f64| {
            Figure::paired("memory", "MiB", &[ratio], "budget", Some(&[1.0])).less_is_better()
        };
        let before = report(vec![speed(1.0), memory(1.0)]);
        let check = |speed_now, memory_now, worse: usize| {
            let found = regression(
                &before,
                &report(vec![speed(speed_now), memory(memory_now)]),
                0.1,
            );
            assert_eq!((found.compared, found.worse.len()), (2, worse), "{found:?}");
        };
        check(1.0, 1.0, 0);
        check(2.0, 0.5, 0);
        check(0.95, 1.05, 0);
        check(0.85, 1.0, 1);
        check(0.85, 1.2, 2);
    }

    #[test]
    fn a_peer_that_got_worse_is_not_our_business() {
        let before = report(vec![speed(1.0).of_peer()]);
        let found = regression(&before, &report(vec![speed(0.1).of_peer()]), 0.1);
        assert_eq!((found.compared, found.worse.len()), (0, 0), "{found:?}");
    }

    #[test]
    fn a_figure_of_one_run_only_is_counted_and_not_judged() {
        let without_peer = Figure::paired("decode", "tok/s", &[0.1], "peer", None);
        let found = regression(&report(vec![speed(1.0)]), &report(vec![without_peer]), 0.1);
        assert_eq!((found.compared, found.not_compared), (0, 1));
        assert!(found.worse.is_empty());
    }
}
