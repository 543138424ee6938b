//! The command line of `postern policy`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use jiff::Timestamp;
use postern_governance::{Identity, Source, TemplateId};

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    Check(PolicyCheckArguments),
    Explain(ExplainArguments),
    /// Print what rules can speak about, as a Cedar schema
    #[command(after_help = "\
Examples:
  postern policy schema > postern.cedarschema     for an editor, or for the cedar tool")]
    Schema,
    Redteam(RedteamArguments),
}

/// Check a policy, its rules and the templates they name
///
/// Errors: files that do not load, rules that do not fit the schema, that can never apply or that name
/// what does not exist. Warnings: identities that nothing is given to, roles that nobody has, templates
/// that nobody may use now.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postern policy check                             the embedded policy and templates
  postern policy check --policy policy.yaml --prompts prompts --strict
  postern policy check --policy policy.yaml --json | jq .warnings")]
pub(crate) struct PolicyCheckArguments {
    #[command(flatten)]
    pub(crate) files: RuleFileArguments,
    /// Fail on warnings too
    #[arg(long)]
    pub(crate) strict: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Say whether a call would be let in, and which rules decide
///
/// Nothing is generated, and no daemon is asked. Exit code 3 if the call would be refused.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postern policy explain --identity ci-runner --template triage.v1
  postern policy explain --identity kiosk --template coffee.v1 --at 2026-12-24T23:00:00Z
  postern policy explain --identity kiosk --template triage.v1 --policy policy.yaml --json | jq .allowed")]
pub(crate) struct ExplainArguments {
    /// Who would call
    #[arg(long, value_name = "NAME")]
    pub(crate) identity: Identity,
    /// Which template
    #[arg(long, value_name = "ID")]
    pub(crate) template: TemplateId,
    /// When, in RFC 3339 [default: now]
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<Timestamp>,
    /// How the call would come in
    #[arg(long, value_enum, default_value = "network")]
    pub(crate) source: SourceArgument,
    /// Manifest of the model that would answer [default: the embedded model's]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) model: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) files: RuleFileArguments,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Run attacks and harmless texts against a policy
///
/// Each text is scored as a variable would be, and the policy's action for that score is taken.
/// Exit code 6 if less than 90 % of the attacks are marked, or more than 3 % of the harmless
/// texts go to review or are refused.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postern policy redteam                       the embedded policy and the set that ships
  postern policy redteam --policy policy.yaml --all
  postern policy redteam --set mine.toml --json | jq '.attacks[] | select(.action == \"allow\")'")]
pub(crate) struct RedteamArguments {
    /// Policy file, YAML [default: the embedded one]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) policy: Option<PathBuf>,
    /// Texts, TOML (see deploy/policy/redteam.toml) [default: the set that ships]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) set: Option<PathBuf>,
    /// Show every text, not only those that went wrong
    #[arg(long)]
    pub(crate) all: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where the rules are.
#[derive(Debug, Args)]
pub(crate) struct RuleFileArguments {
    /// Policy file, YAML; the rules that it names lie beside it [default: the embedded one]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) policy: Option<PathBuf>,
    /// Folder of templates [default: the embedded ones]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) prompts: Option<PathBuf>,
    /// Registry of models, YAML; its cards lie beside it [default: the embedded one]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) models: Option<PathBuf>,
}

/// How a call comes in.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum SourceArgument {
    /// Through the server
    Network,
    /// From the command line of the device
    Local,
}

impl From<SourceArgument> for Source {
    fn from(source: SourceArgument) -> Self {
        match source {
            SourceArgument::Network => Self::Network,
            SourceArgument::Local => Self::Local,
        }
    }
}

impl PolicyCommand {
    /// Whether a failure is printed as JSON on standard output.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Check(check) => check.json,
            Self::Explain(explain) => explain.json,
            Self::Schema => false,
            Self::Redteam(redteam) => redteam.json,
        }
    }
}
