//! How appends that come together share one write and one sync (group commit).
//!
//! Invariant: a group is written by the thread of its first record, once the group before it is
//! durable or lost, with all that has joined it by then; the other threads sleep until the group
//! has its outcome. So records are made while the disk is at work, and a thread is woken once.
//! Absent: order and layout of records, which are `composer`'s; files, which are `writer`'s.

use std::io;
use std::path::Path;
use std::sync::{Arc, MutexGuard};
use std::thread;

use super::AuditLog;
use crate::calls::CallStep;
use crate::clear::Subject;
use crate::composer::{Composer, Ending, Pending};
use crate::encoding::encode_entry;
use crate::entry::{Completed, Entry};
use crate::error::AuditError;
use crate::group::{Flight, Group, Ticket};
use crate::log::Receipt;
use crate::scribe::{Draft, ENVELOPE_BYTES};
use crate::writer::Writer;

impl AuditLog {
    /// Appends an entry, whatever its type.
    pub(super) fn append_any(&self, entry: &Entry) -> Result<Receipt, AuditError> {
        entry.check()?;
        let pending = Pending {
            step: CallStep::of(entry),
            draft: Draft {
                entry_type: entry.entry_type(),
                subject: Subject::of(entry),
                json: self.encode(entry)?,
            },
        };
        let ticket = self.join(&pending)?;
        if ticket.is_first {
            // Whatever comes of it is told to all of the group, this thread too.
            let _ = self.flush(Ending::AsDue);
        }
        ticket.wait()
    }

    /// Writes the open group, if there is one, once it is its turn; records join the next one
    /// meanwhile. Gives the newest checkpoint's note.
    pub(super) fn flush(&self, ending: Ending) -> Result<Arc<str>, AuditError> {
        let mut writer = self.writer()?;
        let Some((group, end)) = self.composer().close(ending) else {
            let there = writer.check_presence();
            return match there {
                Ok(()) => Ok(Arc::clone(&writer.note)),
                Err(error) => Err(self.composer().fail(error)),
            };
        };
        let flight = InFlight::of(&group, &self.dir);
        let written = writer.commit(&group, end);
        if let Err(error) = &written {
            self.composer().take_back(group, &writer.end, error);
        }
        // The next group is written while the threads of this one wake up.
        drop(writer);
        flight.land(written)
    }

    /// The files, once no group is being written to them.
    pub(super) fn writer(&self) -> Result<MutexGuard<'_, Writer>, AuditError> {
        let writer = self.writer.lock().unwrap_or_else(|poisoned| {
            self.composer().fail(panicked(&self.dir));
            poisoned.into_inner()
        });
        self.composer().check_running()?;
        Ok(writer)
    }

    /// The log as it will be.
    pub(super) fn composer(&self) -> MutexGuard<'_, Composer> {
        self.composer.lock().unwrap_or_else(|poisoned| {
            let mut composer = poisoned.into_inner();
            composer.fail(panicked(&self.dir));
            composer
        })
    }

    fn join(&self, pending: &Pending) -> Result<Ticket, AuditError> {
        loop {
            if let Some(ticket) = self.composer().add(pending)? {
                return Ok(ticket);
            }
            self.make_room(&pending.draft)?;
        }
    }

    /// Writes the open group where it is too long for a record, and begins a new segment where
    /// that is. Nobody adds anything meanwhile.
    fn make_room(&self, draft: &Draft) -> Result<(), AuditError> {
        let mut writer = self.writer()?;
        let mut composer = self.composer();
        if composer.has_room(draft) {
            return Ok(());
        }
        let ending = if composer.has_room_in_segment(draft) {
            Ending::AsDue
        } else {
            Ending::Checkpoint
        };
        if let Some((group, end)) = composer.close(ending) {
            let flight = InFlight::of(&group, &self.dir);
            let written = writer.commit(&group, end);
            if let Err(error) = &written {
                composer.take_back(group, &writer.end, error);
            }
            flight.land(written)?;
        }
        if composer.has_room_in_segment(draft) {
            return Ok(());
        }
        let begun = writer.rotate(&mut composer);
        begun.map_err(|error| composer.fail(error))
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

/// A group that is being written. Its threads get an outcome even where the one that writes it
/// panics.
struct InFlight<'a> {
    flight: Arc<Flight>,
    dir: &'a Path,
}

impl<'a> InFlight<'a> {
    fn of(group: &Group, dir: &'a Path) -> Self {
        let flight = Arc::clone(&group.flight);
        Self { flight, dir }
    }

    fn land(self, outcome: Result<Arc<str>, AuditError>) -> Result<Arc<str>, AuditError> {
        self.flight.land(outcome.clone());
        outcome
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.flight.land(Err(panicked(self.dir)));
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
