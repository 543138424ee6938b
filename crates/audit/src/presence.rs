//! Whether the files that are written still are the files of the log.
//!
//! Invariant: what passes was, at that moment, found under the log's own path, as the very file or
//! directory that was opened, and with the length that was written. A file that was removed or
//! moved can still be written through its open descriptor, and one that was cut gets a hole;
//! neither shows in the result of a write. Absent: finished segments, which [`crate::verify`]
//! judges; any repair.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use crate::error::{AuditError, Displacement};

/// What a file is, whatever its name. Not used again for as long as the file is held open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// Checks that the path still leads to the directory that was opened.
pub(crate) fn check_directory(path: &Path, opened: Identity) -> Result<(), AuditError> {
    look(path, std::fs::metadata(path), opened)?;
    Ok(())
}

/// Checks that the path still is the open segment, that it has no other name, and its length.
pub(crate) fn check_segment(path: &Path, opened: Identity, bytes: u64) -> Result<(), AuditError> {
    let metadata = look(path, std::fs::symlink_metadata(path), opened)?;
    let links = metadata.nlink();
    if links != 1 {
        return Err(displaced(path, Displacement::Linked { links }));
    }
    let found = metadata.len();
    if found != bytes {
        let expected = bytes;
        return Err(displaced(path, Displacement::Length { expected, found }));
    }
    Ok(())
}

fn look(
    path: &Path,
    metadata: io::Result<Metadata>,
    opened: Identity,
) -> Result<Metadata, AuditError> {
    match metadata {
        Ok(metadata) if Identity::of(&metadata) == opened => Ok(metadata),
        Ok(_) => Err(displaced(path, Displacement::Replaced)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(displaced(path, Displacement::Gone))
        }
        Err(error) => {
            let source = Arc::new(error);
            Err(displaced(path, Displacement::Hidden { source }))
        }
    }
}

fn displaced(path: &Path, found: Displacement) -> AuditError {
    AuditError::Displaced {
        path: path.to_owned(),
        found,
    }
}
