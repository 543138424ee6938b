//! One writer a directory, and a directory that no stranger can change.
//!
//! Invariant: whoever holds a [`DirectoryLock`] is the only one on this machine who writes the
//! log. The lock is the system's (`flock`) and is on the directory itself, so no file in it can be
//! removed to get around it, and it ends with the process that holds it, however that ends. The
//! process id in the file `lock` is for messages only. Absent: locks for readers; any change to
//! the mode or owner of a directory that was there before.

use std::fs::{DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::process::geteuid;

use crate::error::AuditError;
use crate::presence::Identity;
use crate::segment::{keep_name, open_to_read, sync_parent};

const HOLDER_NAME: &str = "lock";
const DIRECTORY_MODE: u32 = 0o700;
const HOLDER_MODE: u32 = 0o600;
/// Permission bits that a log's directory must not have: writing for its group or for others.
const MODE_FORBIDDEN: u32 = 0o022;
/// A process id has at most ten digits and a line end.
const HOLDER_BYTES_MAX: u64 = 16;

/// Held for as long as the log is open.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    identity: Identity,
    /// Held open, so that no other directory gets its identity.
    directory: File,
}

impl DirectoryLock {
    /// Takes the lock of the directory, which is made if there is none.
    pub(crate) fn take(dir: &Path) -> Result<Self, AuditError> {
        make(dir).map_err(|error| AuditError::io("make", dir, error))?;
        let directory = open_directory(dir).map_err(|error| AuditError::io("open", dir, error))?;
        let metadata = directory.metadata();
        let metadata = metadata.map_err(|error| AuditError::io("look at", dir, error))?;
        refuse_strangers(dir, &metadata)?;
        match directory.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(AuditError::Locked {
                    dir: dir.to_owned(),
                    holder: holder(dir),
                });
            }
            Err(TryLockError::Error(error)) => return Err(AuditError::io("lock", dir, error)),
        }
        if let Err(error) = name_holder(dir) {
            // The disk may be full; the lock itself holds without a name beside it.
            ::log::warn!(
                "cannot write the process id to {}: {error}",
                dir.join(HOLDER_NAME).display()
            );
        }
        Ok(Self {
            identity: Identity::of(&metadata),
            directory,
        })
    }

    /// Which directory is locked.
    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }
}

impl Drop for DirectoryLock {
    /// Unlocks in so many words. Closing alone would leave the lock with a process that another
    /// thread is starting at this moment: it has a copy of the descriptor until its `exec`.
    fn drop(&mut self) {
        if let Err(error) = self.directory.unlock() {
            ::log::warn!("cannot unlock the audit log's directory: {error}");
        }
    }
}

/// Makes the directory and those above it, for their owner alone; leaves one that exists alone.
fn make(dir: &Path) -> io::Result<()> {
    if dir.exists() {
        keep_name(dir);
        return Ok(());
    }
    let is_missing = |dir: &&Path| !dir.as_os_str().is_empty() && !dir.exists();
    let missing: Vec<&Path> = dir.ancestors().take_while(is_missing).collect();
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(dir)?;
    missing.into_iter().try_for_each(sync_parent)
}

/// Opens a directory and nothing else, so that a pipe of that name is not waited for.
fn open_directory(dir: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::DIRECTORY.bits().cast_signed())
        .open(dir)
}

/// Refuses a directory in which another user could remove, replace or plant files. Root may keep
/// its log in a directory of another user.
fn refuse_strangers(dir: &Path, metadata: &Metadata) -> Result<(), AuditError> {
    let user = geteuid();
    let owner = metadata.uid();
    if !user.is_root() && owner != user.as_raw() {
        return Err(AuditError::ForeignDirectory {
            dir: dir.to_owned(),
            owner,
            user: user.as_raw(),
        });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & MODE_FORBIDDEN != 0 {
        return Err(AuditError::WritableDirectory {
            dir: dir.to_owned(),
            mode,
        });
    }
    Ok(())
}

fn name_holder(dir: &Path) -> io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(HOLDER_MODE)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(dir.join(HOLDER_NAME))?;
    file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)
}

/// The process that the file names, if it is there and names one.
fn holder(dir: &Path) -> Option<u32> {
    let mut text = String::new();
    open_to_read(&dir.join(HOLDER_NAME))
        .ok()?
        .take(HOLDER_BYTES_MAX)
        .read_to_string(&mut text)
        .ok()?;
    text.trim_end().parse().ok()
}
