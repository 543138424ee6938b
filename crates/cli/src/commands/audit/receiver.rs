//! Where exported lines go.
//!
//! Invariant: when a delivery returns without an error, the receiver has the lines: a file has them
//! on the disk, another system has said so. Absent: what was delivered before, which a cursor knows.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::inputs;
use super::syslog::{Line, Syslog};
use crate::arguments::audit::{Destination, ExportArguments};
use crate::client::Push;
use crate::error::CommandError;

const FILE_MODE: u32 = 0o600;
/// Longest file with the value of a header, in bytes.
const AUTHORIZATION_BYTES_MAX: u64 = 64 << 10;
/// The form of a body in which each line is one JSON value.
const NDJSON: &str = "application/x-ndjson";

pub(super) enum Receiver {
    Screen,
    File { path: PathBuf, file: File },
    Syslog(Syslog),
    Http(Box<Push>),
}

impl Receiver {
    /// The receiver that the command line names, for lines of this device.
    pub(super) fn open(arguments: &ExportArguments, device: &str) -> anyhow::Result<Self> {
        match (&arguments.output, &arguments.to) {
            (Some(path), _) => Ok(Self::File {
                path: path.clone(),
                file: open_file(path, arguments.cursor.is_some())?,
            }),
            (None, Some(Destination::Syslog(authority))) => {
                anyhow::ensure!(
                    arguments.ca.is_none() && arguments.authorization_file.is_none(),
                    "--ca and --authorization-file are for an HTTP receiver, not for tcp://"
                );
                Ok(Self::Syslog(Syslog::new(authority, device)))
            }
            (None, Some(Destination::Http(url))) => {
                let authorization = arguments.authorization_file.as_deref();
                let authorization = authorization
                    .map(|path| inputs::read_text(path, AUTHORIZATION_BYTES_MAX))
                    .transpose()?;
                let authorization = authorization.as_deref().map(str::trim);
                let push = Push::new(url, arguments.ca.as_deref(), authorization)?;
                Ok(Self::Http(Box::new(push)))
            }
            (None, None) => Ok(Self::Screen),
        }
    }

    /// Delivers lines, of which there is at least one.
    pub(super) async fn deliver(&mut self, lines: &[Line]) -> anyhow::Result<()> {
        match self {
            Self::Screen => {
                let mut out = io::stdout().lock();
                let written = out.write_all(&joined(lines)).and_then(|()| out.flush());
                Ok(written.map_err(CommandError::Output)?)
            }
            Self::File { path, file } => {
                let written = file.write_all(&joined(lines));
                written
                    .and_then(|()| file.sync_data())
                    .with_context(|| format!("cannot write {}", path.display()))
            }
            Self::Syslog(syslog) => syslog.deliver(lines).await,
            Self::Http(push) => push.post(NDJSON, joined(lines)).await,
        }
    }
}

fn joined(lines: &[Line]) -> Vec<u8> {
    lines.iter().flat_map(|line| &line.text).copied().collect()
}

/// The file for the lines: a new one, or, where a cursor knows how far it goes, one that grows.
fn open_file(path: &Path, grows: bool) -> anyhow::Result<File> {
    let place = || format!("cannot open {}", path.display());
    if !grows {
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(path);
        return match opened {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => anyhow::bail!(
                "{} exists and is kept; choose another place, or give --cursor to add to it",
                path.display()
            ),
            opened => opened.with_context(place),
        };
    }
    let is_new = !path.exists();
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(FILE_MODE)
        .open(path)
        .with_context(place)?;
    if is_new {
        sync_folder_of(path).with_context(place)?;
    }
    end_last_line(&mut file).with_context(place)?;
    Ok(file)
}

/// A crash may have broken a line off: what comes next begins a line of its own.
fn end_last_line(file: &mut File) -> io::Result<()> {
    if file.metadata()?.len() == 0 {
        return Ok(());
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    if last == *b"\n" {
        return Ok(());
    }
    file.write_all(b"\n")
}

/// Makes the name of a new file last.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
