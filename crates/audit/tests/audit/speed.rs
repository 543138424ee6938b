//! How fast the log is, on a file system in memory: run with `--ignored --nocapture`, with
//! optimization. Nothing is asserted, since other work on the machine would decide.

use std::path::Path;
use std::thread;
use std::time::Instant;

use postern_audit::{AuditConfig, AuditLog, read, verify};
use tempfile::TempDir;

use crate::fixtures::{admitted, completed, plain, sealed, segments};

const THREADS: usize = 16;
const CALLS: usize = 2000;
const MEBIBYTE: f64 = 1024.0 * 1024.0;

#[test]
#[ignore = "measures, and asserts nothing"]
fn appends_and_verification() {
    let memory = Path::new("/dev/shm");
    for (name, config) in [("plaintext", plain()), ("sealed", sealed())] {
        for wishes in [200, 4000] {
            let dir = TempDir::new_in(memory).unwrap();
            let appends = append(dir.path(), &config, &"x".repeat(wishes));
            let bytes: u64 = segments(dir.path())
                .iter()
                .map(|path| path.metadata().unwrap().len())
                .sum();
            let mebibytes = bytes as f64 / MEBIBYTE;
            let begun = Instant::now();
            let records = verify(dir.path()).unwrap().records;
            let verified = begun.elapsed().as_secs_f64();
            let begun = Instant::now();
            read(dir.path())
                .unwrap()
                .for_each(|stored| drop(stored.unwrap()));
            let was_read = begun.elapsed().as_secs_f64();
            println!(
                "{name}, {wishes} bytes of input: {appends:.0} appends/s; {records} records, {mebibytes:.0} MiB; verify {:.0} MiB/s, read {:.0} MiB/s",
                mebibytes / verified,
                mebibytes / was_read,
            );
        }
    }
}

fn append(dir: &Path, config: &AuditConfig, wishes: &str) -> f64 {
    let (log, _) = AuditLog::open(dir, config).unwrap();
    let begun = Instant::now();
    thread::scope(|scope| {
        for worker in 0..THREADS {
            let log = &log;
            scope.spawn(move || {
                for call in 0..CALLS {
                    let id = format!("{worker}-{call}");
                    let receipt = log.append(&admitted(&id, wishes)).unwrap();
                    log.append(&completed(&id, receipt.index)).unwrap();
                }
            });
        }
    });
    (THREADS * CALLS * 2) as f64 / begun.elapsed().as_secs_f64()
}
