//! Whether a call may use what it may need, by all limits that hold for it.
//!
//! Rates and running calls are counted in memory, by the monotonic clock: nobody can set it, and a restart
//! begins with full buckets. Days and months are kept in the [`Ledger`], by the wall clock.
//!
//! Invariant: a [`Hold`] is settled exactly once, however its call ends. One that is dropped, as in a panic,
//! is charged in full.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use postern_governance::{Account, AppliedLimits, Meter, Shortfall};

use crate::ledger::{BudgetUse, Crossings, Ledger, Unreserved};
use crate::metrics::Metrics;
use crate::{RefusalKind, RequestId};

/// All accounts of a service.
pub(crate) struct Budgets {
    meters: Mutex<BTreeMap<Account, Meter>>,
    ledger: Option<Ledger>,
    metrics: Arc<Metrics>,
    began: Instant,
}

/// What a call asks for.
pub(crate) struct Demand {
    pub(crate) id: RequestId,
    /// The wall clock, in seconds since 1970-01-01 UTC.
    pub(crate) unix_s: i64,
    pub(crate) prompt_tokens: u64,
    /// Most tokens of the answer.
    pub(crate) output_tokens: u64,
}

impl Budgets {
    pub(crate) fn new(ledger: Option<Ledger>, metrics: Arc<Metrics>) -> Self {
        Self {
            meters: Mutex::default(),
            ledger,
            metrics,
            began: Instant::now(),
        }
    }

    pub(crate) fn ledger(&self) -> Option<&Ledger> {
        self.ledger.as_ref()
    }

    /// Reserves for a call with every account, or with none. What a day or month gives is reserved on disk
    /// when this returns.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        applied: Vec<AppliedLimits>,
        demand: &Demand,
    ) -> Result<Hold, RefusalKind> {
        let tokens = demand.prompt_tokens.saturating_add(demand.output_tokens);
        for AppliedLimits { account, limits } in &applied {
            limits
                .check_prompt(demand.prompt_tokens)
                .map_err(|shortfall| refused(account.clone(), shortfall))?;
        }
        self.begin(&applied, tokens)?;
        let mut hold = Hold {
            budgets: Arc::clone(self),
            id: demand.id,
            applied,
            tokens,
            uses: Vec::new(),
            is_settled: false,
        };
        match self.reserve_in_ledger(&hold, demand.unix_s) {
            Ok(uses) => {
                hold.uses = uses;
                Ok(hold)
            }
            Err(kind) => {
                hold.take_back();
                Err(kind)
            }
        }
    }

    /// Begins a call on the meters of all accounts, or of none.
    fn begin(&self, applied: &[AppliedLimits], tokens: u64) -> Result<(), RefusalKind> {
        let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut meters = self.meters();
        let mut begun = Vec::with_capacity(applied.len());
        for AppliedLimits { account, limits } in applied {
            let meter = meters.get(account).copied().unwrap_or_default();
            let meter = meter.begin(limits, now_ms, tokens);
            begun.push(meter.map_err(|shortfall| refused(account.clone(), shortfall))?);
        }
        for (AppliedLimits { account, .. }, meter) in applied.iter().zip(begun) {
            meters.insert(account.clone(), meter);
        }
        Ok(())
    }

    /// Reserves days and months; gives the budgets of which something was reserved.
    fn reserve_in_ledger(&self, hold: &Hold, unix_s: i64) -> Result<Vec<BudgetUse>, RefusalKind> {
        if !hold.applied.iter().any(|one| one.limits.has_budget()) {
            return Ok(Vec::new());
        }
        let Some(ledger) = &self.ledger else {
            log::error!("the policy gives budgets, but this service was started without a ledger");
            return Err(RefusalKind::BudgetUnavailable);
        };
        match ledger.reserve(hold.id, &hold.applied, unix_s, hold.tokens) {
            Ok(reserved) => {
                self.warn(&reserved.crossings);
                Ok(reserved.uses)
            }
            Err(Unreserved::Short(account, shortfall)) => Err(refused(account, shortfall)),
            Err(Unreserved::Failed(error)) => {
                log::error!(request:% = hold.id, error:% = error; "nothing could be reserved");
                Err(RefusalKind::BudgetUnavailable)
            }
        }
    }

    /// Puts settlements on disk, so that the next process finds none open.
    pub(crate) fn flush(&self) {
        if let Some(Err(error)) = self.ledger.as_ref().map(Ledger::flush) {
            log::error!(error:% = error; "the last settlements may be charged in full at the next start");
        }
    }

    /// What an account has, for reports.
    pub(crate) fn meter(&self, account: &Account) -> Meter {
        self.meters().get(account).copied().unwrap_or_default()
    }

    fn change_meters(&self, applied: &[AppliedLimits], change: impl Fn(Meter) -> Meter) {
        let mut meters = self.meters();
        for AppliedLimits { account, .. } in applied {
            if let Some(meter) = meters.get_mut(account) {
                *meter = change(*meter);
            }
        }
    }

    fn meters(&self) -> MutexGuard<'_, BTreeMap<Account, Meter>> {
        // Each meter in it is whole at any time.
        self.meters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn warn(&self, crossings: &Crossings) {
        for (account, crossing) in crossings {
            let limit = crossing.limit.as_str();
            self.metrics.count_budget_warning(account, limit);
            log::warn!(
                account:% = account, limit, used = crossing.used, allowed = crossing.allowed;
                "a budget is nearly used up"
            );
        }
    }
}

fn refused(account: Account, shortfall: Shortfall) -> RefusalKind {
    RefusalKind::OverLimit { account, shortfall }
}

/// What was reserved for one call.
pub(crate) struct Hold {
    budgets: Arc<Budgets>,
    id: RequestId,
    applied: Vec<AppliedLimits>,
    tokens: u64,
    /// The budgets of which something was reserved in the ledger.
    uses: Vec<BudgetUse>,
    is_settled: bool,
}

impl Hold {
    /// Ends the call, which used so many tokens; `None` where that is not known, which charges all that was
    /// reserved. Only the first end counts.
    pub(crate) fn settle(&mut self, used: Option<u64>) {
        if std::mem::replace(&mut self.is_settled, true) {
            return;
        }
        self.settle_in_ledger(used);
        let left = used.map_or(0, |used| self.tokens.saturating_sub(used));
        self.budgets
            .change_meters(&self.applied, |meter| meter.end(left));
    }

    /// Takes all back, the request included: the call was refused after all, and nothing was generated.
    pub(crate) fn take_back(mut self) {
        self.is_settled = true;
        self.settle_in_ledger(Some(0));
        self.budgets
            .change_meters(&self.applied, |meter| meter.take_back(self.tokens));
    }

    /// The budgets of which something was reserved.
    pub(crate) fn uses(&self) -> &[BudgetUse] {
        &self.uses
    }

    fn settle_in_ledger(&self, used: Option<u64>) {
        let ledger = self.budgets.ledger.as_ref();
        let Some(ledger) = ledger.filter(|_| !self.uses.is_empty()) else {
            return;
        };
        match ledger.settle(self.id, &self.applied, used) {
            Ok(crossings) => self.budgets.warn(&crossings),
            Err(error) => log::error!(
                request:% = self.id, error:% = error;
                "a call could not be settled; all that was reserved for it will be charged at the next start"
            ),
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.settle(None);
    }
}
