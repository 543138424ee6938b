//! Records for other systems: one line of JSON each, in the form that they read.
//!
//! Invariant: every record gives exactly one line, a line never depends on records after it, and
//! memory is one line and the names of the open calls. Lines of one record are the same each time
//! they are written, with the same id, so that a receiver can drop repetitions. Absent: network,
//! and choosing records.
//!
//! What stands where is told in `EXPORT.md`, beside this crate's manifest.

mod ecs;
mod ocsf;
mod remainder;
mod wording;

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::encoding::write_canonical;
use crate::entry::Entry;
use crate::error::AuditError;
use crate::in_flight::{CallNames, CallsInFlight};
use crate::reader::Stored;
use crate::record::Record;
use crate::verdict::Verdict;

/// Version of Postern, as exported lines name it.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A form of the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Our own: the whole record, nothing added.
    JsonLines,
    /// API Activity of the Open Cybersecurity Schema Framework, version 1.8.0, with its profiles
    /// AI Operation and Security Control.
    Ocsf,
    /// Elastic Common Schema, version 9.4.0.
    Ecs,
}

impl Format {
    /// All forms.
    pub const ALL: [Self; 3] = [Self::JsonLines, Self::Ocsf, Self::Ecs];

    /// The form's name on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JsonLines => "jsonl",
            Self::Ocsf => "ocsf",
            Self::Ecs => "ecs",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Format {
    type Err = AuditError;

    /// Reads a name.
    ///
    /// # Errors
    /// [`AuditError::Format`] if it names no form.
    fn from_str(name: &str) -> Result<Self, AuditError> {
        let found = Self::ALL.into_iter().find(|form| form.as_str() == name);
        found.ok_or_else(|| AuditError::Format {
            found: name.to_owned(),
        })
    }
}

/// Writes records as lines. Show it every record of the log from its beginning, so that the end of
/// a call can name who made it: [`Exporter::write`] those that are wanted, [`Exporter::skip`] all
/// others, and [`Exporter::skip_unread`] those whose content is sealed or has expired.
#[derive(Debug)]
pub struct Exporter<W> {
    format: Format,
    device: String,
    in_flight: CallsInFlight,
    out: W,
    line: Vec<u8>,
}

impl<W: Write> Exporter<W> {
    /// An exporter for the log of the device of this name, which lines repeat: with the index, it
    /// is what tells one record from all others.
    pub fn new(format: Format, device: &str, out: W) -> Self {
        Self {
            format,
            device: device.to_owned(),
            in_flight: CallsInFlight::default(),
            out,
            line: Vec::new(),
        }
    }

    /// Takes note of a record that is not wanted.
    pub fn skip(&mut self, record: &Record) {
        let _names = self.in_flight.follow(record);
    }

    /// Takes note of a record whose content cannot be read, and which therefore has no line.
    pub fn skip_unread(&mut self, stored: &Stored) {
        self.in_flight.follow_unread(stored);
    }

    /// Writes the line of a record.
    ///
    /// # Errors
    /// Those of the writer. Part of the line may then be written.
    pub fn write(&mut self, record: &Record) -> io::Result<()> {
        let names = self.in_flight.follow(record);
        let told = Told {
            record,
            names: names.as_ref(),
            device: &self.device,
        };
        let value = match self.format {
            Format::JsonLines => plain(record),
            Format::Ocsf => without_gaps(ocsf::api_activity(&told)),
            Format::Ecs => without_gaps(ecs::document(&told)),
        };
        self.line.clear();
        write_canonical(&mut self.line, &value);
        self.line.push(b'\n');
        self.out.write_all(&self.line)
    }

    /// The writer, for whoever delivers what it has got so far.
    pub fn writer(&mut self) -> &mut W {
        &mut self.out
    }

    /// Flushes the writer and gives it back.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

/// A record with what is known around it.
struct Told<'a> {
    record: &'a Record,
    /// The names of the call that it admits or ends.
    names: Option<&'a CallNames>,
    device: &'a str,
}

impl Told<'_> {
    /// What tells this record from all others.
    fn uid(&self) -> String {
        format!("{}/{}", self.device, self.record.index)
    }

    /// Id of the token with which it was asked for.
    fn token_id(&self) -> Option<&String> {
        match &self.record.entry {
            Entry::Refused(refused) => refused.token_id.as_ref(),
            _ => self.names?.token_id.as_ref(),
        }
    }

    /// Who did it.
    fn actor(&self) -> Actor<'_> {
        match &self.record.entry {
            Entry::Opened { .. } | Entry::Expired(_) => Actor::Log,
            Entry::RefusedMore(_) => Actor::Unknown,
            Entry::Refused(refused) => match &refused.identity {
                Some(identity) => Actor::Identity(identity),
                None => Actor::Unknown,
            },
            Entry::Administered(administered) => match &administered.identity {
                Some(identity) => Actor::Identity(identity),
                None => Actor::Local,
            },
            Entry::Admitted(_) | Entry::Completed(_) | Entry::Interrupted { .. } => {
                match self.names {
                    Some(names) => Actor::Identity(&names.identity),
                    None => Actor::Unknown,
                }
            }
        }
    }

    /// The request that it is about, which a decision of a review names as its subject.
    fn request_id(&self) -> Option<&str> {
        match &self.record.entry {
            Entry::Opened { .. } | Entry::RefusedMore(_) | Entry::Expired(_) => None,
            Entry::Admitted(admitted) => Some(&admitted.request_id),
            Entry::Refused(refused) => Some(&refused.request_id),
            Entry::Completed(completed) => Some(&completed.request_id),
            Entry::Administered(administered) => {
                Verdict::of(administered).map(|_| &*administered.subject)
            }
            Entry::Interrupted { request_id, .. } => Some(request_id),
        }
    }
}

/// Whoever did what a record tells.
enum Actor<'a> {
    /// The holder of a client certificate.
    Identity(&'a str),
    /// Somebody at the device, whom its own rights let in.
    Local,
    /// A client that did not make itself known, or a call whose admission was not seen.
    Unknown,
    /// The log itself.
    Log,
}

/// A record in our own form, with all that it has and nothing else.
fn plain(record: &Record) -> Value {
    json!({
        "index": record.index,
        "time": precise(record),
        "entry": record.entry,
    })
}

/// The time of a record with all its microseconds.
fn precise(record: &Record) -> String {
    format!("{:.6}", record.time)
}

/// A time that a record says, in the same form; none where no clock can show it.
fn microseconds(since_1970: i64) -> Option<String> {
    let time = Timestamp::from_microsecond(since_1970).ok()?;
    Some(format!("{time:.6}"))
}

/// The value without members that hold nothing: null, and lists and objects without elements.
fn without_gaps(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.into_iter().map(|(key, v)| (key, without_gaps(v)));
            Value::Object(kept.filter(|(_, member)| !is_gap(member)).collect())
        }
        Value::Array(elements) => Value::Array(elements.into_iter().map(without_gaps).collect()),
        value => value,
    }
}

fn is_gap(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(elements) => elements.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
