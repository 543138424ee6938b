//! How far a log was delivered elsewhere, so that a delivery goes on after a restart.
//!
//! Invariant: the file never names a record that was not delivered, and a delivery goes on only
//! after the log was seen to hold the last delivered record as it was. So every record is
//! delivered at least once, and one history is never continued with another. Absent: the delivery
//! itself; whoever receives tells repetitions by the record's index.
//!
//! The file is one line of JSON with the index and the head of the record that was delivered last.
//! It is replaced as a whole, and synced, each time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::error::{AuditError, CursorProblem};
use crate::segment::{open_to_read, sync_parent};

/// Longest file of a cursor, in bytes.
pub const CURSOR_BYTES_MAX: u64 = 512;
const FORMAT: u32 = 1;
const FILE_MODE: u32 = 0o600;

/// Whether a record has to be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a record that is due must be delivered"]
pub enum Delivery {
    /// It was delivered.
    Done,
    /// It was not, as far as is known. The mark is handed back when it was.
    Due(Mark),
}

/// A record that a cursor has judged to be due: see [`Cursor::note_delivered`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    index: u64,
    head: String,
}

/// The place up to which one receiver has the log. One process at a time holds it.
#[derive(Debug)]
pub struct Cursor {
    path: PathBuf,
    delivered: Option<Mark>,
    /// The next index that [`Cursor::judge`] has to be asked about.
    next_judged: u64,
    /// Locked for as long as the cursor is open.
    lock: File,
}

/// What the file holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    index: u64,
    head: String,
}

impl Cursor {
    /// Opens the cursor in this file. Without such a file nothing was delivered yet, and it is
    /// made by the first [`Cursor::note_delivered`]. A file beside it, with `.lock` at the end of
    /// its name, keeps other processes away.
    ///
    /// # Errors
    /// [`AuditError::Cursor`] if another process holds it or the file is not a cursor,
    /// [`AuditError::Io`] if it cannot be read or locked.
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        let lock = lock(path)?;
        let delivered = read(path)?;
        Ok(Self {
            path: path.to_owned(),
            delivered,
            next_judged: 0,
            lock,
        })
    }

    /// Index of the first record that was not delivered yet.
    #[must_use]
    pub fn next_index(&self) -> u64 {
        self.delivered.as_ref().map_or(0, |place| place.index + 1)
    }

    /// Says whether a record has to be delivered. Ask about every record of the log in its order,
    /// from the first.
    ///
    /// # Errors
    /// [`AuditError::Cursor`] if the log holds another record than the one that was delivered
    /// last, or if a record was left out.
    pub fn judge(&mut self, index: u64, head: &str) -> Result<Delivery, AuditError> {
        if index != self.next_judged {
            return Err(self.problem(CursorProblem::OutOfOrder {
                expected: self.next_judged,
                found: index,
            }));
        }
        if let Some(place) = self.delivered.as_ref().filter(|place| place.index == index)
            && place.head != head
        {
            return Err(self.problem(CursorProblem::OtherHistory {
                index,
                expected: place.head.clone(),
                found: head.to_owned(),
            }));
        }
        self.next_judged = index + 1;
        if index < self.next_index() {
            return Ok(Delivery::Done);
        }
        let head = head.to_owned();
        Ok(Delivery::Due(Mark { index, head }))
    }

    /// Says that the log has ended, after every record of it was judged.
    ///
    /// # Errors
    /// [`AuditError::Cursor`] if the log ends before the record that was delivered last.
    pub fn judge_end(&self) -> Result<(), AuditError> {
        match &self.delivered {
            Some(place) if place.index >= self.next_judged => {
                Err(self.problem(CursorProblem::LogShorter {
                    index: place.index,
                    records: self.next_judged,
                }))
            }
            _ => Ok(()),
        }
    }

    /// Notes durably that this record and all before it were delivered. Call it after the receiver
    /// has confirmed them; a mark of what is noted already changes nothing.
    ///
    /// # Errors
    /// [`AuditError::Io`] if the file cannot be written; the records are then delivered again.
    pub fn note_delivered(&mut self, mark: Mark) -> Result<(), AuditError> {
        if mark.index < self.next_index() {
            return Ok(());
        }
        write(&self.path, &mark).map_err(|error| AuditError::io("write", &self.path, error))?;
        self.delivered = Some(mark);
        Ok(())
    }

    fn problem(&self, problem: CursorProblem) -> AuditError {
        problem_of(&self.path, problem)
    }
}

impl Drop for Cursor {
    /// Unlocks in so many words: a process that is being started may hold a copy of the descriptor.
    fn drop(&mut self) {
        if let Err(error) = self.lock.unlock() {
            ::log::warn!("cannot unlock the cursor {}: {error}", self.path.display());
        }
    }
}

fn read(path: &Path) -> Result<Option<Mark>, AuditError> {
    let failed = |error| AuditError::io("read", path, error);
    let file = match open_to_read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if is_link(path) => {
            ::log::debug!("{} is a link: {error}", path.display());
            return Err(problem_of(path, CursorProblem::NotAFile));
        }
        opened => opened.map_err(failed)?,
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(problem_of(path, CursorProblem::NotAFile));
    }
    let mut text = Vec::new();
    let mut limited = file.take(CURSOR_BYTES_MAX + 1);
    limited.read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > CURSOR_BYTES_MAX {
        let max = CURSOR_BYTES_MAX;
        return Err(problem_of(path, CursorProblem::TooLong { max }));
    }
    parse(&text)
        .map(Some)
        .map_err(|detail| problem_of(path, CursorProblem::Malformed { detail }))
}

fn parse(text: &[u8]) -> Result<Mark, String> {
    let stored: Stored = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if stored.format != FORMAT {
        let found = stored.format;
        return Err(format!(
            "its format is {found}, this Postern knows {FORMAT}"
        ));
    }
    if stored.index == u64::MAX {
        return Err("no record has so great an index".to_owned());
    }
    let Stored { index, head, .. } = stored;
    Ok(Mark { index, head })
}

/// Replaces the file, so that a crash leaves the old place or the new one.
fn write(path: &Path, mark: &Mark) -> io::Result<()> {
    let stored = Stored {
        format: FORMAT,
        index: mark.index,
        head: mark.head.clone(),
    };
    let mut line = serde_json::to_vec(&stored)?;
    line.push(b'\n');
    let staged = beside(path, ".new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(FILE_MODE)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(&staged)?;
    file.write_all(&line)?;
    file.sync_all()?;
    std::fs::rename(&staged, path)?;
    sync_parent(path)
}

fn lock(path: &Path) -> Result<File, AuditError> {
    let lock_path = beside(path, ".lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(&lock_path)
        .map_err(|error| AuditError::io("open", &lock_path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(problem_of(path, CursorProblem::InUse)),
        Err(TryLockError::Error(error)) => Err(AuditError::io("lock", &lock_path, error)),
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn is_link(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink())
}

fn problem_of(path: &Path, problem: CursorProblem) -> AuditError {
    let path = path.to_owned();
    AuditError::Cursor { path, problem }
}
