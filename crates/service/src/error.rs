//! What can go wrong while a service is being set up: its configuration, its
//! token key and the claims of a token to be issued.
//!
//! Absent here: refusals of calls. Those are answers, not errors of ours, and
//! live in [`crate::RefusalKind`].

use std::io;
use std::path::PathBuf;

use postern_audit::AuditError;

/// A failure to set up the service or to make a token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// A value of the configuration is outside its bounds.
    #[error(
        "service.{field} is {found}, but must be from {min} to {max}; correct the configuration"
    )]
    ConfigOutOfRange {
        /// Kebab-case name of the field in section `[service]`.
        field: &'static str,
        /// The value that was found.
        found: u64,
        /// The smallest value allowed.
        min: u64,
        /// The largest value allowed.
        max: u64,
    },
    /// The token key file could not be read or made.
    #[error("token key file {path}: {source}; check that the folder exists and is writable by this user", path = path.display())]
    KeyFile {
        /// The key file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The token key is readable by others than its owner.
    #[error("token key file {path} has mode {mode:04o}, so others than its owner can read it; run chmod 600 on it, or make a new key if it may have leaked", path = path.display())]
    KeyExposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The token key is not a regular file of the one right length.
    #[error("token key file {path} is not a regular file of {expected} bytes (found {found}); remove it to have a new key made, which ends every token issued so far", path = path.display())]
    KeyShape {
        /// The key file.
        path: PathBuf,
        /// Length of a key in bytes.
        expected: u64,
        /// Length found in bytes.
        found: u64,
    },
    /// The model that is going to answer could not be recorded.
    #[error(
        "the audit log could not record which model was loaded, so nothing is generated with it: {0}"
    )]
    ModelUnrecorded(#[from] AuditError),
    /// The operating system gave no random bytes.
    #[error(
        "the operating system gave no random bytes: {reason}; nothing was made from weaker ones"
    )]
    Random {
        /// What it said.
        reason: String,
    },
    /// The claims of a token break a bound.
    #[error("token claims: {reason}")]
    Claims {
        /// Which bound, what was found and what is allowed.
        reason: String,
    },
}
