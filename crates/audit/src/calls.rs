//! Which calls are admitted and have no end yet.
//!
//! Invariant: at most [`OPEN_CALLS_MAX`] calls are open at any place of a log, so writer and
//! verifier need bounded memory; a call is admitted once and ended once. Writer and verifier run
//! the same rules, so nothing is written that would not verify. Absent: whether a request id was
//! used by a call that has ended, which would need memory that grows with the log.

use std::collections::BTreeMap;

use crate::entry::Entry;

/// Most calls that may be admitted and unfinished at once.
pub const OPEN_CALLS_MAX: usize = 4096;

/// An admitted call without an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenCall {
    /// The call.
    pub request_id: String,
    /// Index of its `Admitted` record.
    pub admitted_index: u64,
}

/// Why an entry does not fit the calls in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallProblem {
    /// The id belongs to a call that is still open.
    #[error("a call with this id is open already, admitted by record {admitted_index}")]
    AlreadyOpen {
        /// Index of the other call's `Admitted` record.
        admitted_index: u64,
    },
    /// The call was never admitted, or has ended.
    #[error("no call with this id is open")]
    NotOpen,
    /// The call was admitted by another record.
    #[error("the call was admitted by record {expected}, not {found}")]
    AdmittedIndex {
        /// Where the call was admitted.
        expected: u64,
        /// What the entry says.
        found: u64,
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
    Admit { request_id: String },
    End(OpenCall),
}

impl CallStep {
    pub(crate) fn of(entry: &Entry) -> Self {
        match entry {
            Entry::Opened { .. } | Entry::Refused(_) | Entry::Administered(_) => Self::Nothing,
            Entry::Admitted(admitted) => Self::Admit {
                request_id: admitted.request_id.clone(),
            },
            Entry::Completed(completed) => Self::End(OpenCall {
                request_id: completed.request_id.clone(),
                admitted_index: completed.admitted_index,
            }),
            Entry::Interrupted {
                request_id,
                admitted_index,
            } => Self::End(OpenCall {
                request_id: request_id.clone(),
                admitted_index: *admitted_index,
            }),
        }
    }

    /// The call, or nothing for a record that touches none.
    pub(crate) fn request_id(&self) -> &str {
        match self {
            Self::Nothing => "",
            Self::Admit { request_id } => request_id,
            Self::End(call) => &call.request_id,
        }
    }
}

/// How to take back one step, if the record does not reach the disk.
#[derive(Debug)]
pub(crate) enum Undo {
    Nothing,
    Close(String),
    Reopen(OpenCall),
}

/// The calls that are open at one place of the log.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenCalls {
    admitted_by_id: BTreeMap<String, u64>,
}

impl OpenCalls {
    /// Takes the step of the record at `index`.
    pub(crate) fn apply(&mut self, step: &CallStep, index: u64) -> Result<Undo, CallProblem> {
        match step {
            CallStep::Nothing => Ok(Undo::Nothing),
            CallStep::Admit { request_id } => self.admit(request_id, index),
            CallStep::End(call) => self.end(&call.request_id, call.admitted_index),
        }
    }

    /// Takes back one step; several are taken back newest first.
    pub(crate) fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Nothing => {}
            Undo::Close(request_id) => {
                self.admitted_by_id.remove(&request_id);
            }
            Undo::Reopen(call) => {
                self.admitted_by_id
                    .insert(call.request_id, call.admitted_index);
            }
        }
    }

    /// The open calls, oldest first.
    pub(crate) fn list(&self) -> Vec<OpenCall> {
        let mut calls: Vec<OpenCall> = self
            .admitted_by_id
            .iter()
            .map(|(request_id, &admitted_index)| OpenCall {
                request_id: request_id.clone(),
                admitted_index,
            })
            .collect();
        calls.sort_by_key(|call| call.admitted_index);
        calls
    }

    fn admit(&mut self, request_id: &str, index: u64) -> Result<Undo, CallProblem> {
        if let Some(&admitted_index) = self.admitted_by_id.get(request_id) {
            return Err(CallProblem::AlreadyOpen { admitted_index });
        }
        if self.admitted_by_id.len() >= OPEN_CALLS_MAX {
            return Err(CallProblem::TooMany {
                max: OPEN_CALLS_MAX,
            });
        }
        self.admitted_by_id.insert(request_id.to_owned(), index);
        Ok(Undo::Close(request_id.to_owned()))
    }

    fn end(&mut self, request_id: &str, found: u64) -> Result<Undo, CallProblem> {
        match self.admitted_by_id.get(request_id) {
            None => Err(CallProblem::NotOpen),
            Some(&expected) if expected != found => {
                Err(CallProblem::AdmittedIndex { expected, found })
            }
            Some(_) => {
                self.admitted_by_id.remove(request_id);
                Ok(Undo::Reopen(OpenCall {
                    request_id: request_id.to_owned(),
                    admitted_index: found,
                }))
            }
        }
    }
}
