//! Who called what, remembered from a call's admission to its end.
//!
//! Invariant: at most [`OPEN_CALLS_MAX`] calls are remembered, each by its names only, so that
//! memory is bounded whatever the variables hold. A verified log never has more; of another, the
//! oldest is forgotten. Absent: everything else of the call.

use std::collections::BTreeMap;

use crate::calls::OPEN_CALLS_MAX;
use crate::entry::{Admitted, Entry, ModelRef, TemplateRef};
use crate::reader::Stored;
use crate::record::Record;

/// The names of an admitted call.
#[derive(Clone, Debug)]
pub(crate) struct CallNames {
    pub(crate) identity: String,
    pub(crate) token_id: Option<String>,
    pub(crate) model: ModelRef,
    pub(crate) template: TemplateRef,
}

impl CallNames {
    fn of(admitted: &Admitted) -> Self {
        Self {
            identity: admitted.identity.clone(),
            token_id: admitted.token_id.clone(),
            model: admitted.model.clone(),
            template: admitted.template.clone(),
        }
    }
}

/// The calls that are open at one place of the log.
#[derive(Debug, Default)]
pub(crate) struct CallsInFlight {
    names_by_index: BTreeMap<u64, CallNames>,
}

impl CallsInFlight {
    /// Takes the record in, and gives the names of the call that it admits or ends, if it does
    /// and they are known.
    pub(crate) fn follow(&mut self, record: &Record) -> Option<CallNames> {
        match &record.entry {
            Entry::Admitted(admitted) => {
                let names = CallNames::of(admitted);
                self.names_by_index.insert(record.index, names.clone());
                if self.names_by_index.len() > OPEN_CALLS_MAX {
                    self.names_by_index.pop_first();
                }
                Some(names)
            }
            Entry::Completed(completed) => self.names_by_index.remove(&completed.admitted_index),
            Entry::Interrupted { admitted_index, .. } => self.names_by_index.remove(admitted_index),
            Entry::Opened { .. }
            | Entry::Refused(_)
            | Entry::RefusedMore(_)
            | Entry::Administered(_)
            | Entry::Expired(_) => None,
        }
    }

    /// Takes in a record whose content cannot be read. What it ends is known all the same.
    pub(crate) fn follow_unread(&mut self, stored: &Stored) {
        if let Some(admitted_index) = stored.ended_call {
            self.names_by_index.remove(&admitted_index);
        }
    }

    /// How many calls are open.
    pub(crate) fn count(&self) -> usize {
        self.names_by_index.len()
    }
}
