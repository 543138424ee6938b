//! Held outputs, in the same file as the budgets.
//!
//! Invariant: an output whose time is over is never read again, and its text is overwritten when the next one
//! is held. That there was one, and what was decided on it, stays for another week.

use jiff::{SignedDuration, Timestamp};
use redb::{Durability, ReadableDatabase};

use super::error::Fault;
use super::{Ledger, LedgerError, Verdict, tables};
use crate::RequestId;
use crate::review::HeldOutput;

/// Most outputs that are kept at once, approved ones included until their time is over.
pub(crate) const HELD_OUTPUTS_MAX: usize = 1024;

/// How long it is remembered that there was an output, after its time is over.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(24 * 7);

impl Ledger {
    /// Keeps an output; `false` if there are as many as may be. It is on disk when this returns.
    pub(crate) fn hold(&self, output: &HeldOutput, now: Timestamp) -> Result<bool, LedgerError> {
        self.write(Durability::Immediate, |tables| {
            let mut kept = 0;
            for old in tables.held_outputs()? {
                let forgotten = old.expires.saturating_add(REMEMBERED);
                if now >= forgotten.unwrap_or(Timestamp::MAX) {
                    tables.drop_held(old.id)?;
                } else if now < old.expires {
                    kept += usize::from(old.has_text());
                } else if old.has_text() {
                    tables.set_held(&old.at(now))?;
                }
            }
            if kept >= HELD_OUTPUTS_MAX {
                return Ok(Verdict::Undo(false));
            }
            tables.set_held(output)?;
            Ok(Verdict::Keep(true))
        })
    }

    /// Puts an output in the place of what was kept of it. It is on disk when this returns.
    pub(crate) fn replace_held(&self, output: &HeldOutput) -> Result<(), LedgerError> {
        self.write(Durability::Immediate, |tables| {
            tables.set_held(output)?;
            Ok(Verdict::Keep(()))
        })
    }

    /// An output, if it is kept; without its text if its time is over at `now`.
    pub(crate) fn held(
        &self,
        id: RequestId,
        now: Timestamp,
    ) -> Result<Option<HeldOutput>, LedgerError> {
        let read = || -> Result<_, Fault> { tables::read_held(&self.database.begin_read()?, id) };
        let found = read().map_err(|fault| fault.at(&self.path))?;
        Ok(found.map(|output| output.at(now)))
    }

    /// All outputs that are kept, the oldest first; without their text if their time is over at `now`.
    pub(crate) fn all_held(&self, now: Timestamp) -> Result<Vec<HeldOutput>, LedgerError> {
        let read = || -> Result<_, Fault> { tables::read_all_held(&self.database.begin_read()?) };
        let found = read().map_err(|fault| fault.at(&self.path))?;
        Ok(found.into_iter().map(|output| output.at(now)).collect())
    }
}
