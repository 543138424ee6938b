//! llama.cpp, through the `llama-bench` program of a build of it, and `llama-batched-bench` beside that.
//!
//! Invariant: it gets the file, the sizes and the number of threads that ours gets, and no accelerator.
//! Absent: getting or building it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::callers::{TOGETHER, TOGETHER_DECODE_TOKENS, TOGETHER_PROMPT_TOKENS};
use crate::child::SpeedRequest;
use crate::machine::peak_bytes;

/// What reports call it.
pub(crate) const PEER: &str = "llama.cpp";
/// The program that decodes several sequences at a time.
const BATCHED_PROGRAM: &str = "llama-batched-bench";
/// How often a running peer is asked for its peak memory.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A `llama-bench` program.
#[derive(Debug, Clone)]
pub struct Peer {
    program: PathBuf,
    /// What it says its build is.
    pub build: String,
}

/// What it measured.
#[derive(Debug, Clone)]
pub(crate) struct PeerSpeed {
    /// As many as were asked for, in the same order.
    pub(crate) prefill_tokens_per_s: Vec<f64>,
    pub(crate) decode_tokens_per_s: f64,
    /// File pages that it maps included.
    pub(crate) peak_bytes: u64,
}

/// The part of one entry of its JSON that is used.
#[derive(Debug, Deserialize)]
struct Entry {
    n_prompt: usize,
    n_gen: usize,
    avg_ts: f64,
}

/// The part of one line of the other program's JSON that is used.
#[derive(Debug, Deserialize)]
struct BatchedEntry {
    pl: usize,
    speed_tg: f64,
}

impl Peer {
    /// The peer at `program`.
    ///
    /// # Errors
    /// When that cannot be run.
    pub fn at(program: &Path) -> Result<Self> {
        let output = Command::new(program)
            .arg("--version")
            .output()
            .with_context(|| {
                format!(
                    "{} cannot be run; give the path of a llama-bench",
                    program.display()
                )
            })?;
        let said = [output.stdout, output.stderr].concat();
        let build = String::from_utf8_lossy(&said)
            .lines()
            .find_map(|line| line.strip_prefix("version:"))
            .map_or_else(
                || "of unknown version".to_owned(),
                |rest| rest.trim().to_owned(),
            );
        Ok(Self {
            program: program.to_owned(),
            build,
        })
    }

    /// The folder of the program, which holds its libraries too.
    pub(crate) fn folder(&self) -> &Path {
        self.program.parent().unwrap_or(Path::new("."))
    }

    /// Measures what `request` asks of ours, on `model`.
    ///
    /// # Errors
    /// When the program fails or leaves something out.
    pub(crate) fn time(&self, model: &Path, request: &SpeedRequest) -> Result<PeerSpeed> {
        let sizes: Vec<String> = request
            .prefill_tokens
            .iter()
            .map(usize::to_string)
            .collect();
        let decode = request.decode_tokens.to_string();
        let threads = request.threads.to_string();
        let mut child = Command::new(&self.program)
            .arg("-m")
            .arg(model)
            .args(["-p", &sizes.join(","), "-n", &decode, "-t", &threads])
            .args(["-r", "1", "-ngl", "0", "-o", "json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{} cannot be started", self.program.display()))?;
        let (answer, peak_bytes) = watch(&mut child)?;
        let entries: Vec<Entry> = serde_json::from_str(&answer)
            .with_context(|| format!("{} answered no JSON", self.program.display()))?;
        let found = |prompt: usize, generated: usize| {
            entries
                .iter()
                .find(|entry| (entry.n_prompt, entry.n_gen) == (prompt, generated))
                .map(|entry| entry.avg_ts)
                .with_context(|| format!("it did not measure {prompt} in, {generated} out"))
        };
        Ok(PeerSpeed {
            prefill_tokens_per_s: request
                .prefill_tokens
                .iter()
                .map(|&tokens| found(tokens, 0))
                .collect::<Result<_>>()?,
            decode_tokens_per_s: found(0, request.decode_tokens)?,
            peak_bytes,
        })
    }

    /// Tokens a second that it decodes of as many sequences together as [`TOGETHER`] says, or nothing where it was built
    /// without that program.
    ///
    /// # Errors
    /// When the program fails or leaves something out.
    pub(crate) fn decode_together(&self, model: &Path, threads: usize) -> Result<Option<Vec<f64>>> {
        let program = self.folder().join(BATCHED_PROGRAM);
        if !program.is_file() {
            return Ok(None);
        }
        let most = TOGETHER.into_iter().max().unwrap_or(1);
        let tokens = most * (TOGETHER_PROMPT_TOKENS + TOGETHER_DECODE_TOKENS);
        let output = Command::new(&program)
            .arg("-m")
            .arg(model)
            .args(["-npp", &TOGETHER_PROMPT_TOKENS.to_string()])
            .args(["-ntg", &TOGETHER_DECODE_TOKENS.to_string()])
            .args(["-npl", &TOGETHER.map(|count| count.to_string()).join(",")])
            .args(["-c", &tokens.to_string(), "-t", &threads.to_string()])
            .args(["-ngl", "0", "--output-format", "jsonl"])
            .stderr(Stdio::null())
            .output()
            .with_context(|| format!("{} cannot be started", program.display()))?;
        ensure!(
            output.status.success(),
            "{BATCHED_PROGRAM} ended with {}",
            output.status
        );
        let answer = String::from_utf8_lossy(&output.stdout);
        let entries: Vec<BatchedEntry> = answer
            .lines()
            .filter_map(|line| serde_json::from_str(line.trim()).ok())
            .collect();
        let found = TOGETHER.iter().map(|&count| {
            entries
                .iter()
                .find(|entry| entry.pl == count)
                .map(|entry| entry.speed_tg)
                .with_context(|| format!("it did not measure {count} sequences together"))
        });
        found.collect::<Result<_>>().map(Some)
    }
}

/// What a process writes until it ends, and the most memory it was seen to take.
fn watch(child: &mut Child) -> Result<(String, u64)> {
    let mut output = child.stdout.take().context("its output is piped")?;
    let reading = thread::spawn(move || {
        let mut text = String::new();
        output.read_to_string(&mut text).map(|_| text)
    });
    let process = child.id().to_string();
    let mut peak = 0;
    let status = loop {
        peak = peak_bytes(&process).unwrap_or(peak).max(peak);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        thread::sleep(LOOK_EVERY);
    };
    let text = reading.join().expect("reading does not panic")?;
    ensure!(status.success(), "llama-bench ended with {status}");
    Ok((text, peak))
}
