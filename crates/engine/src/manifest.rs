//! The manifest that pins a model file: `{id, path, sha256, bytes}`.
//!
//! Invariant: a manifest read from disk has a valid id and a size within bounds; its
//! `path` is usable as it stands (already joined with the manifest's folder).

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::digest::Sha256Digest;
use crate::error::{EngineError, Result};

/// Largest model file that is accepted.
pub(crate) const MODEL_BYTES_MAX: u64 = 256 << 30;
/// Largest manifest that is read.
const MANIFEST_BYTES_MAX: u64 = 64 << 10;
const ID_BYTES_MAX: usize = 64;
const HASH_BUFFER_BYTES: usize = 1 << 20;

/// What a model file must be to be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelManifest {
    /// The name under which calls are recorded: 1 to 64 of `A-Z a-z 0-9 . _ -`.
    pub id: String,
    /// The file. On disk it is relative to the manifest's folder.
    pub path: PathBuf,
    /// Digest of the whole file.
    pub sha256: Sha256Digest,
    /// Size of the file.
    pub bytes: u64,
}

impl ModelManifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// [`EngineError::Read`], [`EngineError::ManifestInvalid`] or [`EngineError::ManifestField`].
    pub fn read(manifest: &Path) -> Result<Self> {
        let text = read_bounded(manifest)?;
        let mut read: Self =
            serde_json::from_slice(&text).map_err(|source| EngineError::ManifestInvalid {
                path: manifest.to_owned(),
                source,
            })?;
        read.check(manifest)?;
        read.path = folder_of(manifest).join(&read.path);
        Ok(read)
    }

    /// Reads a file once and makes the manifest that pins it.
    ///
    /// # Errors
    /// [`EngineError::Read`] or [`EngineError::ManifestField`].
    pub fn pin(file: &Path, id: &str) -> Result<Self> {
        let (sha256, bytes) = hash_file(file)?;
        let pinned = Self {
            id: id.to_owned(),
            path: file.to_owned(),
            sha256,
            bytes,
        };
        pinned.check(file)?;
        Ok(pinned)
    }

    /// Writes the manifest. A file in or below the manifest's folder is named relative to it.
    ///
    /// # Errors
    /// [`EngineError::Write`] or, when the paths cannot be resolved, [`EngineError::Read`].
    pub fn write(&self, manifest: &Path) -> Result<()> {
        let folder = canonical(folder_of(manifest))?;
        let file = canonical(&self.path)?;
        let path = file
            .strip_prefix(&folder)
            .map(Path::to_owned)
            .unwrap_or(file);
        let written = Self {
            path,
            ..self.clone()
        };
        let mut text = serde_json::to_string_pretty(&written).map_err(|source| {
            EngineError::ManifestInvalid {
                path: manifest.to_owned(),
                source,
            }
        })?;
        text.push('\n');
        fs::write(manifest, text).map_err(|source| EngineError::Write {
            path: manifest.to_owned(),
            source,
        })
    }

    fn check(&self, path: &Path) -> Result<()> {
        let field = |field, reason| {
            Err(EngineError::ManifestField {
                path: path.to_owned(),
                field,
                reason,
            })
        };
        if !is_id(&self.id) {
            return field("id", "it must be 1 to 64 of A-Z a-z 0-9 . _ -");
        }
        if self.bytes == 0 || self.bytes > MODEL_BYTES_MAX {
            return field("bytes", "it must be from 1 to 256 GiB");
        }
        Ok(())
    }
}

fn is_id(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(allowed)
}

/// The folder of a file; the current one for a bare name.
fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn canonical(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).map_err(|source| EngineError::Read {
        path: path.to_owned(),
        source,
    })
}

fn read_bounded(path: &Path) -> Result<Vec<u8>> {
    let failed = |source| EngineError::Read {
        path: path.to_owned(),
        source,
    };
    let mut text = Vec::new();
    File::open(path)
        .map_err(failed)?
        .take(MANIFEST_BYTES_MAX + 1)
        .read_to_end(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > MANIFEST_BYTES_MAX {
        return Err(failed(std::io::Error::other(format!(
            "a manifest has at most {MANIFEST_BYTES_MAX} bytes"
        ))));
    }
    Ok(text)
}

fn hash_file(path: &Path) -> Result<(Sha256Digest, u64)> {
    let failed = |source| EngineError::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(failed)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; HASH_BUFFER_BYTES];
    let mut bytes = 0;
    loop {
        let count = file.read(&mut buffer).map_err(failed)?;
        if count == 0 {
            return Ok((Sha256Digest::from_hasher(hasher), bytes));
        }
        bytes += count as u64;
        if bytes > MODEL_BYTES_MAX {
            return Err(failed(std::io::Error::other("a model has at most 256 GiB")));
        }
        hasher.update(&buffer[..count]);
    }
}
