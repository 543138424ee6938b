//! What can go wrong with the ledger's file.

use std::io;
use std::path::{Path, PathBuf};

use redb::{
    CommitError, DatabaseError, SetDurabilityError, StorageError, TableError, TransactionError,
};

/// The ledger cannot be used. While it is so, no call that has a budget is let through.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// Another process, or this one, has it open.
    #[error(
        "the ledger {path} is in use by another process, probably the daemon; \
         stop that, ask it over its API (--url), or name another file with ledger in section [service]",
        path = path.display()
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file is of a later version of Postern.
    #[error("the ledger {path} has format {found}, which this version does not know; use the version that wrote it", path = path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// The file is no ledger, or damaged.
    #[error("the ledger {path} is damaged or no ledger: {reason}; put a copy back, or move it away to begin a new one with nothing used", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The file cannot be read or written.
    #[error("the ledger {path}: {source}; check that its folder exists, is writable by this user and has room, and start again", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// It failed before, or in another way.
    #[error("the ledger {path} takes nothing: {reason}; make room or repair the disk, and start again", path = path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
}

/// An error before it is known of which file.
#[derive(Debug)]
pub(super) enum Fault {
    Storage(redb::Error),
    Version { found: u64 },
    Account { found: String },
    HeldOutput { reason: String },
}

impl Fault {
    pub(super) fn at(self, path: &Path) -> LedgerError {
        let path = path.to_owned();
        match self {
            Self::Version { found } => LedgerError::Version { path, found },
            Self::Account { found } => LedgerError::Damaged {
                path,
                reason: format!("`{found}` is no account"),
            },
            Self::HeldOutput { reason } => LedgerError::Damaged {
                path,
                reason: format!("a held output cannot be read: {reason}"),
            },
            Self::Storage(error) => match error {
                redb::Error::DatabaseAlreadyOpen => LedgerError::InUse { path },
                redb::Error::Io(source) if source.kind() == io::ErrorKind::InvalidData => {
                    LedgerError::Damaged {
                        path,
                        reason: source.to_string(),
                    }
                }
                redb::Error::Io(source) => LedgerError::Io { path, source },
                error @ (redb::Error::Corrupted(_) | redb::Error::TableTypeMismatch { .. }) => {
                    LedgerError::Damaged {
                        path,
                        reason: error.to_string(),
                    }
                }
                other => LedgerError::Failed {
                    path,
                    reason: other.to_string(),
                },
            },
        }
    }
}

macro_rules! fault_from {
    ($($error:ty),+) => {
        $(impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                Self::Storage(error.into())
            }
        })+
    };
}

fault_from!(
    io::Error,
    DatabaseError,
    TransactionError,
    TableError,
    StorageError,
    CommitError,
    SetDurabilityError
);
