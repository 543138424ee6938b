//! `postern budget`: what accounts used of their day and month, and have left.
//!
//! A running daemon has the ledger, and is asked over its API. Where none runs, the file is opened here:
//! whoever may read and write it is at the device, and may do what the daemon may.

use std::fmt::Write as _;

use anyhow::Context;
use jiff::Timestamp;
use postern_governance::{Account, Adjustment, AppliedLimits, Limits};
use postern_service::{BudgetChange, BudgetReport, Ledger, change_budget};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::arguments::{BudgetCommand, SetArguments, ShowArguments};
use crate::commands::generate::remote_client;
use crate::configuration::Configuration;
use crate::daemon::{load_rules, open_audit_log};
use crate::terminal::{Screen, printable};

const ANSWER_LACKS: &str = "the server's answer lacks what every budget has";

pub(crate) async fn run(command: BudgetCommand) -> anyhow::Result<()> {
    match command {
        BudgetCommand::Show(arguments) => show(&arguments).await,
        BudgetCommand::Set(arguments) => set(&arguments).await,
    }
}

/// An account, as far as it is shown. A field that a later server adds does no harm.
#[derive(Deserialize)]
struct Shown {
    account: String,
    day: ShownSpending,
    month: ShownSpending,
    #[serde(default)]
    running_calls: u64,
}

#[derive(Deserialize)]
struct ShownSpending {
    limit: Option<u64>,
    granted: u64,
    used: u64,
    reserved: u64,
    left: Option<u64>,
    resets_at: String,
}

async fn show(arguments: &ShowArguments) -> anyhow::Result<()> {
    let answer = match &arguments.remote.url {
        Some(url) => {
            let state_dir = arguments.deployment.state_dir.as_deref();
            let client = remote_client(
                url,
                &arguments.remote.credentials,
                state_dir,
                &arguments.identity,
            )?;
            client.get("/v1/budgets").await?
        }
        None => json!({ "budgets": read(&Configuration::for_service(&arguments.deployment)?)? }),
    };
    let mut screen = Screen::new();
    if arguments.json {
        return screen.json(&answer);
    }
    let budgets: Vec<Shown> = Deserialize::deserialize(&answer["budgets"]).context(ANSWER_LACKS)?;
    if budgets.is_empty() {
        screen.line("nothing is limited: the policy has no `limits` that hold here")?;
    }
    for budget in &budgets {
        show_one(&mut screen, budget)?;
    }
    Ok(())
}

fn show_one(screen: &mut Screen, budget: &Shown) -> anyhow::Result<()> {
    let running = match budget.running_calls {
        0 => String::new(),
        running => format!("  ({running} calls run)"),
    };
    screen.line(format_args!("{}{running}", printable(&budget.account)))?;
    screen.line(format_args!("  day    {}", line(&budget.day)))?;
    screen.line(format_args!("  month  {}", line(&budget.month)))?;
    Ok(())
}

/// `412 of 200000 used, 0 reserved, 199588 left until 2026-11-28T00:00:00Z`
fn line(spending: &ShownSpending) -> String {
    let mut line = spending.used.to_string();
    if let Some(limit) = spending.limit {
        let _always_fits = write!(line, " of {limit}");
    }
    if spending.granted > 0 {
        let _always_fits = write!(line, " and {} granted", spending.granted);
    }
    let _always_fits = write!(line, " used, {} reserved", spending.reserved);
    match spending.left {
        Some(left) => line + &format!(", {left} left until {}", printable(&spending.resets_at)),
        None => line + ", no limit",
    }
}

/// All accounts that the policy limits or the ledger knows, from the ledger's file.
fn read(configuration: &Configuration) -> anyhow::Result<Vec<BudgetReport>> {
    let rules = load_rules(configuration)?;
    let ledger = open_ledger(configuration)?;
    let unix_s = Timestamp::now().as_second();
    let mut accounts = rules.policy.accounts();
    for (account, _) in ledger.budgets(unix_s)? {
        if !accounts.iter().any(|known| known.account == account) {
            accounts.push(unlimited(account));
        }
    }
    let report = |applied: AppliedLimits| {
        let budget = ledger.budget(&applied.account, unix_s)?;
        Ok(BudgetReport::new(applied, &budget, 0))
    };
    accounts.into_iter().map(report).collect()
}

/// An account that the policy limits no longer.
fn unlimited(account: Account) -> AppliedLimits {
    AppliedLimits {
        account,
        limits: Default::default(),
    }
}

fn open_ledger(configuration: &Configuration) -> anyhow::Result<Ledger> {
    let path = &configuration.ledger;
    anyhow::ensure!(
        path.exists(),
        "there is no ledger {}; `postern serve` makes it, and a budget is used only there",
        path.display()
    );
    let (ledger, _) = Ledger::open(path)?;
    Ok(ledger)
}

async fn set(arguments: &SetArguments) -> anyhow::Result<()> {
    let budget = match &arguments.remote.url {
        Some(url) => {
            let state_dir = arguments.deployment.state_dir.as_deref();
            let client = remote_client(
                url,
                &arguments.remote.credentials,
                state_dir,
                &arguments.identity,
            )?;
            let path = format!("/v1/budgets/{}", arguments.account);
            client.put(&path, &figures(arguments)).await?
        }
        None => change(arguments)?,
    };
    let mut screen = Screen::new();
    if arguments.json {
        return screen.json(&json!({ "budget": budget }));
    }
    show_one(
        &mut screen,
        &Deserialize::deserialize(&budget).context(ANSWER_LACKS)?,
    )
}

/// What is to change, as the API takes it.
fn figures(arguments: &SetArguments) -> Value {
    let figures = &arguments.figures;
    json!({
        "day_used": figures.day_used,
        "day_grant": figures.day_grant,
        "month_used": figures.month_used,
        "month_grant": figures.month_grant,
    })
}

/// Changes the ledger's file.
fn change(arguments: &SetArguments) -> anyhow::Result<Value> {
    let configuration = Configuration::for_service(&arguments.deployment)?;
    let account = &arguments.account;
    let rules = load_rules(&configuration)?;
    let limits = rules.policy.limits_of(account);
    let Some(limits) = limits.filter(Limits::has_budget) else {
        anyhow::bail!(
            "the policy gives {account} no budget of a day or month, so there is nothing to set; \
             `postern budget show` lists the accounts"
        );
    };
    let ledger = open_ledger(&configuration)?;
    let (audit, _) = open_audit_log(&configuration)?;
    let figures = &arguments.figures;
    let change = BudgetChange {
        account: account.clone(),
        day: Adjustment {
            used: figures.day_used,
            granted: figures.day_grant,
        },
        month: Adjustment {
            used: figures.month_used,
            granted: figures.month_grant,
        },
    };
    let unix_s = Timestamp::now().as_second();
    let changed = change_budget(&audit, &ledger, &change, None, rules.checksum(), unix_s)?;
    let account = account.clone();
    let applied = AppliedLimits { account, limits };
    Ok(serde_json::to_value(BudgetReport::new(
        applied,
        &changed.after,
        0,
    ))?)
}
