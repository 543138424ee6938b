//! The clear part of a record: what stands before its content and is never sealed.
//!
//! Invariant: it has a fixed width and a fixed place for each field, so it is read without a key
//! and without a parser, and its bytes are what the leaf hash and the seal cover. It says nothing
//! of who asked what: only type, order, time and which call a record ends. Absent: content.

use crate::entry::Entry;
use crate::kind::{Class, EntryType};

/// First byte of a frame's body that holds a record with its content.
pub(crate) const KIND_RECORD: u8 = 1;
/// First byte of a frame's body that holds a checkpoint.
pub(crate) const KIND_CHECKPOINT: u8 = 2;
/// First byte of a frame's body that holds a record whose content was destroyed.
pub(crate) const KIND_EXPIRED: u8 = 3;
/// First byte of a frame's body that holds a signature.
pub(crate) const KIND_SIGNATURE: u8 = 4;
/// Bytes of the clear part.
pub(crate) const CLEAR_BYTES: usize = 42;

/// Subject of an entry that has none.
const NO_SUBJECT: u64 = u64::MAX;
const SEGMENT_BITS: u32 = 32;

/// What the clear part says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clear {
    pub(crate) entry_type: EntryType,
    pub(crate) index: u64,
    /// Microseconds since 1970 by the writer's clock.
    pub(crate) wall_us: i64,
    /// Microseconds since the machine was started.
    pub(crate) monotonic_us: u64,
    pub(crate) subject: Subject,
    /// Which sealing of its segment this was; 0 in a plaintext segment.
    pub(crate) counter: u64,
}

/// What an entry is about, if that has to be known without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Nothing,
    /// The call that was admitted by this record.
    Call(u64),
    /// One class of one segment.
    Content {
        segment: u32,
        class: Class,
    },
}

impl Subject {
    pub(crate) fn of(entry: &Entry) -> Self {
        match entry {
            Entry::Opened { .. }
            | Entry::Admitted(_)
            | Entry::Refused(_)
            | Entry::RefusedMore(_)
            | Entry::Administered(_) => Self::Nothing,
            Entry::Completed(completed) => Self::Call(completed.admitted_index),
            Entry::Interrupted { admitted_index, .. } => Self::Call(*admitted_index),
            Entry::Expired(expired) => Self::Content {
                segment: expired.segment,
                class: expired.class,
            },
        }
    }

    fn encode(self) -> u64 {
        match self {
            Self::Nothing => NO_SUBJECT,
            Self::Call(admitted_index) => admitted_index,
            Self::Content { segment, class } => {
                (class.place() as u64) << SEGMENT_BITS | u64::from(segment)
            }
        }
    }

    /// Reads the subject that an entry of this type must have.
    fn decode(entry_type: EntryType, number: u64) -> Option<Self> {
        match entry_type {
            EntryType::Completed | EntryType::Interrupted => Some(Self::Call(number)),
            EntryType::Expired => {
                let place = usize::try_from(number >> SEGMENT_BITS).ok()?;
                let class = *Class::ALL.get(place)?;
                let segment = u32::try_from(number & u64::from(u32::MAX)).ok()?;
                Some(Self::Content { segment, class })
            }
            _ => (number == NO_SUBJECT).then_some(Self::Nothing),
        }
    }
}

impl Clear {
    /// The bytes of the clear part of a record with its content.
    pub(crate) fn encode(&self) -> [u8; CLEAR_BYTES] {
        let mut bytes = [0; CLEAR_BYTES];
        bytes[0] = KIND_RECORD;
        bytes[1] = self.entry_type.code();
        bytes[2..10].copy_from_slice(&self.index.to_be_bytes());
        bytes[10..18].copy_from_slice(&self.wall_us.to_be_bytes());
        bytes[18..26].copy_from_slice(&self.monotonic_us.to_be_bytes());
        bytes[26..34].copy_from_slice(&self.subject.encode().to_be_bytes());
        bytes[34..42].copy_from_slice(&self.counter.to_be_bytes());
        bytes
    }

    /// Reads a clear part, whatever its first byte; the error says what does not read.
    pub(crate) fn decode(bytes: &[u8; CLEAR_BYTES]) -> Result<Self, String> {
        let code = bytes[1];
        let entry_type =
            EntryType::of_code(code).ok_or_else(|| format!("entry type {code} is not known"))?;
        let subject = number(bytes, 26);
        let subject = Subject::decode(entry_type, subject)
            .ok_or_else(|| format!("an entry of type {entry_type} has subject {subject}"))?;
        Ok(Self {
            entry_type,
            index: number(bytes, 2),
            wall_us: number(bytes, 10).cast_signed(),
            monotonic_us: number(bytes, 18),
            subject,
            counter: number(bytes, 34),
        })
    }
}

fn number(bytes: &[u8; CLEAR_BYTES], at: usize) -> u64 {
    let eight = bytes[at..at + 8].try_into();
    u64::from_be_bytes(eight.expect("eight bytes are taken"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clear_part_reads_back() {
        let content = Subject::Content {
            segment: u32::MAX,
            class: Class::Refusals,
        };
        for (entry_type, subject) in [
            (EntryType::Opened, Subject::Nothing),
            (EntryType::Completed, Subject::Call(7)),
            (EntryType::Expired, content),
        ] {
            let clear = Clear {
                entry_type,
                index: 1,
                wall_us: -2,
                monotonic_us: 3,
                subject,
                counter: u64::MAX,
            };
            assert_eq!(Clear::decode(&clear.encode()), Ok(clear));
        }
    }

    #[test]
    fn what_no_writer_writes_does_not_read() {
        let clear = Clear {
            entry_type: EntryType::Expired,
            index: 0,
            wall_us: 0,
            monotonic_us: 0,
            subject: Subject::Nothing,
            counter: 0,
        };
        let mut bytes = clear.encode();
        Clear::decode(&bytes).unwrap_err();
        bytes[1] = 99;
        Clear::decode(&bytes).unwrap_err();
    }
}
