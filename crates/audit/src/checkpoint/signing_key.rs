//! The device's own key, with which it signs its log and checkpoints of it.
//!
//! Invariant: the file of a key appears whole or not at all, is never overwritten, and is read
//! only if nobody but its owner can. The seed leaves the memory of the process when the key is
//! dropped. Absent: a passphrase, since a daemon starts without anybody beside it.

use std::fs::{Metadata, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use rustix::process::geteuid;
use zeroize::Zeroizing;

use super::note::{KeyName, VerifierKey};
use crate::key_file::{self, KeyFileError};
use crate::segment::{keep_name, sync_parent};
use crate::signature::SIGNATURE_BYTES;

/// Bytes of an Ed25519 seed (RFC 8032, section 5.1.5), and of the file.
const SEED_BYTES: usize = 32;
const FILE_MODE: u32 = 0o600;
/// Permission bits that the file must not have: anything for its group and for others.
const MODE_FORBIDDEN: u32 = 0o077;

/// Why there is no signing key.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KeyError {
    /// The file could not be read or written.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// Others than its owner may use the file.
    #[error(
        "the signing key {path} has mode {mode:04o}: others than its owner could sign checkpoints, so it may be known already; run `chmod 600 {path}` if it is not, else move it away together with the log that it signs, and both begin anew"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file belongs to another user, who could exchange it.
    #[error(
        "the signing key {path} belongs to user {owner}, but this process runs as user {user}; run `chown {user} {path}` or run as its owner"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// User id of its owner.
        owner: u32,
        /// Effective user id of this process.
        user: u32,
    },
    /// The file does not hold a seed.
    #[error(
        "the signing key {path} {problem}; it must be the {SEED_BYTES} bytes that were written at the first start: bring it back from a backup, or move it away together with the log that it signs, and both begin anew"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The system gave no random bytes.
    #[error("the system gives no random bytes for a signing key")]
    Randomness,
}

/// An Ed25519 key with its name. See [`VerifierKey`] for the public half.
pub struct SigningKey {
    /// In one place on the heap, so that moving the key leaves no copy behind.
    seed: Zeroizing<Vec<u8>>,
    pair: Ed25519KeyPair,
    verifier: VerifierKey,
}

impl SigningKey {
    /// A new random key, not stored anywhere yet.
    ///
    /// # Errors
    ///
    /// [`KeyError::Randomness`].
    pub fn generate(name: KeyName) -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new(vec![0; SEED_BYTES]);
        aws_lc_rs::rand::fill(&mut seed).map_err(|_| KeyError::Randomness)?;
        Ok(Self::from_seed(name, seed))
    }

    /// Reads the key from its file.
    ///
    /// # Errors
    ///
    /// [`KeyError::File`] if it cannot be read, [`KeyError::Exposed`] or [`KeyError::Foreign`] if
    /// others have power over it, [`KeyError::Damaged`] if it holds something else.
    pub fn load(path: &Path, name: KeyName) -> Result<Self, KeyError> {
        let damaged = |problem| KeyError::Damaged {
            path: path.to_owned(),
            problem,
        };
        let (seed, metadata) = key_file::read(path, SEED_BYTES)?;
        refuse_strangers(path, &metadata)?;
        if seed.len() != SEED_BYTES {
            return Err(damaged("is too short"));
        }
        if seed.iter().all(|byte| *byte == 0) {
            return Err(damaged("holds nothing but zeros"));
        }
        Ok(Self::from_seed(name, seed))
    }

    /// Writes the key to a new file that only its owner can read; it is on the disk when this
    /// returns.
    ///
    /// # Errors
    ///
    /// [`KeyError::File`], also if there is a file of that name.
    pub fn store(&self, path: &Path) -> Result<(), KeyError> {
        let failed = |error| KeyFileError::io("write the signing key to", path, error);
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut file = tempfile::Builder::new()
            .permissions(Permissions::from_mode(FILE_MODE))
            .tempfile_in(folder)
            .map_err(failed)?;
        file.write_all(&self.seed).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist_noclobber(path)
            .map_err(|error| failed(error.error))?;
        sync_parent(path).map_err(failed)?;
        Ok(())
    }

    /// [Loads](Self::load) the key if its file is there, else [generates](Self::generate) and
    /// [stores](Self::store) one: what a first start does. The flag tells whether the key is new.
    ///
    /// # Errors
    ///
    /// Those of the three.
    pub fn load_or_create(path: &Path, name: KeyName) -> Result<(Self, bool), KeyError> {
        let is_there = path
            .try_exists()
            .map_err(|error| KeyFileError::io("look at", path, error))?;
        if is_there {
            keep_name(path);
            return Ok((Self::load(path, name)?, false));
        }
        let key = Self::generate(name)?;
        key.store(path)?;
        Ok((key, true))
    }

    /// Name of the key, which is the origin of the checkpoints that it signs.
    #[must_use]
    pub fn name(&self) -> &KeyName {
        self.verifier.name()
    }

    /// The public half, to be handed to whoever verifies.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// A note of a text that ends in a line feed and has no control characters.
    pub(super) fn sign_text(&self, text: &str) -> String {
        let signature = self.sign_bytes(text.as_bytes());
        let line = self.verifier.signature_line(&signature);
        format!("{text}\n{line}")
    }

    /// The Ed25519 signature of these bytes.
    pub(crate) fn sign_bytes(&self, bytes: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let signature = self.pair.sign(bytes);
        let signature = signature.as_ref().try_into();
        signature.expect("64 bytes by RFC 8032")
    }

    /// The library's own copy of the seed is wiped by its allocator when it is freed.
    pub(super) fn from_seed(name: KeyName, seed: Zeroizing<Vec<u8>>) -> Self {
        let pair =
            Ed25519KeyPair::from_seed_unchecked(&seed).expect("every seed of this length is a key");
        let public_key = pair.public_key().as_ref();
        let public_key = public_key.try_into().expect("32 bytes by RFC 8032");
        Self {
            seed,
            pair,
            verifier: VerifierKey::new(name, public_key),
        }
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "SigningKey({})", self.verifier)
    }
}

/// Root may use the key of another user.
fn refuse_strangers(path: &Path, metadata: &Metadata) -> Result<(), KeyError> {
    let user = geteuid();
    let owner = metadata.uid();
    if !user.is_root() && owner != user.as_raw() {
        return Err(KeyError::Foreign {
            path: path.to_owned(),
            owner,
            user: user.as_raw(),
        });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & MODE_FORBIDDEN != 0 {
        return Err(KeyError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}
