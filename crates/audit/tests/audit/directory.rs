//! The log's directory: who may write to it, what is done to its mode, and who holds its lock.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use postern_audit::{AuditError, AuditLog, Recovery, verify_with};
use rustix::process::{Uid, geteuid};
use tempfile::TempDir;

use crate::fixtures::{plain, refused, sample, segments};

/// A user that is neither root nor, as a rule, anybody.
const STRANGER: u32 = 65534;

fn open(dir: &Path) -> Result<(AuditLog, Recovery), AuditError> {
    AuditLog::open(dir, &plain())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_the_log_makes_is_private() {
    let parent = TempDir::new().unwrap();
    let dir = parent.path().join("state").join("audit");
    sample(&dir);
    assert_eq!(mode(&dir), 0o700);
    for path in segments(&dir) {
        assert_eq!(mode(&path), 0o600);
    }
    assert_eq!(mode(&dir.join("lock")), 0o600);
}

#[test]
fn the_mode_of_a_directory_that_exists_is_left_alone() {
    for readable in [0o700, 0o750, 0o755, 0o2750] {
        let dir = TempDir::new().unwrap();
        set_mode(dir.path(), readable);
        drop(open(dir.path()).unwrap());
        assert_eq!(mode(dir.path()), readable, "{readable:o}");
    }
}

#[test]
fn a_directory_that_others_may_write_to_is_refused() {
    for writable in [0o770, 0o720, 0o702, 0o777, 0o1777] {
        let dir = TempDir::new().unwrap();
        set_mode(dir.path(), writable);
        let error = open(dir.path()).unwrap_err();
        assert!(
            matches!(error, AuditError::WritableDirectory { mode, .. } if mode == writable),
            "{error:?}"
        );
        let (message, path) = (error.to_string(), dir.path().display().to_string());
        for part in [&path, &format!("{writable:04o}"), "chmod 700"] {
            assert!(message.contains(part), "{part:?} is missing: {message}");
        }
        assert_eq!(mode(dir.path()), writable, "the mode is left alone");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_directory_of_another_user_is_refused() {
    let ours = TempDir::new().unwrap();
    set_mode(ours.path(), 0o755);
    // Root becomes another user for the length of one thread; anybody else tries a folder of root.
    let (dir, owner) = if geteuid().is_root() {
        (ours.path().to_owned(), 0)
    } else {
        ("/".into(), fs::metadata("/").unwrap().uid())
    };
    let opened = thread::spawn({
        let dir = dir.clone();
        move || {
            if geteuid().is_root() {
                rustix::thread::set_thread_uid(Uid::from_raw(STRANGER)).unwrap();
            }
            (geteuid().as_raw(), open(&dir))
        }
    });
    let (us, opened) = opened.join().unwrap();
    let error = opened.unwrap_err();
    match &error {
        AuditError::ForeignDirectory {
            dir: named,
            owner: found,
            user,
        } => assert_eq!((named, *found, *user), (&dir, owner, us)),
        other => panic!("{other:?}"),
    }
    let message = error.to_string();
    assert!(message.contains("chown"), "{message}");
    assert_eq!(fs::read_dir(ours.path()).unwrap().count(), 0);
}

#[test]
fn root_may_keep_its_log_in_a_directory_of_another_user() {
    if !geteuid().is_root() {
        println!("skipped: only root can give a folder away");
        return;
    }
    let dir = TempDir::new().unwrap();
    chown(dir.path(), Some(STRANGER), None).unwrap();
    open(dir.path()).unwrap();
}

#[test]
fn what_is_no_directory_is_refused_and_not_waited_for() {
    let root = TempDir::new().unwrap();
    let (file, pipe) = (root.path().join("file"), root.path().join("pipe"));
    fs::write(&file, "kept").unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    for path in [&file, &pipe] {
        let opened = open(path);
        assert!(matches!(opened, Err(AuditError::Io { .. })), "{opened:?}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"kept");
}

#[test]
fn a_second_writer_is_refused_by_name() {
    let dir = TempDir::new().unwrap();
    let (log, _) = open(dir.path()).unwrap();
    match open(dir.path()) {
        Err(AuditError::Locked { holder, .. }) => assert_eq!(holder, Some(std::process::id())),
        other => panic!("{other:?}"),
    }
    drop(log);
    open(dir.path()).unwrap();
}

#[test]
fn a_second_writer_is_refused_whatever_becomes_of_the_lock_file() {
    let tamperings: [fn(&Path); 5] = [
        |lock| fs::remove_file(lock).unwrap(),
        |lock| fs::rename(lock, lock.with_extension("old")).unwrap(),
        |lock| fs::write(lock, "no process id, and far too long for one").unwrap(),
        |lock| {
            fs::remove_file(lock).unwrap();
            std::os::unix::fs::symlink("/dev/zero", lock).unwrap();
        },
        |lock| {
            fs::remove_file(lock).unwrap();
            assert!(Command::new("mkfifo").arg(lock).status().unwrap().success());
        },
    ];
    for tamper in tamperings {
        let dir = TempDir::new().unwrap();
        let (log, _) = open(dir.path()).unwrap();
        tamper(&dir.path().join("lock"));
        for _ in 0..2 {
            let second = open(dir.path());
            assert!(
                matches!(second, Err(AuditError::Locked { holder: None, .. })),
                "{second:?}"
            );
        }
        let last = log.append(&refused("still-the-only-writer")).unwrap();
        drop(log);
        drop(open(dir.path()).unwrap());
        assert_eq!(verify_with(dir.path(), &last).unwrap().segments, 2);
    }
}

/// A process that is being started has, until its `exec`, a copy of each open descriptor.
#[test]
fn a_closed_log_opens_again_at_once_while_processes_are_started() {
    let dir = TempDir::new().unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert!(Command::new("true").status().unwrap().success());
            }
        });
        let opened: Result<Vec<_>, _> = (0..100).map(|_| open(dir.path()).map(drop)).collect();
        done.store(true, Ordering::Relaxed);
        opened.unwrap();
    });
}
