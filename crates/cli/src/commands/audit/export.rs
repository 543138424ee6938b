//! `postern audit export`: the log as lines for another system, at least once each.
//!
//! Invariant: the cursor is moved only after the receiver has confirmed all lines up to there, so a
//! run that is broken off repeats lines and loses none. Memory is one batch, whatever the log's
//! length. Absent: trying again; whoever starts the command does so later.

use std::io::{Write, stderr};

use postern_audit::{
    AuditError, Content, Cursor, Delivery, Exporter, Mark, Reason, Record, Stored,
};

use super::receiver::Receiver;
use super::syslog::Line;
use super::{classified, inputs};
use crate::arguments::audit::ExportArguments;

/// Most lines of one delivery.
const BATCH_LINES_MAX: usize = 500;
/// Bytes of lines after which a delivery has no more of them.
const BATCH_BYTES_MAX: usize = 1 << 20;

pub(super) async fn run(arguments: &ExportArguments) -> anyhow::Result<()> {
    let dir = &arguments.dir;
    let signer = postern_audit::signer(dir).map_err(|error| classified(dir, error))?;
    let device = signer.name().as_str();
    let mut export = Export::new(arguments, device)?;
    let mut is_torn = false;
    for stored in inputs::records(dir, arguments.auditor.identity_file.as_deref())? {
        match stored {
            Ok(stored) => export.take(arguments, &stored)?,
            // A daemon is just writing, or was killed while it wrote: all before it is whole.
            Err(AuditError::Broken {
                reason: Reason::TornTail { .. },
                ..
            }) => is_torn = true,
            Err(error) => return Err(classified(dir, error)),
        }
        if export.is_full() {
            export.deliver().await?;
        }
    }
    if let Some(cursor) = &export.cursor {
        let ended = cursor.judge_end();
        ended.map_err(|error| classified(dir, error))?;
    }
    export.deliver().await?;
    export.tell(is_torn);
    Ok(())
}

struct Export {
    exporter: Exporter<Vec<u8>>,
    receiver: Receiver,
    cursor: Option<Cursor>,
    lines: Vec<Line>,
    bytes: usize,
    /// The last record that is delivered with these lines.
    mark: Option<Mark>,
    exported: u64,
    sealed: u64,
    expired: u64,
}

impl Export {
    fn new(arguments: &ExportArguments, device: &str) -> anyhow::Result<Self> {
        // First the cursor, whose lock keeps a second process from the receiver.
        let cursor = arguments.cursor.as_deref().map(Cursor::open).transpose()?;
        Ok(Self {
            exporter: Exporter::new(arguments.format.into(), device, Vec::new()),
            receiver: Receiver::open(arguments, device)?,
            cursor,
            lines: Vec::new(),
            bytes: 0,
            mark: None,
            exported: 0,
            sealed: 0,
            expired: 0,
        })
    }

    /// Takes in the next record of the log.
    fn take(&mut self, arguments: &ExportArguments, stored: &Stored) -> anyhow::Result<()> {
        let mark = match &mut self.cursor {
            None => None,
            Some(cursor) => {
                let judged = cursor.judge(stored.index, &stored.head);
                match judged.map_err(|error| classified(&arguments.dir, error))? {
                    Delivery::Due(mark) => Some(mark),
                    Delivery::Done => {
                        self.skip(stored);
                        return Ok(());
                    }
                }
            }
        };
        match Record::of(stored) {
            Some(record) => self.add(stored, &record)?,
            None => self.leave_out(arguments, stored)?,
        }
        self.mark = mark;
        Ok(())
    }

    /// Takes note of a record that was delivered before.
    fn skip(&mut self, stored: &Stored) {
        match Record::of(stored) {
            Some(record) => self.exporter.skip(&record),
            None => self.exporter.skip_unread(stored),
        }
    }

    fn add(&mut self, stored: &Stored, record: &Record) -> anyhow::Result<()> {
        self.exporter.write(record)?;
        let text = std::mem::take(self.exporter.writer());
        self.exported += 1;
        self.bytes += text.len();
        self.lines.push(Line {
            time: stored.time,
            kind: stored.entry_type.name(),
            text,
        });
        Ok(())
    }

    /// Passes over a record whose content cannot be read. One that only lacks a key is an error if
    /// none was given: the cursor would go past it for good.
    fn leave_out(&mut self, arguments: &ExportArguments, stored: &Stored) -> anyhow::Result<()> {
        if stored.content == Content::Sealed {
            anyhow::ensure!(
                arguments.auditor.identity_file.is_some(),
                "the content of record #{} is sealed; give an auditor's identity with --identity-file",
                stored.index
            );
            self.sealed += 1;
        } else {
            self.expired += 1;
        }
        self.exporter.skip_unread(stored);
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.lines.len() >= BATCH_LINES_MAX || self.bytes >= BATCH_BYTES_MAX
    }

    async fn deliver(&mut self) -> anyhow::Result<()> {
        if !self.lines.is_empty() {
            self.receiver.deliver(&self.lines).await?;
            self.lines.clear();
            self.bytes = 0;
        }
        if let (Some(cursor), Some(mark)) = (&mut self.cursor, self.mark.take()) {
            cursor.note_delivered(mark)?;
        }
        Ok(())
    }

    /// Says on standard error what was done, since standard output may be the receiver.
    fn tell(&self, is_torn: bool) {
        let Self {
            exported,
            sealed,
            expired,
            ..
        } = self;
        let mut said = format!("exported {exported} records");
        if sealed + expired > 0 {
            said.push_str(&format!(
                "; {sealed} that are sealed to others and {expired} that have expired have no lines"
            ));
        }
        if is_torn {
            said.push_str("; the last record is being written, or was cut by a crash: run again");
        }
        // With standard error closed there is nobody left to tell.
        let _nobody_left = writeln!(stderr(), "{said}");
    }
}
