//! What records say, for whoever may read it.
//!
//! Invariant: content is handed out only if it opens under its segment's key, with the clear part
//! it was sealed with, and says what the clear part says of it. A key that no identity opens
//! leaves its records sealed and is no fault: a log can change its auditors. Absent: hashes, which
//! were judged before; how keys are wrapped, which is `seal`'s.

use serde::Serialize;

use crate::calls::OpenCalls;
use crate::clear::{CLEAR_BYTES, Clear, Subject};
use crate::encoding::decode_entry;
use crate::entry::Entry;
use crate::error::{AuditError, Reason};
use crate::kind::{CLASSES, Class};
use crate::scan::{Record, SegmentScan};
use crate::seal::{DataKey, Identities, SealError};

const SEGMENT_BYTES: usize = 4;
const ASSOCIATED_BYTES: usize = SEGMENT_BYTES + CLEAR_BYTES;

/// What became of a record's content.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, and most are the large one"
)]
pub enum Content {
    /// It was read.
    Entry(Entry),
    /// It is sealed to auditors, none of whose identities was given.
    Sealed,
    /// It expired and was destroyed.
    Expired,
}

impl Content {
    /// The entry, if it was read.
    #[must_use]
    pub fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Entry(entry) => Some(entry),
            Self::Sealed | Self::Expired => None,
        }
    }

    /// As [`entry`](Self::entry), to keep.
    #[must_use]
    pub fn into_entry(self) -> Option<Entry> {
        match self {
            Self::Entry(entry) => Some(entry),
            Self::Sealed | Self::Expired => None,
        }
    }
}

/// Opens contents, segment by segment.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    identities: Option<Identities>,
    segment: Option<u32>,
    keys: [KeyState; CLASSES],
}

#[derive(Debug, Default)]
enum KeyState {
    #[default]
    Untried,
    /// None of the identities opens it.
    Foreign,
    Open(DataKey),
}

impl Contents {
    /// Without identities, only plaintext segments are read.
    pub(crate) fn new(identities: Option<Identities>) -> Self {
        Self {
            identities,
            ..Self::default()
        }
    }

    /// Reads the content of the record that `scan` read last.
    pub(crate) fn read(
        &mut self,
        scan: &mut SegmentScan,
        record: &Record,
        calls: &OpenCalls,
    ) -> Result<Content, AuditError> {
        if !record.has_content {
            return Ok(Content::Expired);
        }
        let entry = match self.open(scan, record) {
            Ok(Some(entry)) => entry,
            Ok(None) => return Ok(Content::Sealed),
            Err(reason) => return Err(scan.broken_record(record, reason)),
        };
        Ok(Content::Entry(name_call(entry, calls)))
    }

    fn open(&mut self, scan: &mut SegmentScan, record: &Record) -> Result<Option<Entry>, Reason> {
        let entry = if scan.header().keys.is_none() {
            decode_entry(scan.content_mut())
        } else {
            let class = record.clear.entry_type.class();
            let Some(key) = self.key(scan, class)? else {
                return Ok(None);
            };
            let associated = associated_data(scan.segment(), &scan.clear_bytes());
            let opened = key.open(record.clear.counter, &associated, scan.content_mut());
            decode_entry(opened.map_err(|error| content_reason(&error))?)
        };
        let entry = entry.map_err(|detail| Reason::RecordBody { detail })?;
        check_clear(&record.clear, &entry)?;
        Ok(Some(entry))
    }

    /// The key of a class in the segment at hand, unwrapped when it is first asked for.
    fn key(&mut self, scan: &SegmentScan, class: Class) -> Result<Option<&DataKey>, Reason> {
        if self.segment != Some(scan.segment()) {
            self.segment = Some(scan.segment());
            self.keys = Default::default();
        }
        let state = &mut self.keys[class.place()];
        if let (KeyState::Untried, Some(identities)) = (&*state, &self.identities) {
            let wrapped = scan.header().keys.as_ref();
            let wrapped = wrapped.map_or(&[][..], |keys| &keys[class.place()]);
            *state = match DataKey::unwrap(wrapped, identities) {
                Ok(key) => KeyState::Open(key),
                Err(SealError::NoIdentity { .. }) => KeyState::Foreign,
                Err(error) => return Err(content_reason(&error)),
            };
        }
        match state {
            KeyState::Open(key) => Ok(Some(key)),
            KeyState::Untried | KeyState::Foreign => Ok(None),
        }
    }
}

/// What the seal of a record covers beside its content.
pub(crate) fn associated_data(segment: u32, clear: &[u8; CLEAR_BYTES]) -> [u8; ASSOCIATED_BYTES] {
    let mut bytes = [0; ASSOCIATED_BYTES];
    let (first, rest) = bytes.split_at_mut(SEGMENT_BYTES);
    first.copy_from_slice(&segment.to_be_bytes());
    rest.copy_from_slice(clear);
    bytes
}

fn check_clear(clear: &Clear, entry: &Entry) -> Result<(), Reason> {
    let (entry_type, subject) = (entry.entry_type(), Subject::of(entry));
    if (entry_type, subject) == (clear.entry_type, clear.subject) {
        return Ok(());
    }
    Err(Reason::ClearPart {
        clear: format!("{} about {:?}", clear.entry_type, clear.subject),
        content: format!("{entry_type} about {subject:?}"),
    })
}

/// Gives the end of an unfinished call the request id that its writer could not know.
fn name_call(mut entry: Entry, calls: &OpenCalls) -> Entry {
    if let Entry::Interrupted {
        request_id,
        admitted_index,
    } = &mut entry
        && request_id.is_empty()
    {
        let known = calls.request_id(*admitted_index);
        request_id.push_str(known.unwrap_or(""));
    }
    entry
}

fn content_reason(error: &impl ToString) -> Reason {
    Reason::Content {
        detail: error.to_string(),
    }
}
