//! Which calls are admitted and have no end yet.
//!
//! Invariant: at most [`OPEN_CALLS_MAX`] calls are open at any place of a log, so writer and
//! verifier need bounded memory; a call is admitted once and ended once. A call is known by the
//! index of its `admitted` record, so all of this holds without a key. Who can also read the
//! entries, as the writer can its own, knows request ids too, and then one id is open once only.
//! Absent: whether a request id was used by a call that has ended, which would need memory that
//! grows with the log.

use std::collections::BTreeMap;

use crate::clear::{Clear, Subject};
use crate::entry::Entry;
use crate::kind::EntryType;

/// Most calls that may be admitted and unfinished at once.
pub const OPEN_CALLS_MAX: usize = 4096;

/// An admitted call without an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenCall {
    /// The call; `None` where the entry that admitted it cannot be read without a key.
    pub request_id: Option<String>,
    /// Index of its `Admitted` record.
    pub admitted_index: u64,
}

/// Why an entry does not fit the calls in flight.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallProblem {
    /// The id belongs to a call that is still open.
    #[error("a call with this id is open already, admitted by record {admitted_index}")]
    AlreadyOpen {
        /// Index of the other call's `Admitted` record.
        admitted_index: u64,
    },
    /// No call is open that this record admitted: there was none, or it has ended.
    #[error("no call that record {admitted_index} admitted is open")]
    NotOpen {
        /// What the entry says.
        admitted_index: u64,
    },
    /// The call that the record admitted has another id.
    #[error("record {admitted_index} admitted call {expected}, not {found}")]
    RequestId {
        /// Index of the call's `Admitted` record.
        admitted_index: u64,
        /// Id of the call that was admitted there.
        expected: String,
        /// What the entry says.
        found: String,
    },
    /// The bound on open calls is reached.
    #[error("{max} calls are open already")]
    TooMany {
        /// The bound.
        max: usize,
    },
}

/// What a record does to the open calls.
#[derive(Clone, Debug)]
pub(crate) enum CallStep {
    Nothing,
    Admit {
        request_id: Option<String>,
    },
    End {
        request_id: Option<String>,
        admitted_index: u64,
    },
}

impl CallStep {
    /// What can be told of an entry.
    pub(crate) fn of(entry: &Entry) -> Self {
        match entry {
            Entry::Admitted(admitted) => Self::Admit {
                request_id: Some(admitted.request_id.clone()),
            },
            Entry::Completed(completed) => Self::End {
                request_id: Some(completed.request_id.clone()),
                admitted_index: completed.admitted_index,
            },
            Entry::Interrupted {
                request_id,
                admitted_index,
            } => Self::End {
                request_id: Some(request_id.clone()).filter(|id| !id.is_empty()),
                admitted_index: *admitted_index,
            },
            Entry::Opened { .. }
            | Entry::Refused(_)
            | Entry::RefusedMore(_)
            | Entry::Administered(_)
            | Entry::Expired(_) => Self::Nothing,
        }
    }

    /// What can be told of a record by its clear part.
    pub(crate) fn of_clear(clear: &Clear) -> Self {
        match (clear.entry_type, clear.subject) {
            (EntryType::Admitted, _) => Self::Admit { request_id: None },
            (_, Subject::Call(admitted_index)) => Self::End {
                request_id: None,
                admitted_index,
            },
            _ => Self::Nothing,
        }
    }

    /// The call, where it is known.
    pub(crate) fn request_id(&self) -> &str {
        match self {
            Self::Nothing => "",
            Self::Admit { request_id } | Self::End { request_id, .. } => {
                request_id.as_deref().unwrap_or("")
            }
        }
    }
}

/// How to take back one step, if the record does not reach the disk.
#[derive(Debug)]
pub(crate) enum Undo {
    Nothing,
    Close(u64),
    Reopen(OpenCall),
}

/// The calls that are open at one place of the log.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenCalls {
    id_by_admitted: BTreeMap<u64, Option<String>>,
    admitted_by_id: BTreeMap<String, u64>,
}

impl OpenCalls {
    /// Takes the step of the record at `index`.
    pub(crate) fn apply(&mut self, step: &CallStep, index: u64) -> Result<Undo, CallProblem> {
        match step {
            CallStep::Nothing => Ok(Undo::Nothing),
            CallStep::Admit { request_id } => self.admit(request_id.clone(), index),
            CallStep::End {
                request_id,
                admitted_index,
            } => self.end(request_id.as_deref(), *admitted_index),
        }
    }

    /// Takes back one step; several are taken back newest first.
    pub(crate) fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Nothing => {}
            Undo::Close(admitted_index) => drop(self.remove(admitted_index)),
            Undo::Reopen(call) => self.insert(call.request_id, call.admitted_index),
        }
    }

    /// The open calls, oldest first.
    pub(crate) fn list(&self) -> Vec<OpenCall> {
        let calls = self.id_by_admitted.iter();
        calls
            .map(|(&admitted_index, request_id)| OpenCall {
                request_id: request_id.clone(),
                admitted_index,
            })
            .collect()
    }

    /// Id of the call that this record admitted, if it is open and its id is known.
    pub(crate) fn request_id(&self, admitted_index: u64) -> Option<&str> {
        self.id_by_admitted.get(&admitted_index)?.as_deref()
    }

    fn admit(&mut self, request_id: Option<String>, index: u64) -> Result<Undo, CallProblem> {
        let other = request_id
            .as_ref()
            .and_then(|id| self.admitted_by_id.get(id));
        if let Some(&admitted_index) = other {
            return Err(CallProblem::AlreadyOpen { admitted_index });
        }
        if self.id_by_admitted.len() >= OPEN_CALLS_MAX {
            return Err(CallProblem::TooMany {
                max: OPEN_CALLS_MAX,
            });
        }
        self.insert(request_id, index);
        Ok(Undo::Close(index))
    }

    fn end(&mut self, request_id: Option<&str>, admitted_index: u64) -> Result<Undo, CallProblem> {
        let Some(expected) = self.id_by_admitted.get(&admitted_index) else {
            return Err(CallProblem::NotOpen { admitted_index });
        };
        if let (Some(expected), Some(found)) = (expected, request_id)
            && expected != found
        {
            return Err(CallProblem::RequestId {
                admitted_index,
                expected: expected.clone(),
                found: found.to_owned(),
            });
        }
        Ok(Undo::Reopen(OpenCall {
            request_id: self.remove(admitted_index),
            admitted_index,
        }))
    }

    fn insert(&mut self, request_id: Option<String>, admitted_index: u64) {
        if let Some(id) = &request_id {
            self.admitted_by_id.insert(id.clone(), admitted_index);
        }
        self.id_by_admitted.insert(admitted_index, request_id);
    }

    fn remove(&mut self, admitted_index: u64) -> Option<String> {
        let request_id = self.id_by_admitted.remove(&admitted_index).flatten();
        if let Some(id) = &request_id {
            self.admitted_by_id.remove(id);
        }
        request_id
    }
}
