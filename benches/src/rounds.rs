//! Measures one model file: ours and llama.cpp in turn, round after round.
//!
//! Invariants: within a round everything runs one after another; who goes first changes from round to round, so that
//! neither always gets the warmer or the cooler machine.
//! Absent: parity, which needs no rounds.

use std::path::PathBuf;

use anyhow::Result;

use crate::child::{self, Request, Speed, SpeedRequest};
use crate::machine::sha256sum_s;
use crate::make::ModelFile;
use crate::peer::{PEER, Peer, PeerSpeed};
use crate::recipe::Quantization;
use crate::report::{Bound, Figure, FileReport};

const MIB: f64 = 1024.0 * 1024.0;
const GB: f64 = 1e9;

/// What is measured, and how often.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The program whose chore [`CHILD_CHORE`](crate::CHILD_CHORE) measures ours.
    pub program: PathBuf,
    /// llama.cpp, where there is one.
    pub peer: Option<Peer>,
    /// Threads of both.
    pub threads: usize,
    /// How often everything is measured, at least once.
    pub rounds: usize,
    /// Lengths of the prompts.
    pub prefill_tokens: Vec<usize>,
    /// Tokens to decode.
    pub decode_tokens: usize,
    /// Prompt tokens of one pass of ours; the engine's default when absent.
    pub prefill_chunk_tokens: Option<usize>,
}

/// One round.
struct Round {
    sha256sum_s: Option<f64>,
    ours: Speed,
    theirs: Option<PeerSpeed>,
}

/// Measures `model` as `plan` says, into its report. Returns the fastest reading of memory that was seen, in bytes a second.
///
/// # Errors
/// When ours or the peer fails.
pub fn measure(plan: &Plan, model: &ModelFile, report: &mut FileReport) -> Result<f64> {
    let mut rounds = Vec::new();
    for index in 0..plan.rounds.max(1) {
        rounds.push(round(plan, model, index % 2 == 1)?);
    }
    let read_limit = rounds
        .iter()
        .map(|round| round.ours.read_bytes_per_s)
        .fold(0.0, f64::max);
    let figures = &mut report.figures;
    figures.extend(speed_figures(plan, model.quantization, &rounds));
    figures.extend(share_figures(model.weight_bytes()? as f64, &rounds));
    figures.extend(cost_figures(plan, model, &rounds));
    report.backend = Some(rounds[0].ours.backend.clone());
    Ok(read_limit)
}

/// What is asked of ours, and of a peer as far as it can.
pub(crate) fn request(plan: &Plan, model: &ModelFile) -> SpeedRequest {
    SpeedRequest {
        manifest: model.manifest_path.clone(),
        threads: plan.threads,
        prefill_tokens: plan.prefill_tokens.clone(),
        decode_tokens: plan.decode_tokens,
        prefill_chunk_tokens: plan.prefill_chunk_tokens,
    }
}

fn round(plan: &Plan, model: &ModelFile, peer_first: bool) -> Result<Round> {
    let request = request(plan, model);
    let theirs = || {
        plan.peer
            .as_ref()
            .map(|peer| peer.time(model.path(), &request))
            .transpose()
    };
    // Hashing comes before ours, so that both find the file in the page cache.
    let ours = || -> Result<(Option<f64>, Speed)> {
        let sha256sum_s = sha256sum_s(model.path());
        let speed = child::ask(&plan.program, &Request::Speed(request.clone()))?;
        Ok((sha256sum_s, speed))
    };
    let ((sha256sum_s, ours), theirs) = if peer_first {
        let theirs = theirs()?;
        (ours()?, theirs)
    } else {
        (ours()?, theirs()?)
    };
    Ok(Round {
        sha256sum_s,
        ours,
        theirs,
    })
}

/// Ours of every round, and theirs if every round has them.
fn pairs(
    rounds: &[Round],
    ours: impl Fn(&Speed) -> f64,
    theirs: impl Fn(&PeerSpeed) -> f64,
) -> (Vec<f64>, Option<Vec<f64>>) {
    (
        rounds.iter().map(|round| ours(&round.ours)).collect(),
        rounds
            .iter()
            .map(|round| round.theirs.as_ref().map(&theirs))
            .collect(),
    )
}

/// Tokens a second, against llama.cpp.
fn speed_figures(plan: &Plan, quantization: Quantization, rounds: &[Round]) -> Vec<Figure> {
    const DECODE_LEAST: f64 = 1.25;
    /// Shorter prompts have no bound.
    const PREFILL_BOUND_FROM_TOKENS: usize = 256;
    let prefill_least = match quantization {
        Quantization::Q4_0 => 1.6,
        Quantization::Q4KM | Quantization::Q8_0 => 1.8,
    };
    let mut figures = Vec::new();
    for (index, tokens) in plan.prefill_tokens.iter().enumerate() {
        let (ours, theirs) = pairs(
            rounds,
            |speed| speed.prefill_tokens_per_s[index],
            |speed| speed.prefill_tokens_per_s[index],
        );
        let name = format!("prefill {tokens}");
        let bound = (*tokens >= PREFILL_BOUND_FROM_TOKENS).then_some(Bound::AtLeast(prefill_least));
        figures.push(Figure::paired(name, "tok/s", &ours, PEER, theirs.as_deref()).wanted(bound));
    }
    let (ours, theirs) = pairs(
        rounds,
        |speed| speed.decode_tokens_per_s,
        |speed| speed.decode_tokens_per_s,
    );
    let name = format!("decode {}", plan.decode_tokens);
    figures.push(
        Figure::paired(name, "tok/s", &ours, PEER, theirs.as_deref())
            .wanted(Some(Bound::AtLeast(DECODE_LEAST))),
    );
    figures
}

/// Weights that decoding reads a second, against what the machine can read: ours, then llama.cpp's.
fn share_figures(weight_bytes: f64, rounds: &[Round]) -> Vec<Figure> {
    const SHARE_LEAST: f64 = 0.85;
    const AGAINST: &str = "memory reads";
    let limit: Vec<f64> = rounds
        .iter()
        .map(|round| round.ours.read_bytes_per_s / GB)
        .collect();
    let (ours, theirs) = pairs(
        rounds,
        |speed| speed.decode_tokens_per_s * weight_bytes / GB,
        |speed| speed.decode_tokens_per_s * weight_bytes / GB,
    );
    let mut figures = vec![
        Figure::paired("decode, weights read", "GB/s", &ours, AGAINST, Some(&limit))
            .wanted(Some(Bound::AtLeast(SHARE_LEAST))),
    ];
    figures.extend(theirs.map(|theirs| {
        let name = "llama.cpp, weights read";
        Figure::paired(name, "GB/s", &theirs, AGAINST, Some(&limit)).of_peer()
    }));
    figures
}

/// Seconds to load and memory at most.
fn cost_figures(plan: &Plan, model: &ModelFile, rounds: &[Round]) -> Vec<Figure> {
    const LOAD_MOST: f64 = 1.5;
    const PEAK_MOST: f64 = 1.12;
    const PEAK_AGAINST: &str = "file + KV";
    let loads: Vec<f64> = rounds.iter().map(|round| round.ours.load_s).collect();
    let sums: Option<Vec<f64>> = rounds.iter().map(|round| round.sha256sum_s).collect();
    let kv_bytes = model.shape.kv_bytes(request(plan, model).tokens_max());
    let budget = (model.manifest.bytes + kv_bytes) as f64 / MIB;
    let budget = vec![budget; rounds.len()];
    let (ours, theirs) = pairs(
        rounds,
        |speed| speed.peak_bytes as f64 / MIB,
        |speed| speed.peak_bytes as f64 / MIB,
    );
    let mut figures = vec![
        Figure::paired("verified load", "s", &loads, "sha256sum", sums.as_deref())
            .less_is_better()
            .wanted(Some(Bound::AtMost(LOAD_MOST))),
        Figure::paired("peak memory", "MiB", &ours, PEAK_AGAINST, Some(&budget))
            .less_is_better()
            .wanted(Some(Bound::AtMost(PEAK_MOST))),
    ];
    figures.extend(theirs.map(|theirs| {
        let name = "llama.cpp, peak";
        Figure::paired(name, "MiB", &theirs, PEAK_AGAINST, Some(&budget))
            .less_is_better()
            .of_peer()
    }));
    figures
}
