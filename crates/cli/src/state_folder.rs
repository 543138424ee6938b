//! The folder of certificates, keys, tokens, the audit log and the ledger, and how files get into it.
//!
//! Files that hold a key or a token are readable by their owner alone (mode 0600), the folder as
//! well (0700). A file that exists is never replaced unless the caller says so, and then in one
//! step: a reader sees the old file or the new one.

use std::env;
use std::fs::{self, DirBuilder};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use postern_governance::Identity;

use crate::certificates::{DevelopmentCertificates, PemPair};
use crate::file_rights::refuse_strangers;

const MODE_PRIVATE: u32 = 0o600;
const MODE_PUBLIC: u32 = 0o644;
const MODE_FOLDER: u32 = 0o700;

/// Paths in a state folder. Nothing is opened by naming it.
#[derive(Clone, Debug)]
pub(crate) struct StateFolder {
    root: PathBuf,
}

/// Whether a file that exists may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    Keep,
    Replace,
}

impl StateFolder {
    /// The folder at `root`.
    pub(crate) fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder of this user or, under systemd, of this service.
    ///
    /// # Errors
    /// No environment variable tells where it is.
    pub(crate) fn default_location() -> anyhow::Result<Self> {
        let variable = |name| env::var_os(name).filter(|value| !value.is_empty());
        if let Some(folder) = variable("STATE_DIRECTORY") {
            return Ok(Self::new(folder));
        }
        if let Some(folder) = variable("XDG_STATE_HOME") {
            return Ok(Self::new(PathBuf::from(folder).join("postern")));
        }
        let home = variable("HOME").context(
            "no state folder: none of STATE_DIRECTORY, XDG_STATE_HOME and HOME is set; give --state-dir",
        )?;
        Ok(Self::new(PathBuf::from(home).join(".local/state/postern")))
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.root.join("ca.pem")
    }

    pub(crate) fn ca_key(&self) -> PathBuf {
        self.root.join("ca.key")
    }

    pub(crate) fn server(&self) -> PathBuf {
        self.root.join("server.pem")
    }

    pub(crate) fn server_key(&self) -> PathBuf {
        self.root.join("server.key")
    }

    pub(crate) fn client(&self, identity: &Identity) -> PathBuf {
        self.root.join("clients").join(format!("{identity}.pem"))
    }

    pub(crate) fn client_key(&self, identity: &Identity) -> PathBuf {
        self.root.join("clients").join(format!("{identity}.key"))
    }

    pub(crate) fn token_key(&self) -> PathBuf {
        self.root.join("token.key")
    }

    pub(crate) fn token(&self, identity: &Identity) -> PathBuf {
        self.root.join("tokens").join(format!("{identity}.token"))
    }

    /// The token as a header line, for `curl -H @FILE`: so it never stands in a process list.
    pub(crate) fn token_header(&self, identity: &Identity) -> PathBuf {
        self.root.join("tokens").join(format!("{identity}.header"))
    }

    pub(crate) fn audit(&self) -> PathBuf {
        self.root.join("audit")
    }

    /// Public keys of the auditors, a line each.
    pub(crate) fn auditors(&self) -> PathBuf {
        self.root.join("auditors")
    }

    /// The secret key of the demo's own auditor, as `age` reads it.
    pub(crate) fn auditor(&self) -> PathBuf {
        self.root.join("auditor.key")
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.root.join("ledger.redb")
    }

    /// Makes the folder and its subfolders.
    ///
    /// # Errors
    /// They cannot be made, or every user of the machine could change what is put there.
    pub(crate) fn create(&self) -> anyhow::Result<()> {
        create_folder(&self.root)?;
        refuse_strangers(&self.root)?;
        for folder in [self.root.join("clients"), self.root.join("tokens")] {
            create_folder(&folder)?;
        }
        Ok(())
    }

    /// Writes a whole set of certificates; with [`Existing::Keep`], none is written if any exists.
    ///
    /// # Errors
    /// A file exists and must be kept, or cannot be written.
    pub(crate) fn write_certificates(
        &self,
        made: &DevelopmentCertificates,
        existing: Existing,
    ) -> anyhow::Result<()> {
        let mut files = vec![
            (self.ca(), &*made.ca.certificate, MODE_PUBLIC),
            (self.ca_key(), &*made.ca.key, MODE_PRIVATE),
            (self.server(), &*made.server.certificate, MODE_PUBLIC),
            (self.server_key(), &*made.server.key, MODE_PRIVATE),
        ];
        files.extend(self.files_of(&made.clients));
        self.write_all(&files, existing)
    }

    /// Writes certificates of clients; none is written if any exists.
    ///
    /// # Errors
    /// A file exists, or cannot be written.
    pub(crate) fn write_clients(&self, clients: &[(Identity, PemPair)]) -> anyhow::Result<()> {
        self.write_all(&self.files_of(clients), Existing::Keep)
    }

    fn files_of<'a>(&self, clients: &'a [(Identity, PemPair)]) -> Vec<(PathBuf, &'a str, u32)> {
        let pair = |(identity, pair): &'a (Identity, PemPair)| {
            [
                (self.client(identity), &*pair.certificate, MODE_PUBLIC),
                (self.client_key(identity), &*pair.key, MODE_PRIVATE),
            ]
        };
        clients.iter().flat_map(pair).collect()
    }

    fn write_all(&self, files: &[(PathBuf, &str, u32)], existing: Existing) -> anyhow::Result<()> {
        if existing == Existing::Keep {
            for (path, ..) in files {
                refuse_existing(path)?;
            }
        }
        self.create()?;
        for (path, pem, mode) in files {
            write_file(path, pem.as_bytes(), *mode, existing)?;
        }
        Ok(())
    }

    /// Writes a token, and the same as a header line.
    pub(crate) fn write_token(
        &self,
        identity: &Identity,
        token: &str,
        existing: Existing,
    ) -> anyhow::Result<()> {
        self.create()?;
        write_private(
            &self.token(identity),
            format!("{token}\n").as_bytes(),
            existing,
        )?;
        let header = format!("Authorization: Bearer {token}\n");
        write_private(&self.token_header(identity), header.as_bytes(), existing)
    }
}

/// What to do besides where a certificate, key or CA is missing at `path`; else nothing.
pub(crate) fn development_hint(path: &Path) -> String {
    if path.exists() {
        return String::new();
    }
    let folder = path.ancestors().skip(1).find(|folder| {
        let of_clients = folder.file_name().is_some_and(|name| name == "clients");
        !of_clients && !folder.as_os_str().is_empty()
    });
    let folder = folder.unwrap_or(Path::new(".")).display();
    format!(", or make a set for development with `postern certs dev --dir {folder}`")
}

/// Makes `folder` and those above it, for their owner alone; leaves those that exist as they are.
pub(crate) fn create_folder(folder: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(MODE_FOLDER)
        .create(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))
}

/// Writes a file that only its owner may read.
pub(crate) fn write_private(path: &Path, bytes: &[u8], existing: Existing) -> anyhow::Result<()> {
    write_file(path, bytes, MODE_PRIVATE, existing)
}

/// Writes a file that everybody may read.
pub(crate) fn write_public(path: &Path, bytes: &[u8], existing: Existing) -> anyhow::Result<()> {
    write_file(path, bytes, MODE_PUBLIC, existing)
}

/// Fails when `path` exists, even as a dangling link.
pub(crate) fn refuse_existing(path: &Path) -> anyhow::Result<()> {
    let exists = fs::symlink_metadata(path).is_ok();
    anyhow::ensure!(
        !exists,
        "{} exists and is kept; choose another place, or give --force to replace it",
        path.display()
    );
    Ok(())
}

/// Writes beside `path` first and then moves into place, so that a crash leaves no half a file.
fn write_file(path: &Path, bytes: &[u8], mode: u32, existing: Existing) -> anyhow::Result<()> {
    let place = || format!("cannot write {}", path.display());
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(mode))
        .tempfile_in(folder.unwrap_or(Path::new(".")))
        .with_context(place)?;
    file.write_all(bytes).with_context(place)?;
    file.as_file().sync_all().with_context(place)?;
    match existing {
        Existing::Replace => file
            .persist(path)
            .map_err(|e| e.error)
            .with_context(place)?,
        Existing::Keep => {
            refuse_existing(path)?;
            file.persist_noclobber(path)
                .map_err(|e| e.error)
                .with_context(place)?
        }
    };
    Ok(())
}
