//! Whether ours predicts what the weights say: its logits and llama.cpp's against a reference in 32-bit floats.
//!
//! Invariant: all three are given the same tokens, whatever they would have chosen themselves.
//! Absent: text; random weights have none.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::child::{self, LogitsRequest, Request};
use crate::divergence::{Divergence, divergence};
use crate::make::ModelFile;
use crate::peer::Peer;
use crate::reference::reference_logits;
use crate::report::{Bound, Figure};
use crate::rounds::Plan;

/// Tokens of the prompt, and tokens that are decoded after it; each of the latter is a prediction, and one more.
const PROMPT_TOKENS: usize = 32;
const NEXT_TOKENS: usize = 96;
const PEER: &str = "llama.cpp";
/// The program that prints llama.cpp's logits; it is built against the peer's own headers and libraries.
const PEER_SOURCE: &str = include_str!("../peer/logits.cpp");

/// What a comparison found.
#[derive(Debug)]
pub struct Parity {
    /// Divergence and agreement.
    pub figures: Vec<Figure>,
    /// Why there is nothing of llama.cpp, where there is nothing.
    pub peer_absent: Option<String>,
}

/// Compares ours and, where it is there, llama.cpp with the reference.
///
/// # Errors
/// When ours or the reference cannot be computed.
pub fn compare(plan: &Plan, model: &ModelFile) -> Result<Parity> {
    let (prompt, next) = tokens(model.shape.vocabulary);
    let all = [prompt.as_slice(), &next].concat();
    let reference = reference_logits(model.path(), &model.shape, &all, NEXT_TOKENS + 1)?;
    let against = |logits: &[f32]| -> Result<Divergence> {
        ensure!(
            logits.len() == reference.len(),
            "{} logits came, but {} were asked for",
            logits.len(),
            reference.len()
        );
        Ok(divergence(&reference, logits, model.shape.vocabulary))
    };

    let scratch = tempfile::tempdir()?;
    let to = scratch.path().join("ours.f32");
    let request = LogitsRequest {
        manifest: model.manifest_path.clone(),
        threads: plan.threads,
        prompt,
        next,
        to: to.clone(),
    };
    child::ask::<String>(&plan.program, &Request::Logits(request))?;
    let ours = against(&floats(&fs::read(to)?))?;

    let theirs = match &plan.peer {
        None => Err("there is no llama.cpp".to_owned()),
        Some(peer) => build(peer, scratch.path())
            .and_then(|program| peer_logits(&program, model.path(), plan.threads, &all))
            .and_then(|logits| against(&logits))
            .map_err(|error| format!("{error:#}")),
    };
    Ok(Parity {
        figures: figures(ours, theirs.as_ref().ok()),
        peer_absent: theirs.err(),
    })
}

fn figures(ours: Divergence, theirs: Option<&Divergence>) -> Vec<Figure> {
    const KL_MOST: f64 = 1.1;
    let kl = theirs.map(|theirs| [theirs.mean_kl]);
    let top_1 = theirs.map(|theirs| [theirs.top_1]);
    vec![
        Figure::paired(
            "mean KL to f32",
            "nats",
            &[ours.mean_kl],
            PEER,
            kl.as_ref().map(<[f64; 1]>::as_slice),
        )
        .less_is_better()
        .wanted(Some(Bound::AtMost(KL_MOST))),
        Figure::paired(
            "top-1 as f32",
            "",
            &[ours.top_1],
            PEER,
            top_1.as_ref().map(<[f64; 1]>::as_slice),
        ),
    ]
}

/// A prompt and what follows it, the same in every run.
fn tokens(vocabulary: usize) -> (Vec<u32>, Vec<u32>) {
    let random = &mut ChaCha8Rng::seed_from_u64(1);
    let mut draw = |count| {
        (0..count)
            .map(|_| random.random_range(0..vocabulary as u32))
            .collect()
    };
    (draw(PROMPT_TOKENS), draw(NEXT_TOKENS))
}

/// Builds the peer's program in `folder`.
fn build(peer: &Peer, folder: &Path) -> Result<PathBuf> {
    let libraries = peer.folder().canonicalize()?;
    // The build folder lies in the source folder, as llama.cpp's own instructions have it.
    let source = libraries
        .ancestors()
        .find(|folder| folder.join("include/llama.h").is_file())
        .context("the headers of llama.cpp are not above its llama-bench")?;
    let program = folder.join("peer-logits");
    let mut compiler = Command::new("c++")
        .args(["-std=c++17", "-O1", "-x", "c++", "-", "-x", "none"])
        .arg("-I")
        .arg(source.join("include"))
        .arg("-I")
        .arg(source.join("ggml/include"))
        .arg("-L")
        .arg(&libraries)
        .arg(format!("-Wl,-rpath,{}", libraries.display()))
        .args(["-lllama", "-lggml", "-lggml-base", "-o"])
        .arg(&program)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("the compiler c++ cannot be started")?;
    feed(&mut compiler, PEER_SOURCE)?;
    let output = compiler.wait_with_output()?;
    ensure!(
        output.status.success(),
        "its logits program does not build: {}",
        String::from_utf8_lossy(&output.stderr)
            .lines()
            .next()
            .unwrap_or("")
    );
    Ok(program)
}

fn peer_logits(program: &Path, model: &Path, threads: usize, tokens: &[u32]) -> Result<Vec<f32>> {
    let mut child = Command::new(program)
        .arg(model)
        .args([threads.to_string(), PROMPT_TOKENS.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let ids: Vec<String> = tokens.iter().map(u32::to_string).collect();
    feed(&mut child, &ids.join(" "))?;
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "its logits program ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(floats(&output.stdout))
}

/// Writes all of a process's input and closes it.
fn feed(child: &mut std::process::Child, input: &str) -> Result<()> {
    let mut stdin = child.stdin.take().context("its input is piped")?;
    Ok(stdin.write_all(input.as_bytes())?)
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let (floats, _) = bytes.as_chunks::<4>();
    floats
        .iter()
        .map(|bytes| f32::from_ne_bytes(*bytes))
        .collect()
}

#[cfg(test)]
mod tests {
    use postern_engine::{EngineConfig, ForcedTokens, VerifiedModel, forced_logits};

    use super::*;
    use crate::make::make;
    use crate::recipe::Quantization;
    use crate::shape::{Shape, tiny};

    /// The engine and the reference share no code but the quantized weights; activations are rounded to 8 bits by one.
    #[test]
    fn the_engine_predicts_what_the_reference_predicts() -> Result<()> {
        const KL_MOST: f64 = 0.02;
        let folder = tempfile::tempdir()?;
        for architecture in ["llama", "qwen2", "qwen3"] {
            let shape = Shape {
                architecture,
                ..tiny()
            };
            for quantization in Quantization::ALL {
                let model = make(folder.path(), &shape, quantization, None)?;
                let (prompt, next) = tokens(shape.vocabulary);
                let all = [prompt.as_slice(), &next].concat();
                let reference = reference_logits(model.path(), &shape, &all, NEXT_TOKENS + 1)?;
                let mut ours = Vec::new();
                forced_logits(
                    VerifiedModel::load(&model.manifest, &mut |_| {})?,
                    &EngineConfig::default(),
                    &[ForcedTokens {
                        prompt: &prompt,
                        next: &next,
                    }],
                    &mut |_, logits| ours.extend_from_slice(logits),
                )?;
                let found = divergence(&reference, &ours, shape.vocabulary);
                let case = format!("{architecture} {quantization:?} {found:?}");
                ensure!(ours.len() == reference.len(), "{case}");
                ensure!(found.mean_kl < KL_MOST && found.top_1 > 0.9, "{case}");
            }
        }
        Ok(())
    }
}
