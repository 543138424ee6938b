//! The secret that signs tokens, and its file.
//!
//! The file holds the 32 bytes and nothing else, and only its owner may read
//! it. The key is wiped from memory when dropped and has no printable form.

use std::fmt;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::ServiceError;

const KEY_BYTES: usize = 32;

/// Permission bits that let anyone but the owner near the key.
const MODE_OF_OTHERS: u32 = 0o077;

/// The key that signs and verifies tokens.
#[derive(Clone)]
pub struct TokenKey(Zeroizing<[u8; KEY_BYTES]>);

impl TokenKey {
    /// A new random key.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Random`] if the operating system has no random bytes.
    pub fn generate() -> Result<Self, ServiceError> {
        let mut bytes = Zeroizing::new([0_u8; KEY_BYTES]);
        getrandom::fill(bytes.as_mut()).map_err(|error| ServiceError::Random {
            reason: error.to_string(),
        })?;
        Ok(Self(bytes))
    }

    /// Reads the key at `path`, or makes a new one there if nothing is there.
    ///
    /// # Errors
    ///
    /// As [`TokenKey::load`]; also [`ServiceError::KeyFile`] if the file
    /// cannot be made, and [`ServiceError::Random`].
    pub fn load_or_create(path: &Path) -> Result<Self, ServiceError> {
        let key = Self::generate()?;
        match key.create(path) {
            Ok(()) => Ok(key),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::load(path),
            Err(source) => Err(unusable(path, source)),
        }
    }

    /// Reads the key at `path`.
    ///
    /// # Errors
    ///
    /// [`ServiceError::KeyFile`] if it cannot be read,
    /// [`ServiceError::KeyExposed`] if group or others have any right to it,
    /// [`ServiceError::KeyShape`] if it is not a regular file of 32 bytes.
    pub fn load(path: &Path) -> Result<Self, ServiceError> {
        let mut file = File::open(path).map_err(|source| unusable(path, source))?;
        let facts = file.metadata().map_err(|source| unusable(path, source))?;
        if !facts.is_file() || facts.len() != KEY_BYTES as u64 {
            return Err(ServiceError::KeyShape {
                path: path.to_owned(),
                expected: KEY_BYTES as u64,
                found: facts.len(),
            });
        }
        let mode = facts.mode() & 0o7777;
        if mode & MODE_OF_OTHERS != 0 {
            return Err(ServiceError::KeyExposed {
                path: path.to_owned(),
                mode,
            });
        }
        let mut bytes = Zeroizing::new([0_u8; KEY_BYTES]);
        file.read_exact(bytes.as_mut())
            .map_err(|source| unusable(path, source))?;
        Ok(Self(bytes))
    }

    /// Writes a file that did not exist before; a half-written one is removed.
    fn create(&self, path: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        let written = file
            .set_permissions(Permissions::from_mode(0o600))
            .and_then(|()| file.write_all(self.0.as_ref()))
            .and_then(|()| file.sync_all())
            .and_then(|()| sync_folder_of(path));
        if written.is_err() {
            let _ = std::fs::remove_file(path);
        }
        written
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; KEY_BYTES] {
        self.mac(message).finalize().into_bytes().into()
    }

    /// Compares in constant time.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.mac(message).verify_slice(signature).is_ok()
    }

    fn mac(&self, message: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_ref())
            .expect("HMAC takes a key of any length");
        mac.update(message);
        mac
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(hidden)")
    }
}

/// Makes the new name itself durable.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn unusable(path: &Path, source: io::Error) -> ServiceError {
    ServiceError::KeyFile {
        path: path.to_owned(),
        source,
    }
}
