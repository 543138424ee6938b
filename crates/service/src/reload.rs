//! Reading templates, policy, redaction rules and registry again while calls run.
//!
//! Invariant: they are put in force together or not at all, and who had them read again is in the audit log
//! before they are. Calls that were admitted go on under the rules that admitted them. Absent: where the
//! rules lie, which whoever starts the service says.

use std::sync::Arc;

use postern_audit::{Administered, Entry};
use postern_governance::{Identity, Right, RuleSet};
use serde::Serialize;

use crate::call::{Caller, ModelSummary};
use crate::service::Service;
use crate::{Refusal, RefusalKind};

/// Codes of the records.
const RELOADED: &str = "rules-reloaded";
const NOT_RELOADED: &str = "rules-not-reloaded";

/// Longest reason that is recorded and told, in bytes.
const REASON_BYTES_MAX: usize = 4096;

/// Reads the rules as they lie on disk now, for the models that are loaded; or says what is wrong.
type RuleReader = dyn Fn(&[ModelSummary]) -> Result<RuleSet, String> + Send + Sync;

/// How the rules are read, if that was said.
pub(crate) struct RuleSource(pub(crate) Box<RuleReader>);

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// Checksum of the rule set that was in force.
    pub before: String,
    /// Checksum of the one that is now.
    pub rules_sha256: String,
}

impl Service {
    /// Says how the rules are read again. Only the first reader counts.
    pub fn read_rules_with(
        &self,
        reader: impl Fn(&[ModelSummary]) -> Result<RuleSet, String> + Send + Sync + 'static,
    ) {
        let _only_the_first = self.rule_source.set(RuleSource(Box::new(reader)));
    }

    /// Reads the rules again and puts them in force, for `by` or for somebody at the device. Blocks.
    ///
    /// # Errors
    ///
    /// [`RefusalKind::ReloadFailed`] with what is wrong, or that it cannot be recorded. The old rules stay in
    /// force then.
    pub fn reload(&self, by: Option<&Identity>) -> Result<Reloaded, RefusalKind> {
        // One at a time, or what was read first could be put in force last.
        let _turn = self.turn();
        let in_force = self.rules();
        let before = in_force.checksum().to_owned();
        let rules = match self.read_rules() {
            Ok(rules) => rules,
            Err(mut reason) => {
                reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
                log::error!(error = reason; "templates, policy and registry were not reloaded; the old ones stay in force");
                let subject = &before;
                self.record_reload(by, NOT_RELOADED, subject, reason.clone(), &in_force)?;
                return Err(RefusalKind::ReloadFailed { reason });
            }
        };
        let rules_sha256 = rules.checksum().to_owned();
        let detail = format!("before: {before}");
        self.record_reload(by, RELOADED, &rules_sha256, detail, &in_force)?;
        log::info!(rules = rules_sha256; "templates, policy and registry were read again");
        self.replace_rules(rules);
        Ok(Reloaded {
            before,
            rules_sha256,
        })
    }

    /// As [`Service::reload`], for a caller who may administer.
    ///
    /// # Errors
    ///
    /// A [`Refusal`], recorded: [`RefusalKind::RightMissing`], or as [`Service::reload`].
    pub async fn reload_for(self: &Arc<Self>, caller: &Caller) -> Result<Reloaded, Refusal> {
        self.at_desk(caller, |service, caller, rules| {
            if !service.may_administer(caller, rules) {
                let right = Right::Administer;
                return Err(RefusalKind::RightMissing { right });
            }
            service.reload(Some(&caller.identity))
        })
        .await
    }

    fn read_rules(&self) -> Result<RuleSet, String> {
        let source = self.rule_source.get();
        let source = source.ok_or("this service has no files to read them from")?;
        (source.0)(&self.models())
    }

    fn record_reload(
        &self,
        by: Option<&Identity>,
        action: &str,
        subject: &str,
        detail: String,
        in_force: &RuleSet,
    ) -> Result<(), RefusalKind> {
        let entry = Entry::Administered(Administered {
            identity: by.map(Identity::to_string),
            action: action.to_owned(),
            subject: subject.to_owned(),
            detail,
            rules_sha256: in_force.checksum().to_owned(),
        });
        self.append(self.next_request_id(), &entry).map(drop)
    }
}
