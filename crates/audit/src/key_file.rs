//! Small files with keys, read whole into memory that is wiped.
//!
//! Invariant: what was read and what is said about the file's owner and mode come from the same
//! open file, and no more is read than the caller's bound. Absent: what the bytes mean, and whose
//! rights are too wide.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

/// Why a file with keys could not be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KeyFileError {
    /// A file operation failed.
    #[error("cannot {action} {path}: {source}; check that it exists and its owner")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: Arc<io::Error>,
    },
    /// Longer than any such file is.
    #[error("{path} has more than {max} bytes, so it is not a file of keys; check the path")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The bound in bytes.
        max: usize,
    },
    /// A text file was expected.
    #[error("{path} is not text in UTF-8, so it is not a file of age keys; check the path")]
    NotText {
        /// The file.
        path: PathBuf,
    },
}

impl KeyFileError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source: Arc::new(source),
        }
    }
}

/// Reads a file of at most `bytes_max` bytes.
pub(crate) fn read(
    path: &Path,
    bytes_max: usize,
) -> Result<(Zeroizing<Vec<u8>>, Metadata), KeyFileError> {
    let file = File::open(path).map_err(|error| KeyFileError::io("open", path, error))?;
    let metadata = file
        .metadata()
        .map_err(|error| KeyFileError::io("look at", path, error))?;
    // One byte of room more than is read, so that the buffer never moves and leaves a copy.
    let mut bytes = Zeroizing::new(Vec::with_capacity(bytes_max + 2));
    file.take(bytes_max as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| KeyFileError::io("read", path, error))?;
    if bytes.len() > bytes_max {
        return Err(KeyFileError::TooLarge {
            path: path.to_owned(),
            max: bytes_max,
        });
    }
    Ok((bytes, metadata))
}
