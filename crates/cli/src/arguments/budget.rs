//! Arguments of `postern budget`.

use clap::{Args, Subcommand};
use postern_governance::{Account, Identity, LIMIT_MAX};

use super::{DeploymentArguments, RemoteArguments};

#[derive(Debug, Subcommand)]
pub(crate) enum BudgetCommand {
    /// Show what accounts used of their day and month, and what is left
    ///
    /// With --url a running server is asked, which tells the accounts that calls of --identity are
    /// counted with, and all accounts to a token with the right `administer`. Without it, the ledger is read from its file, which works while no server has it:
    /// then all accounts are shown.
    #[command(after_help = "\
Examples:
  postern budget show --url https://localhost:8443 --identity kiosk
  postern budget show --state-dir ./state --json")]
    Show(Box<ShowArguments>),
    /// Set what an account used in its running day or month, or grant it more
    ///
    /// With --url a running server does it, for a token with the right `administer`. Without it, the
    /// ledger's file is changed, which works while no server has it. Either leaves a record in the
    /// audit log. A grant comes on top of the policy's limit and ends with the day or month.
    #[command(
        override_usage = "postern budget set [OPTIONS] <ACCOUNT>",
        after_help = "\
Examples:
  postern budget set identity/kiosk --day-used 0 --url https://localhost:8443
  postern budget set role/ci --month-grant 500000 --state-dir ./state"
    )]
    Set(Box<SetArguments>),
}

#[derive(Debug, Args)]
#[command(mut_arg("state_dir", |arg| arg.help_heading("State folder")))]
pub(crate) struct ShowArguments {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Who asks a server: names the certificate and token in the state folder
    #[arg(long, value_name = "NAME", default_value = "operator")]
    pub(crate) identity: Identity,
    #[command(flatten)]
    pub(crate) remote: RemoteArguments,
    #[command(flatten, next_help_heading = "Without --url")]
    pub(crate) deployment: DeploymentArguments,
}

#[derive(Debug, Args)]
#[command(mut_arg("state_dir", |arg| arg.help_heading("State folder")))]
pub(crate) struct SetArguments {
    /// Whose: identity/NAME, role/NAME or template/ID
    pub(crate) account: Account,
    #[command(flatten)]
    pub(crate) figures: Figures,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Who asks a server: names the certificate and token in the state folder
    #[arg(long, value_name = "NAME", default_value = "operator")]
    pub(crate) identity: Identity,
    #[command(flatten)]
    pub(crate) remote: RemoteArguments,
    #[command(flatten, next_help_heading = "Without --url")]
    pub(crate) deployment: DeploymentArguments,
}

/// What becomes of the running day and month; at least one figure.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct Figures {
    /// Tokens that count as used today (UTC)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=LIMIT_MAX))]
    pub(crate) day_used: Option<u64>,
    /// Tokens that may be used today beyond the limit, instead of those granted before
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=LIMIT_MAX))]
    pub(crate) day_grant: Option<u64>,
    /// Tokens that count as used this month (UTC)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=LIMIT_MAX))]
    pub(crate) month_used: Option<u64>,
    /// Tokens that may be used this month beyond the limit, instead of those granted before
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=LIMIT_MAX))]
    pub(crate) month_grant: Option<u64>,
}

impl BudgetCommand {
    /// Whether a failure is printed as JSON.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Show(show) => show.json,
            Self::Set(set) => set.json,
        }
    }
}
