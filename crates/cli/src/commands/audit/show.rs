//! `postern audit show`: records and calls, as they are read.
//!
//! Invariant: memory is bounded by the open calls, whatever the log's length. A record whose content
//! cannot be read is shown by its clear part, unless a filter asks for what only content tells.

use std::cell::RefCell;
use std::collections::BTreeMap;

use postern_audit::{
    AuditError, Calls, Content, EndManner, Entry, EntryType, Event, Filter, Record, Stored,
};
use serde_json::{Value, json};

use super::details::{details, request_id};
use super::{classified, inputs};
use crate::arguments::audit::{ShowArguments, check_times};
use crate::terminal::{Screen, Tone};

pub(super) fn run(arguments: &ShowArguments) -> anyhow::Result<()> {
    let dir = &arguments.dir;
    check_times(arguments.filter.since, arguments.filter.until)?;
    let filter = Filter::new(arguments.filter.criteria());
    let reader = inputs::records(dir, arguments.auditor.identity_file.as_deref())?;
    let mut list = List::new(arguments.json);
    let places = RefCell::new(BTreeMap::new());
    let mut failed = None;
    let records = reader.map(|stored| readable(stored, &places));
    for event in Calls::new(records) {
        match event {
            Ok(event) => {
                let is_wanted = filter.passes(&event);
                for record in records_of(event) {
                    let place = places.borrow_mut().remove(&record.index);
                    if let Some(place) = place.filter(|_| is_wanted) {
                        list.show(&record, &place)?;
                    }
                }
            }
            Err(Aside::Unread(stored)) => list.pass(&stored, filter.passes_unread(&stored))?,
            // The calls that are still open come after it.
            Err(Aside::Failed(error)) => failed = Some(*error),
        }
    }
    match failed {
        Some(error) => Err(classified(dir, error)),
        None => list.end(arguments),
    }
}

/// What comes between records that can be read.
enum Aside {
    /// A record whose content is sealed or has expired.
    Unread(Box<Stored>),
    Failed(Box<AuditError>),
}

/// What stands beside an entry in its record.
struct Place {
    segment: u32,
    head: String,
    leaf: String,
}

/// The record for reports, with its place kept until it is shown or left out.
fn readable(
    stored: Result<Stored, AuditError>,
    places: &RefCell<BTreeMap<u64, Place>>,
) -> Result<Record, Aside> {
    let stored = stored.map_err(|error| Aside::Failed(Box::new(error)))?;
    let Some(record) = Record::of(&stored) else {
        return Err(Aside::Unread(Box::new(stored)));
    };
    let Stored {
        index,
        segment,
        head,
        leaf,
        ..
    } = stored;
    let place = Place {
        segment,
        head,
        leaf,
    };
    places.borrow_mut().insert(index, place);
    Ok(record)
}

/// The records that an event was made of.
fn records_of(event: Event) -> Vec<Record> {
    let call = match event {
        Event::Single(record) => return vec![*record],
        Event::Call(call) => *call,
    };
    let request_id = call.admitted.request_id.clone();
    let admitted_index = call.index;
    let mut records = vec![Record {
        index: call.index,
        time: call.time,
        entry: Entry::Admitted(call.admitted),
    }];
    records.extend(call.end.map(|end| Record {
        index: end.index,
        time: end.time,
        entry: match end.manner {
            EndManner::Completed(completed) => Entry::Completed(completed),
            EndManner::Interrupted => Entry::Interrupted {
                request_id,
                admitted_index,
            },
        },
    }));
    records
}

/// The list as it grows on the screen.
struct List {
    screen: Screen,
    as_json: bool,
    shown: u64,
    sealed: u64,
}

impl List {
    fn new(as_json: bool) -> Self {
        Self {
            screen: Screen::new(),
            as_json,
            shown: 0,
            sealed: 0,
        }
    }

    fn show(&mut self, record: &Record, place: &Place) -> anyhow::Result<()> {
        self.shown += 1;
        if self.as_json {
            return self.screen.json_line(&line(record, place));
        }
        let (index, time, entry) = (record.index, record.time, &record.entry);
        let tone = match entry {
            Entry::Refused(_) | Entry::RefusedMore(_) | Entry::Interrupted { .. } => Tone::Bad,
            Entry::Opened { .. } | Entry::Expired(_) => Tone::Quiet,
            Entry::Admitted(_) | Entry::Completed(_) | Entry::Administered(_) => Tone::Heading,
        };
        let what = self.what(tone, entry.entry_type());
        let request = request_id(entry).unwrap_or("");
        let screen = &mut self.screen;
        screen.line(format_args!("#{index:<5} {time:.3}  {what} {request}"))?;
        for detail in details(entry) {
            screen.line(format_args!("       {detail}"))?;
        }
        Ok(())
    }

    /// Takes in a record whose content cannot be read.
    fn pass(&mut self, stored: &Stored, is_wanted: bool) -> anyhow::Result<()> {
        if stored.content == Content::Sealed {
            self.sealed += 1;
        }
        if !is_wanted {
            return Ok(());
        }
        self.shown += 1;
        if self.as_json {
            return self.screen.json_line(&unread_line(stored));
        }
        let (index, time) = (stored.index, stored.time);
        let what = self.what(Tone::Quiet, stored.entry_type);
        let of_call = stored.ended_call.map_or_else(String::new, |admitted| {
            format!("of the call admitted as #{admitted}; ")
        });
        let why = match stored.content {
            Content::Expired => "content expired",
            _ => "content sealed",
        };
        let screen = &mut self.screen;
        Ok(screen.line(format_args!("#{index:<5} {time:.3}  {what} {of_call}{why}"))?)
    }

    fn what(&self, tone: Tone, entry_type: EntryType) -> String {
        let name = entry_type.name();
        self.screen.paint(tone, format_args!("{name:<12}"))
    }

    /// Says what was left out, and fails where a request was asked for in vain.
    fn end(mut self, arguments: &ShowArguments) -> anyhow::Result<()> {
        let sealed = self.sealed;
        if let (0, Some(id)) = (self.shown, &arguments.filter.request) {
            let dir = arguments.dir.display();
            let hint = match sealed {
                0 => String::new(),
                sealed => format!("; {sealed} records are sealed, see --identity-file"),
            };
            anyhow::bail!("the log in {dir} has no record of request {id}{hint}");
        }
        if sealed > 0 && !self.as_json {
            let note = format!(
                "{sealed} records are sealed: --identity-file names the identity of an auditor"
            );
            let note = self.screen.paint(Tone::Quiet, note);
            self.screen.line(note)?;
        }
        Ok(())
    }
}

fn line(record: &Record, place: &Place) -> Value {
    json!({
        "index": record.index,
        "time": record.time,
        "segment": place.segment,
        "head": place.head,
        "leaf": place.leaf,
        "type": record.entry.entry_type(),
        "content": "open",
        "entry": record.entry,
    })
}

fn unread_line(stored: &Stored) -> Value {
    json!({
        "index": stored.index,
        "time": stored.time,
        "segment": stored.segment,
        "head": stored.head,
        "leaf": stored.leaf,
        "type": stored.entry_type,
        "ended_call": stored.ended_call,
        "content": match stored.content {
            Content::Expired => "expired",
            _ => "sealed",
        },
        "entry": null,
    })
}
