//! Content that is kept no longer: what goes, what stays, and what a crash in between leaves.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use postern_audit::{
    AuditConfig, AuditError, AuditLog, Class, Content, DiskFull, Expired, Hold, Identities, Keep,
    Retention, read_with, verify, verify_with,
};
use tempfile::TempDir;

use crate::fixtures::{admitted, auditor, completed, copy, plain, refused, sealed, segments};
use crate::format::python_says;

const DAY: i64 = 24 * 60 * 60;

fn at(day: i64) -> impl Fn() -> Timestamp + Send {
    move || Timestamp::from_second(day * DAY).unwrap()
}

fn keep(days: u32, bytes: u64) -> Retention {
    let none = Keep { days: 0, bytes: 0 };
    Retention {
        administration: none,
        calls: Keep { days, bytes },
        refusals: none,
        holds: Vec::new(),
    }
}

fn expire(log: &AuditLog, retention: &Retention) -> Result<Vec<Expired>, AuditError> {
    log.set_retention(retention.clone());
    log.expire()
}

/// Three segments, of days 0, 10 and 20, each with a call and a refusal.
fn three_days(dir: &Path, config: &AuditConfig) {
    for day in [0, 10, 20] {
        let (log, _) = AuditLog::open_with_clock(dir, config, at(day)).unwrap();
        let call = log.append(&admitted("call", "soon forgotten")).unwrap();
        log.append(&completed("call", call.index)).unwrap();
        log.append(&refused("kept")).unwrap();
    }
}

/// Which classes of which segments are gone.
fn gone(dir: &Path) -> Vec<(u32, Class)> {
    let auditor = Identities::parse(&auditor().to_text()).unwrap();
    let mut gone: Vec<(u32, Class)> = read_with(dir, auditor)
        .unwrap()
        .map(Result::unwrap)
        .filter(|stored| stored.content == Content::Expired)
        .map(|stored| (stored.segment, stored.entry_type.class()))
        .collect();
    gone.dedup();
    gone
}

#[test]
fn what_is_too_old_is_destroyed_and_the_log_still_verifies() {
    for config in [plain(), sealed()] {
        let dir = TempDir::new().unwrap();
        three_days(dir.path(), &config);
        let (log, _) = AuditLog::open_with_clock(dir.path(), &config, at(30)).unwrap();
        let receipt = log.append(&refused("witness")).unwrap();
        assert_eq!(expire(&log, &keep(90, 0)).unwrap(), []);
        let expired = expire(&log, &keep(15, 0)).unwrap();
        let expected = |segment| Expired {
            segment,
            class: Class::Calls,
            reason: "age".to_owned(),
        };
        assert_eq!(expired, [expected(0), expected(1)]);
        assert_eq!(expire(&log, &keep(15, 0)).unwrap(), [], "once");
        drop(log);
        assert_eq!(gone(dir.path()), [(0, Class::Calls), (1, Class::Calls)]);
        let verified = verify_with(dir.path(), &receipt).unwrap();
        assert_eq!(verified.expired_records, 4);
        let bytes = fs::read(&segments(dir.path())[0]).unwrap();
        let secret = b"soon forgotten";
        assert!(!bytes.windows(secret.len()).any(|bytes| bytes == secret));
        assert!(!dir.path().join("expiring.old").exists());
        // The cache and the proofs do not care.
        let (log, _) = AuditLog::open_with_clock(dir.path(), &config, at(31)).unwrap();
        log.inclusion_proof(1, 10).unwrap();
    }
}

#[test]
fn what_is_too_much_is_destroyed_oldest_first() {
    let dir = TempDir::new().unwrap();
    three_days(dir.path(), &sealed());
    let (log, _) = AuditLog::open_with_clock(dir.path(), &sealed(), at(30)).unwrap();
    let expired = expire(&log, &keep(0, 3500)).unwrap();
    assert_eq!(expired.len(), 1, "{expired:?}");
    assert_eq!((expired[0].segment, &*expired[0].reason), (0, "bytes"));
    verify(dir.path()).unwrap();
}

#[test]
fn what_is_held_stays() {
    let dir = TempDir::new().unwrap();
    three_days(dir.path(), &sealed());
    let (log, _) = AuditLog::open_with_clock(dir.path(), &sealed(), at(300)).unwrap();
    let day = |day: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(day * DAY);
    let held = Retention {
        holds: vec![Hold {
            from: day(5),
            until: day(15),
        }],
        ..keep(1, 1)
    };
    let expired = expire(&log, &held).unwrap();
    let numbers: Vec<u32> = expired.iter().map(|one| one.segment).collect();
    assert_eq!(numbers, [0, 2], "all but what is held and what is written");
    verify(dir.path()).unwrap();
}

/// A crash after the record, after the second name, and before the old file is overwritten.
#[test]
fn an_expiry_that_was_cut_off_is_finished() {
    let dir = TempDir::new().unwrap();
    three_days(dir.path(), &sealed());
    let before = copy(dir.path());
    let (log, _) = AuditLog::open_with_clock(dir.path(), &sealed(), at(30)).unwrap();
    expire(&log, &keep(15, 0)).unwrap();
    drop(log);
    for is_replaced in [false, true] {
        let crashed = copy(dir.path());
        let old = crashed.path().join("expiring.old");
        let segment = crashed.path().join("00000000.seg");
        let whole = before.path().join("00000000.seg");
        if is_replaced {
            fs::copy(&whole, &old).unwrap();
        } else {
            fs::copy(&whole, &segment).unwrap();
            fs::hard_link(&segment, &old).unwrap();
            fs::write(crashed.path().join("expiring.new"), "not whole").unwrap();
        }
        verify(crashed.path()).unwrap();
        drop(AuditLog::open_with_clock(crashed.path(), &sealed(), at(31)).unwrap());
        assert_eq!(gone(crashed.path()), [(0, Class::Calls), (1, Class::Calls)]);
        verify(crashed.path()).unwrap();
        assert!(!old.exists());
        assert!(!crashed.path().join("expiring.new").exists());
        let done = fs::metadata(&segment).unwrap().ino();
        drop(AuditLog::open_with_clock(crashed.path(), &sealed(), at(32)).unwrap());
        assert_eq!(fs::metadata(&segment).unwrap().ino(), done, "and only once");
    }
}

#[test]
fn a_nearly_full_disk_refuses_calls_or_makes_room() {
    let full = |disk_full| AuditConfig {
        // More than any disk has free.
        disk_free_bytes_min: u64::MAX,
        disk_full,
        ..sealed()
    };
    let dir = TempDir::new().unwrap();
    three_days(dir.path(), &sealed());
    let refusing = full(DiskFull::Refuse);
    let (log, _) = AuditLog::open_with_clock(dir.path(), &refusing, at(30)).unwrap();
    let error = log.append(&admitted("call", "")).unwrap_err();
    let is_told = matches!(error, AuditError::DiskNearlyFull { min: u64::MAX, .. });
    assert!(is_told, "{error:?}");
    log.append(&refused("can-be-recorded")).unwrap();
    assert_eq!(gone(dir.path()), []);
    drop(log);
    let expiring = full(DiskFull::Expire);
    let (log, _) = AuditLog::open_with_clock(dir.path(), &expiring, at(30)).unwrap();
    log.append(&admitted("call", "")).unwrap_err();
    let mut classes: Vec<(u32, Class)> = Vec::new();
    for segment in 0..3 {
        classes.extend(Class::ALL.map(|class| (segment, class)));
    }
    classes.push((3, Class::Administration));
    classes.push((3, Class::Refusals));
    let mut found = gone(dir.path());
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, classes, "all but the segment in work");
    verify(dir.path()).unwrap();
}

#[test]
fn a_verifier_written_from_the_description_accepts_what_expired() {
    let dir = TempDir::new().unwrap();
    three_days(dir.path(), &sealed());
    let (log, _) = AuditLog::open_with_clock(dir.path(), &sealed(), at(30)).unwrap();
    expire(&log, &keep(15, 0)).unwrap();
    drop(log);
    let verified = verify(dir.path()).unwrap();
    let expected = format!("{} {} {}", verified.records, verified.head, verified.root);
    let Some(said) = python_says(dir.path()) else {
        println!("no python3 here, nothing compared");
        return;
    };
    assert_eq!(said, Ok(expected));
}
