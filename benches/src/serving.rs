//! What several callers get, in figures: ours against ourselves, and against llama.cpp where it has the figure.
//!
//! Absent: the measuring, which is done in processes of their own.

use anyhow::Result;

use crate::callers::{Callers, CallersRequest, Lookup, TOGETHER, Texts};
use crate::child::{self, Request};
use crate::make::ModelFile;
use crate::peer::PEER;
use crate::recipe::Quantization;
use crate::report::{Bound, Figure, FileReport};
use crate::rounds::Plan;
use crate::shape::Shape;

/// Shapes and mixes that [`serving`] is about where nobody says otherwise.
const SHAPES: [&str; 2] = ["qwen2.5-0.5b", "qwen2.5-1.5b"];
const QUANTIZATIONS: [Quantization; 2] = [Quantization::Q4_0, Quantization::Q4KM];

const MS: f64 = 1e3;

/// One round.
struct Round {
    callers: Callers,
    /// As many as [`TOGETHER`].
    theirs: Option<Vec<f64>>,
    texts: Texts,
}

/// Whether [`serving`] has bounds for this shape and mix.
pub fn is_served(shape: &Shape, quantization: Quantization) -> bool {
    SHAPES.contains(&shape.name) && QUANTIZATIONS.contains(&quantization)
}

/// Measures what several callers get of `model`, into its report.
///
/// # Errors
/// When ours or the peer fails.
pub fn serving(plan: &Plan, model: &ModelFile, report: &mut FileReport) -> Result<()> {
    let rounds = (0..plan.rounds.max(1))
        .map(|index| round(plan, model, index % 2 == 1))
        .collect::<Result<Vec<_>>>()?;
    report.figures.extend(together_figures(&rounds));
    report.figures.extend(waiting_figures(&rounds));
    report.figures.extend(text_figures(&rounds));
    report.backend = Some(rounds[0].callers.backend.clone());
    Ok(())
}

fn round(plan: &Plan, model: &ModelFile, peer_first: bool) -> Result<Round> {
    let theirs = || match &plan.peer {
        Some(peer) => peer.decode_together(model.path(), plan.threads),
        None => Ok(None),
    };
    let request = CallersRequest {
        manifest: model.manifest_path.clone(),
        threads: plan.threads,
    };
    let callers = || child::ask(&plan.program, &Request::Callers(request.clone()));
    let (theirs, callers) = if peer_first {
        let theirs = theirs()?;
        (theirs, callers()?)
    } else {
        let callers = callers()?;
        (theirs()?, callers)
    };
    Ok(Round {
        callers,
        theirs,
        texts: child::ask(&plan.program, &Request::Texts(request))?,
    })
}

/// Tokens a second of all callers together: against one, and against llama.cpp with as many.
fn together_figures(rounds: &[Round]) -> Vec<Figure> {
    const LEAST_AGAINST_ONE: [f64; TOGETHER.len()] = [1.0, 1.5, 2.2, 3.0];
    const LEAST_AGAINST_PEER: f64 = 1.25;
    let alone: Vec<f64> = all(rounds, |round| round.callers.decode_tokens_per_s[0]);
    let mut figures = Vec::new();
    for (index, callers) in TOGETHER.iter().enumerate().skip(1) {
        let ours = all(rounds, |round| round.callers.decode_tokens_per_s[index]);
        let theirs: Option<Vec<f64>> = rounds
            .iter()
            .map(|round| round.theirs.as_ref().map(|theirs| theirs[index]))
            .collect();
        let name = format!("decode, {callers} callers");
        figures.push(
            Figure::paired(&name, "tok/s", &ours, "1 caller", Some(&alone))
                .wanted(Some(Bound::AtLeast(LEAST_AGAINST_ONE[index]))),
        );
        figures.push(
            Figure::paired(name, "tok/s", &ours, PEER, theirs.as_deref())
                .wanted(Some(Bound::AtLeast(LEAST_AGAINST_PEER))),
        );
    }
    figures
}

/// How long callers wait for a token.
fn waiting_figures(rounds: &[Round]) -> [Figure; 3] {
    const WARM_MOST: f64 = 1.0 / 8.0;
    const GAP_MOST: f64 = 4.0;
    const SCHEMA_MOST: f64 = 1.05;
    let figure = |name: &str,
                  value: fn(&Callers) -> f64,
                  against: &str,
                  against_value: fn(&Callers) -> f64,
                  most: f64| {
        let values = all(rounds, |round| value(&round.callers) * MS);
        let against_values = all(rounds, |round| against_value(&round.callers) * MS);
        Figure::paired(name, "ms", &values, against, Some(&against_values))
            .less_is_better()
            .wanted(Some(Bound::AtMost(most)))
    };
    [
        figure(
            "first token, head warm",
            |callers| callers.warm_first_token_s,
            "head cold",
            |callers| callers.cold_first_token_s,
            WARM_MOST,
        ),
        figure(
            "longest gap, prefill",
            |callers| callers.longest_gap_s,
            "usual gap",
            |callers| callers.usual_gap_s,
            GAP_MOST,
        ),
        figure(
            "token with JSON Schema",
            |callers| callers.token_with_schema_s,
            "without",
            |callers| callers.token_s,
            SCHEMA_MOST,
        ),
    ]
}

/// Tokens a second with prompt lookup, against without.
fn text_figures(rounds: &[Round]) -> [Figure; 2] {
    const COPYING_LEAST: f64 = 1.6;
    const NOT_COPYING_LEAST: f64 = 0.97;
    let figure = |name: &str, value: fn(&Texts) -> &Lookup, least: f64| {
        let with = all(rounds, |round| value(&round.texts).with);
        let without = all(rounds, |round| value(&round.texts).without);
        Figure::paired(name, "tok/s", &with, "no lookup", Some(&without))
            .wanted(Some(Bound::AtLeast(least)))
    };
    [
        figure("copying, lookup", |texts| &texts.copying, COPYING_LEAST),
        figure(
            "not copying, lookup",
            |texts| &texts.not_copying,
            NOT_COPYING_LEAST,
        ),
    ]
}

fn all(rounds: &[Round], value: impl Fn(&Round) -> f64) -> Vec<f64> {
    rounds.iter().map(value).collect()
}
