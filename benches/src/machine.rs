//! What the machine itself can do, to hold measurements against: reading memory, hashing a file; and how much memory
//! a process took.
//!
//! Absent: anything about models.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// Larger than the caches of the machines we measure on.
const READ_BYTES: usize = 512 << 20;
/// Passes over the buffer; the best one counts.
const READ_PASSES: usize = 4;
/// Sums side by side, so that adding does not wait for itself.
const LANES: usize = 32;

/// What a report says about where it was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    /// Name of the processor.
    pub processor: String,
    /// Processors that the system offers this process.
    pub processors: usize,
    /// Architecture of the instructions.
    pub architecture: String,
}

impl Machine {
    /// The machine this runs on.
    pub fn this() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = ["model name", "Model"]
            .iter()
            .find_map(|key| {
                let line = cpuinfo.lines().find(|line| line.starts_with(key))?;
                Some(line.split_once(':')?.1.trim().to_owned())
            })
            .unwrap_or_else(|| "unknown processor".to_owned());
        Self {
            processor,
            processors: thread::available_parallelism().map_or(1, usize::from),
            architecture: std::env::consts::ARCH.to_owned(),
        }
    }
}

/// Bytes a second that `threads` threads read from memory together, at best.
pub fn read_bytes_per_s(threads: usize) -> f64 {
    // Written before it is read, or the system would serve one page of zeros.
    let buffer = vec![1_u64; READ_BYTES / size_of::<u64>()];
    let part = buffer.len().div_ceil(threads.max(1));
    let best_s = (0..READ_PASSES)
        .map(|_| {
            let start = Instant::now();
            thread::scope(|scope| {
                for part in buffer.chunks(part) {
                    scope.spawn(|| black_box(sum(part)));
                }
            });
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);
    READ_BYTES as f64 / best_s
}

fn sum(values: &[u64]) -> u64 {
    let mut lanes = [0_u64; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = lane.wrapping_add(*value);
        }
    }
    lanes
        .iter()
        .chain(rest)
        .fold(0, |sum, value| sum.wrapping_add(*value))
}

/// Seconds that the system's `sha256sum` takes for a file, or nothing where there is none.
pub(crate) fn sha256sum_s(file: &Path) -> Option<f64> {
    let start = Instant::now();
    let status = Command::new("sha256sum")
        .arg(file)
        .stdout(Stdio::null())
        .status()
        .ok()?;
    status.success().then(|| start.elapsed().as_secs_f64())
}

/// The most memory that a process (its id, or `self`) ever had resident, in bytes.
pub(crate) fn peak_bytes(process: &str) -> Option<u64> {
    const KIB: u64 = 1024;
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * KIB)
}
