//! Checkpoints and proofs: from an open log, from its files, and what the leaf cache may not do.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::thread;

use postern_audit::{
    AuditConfig, AuditError, AuditLog, Frontier, Hash, Receipt, VerifierKey, Witness,
    consistency_proof, inclusion_proof, read, verify, verify_against,
};
use tempfile::TempDir;

use crate::fixtures::{open, plain, refused, sealed};

/// Records of the large log: two whole chunks of the leaf cache, and a part of one.
const RECORDS: u64 = 9001;

fn hash(hex: &str) -> Hash {
    let mut hash = [0; 32];
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
    }
    hash
}

/// Appends until the log has [`RECORDS`] records.
fn fill(log: &AuditLog) {
    const THREADS: u64 = 60;
    thread::scope(|scope| {
        for worker in 0..THREADS {
            scope.spawn(move || {
                for _ in 0..(RECORDS - 1) / THREADS {
                    log.append(&refused(&format!("worker-{worker}"))).unwrap();
                }
            });
        }
    });
}

#[test]
fn proofs_hold_against_the_roots_of_the_log_and_no_others() {
    let dir = TempDir::new().unwrap();
    let (log, _) = open(dir.path(), &plain()).unwrap();
    fill(&log);
    let leaves: Vec<Hash> = read(dir.path())
        .unwrap()
        .map(|stored| hash(&stored.unwrap().leaf))
        .collect();
    assert_eq!(leaves.len() as u64, RECORDS);
    let root = |size: u64| {
        let mut tree = Frontier::new();
        leaves[..size as usize]
            .iter()
            .for_each(|leaf| tree.push(*leaf));
        tree.root()
    };
    for (index, size) in [
        (0, 1),
        (0, RECORDS),
        (4095, 4096),
        (4096, 4097),
        (5000, 8500),
        (9000, RECORDS),
    ] {
        let proof = log.inclusion_proof(index, size).unwrap();
        proof.verify(&leaves[index as usize], &root(size)).unwrap();
        proof.verify(&leaves[index as usize], &[0; 32]).unwrap_err();
        assert_eq!(inclusion_proof(dir.path(), index, size).unwrap(), proof);
    }
    for (old, new) in [
        (1, 2),
        (4096, 8192),
        (4097, RECORDS),
        (8192, 8193),
        (9000, RECORDS),
    ] {
        let proof = log.consistency_proof(old, new).unwrap();
        proof.verify(&root(old), &root(new)).unwrap();
        assert_eq!(consistency_proof(dir.path(), old, new).unwrap(), proof);
    }
    for (index, size) in [(RECORDS, RECORDS), (0, RECORDS + 1)] {
        let online = log.inclusion_proof(index, size);
        assert!(matches!(online, Err(AuditError::Proof(_))), "{online:?}");
        let offline = inclusion_proof(dir.path(), index, size);
        assert!(matches!(offline, Err(AuditError::Proof(_))), "{offline:?}");
    }
    check_cache(&log, &dir);
}

/// What the cache says is never believed, and opening the log mends it.
fn check_cache(log: &AuditLog, dir: &TempDir) {
    let before = log.inclusion_proof(0, RECORDS).unwrap();
    let path = dir.path().join("leaves");
    let cache = OpenOptions::new().write(true).open(&path).unwrap();
    cache.write_all_at(&[0; 32], 5 * 32).unwrap();
    let altered = log.inclusion_proof(0, RECORDS);
    assert!(matches!(altered, Err(AuditError::Proof(_))), "{altered:?}");
    fs::remove_file(&path).unwrap();
    let other = TempDir::new().unwrap();
    for item in fs::read_dir(dir.path()).unwrap() {
        let path = item.unwrap().path();
        fs::copy(&path, other.path().join(path.file_name().unwrap())).unwrap();
    }
    fs::write(other.path().join("leaves"), "nothing that fits").unwrap();
    let (log, _) = open(other.path(), &plain()).unwrap();
    assert_eq!(log.inclusion_proof(0, RECORDS).unwrap(), before);
}

#[test]
fn checkpoints_stand_where_the_configuration_wants_them() {
    let dir = TempDir::new().unwrap();
    let config = AuditConfig {
        checkpoint_records: 4,
        ..sealed()
    };
    let (log, _) = open(dir.path(), &config).unwrap();
    let signer: VerifierKey = log.signer().parse().unwrap();
    let size = |note: &str| signer.open(note).unwrap().size;
    let receipts: Vec<Receipt> = (0..10)
        .map(|_| log.append(&refused("r")).unwrap())
        .collect();
    let sizes: Vec<u64> = receipts.iter().map(|one| size(&one.checkpoint)).collect();
    assert_eq!(sizes, [1, 1, 1, 5, 5, 5, 5, 9, 9, 9]);
    assert_eq!(verify(dir.path()).unwrap().after_checkpoint, 2);
    assert_eq!(size(&log.checkpoint_if_due().unwrap()), 9);
    assert_eq!(size(&log.checkpoint().unwrap()), 11);
    assert_eq!(verify(dir.path()).unwrap().after_checkpoint, 0);
    log.append(&refused("r")).unwrap();
    drop(log);
    let verified = verify(dir.path()).unwrap();
    let newest = verified.checkpoint.unwrap();
    assert_eq!((newest.size, verified.after_checkpoint), (12, 0));
    assert_eq!(newest.root, verified.root);
    let kept = fs::read_to_string(dir.path().join("checkpoint")).unwrap();
    assert_eq!(kept, newest.note);
    let witness = Witness {
        signer: Some(signer),
        receipts,
        checkpoints: vec![kept],
    };
    verify_against(dir.path(), &witness).unwrap();
}

#[test]
fn a_checkpoint_falls_due_with_time() {
    let dir = TempDir::new().unwrap();
    let config = AuditConfig {
        checkpoint_seconds: 1,
        ..plain()
    };
    let (log, _) = open(dir.path(), &config).unwrap();
    let signer: VerifierKey = log.signer().parse().unwrap();
    let size = |note: &str| signer.open(note).unwrap().size;
    log.append(&refused("early")).unwrap();
    thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(size(&log.checkpoint_if_due().unwrap()), 2);
    thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(size(&log.checkpoint_if_due().unwrap()), 2, "nothing is new");
    let receipt = log.append(&refused("late")).unwrap();
    assert_eq!(size(&receipt.checkpoint), 3);
}
