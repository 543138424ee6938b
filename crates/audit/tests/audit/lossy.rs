//! A disk that loses what was not synced: whenever the power goes, what was promised is there.
//!
//! A process works on a log over a file layer that writes down each of its steps (`lossy/layer.c`). From these the folder
//! is built as a disk could hold it after each step, had the power gone there (`lossy/disk.rs`), and opened anew.

mod disk;
mod layer;

use std::collections::BTreeMap;
use std::io::Write;
use std::thread;

use postern_audit::{
    AuditConfig, AuditLog, Class, Content, Keep, Receipt, Retention, Witness, read, verify_against,
};
use tempfile::TempDir;

use crate::fixtures::{admitted, child_dir, completed, plain, refused};
use disk::{Disk, Luck};
use layer::{Layer, Step, moment};

/// Callers at once, and how many calls each makes.
const CALLERS: usize = 3;
const CALLS: usize = 4;

/// How often luck is drawn for each moment.
const DRAWS: u64 = 3;
const DRAWS_AFTER_RESTART: u64 = 1;

/// What the work has to include, or the test would show little.
const MOMENTS: [&str; 13] = [
    "write segment",
    "sync segment",
    "write segment.new",
    "sync segment.new",
    "rename segment.new",
    "sync folder",
    "write checkpoint.new",
    "rename checkpoint.new",
    "write expiring.new",
    "link segment",
    "rename expiring.new",
    "write expiring.old",
    "remove expiring.old",
];

/// Small segments, frequent checkpoints, and little content that is kept, so that much goes on.
fn config() -> AuditConfig {
    let keep = |bytes| Keep { days: 0, bytes };
    AuditConfig {
        segment_bytes_max: 8 * 1024,
        checkpoint_records: 7,
        disk_free_bytes_min: 0,
        retention: Retention {
            administration: keep(0),
            calls: keep(8 * 1024),
            refusals: keep(0),
            holds: Vec::new(),
        },
        ..plain()
    }
}

/// A folder in memory where there is one: what a real disk does is not asked here.
fn scratch() -> TempDir {
    TempDir::new_in("/dev/shm").unwrap_or_else(|_| TempDir::new().unwrap())
}

#[test]
fn no_power_loss_takes_what_was_promised() {
    let Some((_, steps)) = work() else { return };
    side_by_side(&moments(&steps), |(moment, past)| {
        past.check_power_losses(moment, DRAWS, "");
    });
}

#[test]
fn no_power_loss_after_a_restart_takes_what_was_promised() {
    let Some((layer, steps)) = work() else { return };
    // Of each kind of moment the last, when there is most to lose; after a sync there is nothing.
    let last: BTreeMap<String, Past> = moments(&steps)
        .into_iter()
        .filter(|(moment, _)| !moment.starts_with("sync") && !moment.starts_with("tell"))
        .collect();
    let mut ends = Vec::new();
    for (moment, past) in last {
        let powerless = Past {
            disk: past.disk.after_power_loss(Luck::Drawn(past.steps)),
            ..past.clone()
        };
        ends.push((format!("after a power loss at {moment}: "), powerless));
        // After a kill the system still has what was not synced, and may lose it later.
        ends.push((format!("after a kill at {moment}: "), past));
    }
    side_by_side(&ends, |(end, past)| past.clone().check_restart(&layer, end));
}

#[test]
fn a_log_that_did_not_sync_would_lose_what_was_promised() {
    let Some((_, steps)) = work() else { return };
    let mut past = Past::default();
    for step in &steps {
        let is_sync = matches!(step, Step::Sync { .. });
        if !is_sync || past.disk.name_of(step) == "folder" {
            past.take(step);
        }
    }
    let folder = scratch();
    let disk = past.disk.after_power_loss(Luck::Bad);
    disk.write_to(folder.path());
    verify_against(folder.path(), &past.promises().witness).unwrap_err();
}

/// What two processes did to a log, one after the other. The first ends as if it were killed.
fn work() -> Option<(Layer, Vec<Step>)> {
    let layer = Layer::build()?;
    let folder = scratch();
    let mut steps = Vec::new();
    for _ in 0..2 {
        steps.extend(layer.run("lossy::child_works", folder.path()));
    }
    let mut past = Past::default();
    let moments: Vec<String> = steps.iter().map(|step| past.take(step)).collect();
    past.disk.check_folder(folder.path());
    for expected in MOMENTS {
        assert!(
            moments.iter().any(|moment| moment == expected),
            "{expected}"
        );
    }
    let promises = past.promises();
    assert_eq!(
        promises.witness.receipts.len(),
        2 * (2 * CALLERS * CALLS + 1)
    );
    assert!(!promises.expired.is_empty(), "content expired");
    Some((layer, steps))
}

/// The moments after which a power loss can leave something new, or something new was promised.
fn moments(steps: &[Step]) -> Vec<(String, Past)> {
    let mut past = Past::default();
    let mut moments = Vec::new();
    for step in steps {
        let moment = past.take(step);
        if changes(step) {
            moments.push((moment, past.clone()));
        }
    }
    moments
}

fn changes(step: &Step) -> bool {
    match step {
        Step::Begin | Step::Close { .. } => false,
        Step::Open { name, .. } => !name.is_empty(),
        _ => true,
    }
}

/// Checks all items, on as many threads as there are processors.
fn side_by_side<T: Sync>(items: &[T], check: impl Fn(&T) + Sync) {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for first in 0..threads {
            let check = &check;
            scope.spawn(move || items.iter().skip(first).step_by(threads).for_each(check));
        }
    });
}

/// All that happened up to a moment.
#[derive(Clone, Default)]
struct Past {
    steps: u64,
    disk: Disk,
    told: Vec<u8>,
}

impl Past {
    /// Goes on by a step; gives the moment that it is.
    fn take(&mut self, step: &Step) -> String {
        let moment = moment(step, self.disk.name_of(step));
        self.disk.take(step);
        self.steps += 1;
        if let Step::Tell(bytes) = step {
            self.told.extend(bytes);
        }
        moment
    }

    fn promises(&self) -> Promises {
        Promises::of(&self.told)
    }

    /// Has the power go at this moment: with bad luck where more is on the disk or was promised, and with drawn luck
    /// where more is not on the disk or was promised.
    fn check_power_losses(&self, moment: &str, draws: u64, place: &str) {
        let (is_sync, is_told) = (moment.starts_with("sync"), moment.starts_with("tell"));
        let bad = (is_sync || is_told).then_some(Luck::Bad);
        let draws = if is_sync { 0 } else { draws };
        let drawn = (0..draws).map(|draw| Luck::Drawn(self.steps * DRAWS + draw));
        let promises = self.promises();
        for luck in bad.into_iter().chain(drawn) {
            let disk = self.disk.after_power_loss(luck);
            let step = self.steps;
            promises.check(&disk, &format!("{place}step {step}, {moment}, {luck:?}"));
        }
    }

    /// Has another process open the log and go on, and the power go after each of its steps.
    fn check_restart(mut self, layer: &Layer, place: &str) {
        let folder = scratch();
        self.disk.write_to(folder.path());
        let steps = layer.run("lossy::child_restarts", folder.path());
        for step in &steps {
            let moment = self.take(step);
            if changes(step) {
                self.check_power_losses(&moment, DRAWS_AFTER_RESTART, place);
            }
        }
        self.disk.check_folder(folder.path());
    }
}

/// What a process told about records and destroyed content.
#[derive(Default)]
struct Promises {
    witness: Witness,
    /// Segments whose calls are destroyed.
    expired: Vec<u32>,
}

impl Promises {
    /// From the lines that were told as a whole.
    fn of(told: &[u8]) -> Self {
        let mut promises = Self::default();
        let told = String::from_utf8_lossy(told);
        for line in told
            .split_inclusive('\n')
            .filter_map(|line| line.strip_suffix('\n'))
        {
            if let Some(receipt) = line.strip_prefix("receipt ") {
                let receipt = serde_json::from_str(receipt).unwrap();
                promises.witness.receipts.push(receipt);
            } else if let Some(segment) = line.strip_prefix("expired ") {
                promises.expired.push(segment.parse().unwrap());
            }
        }
        promises
    }

    /// Opens the log that a disk holds: it recovers, and keeps what was promised.
    fn check(&self, disk: &Disk, place: &str) {
        let folder = scratch();
        let dir = folder.path();
        disk.write_to(dir);
        let opened = AuditLog::open(dir, &config());
        drop(opened.unwrap_or_else(|error| panic!("{place}: {error}")));
        let verified = verify_against(dir, &self.witness);
        let verified = verified.unwrap_or_else(|error| panic!("{place}: {error}"));
        assert_eq!(verified.open_calls, [], "{place}");
        for stored in read(dir).unwrap().map(Result::unwrap) {
            let is_call = stored.entry_type.class() == Class::Calls;
            if is_call && self.expired.contains(&stored.segment) {
                assert_eq!(stored.content, Content::Expired, "{place}");
            }
        }
    }
}

#[test]
#[ignore = "runs as a child process"]
fn child_works() {
    let Some(dir) = child_dir() else { return };
    let (log, recovery) = AuditLog::open(&dir, &config()).unwrap();
    let log = &log;
    thread::scope(|scope| {
        for caller in 0..CALLERS {
            scope.spawn(move || {
                for call in 0..CALLS {
                    // From a few bytes to many sectors.
                    let wishes = "x".repeat(3 << ((caller + call * 5) % 12));
                    make_call(log, &format!("{caller}-{call}"), &wishes);
                    expire(log);
                }
            });
        }
    });
    promise(&log.append(&admitted("left-open", "")).unwrap());
    if recovery.records == 0 {
        std::process::exit(0);
    }
}

#[test]
#[ignore = "runs as a child process"]
fn child_restarts() {
    let Some(dir) = child_dir() else { return };
    let (log, _) = AuditLog::open(&dir, &config()).unwrap();
    make_call(&log, "after", "all is well");
    promise(&log.append(&refused("refused")).unwrap());
}

fn make_call(log: &AuditLog, id: &str, wishes: &str) {
    let admission = log.append(&admitted(id, wishes)).unwrap();
    promise(&admission);
    promise(&log.append(&completed(id, admission.index)).unwrap());
}

fn expire(log: &AuditLog) {
    for expired in log.expire().unwrap() {
        assert_eq!(expired.class, Class::Calls);
        tell(&format!("expired {}", expired.segment));
    }
}

fn promise(receipt: &Receipt) {
    tell(&format!(
        "receipt {}",
        serde_json::to_string(receipt).unwrap()
    ));
}

/// One write a line, so that it is told at one moment.
fn tell(line: &str) {
    let line = format!("\n{line}\n");
    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
}
