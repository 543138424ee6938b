//! The command line of `postern review`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};
use postern_governance::Identity;

use super::CredentialArguments;

#[derive(Debug, Subcommand)]
pub(crate) enum ReviewCommand {
    /// List the outputs that you made or may decide on
    #[command(after_help = "\
Examples:
  postern review list --url https://localhost:8443 --identity operator
  postern review list --url https://localhost:8443 --json | jq '.reviews[] | select(.status == \"pending\")'")]
    List(ReviewerArguments),
    /// Show one: whole for those who may decide; for its caller the answer, once it is approved
    #[command(after_help = "\
Examples:
  postern review show 01K3ZC0Q8V5D9GQ2T7R4W6XYAB --url https://localhost:8443
  postern review show ID --url https://localhost:8443 --identity ci-runner --json | jq -r .answer.text")]
    Show {
        /// The call's id
        id: String,
        #[command(flatten)]
        reviewer: ReviewerArguments,
    },
    /// Release an output to its caller
    ///
    /// This needs a token with the right `approve`, a rule of the policy that gives it, and a call that is
    /// not your own. The decision is recorded with your identity and the reason.
    #[command(after_help = "\
Examples:
  postern review approve ID --why \"read it, it is fine\" --url https://localhost:8443 --identity operator")]
    Approve(DecideArguments),
    /// Throw an output away
    ///
    /// It needs what `approve` needs.
    #[command(after_help = "\
Examples:
  postern review reject ID --why \"it repeats the attack\" --url https://localhost:8443 --identity operator")]
    Reject(DecideArguments),
}

#[derive(Debug, Args)]
pub(crate) struct DecideArguments {
    /// The call's id
    pub(crate) id: String,
    /// Why; recorded with the decision, and shown to the caller
    #[arg(long, value_name = "TEXT")]
    pub(crate) why: String,
    #[command(flatten)]
    pub(crate) reviewer: ReviewerArguments,
}

/// Who asks which server.
#[derive(Debug, Args)]
pub(crate) struct ReviewerArguments {
    /// Server that holds the outputs, e.g. https://localhost:8443
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub(crate) url: String,
    /// Who asks: names the certificate and token in the state folder
    #[arg(long, value_name = "NAME", default_value = "operator")]
    pub(crate) identity: Identity,
    /// State folder [default: that of `serve`]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) state_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) credentials: CredentialArguments,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl ReviewCommand {
    fn reviewer(&self) -> &ReviewerArguments {
        match self {
            Self::List(reviewer) | Self::Show { reviewer, .. } => reviewer,
            Self::Approve(decide) | Self::Reject(decide) => &decide.reviewer,
        }
    }

    /// Whether a failure is printed as JSON.
    pub(crate) fn json(&self) -> bool {
        self.reviewer().json
    }
}
