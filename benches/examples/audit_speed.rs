//! Measures the audit log: appends without and with a disk, what a call pays for it, and how fast and in how much memory
//! a verifier reads it.
//!
//! ```text
//! cargo run --release -p postern-benches --example audit_speed -- [FOLDER ON A DISK]
//! ```
//!
//! Without a disk means a folder in memory, where a sync costs nothing. It fails below 20,000 appends a second there, where
//! a call costs a millisecond or more, and below 200 megabytes a second of verification.
//!
//! Appends on a disk are shown as a part of what the disk allows: syncs of writes of that size, times the records that
//! share one.
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use postern_audit::{
    Admitted, AuditConfig, AuditLog, Completed, Entry, Identities, ModelRef, Outcome, Parameters,
    TemplateRef, Timings, Usage, verify,
};
use tempfile::TempDir;

/// A file system in memory.
const MEMORY: &str = "/dev/shm";
/// Bytes that a caller sends, as a kiosk's wish or a small diff has them.
const INPUT_BYTES: usize = 1000;
const THREADS: usize = 16;
const CALLS_A_THREAD: usize = 2000;
/// Rounds of a log and of the disk alone, by turns; the median is shown.
const ROUNDS: usize = 21;
const CALLS_A_ROUND: usize = 400;
const SYNCS: usize = 200;

const APPENDS_A_SECOND_MIN: f64 = 20_000.0;
const CALL_MAX: Duration = Duration::from_millis(1);
const VERIFY_MEGABYTES_A_SECOND_MIN: f64 = 200.0;

fn main() -> Result<()> {
    let disk = std::env::args_os()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let memory = Path::new(MEMORY);
    let mut missed = Vec::new();
    let mut judge = |holds: bool, what: &str| {
        if !holds {
            missed.push(what.to_owned());
        }
    };

    let log = TempDir::new_in(memory)?;
    let appends = appends_a_second(log.path(), THREADS, CALLS_A_THREAD)?;
    println!("in memory, {THREADS} threads: {appends:.0} appends/s");
    judge(appends >= APPENDS_A_SECOND_MIN, "appends in memory");

    let alone = TempDir::new_in(memory)?;
    let one_call =
        Duration::from_secs_f64(2.0 / appends_a_second(alone.path(), 1, CALLS_A_THREAD)?);
    println!(
        "in memory, one thread: a call's two appends cost {} µs",
        one_call.as_micros()
    );
    judge(one_call < CALL_MAX, "cost of a call");

    for threads in [1, THREADS] {
        let rounds = (0..ROUNDS).map(|_| round_on(&disk, threads));
        let rounds: Vec<Round> = rounds.collect::<Result<_>>()?;
        let figure = |of: fn(&Round) -> f64| median(rounds.iter().map(of).collect());
        println!(
            "on the disk, {threads} threads: {:.0} appends/s in groups of {:.1}; the disk alone: {:.0} syncs/s of as many \
             bytes; share of what the disk allows: {:.2}",
            figure(|round| round.appends),
            figure(|round| round.group),
            figure(|round| round.syncs),
            figure(|round| round.appends / (round.syncs * round.group)),
        );
    }

    // A log of a quarter of the length first, to see whether memory grows with it.
    let short = TempDir::new_in(memory)?;
    appends_a_second(short.path(), THREADS, CALLS_A_THREAD / 4)?;
    for log in [&short, &log] {
        let (megabytes, speed, peak) = verification(log.path())?;
        println!("verify {megabytes:.0} MB: {speed:.0} MB/s, {peak:.1} MB of memory at most");
        judge(
            speed >= VERIFY_MEGABYTES_A_SECOND_MIN,
            "speed of verification",
        );
    }
    ensure!(missed.is_empty(), "too slow: {}", missed.join(", "));
    Ok(())
}

/// One log on a disk, and the disk alone right after it: both change with what else the machine does.
struct Round {
    /// A second.
    appends: f64,
    /// Records that share a sync.
    group: f64,
    /// A second.
    syncs: f64,
}

fn round_on(disk: &Path, threads: usize) -> Result<Round> {
    let log = TempDir::new_in(disk)?;
    let calls = CALLS_A_ROUND / threads;
    let appends = appends_a_second(log.path(), threads, calls)?;
    let (writes, bytes) = writes(log.path())?;
    Ok(Round {
        appends,
        group: (threads * calls * 2) as f64 / writes as f64,
        syncs: syncs_a_second(disk, bytes / writes)?,
    })
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Appends the two records of each call, sealed as a daemon does.
fn appends_a_second(dir: &Path, threads: usize, calls: usize) -> Result<f64> {
    let config = AuditConfig {
        recipients: Identities::generate().recipients().keys().collect(),
        signing_key: Some(dir.join("signing.key")),
        ..AuditConfig::default()
    };
    let (log, _) = AuditLog::open(&dir.join("audit"), &config)?;
    let begun = Instant::now();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                let log = &log;
                scope.spawn(move || -> Result<()> {
                    for call in 0..calls {
                        let id = format!("{worker}-{call}");
                        let receipt = log.append(&admitted(&id))?;
                        log.append(&completed(&id, receipt.index))?;
                    }
                    Ok(())
                })
            })
            .collect();
        for worker in workers {
            worker.join().ok().context("a thread panicked")??;
        }
        Ok::<(), anyhow::Error>(())
    })?;
    Ok((threads * calls * 2) as f64 / begun.elapsed().as_secs_f64())
}

/// How often a log was written and synced, and its bytes. Each write ends with a signature, a frame of 65 bytes of
/// type 4.
fn writes(dir: &Path) -> Result<(usize, usize)> {
    const SIGNATURE: [u8; 9] = [0, 0, 0, 65, !0, !0, !0, !65, 4];
    let (mut writes, mut bytes) = (0, 0);
    for item in std::fs::read_dir(dir.join("audit"))? {
        let content = std::fs::read(item?.path())?;
        let found = content.windows(SIGNATURE.len());
        writes += found.filter(|found| *found == SIGNATURE).count();
        bytes += content.len();
    }
    Ok((writes, bytes))
}

/// How often a disk syncs a write of so many bytes at the end of a file.
fn syncs_a_second(disk: &Path, bytes: usize) -> Result<f64> {
    let mut file: File = tempfile::tempfile_in(disk)?;
    let block = vec![1; bytes];
    let begun = Instant::now();
    for _ in 0..SYNCS {
        file.write_all(&block)?;
        file.sync_data()?;
    }
    Ok(SYNCS as f64 / begun.elapsed().as_secs_f64())
}

/// Megabytes of a log, megabytes verified in a second, and megabytes of memory that it took.
fn verification(dir: &Path) -> Result<(f64, f64, f64)> {
    let dir = dir.join("audit");
    let mut bytes = 0;
    for item in std::fs::read_dir(&dir)? {
        bytes += item?.metadata()?.len();
    }
    // Resets the process's greatest memory (Linux, proc_pid_clear_refs(5)).
    std::fs::write("/proc/self/clear_refs", "5")?;
    let before = memory_kib("VmRSS:")?;
    let begun = Instant::now();
    verify(&dir)?;
    let took = begun.elapsed().as_secs_f64();
    let peak = memory_kib("VmHWM:")? - before;
    let megabytes = bytes as f64 / 1e6;
    Ok((megabytes, megabytes / took, peak * 1024.0 / 1e6))
}

fn memory_kib(field: &str) -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number
        .context("the kernel says nothing of memory")?
        .parse()?)
}

fn admitted(request_id: &str) -> Entry {
    Entry::Admitted(Admitted {
        request_id: request_id.to_owned(),
        identity: "kiosk".to_owned(),
        token_id: Some("t-1".to_owned()),
        certificate_sha256: "9".repeat(64),
        model: ModelRef {
            id: "coffee-1".to_owned(),
            sha256: "a".repeat(64),
            tokenizer_sha256: "b".repeat(64),
            chat_template_sha256: None,
        },
        template: TemplateRef {
            id: "coffee.v1".to_owned(),
            sha256: "c".repeat(64),
        },
        policy_sha256: "d".repeat(64),
        rules_sha256: "e".repeat(64),
        rules: vec!["kiosk-coffee".to_owned()],
        variables: BTreeMap::from([("wishes".to_owned(), "x".repeat(INPUT_BYTES))]),
        redactions: Vec::new(),
        injection_score: Some(0),
        parameters: Parameters {
            max_tokens: 96,
            temperature: 0.0,
            seed: 1,
            stream: true,
        },
        budgets: Vec::new(),
    })
}

fn completed(request_id: &str, admitted_index: u64) -> Entry {
    Entry::Completed(Completed {
        request_id: request_id.to_owned(),
        admitted_index,
        outcome: Outcome::Completed,
        output_sha256: "f".repeat(64),
        output: None,
        usage: Usage {
            prompt_tokens: 51,
            completion_tokens: 45,
        },
        output_redactions: Vec::new(),
        schema_valid: Some(true),
        mean_probability: None,
        timings: Timings {
            queued_us: 1,
            first_token_us: Some(2),
            total_us: 3,
        },
    })
}
