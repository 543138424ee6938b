//! What a person changes, which model was loaded, and the records of it.
//!
//! Invariant: the record is on disk before the change is, or before anything is generated with the model.

use std::sync::Arc;

use postern_audit::{Administered, AuditError, AuditLog, Entry, Receipt};
use postern_governance::{
    Account, Adjustment, AppliedLimits, Budget, Identity, Question, Right, RuleSet, Source, Span,
};

use crate::call::Caller;
use crate::service::Service;
use crate::{BudgetReport, Ledger, LedgerError, Refusal, RefusalKind};

/// Code of the record of a changed budget.
const BUDGET_SET: &str = "budget-set";
/// Code of the record of a loaded model.
const MODEL_LOADED: &str = "model-loaded";

/// A change of what an account has left of its running day and month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetChange {
    /// Whose.
    pub account: Account,
    /// What becomes of the running day.
    pub day: Adjustment,
    /// What becomes of the running month.
    pub month: Adjustment,
}

/// What came of a [`BudgetChange`].
#[derive(Debug, Clone)]
pub struct BudgetChanged {
    /// The account before.
    pub before: Budget,
    /// The account now.
    pub after: Budget,
    /// The record of it.
    pub record: Receipt,
}

/// Why a budget was not changed.
#[derive(Debug, thiserror::Error)]
pub enum AdministrationError {
    /// The change could not be recorded, so it was not made.
    #[error("the change could not be recorded, so it was not made: {0}")]
    Audit(#[from] AuditError),
    /// The change was recorded and could not be made.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Records a change of a budget, by `identity` or by somebody at the device, and makes it. `rules_sha256` is the
/// checksum of the rules in force.
///
/// # Errors
///
/// It cannot be recorded or made; see [`AdministrationError`].
pub fn change_budget(
    audit: &AuditLog,
    ledger: &Ledger,
    change: &BudgetChange,
    identity: Option<&Identity>,
    rules_sha256: &str,
    unix_s: i64,
) -> Result<BudgetChanged, AdministrationError> {
    let before = ledger.budget(&change.account, unix_s)?;
    let record = audit.append(&Entry::Administered(Administered {
        identity: identity.map(Identity::to_string),
        action: BUDGET_SET.to_owned(),
        subject: change.account.to_string(),
        detail: detail(change, &before),
        rules_sha256: rules_sha256.to_owned(),
    }))?;
    let adjustments = [(Span::Day, change.day), (Span::Month, change.month)];
    let after = ledger.adjust(&change.account, adjustments, unix_s)?;
    Ok(BudgetChanged {
        before,
        after,
        record,
    })
}

impl Service {
    /// Records which model is going to answer. Whoever started the daemon chose it, so no identity is named.
    pub(crate) fn record_model(&self) -> Result<(), AuditError> {
        let model = self.engine.info();
        let entry = Entry::Administered(Administered {
            identity: None,
            action: MODEL_LOADED.to_owned(),
            subject: model.id.clone(),
            detail: format!("sha256 {}, backend {}", model.sha256, model.backend),
            rules_sha256: self.rules().checksum().to_owned(),
        });
        self.audit.append(&entry).map(drop)
    }

    /// Changes a budget for a caller who may administer, and gives the account as it is now.
    ///
    /// # Errors
    ///
    /// A [`Refusal`], recorded: [`RefusalKind::RightMissing`], [`RefusalKind::BudgetUnknown`], or that the
    /// change cannot be recorded or made.
    pub async fn set_budget(
        self: &Arc<Self>,
        caller: &Caller,
        change: BudgetChange,
    ) -> Result<BudgetReport, Refusal> {
        self.at_desk(caller, move |service, by, rules| {
            service.change_budget(by, rules, &change)
        })
        .await
    }

    fn change_budget(
        &self,
        caller: &Caller,
        rules: &RuleSet,
        change: &BudgetChange,
    ) -> Result<BudgetReport, RefusalKind> {
        if !self.may_administer(caller, rules) {
            let right = Right::Administer;
            return Err(RefusalKind::RightMissing { right });
        }
        let account = change.account.clone();
        let limits = rules.policy.limits_of(&account);
        let limits = limits.filter(|limits| limits.has_budget());
        let limits = limits.ok_or(RefusalKind::BudgetUnknown)?;
        let ledger = self
            .budgets
            .ledger()
            .ok_or(RefusalKind::BudgetUnavailable)?;
        let unix_s = self.clock.now().as_second();
        let identity = Some(&caller.identity);
        let changed = change_budget(
            &self.audit,
            ledger,
            change,
            identity,
            rules.checksum(),
            unix_s,
        );
        let changed = changed.map_err(|error| {
            log::error!(error:% = error; "a budget was not changed");
            match error {
                AdministrationError::Audit(_) => RefusalKind::AuditUnavailable,
                AdministrationError::Ledger(_) => RefusalKind::BudgetUnavailable,
            }
        })?;
        let running = self.budgets.meter(&account).running();
        let applied = AppliedLimits { account, limits };
        Ok(BudgetReport::new(applied, &changed.after, running))
    }

    /// Whether token and `rules` both let the caller look after the device.
    pub(crate) fn may_administer(&self, caller: &Caller, rules: &RuleSet) -> bool {
        let identity = &caller.identity;
        let question = Question::Administer { identity };
        let now = self.circumstances(Source::Network);
        caller.rights.contains(&Right::Administer) && rules.authorize(&question, &now).allowed
    }
}

/// The figures that change, as `day: used 0 (was 412)`.
fn detail(change: &BudgetChange, before: &Budget) -> String {
    let spans = [
        ("day", change.day, before.day),
        ("month", change.month, before.month),
    ];
    let figures = spans.into_iter().flat_map(|(span, adjustment, was)| {
        let figures = [
            ("used", adjustment.used, was.used),
            ("granted", adjustment.granted, was.granted),
        ];
        figures.into_iter().filter_map(move |(figure, set, was)| {
            let set = set?;
            Some(format!("{span}: {figure} {set} (was {was})"))
        })
    });
    figures.collect::<Vec<_>>().join("; ")
}
