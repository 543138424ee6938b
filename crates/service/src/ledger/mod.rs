//! What accounts used of their day and month, on disk.
//!
//! A call's tokens are *reserved* before it: that is on disk before its first token. After it the
//! reservation is *settled*: replaced by what was used. A settlement is on disk with the next reservation
//! or at the latest when the ledger is closed in order. One that is lost with the process, or with the power,
//! leaves its reservation behind, and [`Ledger::open`] charges what it finds of those in full: tokens may have
//! been generated for them. So whatever is lost, an account never gets more than it is allowed.
//!
//! Invariants:
//!
//! - Used and reserved tokens of an account exceed nothing that it is allowed when a call is admitted.
//! - One process at a time has the ledger.
//! - What cannot be written is refused, and so is everything after it until the ledger is opened again.
//!
//! Absent: rates and the number of running calls, which need no disk; see [`crate::budgets`]. Accounts that
//! the policy no longer names are kept, as it may name them again; only the policy makes names, so they are few.

mod error;
mod reviews;
mod tables;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use postern_governance::{
    Account, Adjustment, AppliedLimits, Budget, Crossing, LimitKey, Limits, Shortfall, Span,
};
use redb::backends::FileBackend;
use redb::{Database, Durability, ReadableDatabase, WriteTransaction};

use crate::RequestId;
use error::Fault;
pub use error::LedgerError;
use tables::Tables;

/// Memory for pages of the file. All accounts of a device fit in a few.
const CACHE_BYTES: usize = 1 << 20;

/// Rights of the file: its owner alone.
const MODE: u32 = 0o600;

/// The ledger of one device. All methods may be called from any thread; writers wait for each other.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    database: Database,
    failing: AtomicBool,
}

/// What was charged in full at the opening, as its calls had no end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LedgerRecovery {
    /// Reservations, one for each account of a call.
    pub reservations: u64,
    /// Their tokens, together.
    pub tokens: u64,
}

/// Why nothing was reserved.
#[derive(Debug)]
pub(crate) enum Unreserved {
    /// An account has not enough left.
    Short(Account, Shortfall),
    /// The ledger failed.
    Failed(LedgerError),
}

/// Warnings that are due, with the account of each.
pub(crate) type Crossings = Vec<(Account, Crossing)>;

/// What was reserved for a call.
#[derive(Debug, Default)]
pub(crate) struct Reserved {
    pub(crate) uses: Vec<BudgetUse>,
    pub(crate) crossings: Crossings,
}

/// One budget before and after a reservation, in tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BudgetUse {
    pub(crate) account: Account,
    pub(crate) limit: LimitKey,
    /// Grants included.
    pub(crate) allowed: u64,
    /// Used and reserved, before.
    pub(crate) before: u64,
    /// The same, after.
    pub(crate) after: u64,
}

impl Ledger {
    /// Opens the ledger in the file `path`, which is made if it is missing, and charges reservations that an
    /// earlier process left behind.
    ///
    /// # Errors
    ///
    /// Another process has it open, it is no ledger or damaged, or the file cannot be read or written.
    pub fn open(path: &Path) -> Result<(Self, LedgerRecovery), LedgerError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(MODE)
            .open(path);
        let opened = file.map_err(Fault::from).and_then(|file| {
            let mut builder = Database::builder();
            builder.set_cache_size(CACHE_BYTES);
            // It is small, and a damaged one must not be trusted, nor end in a panic later.
            builder.set_check_integrity_on_open(true);
            Ok(builder.create_with_backend(FileBackend::new(file)?)?)
        });
        let ledger = Self {
            path: path.to_owned(),
            database: opened.map_err(|fault| fault.at(path))?,
            failing: AtomicBool::new(false),
        };
        let recovery = ledger.recover()?;
        sync_folder(path).map_err(|error| Fault::from(error).at(path))?;
        if recovery.reservations > 0 {
            log::warn!(
                reservations = recovery.reservations, tokens = recovery.tokens;
                "calls were not settled when the ledger was last open; what was reserved for them is charged in full"
            );
        }
        Ok((ledger, recovery))
    }

    /// Whether a write failed, after which nothing is reserved until the ledger is opened again.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Reserves `tokens` for a call with every account that has a budget. It is on disk when this returns.
    pub(crate) fn reserve(
        &self,
        id: RequestId,
        applied: &[AppliedLimits],
        unix_s: i64,
        tokens: u64,
    ) -> Result<Reserved, Unreserved> {
        let mut kept = Reserved::default();
        let reserved = self.write(Durability::Immediate, |tables| {
            for AppliedLimits { account, limits } in budgeted(applied) {
                let budget = tables.budget(account)?;
                let (budget, reservation) = match budget.reserve(limits, unix_s, tokens) {
                    Ok(reserved) => reserved,
                    Err(shortfall) => {
                        return Ok(Verdict::Undo(Some((account.clone(), shortfall))));
                    }
                };
                kept.uses.extend(uses(account, limits, &budget, tokens));
                let (budget, crossed) = budget.crossings(limits);
                let crossed = crossed.into_iter();
                kept.crossings
                    .extend(crossed.map(|crossing| (account.clone(), crossing)));
                tables.set_budget(account, budget)?;
                tables.open_reservation(id, account, reservation)?;
            }
            Ok(Verdict::Keep(None))
        });
        match reserved {
            Ok(None) => Ok(kept),
            Ok(Some((account, shortfall))) => Err(Unreserved::Short(account, shortfall)),
            Err(error) => Err(Unreserved::Failed(error)),
        }
    }

    /// Replaces a call's reservations by what it used; `None` charges them in full.
    ///
    /// # Errors
    ///
    /// The ledger cannot be written. The reservations stay then, and are charged in full at the next opening.
    pub(crate) fn settle(
        &self,
        id: RequestId,
        applied: &[AppliedLimits],
        used: Option<u64>,
    ) -> Result<Crossings, LedgerError> {
        // On disk with the next reservation; until then the reservation stands there, which is more.
        self.write(Durability::None, |tables| {
            let mut crossings = Vec::new();
            for AppliedLimits { account, limits } in budgeted(applied) {
                let Some(reservation) = tables.close_reservation(id, account)? else {
                    continue;
                };
                let used = used.unwrap_or(reservation.tokens);
                let budget = tables.budget(account)?.settle(reservation, used);
                let (budget, crossed) = budget.crossings(limits);
                crossings.extend(
                    crossed
                        .into_iter()
                        .map(|crossing| (account.clone(), crossing)),
                );
                tables.set_budget(account, budget)?;
            }
            Ok(Verdict::Keep(crossings))
        })
    }

    /// What an account used, as the clock shows it at `unix_s`.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub fn budget(&self, account: &Account, unix_s: i64) -> Result<Budget, LedgerError> {
        let read = || -> Result<Budget, Fault> {
            tables::read_budget(&self.database.begin_read()?, account)
        };
        let budget = read().map_err(|fault| fault.at(&self.path))?;
        Ok(budget.at(unix_s))
    }

    /// Every account that anything was ever reserved for, in byte order of their names.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub fn budgets(&self, unix_s: i64) -> Result<Vec<(Account, Budget)>, LedgerError> {
        let read = || -> Result<_, Fault> { tables::read_budgets(&self.database.begin_read()?) };
        let budgets = read().map_err(|fault| fault.at(&self.path))?;
        let now = budgets.into_iter();
        Ok(now
            .map(|(account, budget)| (account, budget.at(unix_s)))
            .collect())
    }

    /// Sets figures of an account's running day and month, and gives what is there now. It is on disk when
    /// this returns.
    ///
    /// # Errors
    ///
    /// The ledger cannot be written.
    pub(crate) fn adjust(
        &self,
        account: &Account,
        adjustments: [(Span, Adjustment); 2],
        unix_s: i64,
    ) -> Result<Budget, LedgerError> {
        self.write(Durability::Immediate, |tables| {
            let adjusted = adjustments
                .iter()
                .filter(|(_, adjustment)| *adjustment != Adjustment::default())
                .fold(tables.budget(account)?, |budget, &(span, adjustment)| {
                    budget.adjust(span, adjustment, unix_s)
                });
            tables.set_budget(account, adjusted)?;
            Ok(Verdict::Keep(adjusted.at(unix_s)))
        })
    }

    /// Puts what was settled on disk. Without it, settlements since the last reservation may be lost, which
    /// charges their reservations in full.
    ///
    /// # Errors
    ///
    /// The ledger cannot be written.
    pub fn flush(&self) -> Result<(), LedgerError> {
        self.write(Durability::Immediate, |_| Ok(Verdict::Keep(())))
    }

    /// Charges every open reservation in full and closes it.
    fn recover(&self) -> Result<LedgerRecovery, LedgerError> {
        self.write(Durability::Immediate, |tables| {
            let mut recovery = LedgerRecovery::default();
            for (account, reservation) in tables.close_all_reservations()? {
                let budget = tables.budget(&account)?;
                tables.set_budget(&account, budget.settle(reservation, reservation.tokens))?;
                recovery.reservations += 1;
                recovery.tokens = recovery.tokens.saturating_add(reservation.tokens);
            }
            Ok(Verdict::Keep(recovery))
        })
    }

    /// Changes the ledger, all or nothing.
    fn write<T>(
        &self,
        durability: Durability,
        change: impl FnOnce(&mut Tables<'_>) -> Result<Verdict<T>, Fault>,
    ) -> Result<T, LedgerError> {
        let written = || -> Result<T, Fault> {
            let mut transaction = self.database.begin_write()?;
            transaction.set_durability(durability)?;
            match changed(&transaction, change)? {
                Verdict::Keep(result) => {
                    transaction.commit()?;
                    Ok(result)
                }
                Verdict::Undo(result) => {
                    transaction.abort()?;
                    Ok(result)
                }
            }
        };
        written().map_err(|fault| {
            self.failing.store(true, Ordering::Relaxed);
            fault.at(&self.path)
        })
    }
}

/// Puts the file's name on disk: a ledger that is gone after a power failure would be one with nothing used.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// What becomes of a change.
enum Verdict<T> {
    Keep(T),
    Undo(T),
}

fn changed<T>(
    transaction: &WriteTransaction,
    change: impl FnOnce(&mut Tables<'_>) -> Result<Verdict<T>, Fault>,
) -> Result<Verdict<T>, Fault> {
    let mut tables = Tables::open(transaction)?;
    change(&mut tables)
}

/// The budgets of an account for which `tokens` were just reserved.
fn uses(
    account: &Account,
    limits: &Limits,
    budget: &Budget,
    tokens: u64,
) -> impl Iterator<Item = BudgetUse> {
    Span::ALL.into_iter().filter_map(move |span| {
        let limit = limits.budget(span)?;
        let spending = budget.spending(span);
        let after = spending.used.saturating_add(spending.reserved);
        Some(BudgetUse {
            account: account.clone(),
            limit: span.limit(),
            allowed: limit.saturating_add(spending.granted),
            before: after.saturating_sub(tokens),
            after,
        })
    })
}

/// Those that are kept here: with a budget of a day or month.
fn budgeted(applied: &[AppliedLimits]) -> impl Iterator<Item = &AppliedLimits> {
    applied.iter().filter(|applied| applied.limits.has_budget())
}
