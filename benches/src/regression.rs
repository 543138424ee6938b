//! Whether this build is worse than an earlier one, the baseline: both are measured in turn, on the same machine and the
//! same file, so that what else the machine does falls out of the ratio.
//!
//! Absent: how the baseline is built, which is a chore; llama.cpp.

use std::path::Path;

use anyhow::Result;

use crate::child::{self, Request, Speed};
use crate::make::ModelFile;
use crate::report::{Bound, Figure, FileReport};
use crate::rounds::{Plan, request};

const BASELINE: &str = "baseline";
const MIB: f64 = 1024.0 * 1024.0;
/// How much worse a ratio may be: less is noise of a machine that does other things, too.
const WORSE_SHARE: f64 = 0.1;

/// Measures the build of `plan` and the program `baseline` in turn, `plan.rounds` times. Each figure wants to be no more
/// than a tenth worse than the baseline's.
///
/// # Errors
/// When one of them fails.
pub fn regression(plan: &Plan, baseline: &Path, model: &ModelFile) -> Result<FileReport> {
    let request = Request::Speed(request(plan, model));
    let (mut now, mut before) = (Vec::new(), Vec::new());
    for round in 0..plan.rounds {
        let mut order = [(&*plan.program, &mut now), (baseline, &mut before)];
        if round % 2 == 1 {
            order.reverse();
        }
        for (program, found) in order {
            let speed: Speed = child::ask(program, &request)?;
            found.push(speed);
        }
    }
    let runs = Runs { now, before };
    let mut figures: Vec<Figure> = (0..plan.prefill_tokens.len())
        .map(|index| {
            let name = format!("prefill {}", plan.prefill_tokens[index]);
            runs.more_is_better(name, |speed| speed.prefill_tokens_per_s[index])
        })
        .collect();
    figures.extend([
        runs.more_is_better(format!("decode {}", plan.decode_tokens), |speed| {
            speed.decode_tokens_per_s
        }),
        runs.less_is_better("verified load", "s", |speed| speed.load_s),
        runs.less_is_better("peak memory", "MiB", |speed| speed.peak_bytes as f64 / MIB),
    ]);
    Ok(FileReport {
        backend: Some(runs.now[0].backend.clone()),
        figures,
        ..FileReport::new(model)
    })
}

/// What both found, round by round.
struct Runs {
    now: Vec<Speed>,
    before: Vec<Speed>,
}

impl Runs {
    fn more_is_better(&self, name: String, value: impl Fn(&Speed) -> f64) -> Figure {
        self.figure(name, "tok/s", value)
            .wanted(Some(Bound::AtLeast(1.0 - WORSE_SHARE)))
    }

    fn less_is_better(&self, name: &str, unit: &str, value: impl Fn(&Speed) -> f64) -> Figure {
        self.figure(name.to_owned(), unit, value)
            .less_is_better()
            .wanted(Some(Bound::AtMost(1.0 + WORSE_SHARE)))
    }

    fn figure(&self, name: String, unit: &str, value: impl Fn(&Speed) -> f64) -> Figure {
        let [now, before] =
            [&self.now, &self.before].map(|runs| runs.iter().map(&value).collect::<Vec<_>>());
        Figure::paired(name, unit, &now, BASELINE, Some(&before))
    }
}
