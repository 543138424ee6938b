//! One writer a directory.
//!
//! Invariant: whoever holds a [`DirectoryLock`] is the only one on this machine who writes the
//! log. The lock is the system's (`flock`), so it ends with the process that holds it, however
//! that ends; the process id in the file is for messages only. Absent: locks for readers.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use crate::error::AuditError;
use crate::presence::Identity;
use crate::segment::sync_directory;

const LOCK_NAME: &str = "lock";
const DIRECTORY_MODE: u32 = 0o700;
const LOCK_MODE: u32 = 0o600;
/// A process id has at most ten digits and a line end.
const HOLDER_BYTES_MAX: u64 = 16;

/// Held for as long as the log is open.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    directory: Identity,
    /// Held open, so that no other directory gets its identity.
    _directory: File,
    _file: File,
}

impl DirectoryLock {
    /// Makes the directory private, if need be the directory itself, and takes the lock.
    pub(crate) fn take(dir: &Path) -> Result<Self, AuditError> {
        make_private(dir).map_err(|error| AuditError::io("make private", dir, error))?;
        let directory = File::open(dir).map_err(|error| AuditError::io("open", dir, error))?;
        let metadata = directory.metadata();
        let metadata = metadata.map_err(|error| AuditError::io("look at", dir, error))?;
        let path = dir.join(LOCK_NAME);
        let failed = |error| AuditError::io("lock", &path, error);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(LOCK_MODE)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(AuditError::Locked {
                    dir: dir.to_owned(),
                    holder: holder(&file),
                });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        if let Err(error) = name_holder(&file) {
            // The disk may be full; the lock itself holds without a name in it.
            ::log::warn!("cannot write the process id to {}: {error}", path.display());
        }
        Ok(Self {
            directory: Identity::of(&metadata),
            _directory: directory,
            _file: file,
        })
    }

    /// Which directory is locked.
    pub(crate) fn directory(&self) -> Identity {
        self.directory
    }
}

fn make_private(dir: &Path) -> io::Result<()> {
    if !dir.exists() {
        DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(dir)?;
        match dir.parent() {
            Some(parent) if parent.as_os_str().is_empty() => sync_directory(Path::new("."))?,
            Some(parent) => sync_directory(parent)?,
            None => {}
        }
    }
    let mode = std::fs::metadata(dir)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        ::log::warn!(
            "{} had mode {mode:o}, now {DIRECTORY_MODE:o}",
            dir.display()
        );
        std::fs::set_permissions(dir, Permissions::from_mode(DIRECTORY_MODE))?;
    }
    Ok(())
}

fn name_holder(file: &File) -> io::Result<()> {
    file.set_len(0)?;
    file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)
}

fn holder(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(HOLDER_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim_end().parse().ok()
}
