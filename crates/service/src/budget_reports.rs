//! What accounts have used and have left, for those who ask.

use std::sync::Arc;

use jiff::Timestamp;
use postern_governance::{Account, AppliedLimits, Budget, Limits, RuleSet, Span};
use serde::Serialize;

use crate::call::Caller;
use crate::service::Service;
use crate::{LedgerError, Refusal, RefusalKind};

/// One account: what it is allowed, and what it used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BudgetReport {
    /// Whose it is.
    pub account: Account,
    /// What the policy allows it.
    pub limits: Limits,
    /// Calls that run or wait at present.
    pub running_calls: u64,
    /// The running day of UTC.
    pub day: SpendingReport,
    /// The running calendar month of UTC.
    pub month: SpendingReport,
}

/// Tokens of one day or month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SpendingReport {
    /// What the policy allows; absent without a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// What was granted beyond it, for this period only.
    pub granted: u64,
    /// What was used.
    pub used: u64,
    /// What running calls may still use.
    pub reserved: u64,
    /// What a call may ask for now; absent without a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left: Option<u64>,
    /// When the period ends.
    pub resets_at: Timestamp,
}

impl BudgetReport {
    /// What is told of an account with this budget.
    #[must_use]
    pub fn new(applied: AppliedLimits, budget: &Budget, running_calls: u64) -> Self {
        let AppliedLimits { account, limits } = applied;
        Self {
            account,
            running_calls,
            day: SpendingReport::new(Span::Day, &limits, budget),
            month: SpendingReport::new(Span::Month, &limits, budget),
            limits,
        }
    }
}

impl SpendingReport {
    fn new(span: Span, limits: &Limits, budget: &Budget) -> Self {
        let spending = budget.spending(span);
        let limit = limits.budget(span);
        let committed = spending.used.saturating_add(spending.reserved);
        let left = |limit: u64| {
            let allowed = limit.saturating_add(spending.granted);
            allowed.saturating_sub(committed)
        };
        let end = Timestamp::from_second(span.end_unix_s(spending.number));
        Self {
            limit,
            granted: spending.granted,
            used: spending.used,
            reserved: spending.reserved,
            left: limit.map(left),
            resets_at: end.unwrap_or(Timestamp::MAX),
        }
    }
}

impl Service {
    /// The accounts that calls of `caller` are counted with: its own, those of its roles, and those of the
    /// templates that it may use; but only where something is limited. Whoever may administer is told all.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] of kind [`RefusalKind::BudgetUnavailable`], recorded.
    pub async fn budgets(self: &Arc<Self>, caller: &Caller) -> Result<Vec<BudgetReport>, Refusal> {
        self.at_desk(caller, |service, caller, rules| {
            let applied = if service.may_administer(caller, rules) {
                rules.policy.accounts()
            } else {
                service.own_accounts(caller, rules)
            };
            service.read_budgets(applied).map_err(|error| {
                log::error!(error:% = error; "the budgets cannot be read");
                RefusalKind::BudgetUnavailable
            })
        })
        .await
    }

    fn own_accounts(&self, caller: &Caller, rules: &RuleSet) -> Vec<AppliedLimits> {
        let open = self.open_templates(caller, rules);
        let mut applied: Vec<AppliedLimits> = Vec::new();
        for one in open.flat_map(|open| rules.policy.limits(&caller.identity, &open.id)) {
            if !applied.iter().any(|known| known.account == one.account) {
                applied.push(one);
            }
        }
        applied
    }

    fn read_budgets(&self, applied: Vec<AppliedLimits>) -> Result<Vec<BudgetReport>, LedgerError> {
        let unix_s = self.clock.now().as_second();
        let report = |applied: AppliedLimits| {
            let budget = match self.budgets.ledger() {
                Some(ledger) => ledger.budget(&applied.account, unix_s)?,
                None => Budget::default().at(unix_s),
            };
            let running = self.budgets.meter(&applied.account).running();
            Ok(BudgetReport::new(applied, &budget, running))
        };
        applied.into_iter().map(report).collect()
    }
}
