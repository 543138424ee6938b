//! How appends that come together share one write and one sync (group commit).
//!
//! Invariant: a group is written by the thread of its first record, or by one that needs what comes
//! after it, once the group before it is durable or lost, with all that has joined it by then; the
//! other threads sleep until the group has landed. So records are made while the disk is at work,
//! and a thread is woken once. Absent: order and layout of records, which are `composer`'s; files,
//! which are `writer`'s.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard};
use std::thread;

use super::{APPENDS_WAITING_MAX, AuditLog};
use crate::calls::CallStep;
use crate::clear::Subject;
use crate::composer::{Composer, Ending, Pending};
use crate::encoding::encode_entry;
use crate::entry::{Completed, Entry};
use crate::error::AuditError;
use crate::group::{Flight, Landing, Ticket};
use crate::log::Receipt;
use crate::scribe::{Draft, ENVELOPE_BYTES};
use crate::writer::Writer;

impl AuditLog {
    /// Appends an entry, whatever its type.
    pub(super) fn append_any(&self, entry: &Entry) -> Result<Receipt, AuditError> {
        entry.check()?;
        let _waiting = Waiting::begin(&self.waiting)?;
        let pending = Pending {
            step: CallStep::of(entry),
            draft: Draft {
                entry_type: entry.entry_type(),
                subject: Subject::of(entry),
                json: self.encode(entry)?,
            },
        };
        loop {
            let ticket = self.join(&pending)?;
            if ticket.is_first {
                // Whatever comes of it is told to all of the group, this thread too.
                let _ = self.flush(Ending::AsDue);
            }
            if let Some(receipt) = ticket.wait()? {
                return Ok(receipt);
            }
        }
    }

    /// Writes the open group, if there is one, once it is its turn; records join the next one
    /// meanwhile. Gives the newest checkpoint's note.
    pub(super) fn flush(&self, ending: Ending) -> Result<Arc<str>, AuditError> {
        let mut writer = self.writer()?;
        let (in_flight, closed) = {
            let mut composer = self.composer();
            let in_flight = InFlight::of(&composer, &self.dir);
            (in_flight, composer.close(ending)?)
        };
        let Some((group, end)) = closed else {
            let there = writer.check_presence();
            let there = there.inspect_err(|error| self.composer().fail(error));
            return there.map(|()| Arc::clone(&writer.note));
        };
        let written = writer.commit(&group, end);
        if let Err(error) = &written {
            self.composer().take_back(group, &writer.end, error);
        }
        // The next group is written while the threads of this one wake up.
        drop(writer);
        in_flight.land(&written);
        written
    }

    /// The files, once no group is being written to them.
    pub(super) fn writer(&self) -> Result<MutexGuard<'_, Writer>, AuditError> {
        let writer = self.writer.lock().unwrap_or_else(|poisoned| {
            self.composer().fail(&panicked(&self.dir));
            poisoned.into_inner()
        });
        self.composer().check_running()?;
        Ok(writer)
    }

    /// The log as it will be.
    pub(super) fn composer(&self) -> MutexGuard<'_, Composer> {
        self.composer.lock().unwrap_or_else(|poisoned| {
            let mut composer = poisoned.into_inner();
            composer.fail(&panicked(&self.dir));
            composer
        })
    }

    fn join(&self, pending: &Pending) -> Result<Ticket, AuditError> {
        let added = self.composer().add(pending)?;
        added.map_or_else(|| self.join_with_room(pending), Ok)
    }

    /// Writes the open group where it is too long for a record, and begins a new segment where
    /// that is. Nobody adds anything meanwhile.
    fn join_with_room(&self, pending: &Pending) -> Result<Ticket, AuditError> {
        let mut writer = self.writer()?;
        let mut composer = self.composer();
        loop {
            if let Some(ticket) = composer.add(pending)? {
                return Ok(ticket);
            }
            let ending = if composer.has_room_in_segment(&pending.draft) {
                Ending::AsDue
            } else {
                Ending::Checkpoint
            };
            let in_flight = InFlight::of(&composer, &self.dir);
            let Some((group, end)) = composer.close(ending)? else {
                let begun = writer.rotate(&mut composer);
                begun.inspect_err(|error| composer.fail(error))?;
                continue;
            };
            let written = writer.commit(&group, end);
            if let Err(error) = &written {
                composer.take_back(group, &writer.end, error);
            }
            in_flight.land(&written);
            written?;
        }
    }

    /// The entry as it is stored.
    fn encode(&self, entry: &Entry) -> Result<String, AuditError> {
        let json = encode_entry(entry);
        match (self.check_record_bytes(&json), entry) {
            (Err(too_large), Entry::Completed(completed)) if completed.output.is_some() => {
                ::log::warn!("the text of an output is left out of the audit log: {too_large}");
                self.encode(&Entry::Completed(Completed {
                    output: None,
                    ..completed.clone()
                }))
            }
            (checked, _) => checked.map(|()| json),
        }
    }

    fn check_record_bytes(&self, entry: &str) -> Result<(), AuditError> {
        let found = (entry.len() + ENVELOPE_BYTES) as u64;
        let max = u64::from(self.record_bytes_max);
        if found > max {
            return Err(AuditError::RecordTooLarge { found, max });
        }
        Ok(())
    }
}

/// One of the appends that wait for the disk, which are bounded.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Result<Self, AuditError> {
        let before = count.fetch_add(1, Ordering::Relaxed);
        let waiting = Self(count);
        if before >= APPENDS_WAITING_MAX {
            let max = APPENDS_WAITING_MAX;
            return Err(AuditError::Busy { max });
        }
        Ok(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A group on its way from the composer to the disk. It lands even where the thread that sees to it
/// panics.
struct InFlight<'a> {
    flight: Arc<Flight>,
    dir: &'a Path,
}

impl<'a> InFlight<'a> {
    /// The group that is open now.
    fn of(composer: &Composer, dir: &'a Path) -> Self {
        let flight = composer.flight();
        Self { flight, dir }
    }

    fn land(self, written: &Result<Arc<str>, AuditError>) {
        self.flight.land(match written {
            Ok(note) => Landing::Durable(Arc::clone(note)),
            Err(error) => Landing::Lost(error.clone()),
        });
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.flight.land(Landing::Lost(panicked(self.dir)));
        }
    }
}

/// What is said of a log where a thread panicked with its end: nobody knows how far it came.
fn panicked(dir: &Path) -> AuditError {
    AuditError::Stopped {
        action: "finish a write to",
        path: dir.to_owned(),
        source: Arc::new(io::Error::other("the writing thread panicked")),
    }
}
