//! How the ledger lies in its file: four tables of redb.
//!
//! | table | key | value |
//! |---|---|---|
//! | `format` | `version` | [`FORMAT_VERSION`] |
//! | `accounts` | account, as it is written | day and month: number, used, reserved, granted, warned |
//! | `reservations` | call, account | tokens, number of the day, number of the month |
//! | `held` | call | the held output, as JSON |

use postern_governance::{Account, Budget, Reservation, Spending};
use redb::{ReadTransaction, ReadableTable, Table, TableDefinition, TableError, WriteTransaction};

use super::error::Fault;
use crate::RequestId;
use crate::review::HeldOutput;

/// Version of these tables.
const FORMAT_VERSION: u64 = 1;
const VERSION: &str = "version";

/// Number, used, reserved, granted, warned.
type SpendingRow = (i64, u64, u64, u64, bool);
type BudgetRow = (SpendingRow, SpendingRow);
type ReservationRow = (u64, i64, i64);

const FORMAT: TableDefinition<'_, &str, u64> = TableDefinition::new("format");
const ACCOUNTS: TableDefinition<'_, &str, BudgetRow> = TableDefinition::new("accounts");
const RESERVATIONS: TableDefinition<'_, (u128, &str), ReservationRow> =
    TableDefinition::new("reservations");

const HELD: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("held");

/// The tables, open for change.
pub(super) struct Tables<'t> {
    held: Table<'t, u128, &'static [u8]>,
    accounts: Table<'t, &'static str, BudgetRow>,
    reservations: Table<'t, (u128, &'static str), ReservationRow>,
}

impl<'t> Tables<'t> {
    /// Opens the tables, made if they are missing, of a ledger whose version this is.
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, Fault> {
        check_format(transaction)?;
        Ok(Self {
            accounts: transaction.open_table(ACCOUNTS)?,
            reservations: transaction.open_table(RESERVATIONS)?,
            held: transaction.open_table(HELD)?,
        })
    }

    /// The account as it was left; one that is not there used nothing.
    pub(super) fn budget(&self, account: &Account) -> Result<Budget, Fault> {
        budget_in(&self.accounts, account)
    }

    pub(super) fn set_budget(&mut self, account: &Account, budget: Budget) -> Result<(), Fault> {
        let row = (spending_row(budget.day), spending_row(budget.month));
        self.accounts.insert(account.to_string().as_str(), row)?;
        Ok(())
    }

    pub(super) fn open_reservation(
        &mut self,
        id: RequestId,
        account: &Account,
        reservation: Reservation,
    ) -> Result<(), Fault> {
        let Reservation { tokens, day, month } = reservation;
        let account = account.to_string();
        let key = (id.number(), account.as_str());
        self.reservations.insert(key, (tokens, day, month))?;
        Ok(())
    }

    /// Takes a reservation out; `None` if there is none.
    pub(super) fn close_reservation(
        &mut self,
        id: RequestId,
        account: &Account,
    ) -> Result<Option<Reservation>, Fault> {
        let account = account.to_string();
        let removed = self.reservations.remove((id.number(), account.as_str()))?;
        Ok(removed.map(|row| reservation(row.value())))
    }

    /// Takes all reservations out.
    pub(super) fn close_all_reservations(&mut self) -> Result<Vec<(Account, Reservation)>, Fault> {
        let mut closed = Vec::new();
        for entry in self.reservations.iter()? {
            let (key, row) = entry?;
            closed.push((account(key.value().1)?, reservation(row.value())));
        }
        self.reservations.retain(|_, _| false)?;
        Ok(closed)
    }

    /// All held outputs, the oldest first: the ids of calls are in the order of time.
    pub(super) fn held_outputs(&self) -> Result<Vec<HeldOutput>, Fault> {
        held_in(&self.held)
    }

    pub(super) fn set_held(&mut self, output: &HeldOutput) -> Result<(), Fault> {
        let json = serde_json::to_vec(output).expect("texts, numbers and times serialize");
        self.held.insert(output.id.number(), &*json)?;
        Ok(())
    }

    pub(super) fn drop_held(&mut self, id: RequestId) -> Result<(), Fault> {
        self.held.remove(id.number())?;
        Ok(())
    }
}

/// Marks a new ledger, and refuses one of another version.
fn check_format(transaction: &WriteTransaction) -> Result<(), Fault> {
    let mut format = transaction.open_table(FORMAT)?;
    let found = format.get(VERSION)?.map(|version| version.value());
    match found {
        Some(FORMAT_VERSION) => Ok(()),
        Some(found) => Err(Fault::Version { found }),
        None => {
            format.insert(VERSION, FORMAT_VERSION)?;
            Ok(())
        }
    }
}

/// One account; one that is not there used nothing.
pub(super) fn read_budget(
    transaction: &ReadTransaction,
    account: &Account,
) -> Result<Budget, Fault> {
    match transaction.open_table(ACCOUNTS) {
        Ok(accounts) => budget_in(&accounts, account),
        Err(TableError::TableDoesNotExist(_)) => Ok(Budget::default()),
        Err(error) => Err(error.into()),
    }
}

/// All accounts.
pub(super) fn read_budgets(transaction: &ReadTransaction) -> Result<Vec<(Account, Budget)>, Fault> {
    let accounts = match transaction.open_table(ACCOUNTS) {
        Ok(accounts) => accounts,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut budgets = Vec::new();
    for entry in accounts.iter()? {
        let (key, row) = entry?;
        budgets.push((account(key.value())?, budget(row.value())));
    }
    Ok(budgets)
}

/// One held output.
pub(super) fn read_held(
    transaction: &ReadTransaction,
    id: RequestId,
) -> Result<Option<HeldOutput>, Fault> {
    let held = match transaction.open_table(HELD) {
        Ok(held) => held,
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let row = held.get(id.number())?;
    row.map(|row| held_output(row.value())).transpose()
}

/// All held outputs, the oldest first.
pub(super) fn read_all_held(transaction: &ReadTransaction) -> Result<Vec<HeldOutput>, Fault> {
    match transaction.open_table(HELD) {
        Ok(held) => held_in(&held),
        Err(TableError::TableDoesNotExist(_)) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn held_in(held: &impl ReadableTable<u128, &'static [u8]>) -> Result<Vec<HeldOutput>, Fault> {
    let mut outputs = Vec::new();
    for entry in held.iter()? {
        let (_, row) = entry?;
        outputs.push(held_output(row.value())?);
    }
    Ok(outputs)
}

fn held_output(json: &[u8]) -> Result<HeldOutput, Fault> {
    serde_json::from_slice(json).map_err(|error| Fault::HeldOutput {
        reason: error.to_string(),
    })
}

fn budget_in(
    accounts: &impl ReadableTable<&'static str, BudgetRow>,
    account: &Account,
) -> Result<Budget, Fault> {
    let row = accounts.get(account.to_string().as_str())?;
    Ok(row.map_or_else(Budget::default, |row| budget(row.value())))
}

fn account(text: &str) -> Result<Account, Fault> {
    text.parse().map_err(|_| Fault::Account {
        found: text.to_owned(),
    })
}

fn budget((day, month): BudgetRow) -> Budget {
    Budget {
        day: spending(day),
        month: spending(month),
    }
}

fn spending((number, used, reserved, granted, warned): SpendingRow) -> Spending {
    Spending {
        number,
        used,
        reserved,
        granted,
        warned,
    }
}

fn spending_row(spending: Spending) -> SpendingRow {
    let Spending {
        number,
        used,
        reserved,
        granted,
        warned,
    } = spending;
    (number, used, reserved, granted, warned)
}

fn reservation((tokens, day, month): ReservationRow) -> Reservation {
    Reservation { tokens, day, month }
}
