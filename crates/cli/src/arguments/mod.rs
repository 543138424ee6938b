//! What the command line accepts, and every help text.
//!
//! Parsing only: nothing here opens a file or judges a value beyond its form.
//! `--help` of each command ends with examples that work as written.

pub(crate) mod audit;
mod budget;
mod model;
mod policy;
mod prompt;
mod review;
mod values;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) use audit::AuditCommand;
pub(crate) use budget::{BudgetCommand, SetArguments, ShowArguments};
use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
pub(crate) use model::{ModelCheckArguments, ModelCommand};
pub(crate) use policy::{
    ExplainArguments, PolicyCheckArguments, PolicyCommand, RedteamArguments, RuleFileArguments,
};
use postern_governance::{Identity, Right, RuleClass, TemplateId};
pub(crate) use prompt::{
    CheckArguments, DiffArguments, LiveArguments, LockArguments, PromptCommand, RenderArguments,
    ReportArguments, TestArguments,
};
pub(crate) use review::{DecideArguments, ReviewCommand, ReviewerArguments};
pub(crate) use values::parse_receipt;
use values::{parse_share, parse_ttl, parse_variable};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const AFTER_HELP: &str = "\
Exit codes:
  0  done
  1  failed: a file, a model, the configuration or the server's answer was not usable
  2  the command line was not understood
  3  refused: a certificate, a token, the policy or a limit said no
  4  the audit log is damaged or was altered, or a proof about it does not hold
  5  the server could not be reached
  6  a check did not pass: `prompt check`, `prompt test`, `policy check` or `model check` failed,
     `sanitize --fail` found something, `policy redteam` missed its goals
  7  the answer is held until somebody has looked at it (`postern review`)
  130  interrupted by a signal before it was done

Environment:
  RUST_LOG   what is logged, e.g. debug or postern_server=debug; by default info for serve,
             errors for all others
  NO_COLOR   any value turns colour off

Start with `postern demo`.";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "postern",
    version,
    about = "A guarded gate in front of a local language model",
    long_about = "A guarded gate in front of a local language model.\n\n\
        Every call comes in over mutual TLS with a token, names a reviewed prompt template, is\n\
        checked against policy, cleaned of secrets, and written to an audit log before the\n\
        first token is generated.",
    after_help = AFTER_HELP,
    styles = STYLES,
    max_term_width = 100,
    propagate_version = true,
    arg_required_else_help = true
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(DemoArguments),
    Serve(Box<ServeArguments>),
    Generate(Box<GenerateArguments>),
    /// Pin, inspect, register and check models
    #[command(subcommand)]
    Model(ModelCommand),
    /// Check, render, test, compare and lock prompt templates
    #[command(subcommand)]
    Prompt(PromptCommand),
    /// Issue the tokens that callers present beside their certificate
    #[command(subcommand)]
    Token(TokenCommand),
    /// Make certificates for development
    #[command(subcommand)]
    Certs(CertsCommand),
    /// Verify, read, prove, export and count the audit log
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Show and set what is left of budgets
    #[command(subcommand)]
    Budget(BudgetCommand),
    /// Have a running server read its templates, policy, redaction rules and registry again
    ///
    /// All of them are put in force together, or, if anything is wrong, none: then the old ones stay, and the
    /// answer says what is wrong. It needs a token with the right `administer` and a rule that gives it.
    /// Whoever is at the device may send SIGHUP to the daemon instead.
    #[command(after_help = "\
Examples:
  postern reload --url https://localhost:8443 --identity operator
  systemctl reload postern          the same by SIGHUP, at the device")]
    Reload(ReviewerArguments),
    /// See outputs that are held for a person, and release or reject them
    #[command(subcommand)]
    Review(ReviewCommand),
    Sanitize(Box<SanitizeArguments>),
    /// Try a policy out
    #[command(subcommand)]
    Policy(PolicyCommand),
    Completions(CompletionsArguments),
}

/// See the whole gate at work: three calls over mTLS against a real server
///
/// Makes a throwaway CA, certificates and a token, starts the server on a free loopback port with
/// the embedded model, and makes three calls as a client: a coffee recommendation, the same with
/// secrets in it, and one that policy refuses. Then it keeps serving until Ctrl-C and prints curl
/// lines to try.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postern demo                      three calls, then keep serving until Ctrl-C
  postern demo --once               three calls, then exit
  postern demo --once --json        the same as one JSON object
  postern demo --state-dir ./state  keep certificates, token and audit log in ./state")]
pub(crate) struct DemoArguments {
    /// Keep certificates, token and audit log in this folder (default: a temporary one)
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) state_dir: Option<PathBuf>,
    /// Exit after the three calls
    #[arg(long)]
    pub(crate) once: bool,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// Serve the HTTP API over mutual TLS
///
/// Flags override the configuration file. Without a file, flags and defaults are enough: the
/// embedded model, prompts and policy, and certificates, token key and audit log in the state
/// folder.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postern certs dev --dir ./state && postern audit keygen --out auditor.key --state-dir ./state
  postern serve --state-dir ./state
  postern serve --config /etc/postern/postern.toml
  postern serve --config postern.toml --port 9443 --model other.manifest.json --models models.yaml
  postern serve --tls-cert server.pem --tls-key server.key --client-ca ca.pem --port 8443")]
pub(crate) struct ServeArguments {
    #[command(flatten)]
    pub(crate) deployment: DeploymentArguments,
    /// Address to listen on [default: 127.0.0.1]
    #[arg(long, value_name = "IP")]
    pub(crate) address: Option<IpAddr>,
    /// Port to listen on; 0 picks a free one [default: 8443]
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// Server certificate chain, PEM [default: STATE/server.pem]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Private key of the server certificate, PEM [default: STATE/server.key]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) tls_key: Option<PathBuf>,
    /// CA that signed the client certificates, PEM [default: STATE/ca.pem]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) client_ca: Option<PathBuf>,
}

/// What `serve` and a local `generate` have in common.
#[derive(Debug, Default, Args)]
pub(crate) struct DeploymentArguments {
    /// Configuration file, TOML (see deploy/config/postern.toml)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// Folder of certificates, token key and audit log
    ///
    /// [default: $STATE_DIRECTORY, else $XDG_STATE_HOME/postern, else ~/.local/state/postern]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) state_dir: Option<PathBuf>,
    /// Model manifest, or a GGUF file that `postern model pin` has pinned [default: the embedded model]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) model: Option<PathBuf>,
    /// Folder of prompt templates [default: the embedded ones]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) prompts: Option<PathBuf>,
    /// Policy file, YAML [default: the embedded one]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) policy: Option<PathBuf>,
    /// Registry of models, YAML (see deploy/policy/models.md) [default: the embedded one]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) models: Option<PathBuf>,
    /// Folder of the audit log [default: STATE/audit]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) audit_dir: Option<PathBuf>,
    /// Public key (age1...) of an auditor, who alone can read the audit log; may be given several times
    ///
    /// [default: those in STATE/auditors]
    #[arg(long = "auditor", value_name = "KEY")]
    pub(crate) auditors: Vec<String>,
    /// Write the audit log's content for all to read who have the files
    #[arg(long, conflicts_with = "auditors")]
    pub(crate) audit_plaintext: bool,
    /// Key that signs and checks tokens [default: STATE/token.key]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) token_key: Option<PathBuf>,
}

/// Make one governed call, against a server or locally
///
/// With --url the call goes to a server over mutual TLS. Without it, the same service runs in this
/// process: same templates, same policy, same audit log in the state folder.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postern generate --template coffee.v1 --var 'wishes=a quiet room and good cake' --stream
  git diff | postern generate --model qwen.manifest.json --models models.yaml \\
      --identity ci-runner --template impl-test-gen.v1 --var diff=@-
  postern generate --url https://localhost:8443 --state-dir ./state --identity kiosk \\
      --template coffee.v1 --var wishes=@wish.txt
  postern generate --url https://gate.example:8443 --ca ca.pem --cert ci.pem --key ci.key \\
      --token-file ci.token --template triage.v1 --var log=@build.log --json")]
#[command(mut_arg("state_dir", |arg| arg.help_heading("State folder")))]
pub(crate) struct GenerateArguments {
    /// Template to fill in, e.g. coffee.v1
    #[arg(long, value_name = "ID")]
    pub(crate) template: TemplateId,
    /// A variable of the template: name=value, name=@file, or name=@- for standard input
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = parse_variable)]
    pub(crate) variables: Vec<(String, String)>,
    /// Generate at most this many tokens (the template and the policy set the upper bound)
    #[arg(long, value_name = "N")]
    pub(crate) max_tokens: Option<u32>,
    /// Sampling temperature; 0 always takes the likeliest token
    #[arg(long, value_name = "T")]
    pub(crate) temperature: Option<f32>,
    /// Seed of the sampling; the same seed gives the same text
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Print the text as it is generated
    #[arg(long)]
    pub(crate) stream: bool,
    /// Print the whole answer as JSON (with --stream: one JSON object a line)
    #[arg(long)]
    pub(crate) json: bool,
    /// Who is calling: names the certificate and token in the state folder
    #[arg(long, value_name = "NAME", default_value = "operator")]
    pub(crate) identity: Identity,
    #[command(flatten)]
    pub(crate) remote: RemoteArguments,
    #[command(flatten, next_help_heading = "Local run, without --url")]
    pub(crate) deployment: DeploymentArguments,
}

/// How a server is reached.
#[derive(Debug, Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct RemoteArguments {
    /// Server to call, e.g. https://localhost:8443
    #[arg(
        long,
        value_name = "URL",
        value_hint = ValueHint::Url,
        conflicts_with_all = [
            "config", "model", "prompts", "policy", "models", "audit_dir", "auditors", "audit_plaintext", "token_key",
        ]
    )]
    pub(crate) url: Option<String>,
    #[command(flatten)]
    pub(crate) credentials: CredentialArguments,
}

/// What a client shows a server, and trusts of it.
#[derive(Debug, Args)]
pub(crate) struct CredentialArguments {
    /// CA that signed the server's certificate, PEM [default: STATE/ca.pem]
    #[arg(long, value_name = "FILE", requires = "url", value_hint = ValueHint::FilePath)]
    pub(crate) ca: Option<PathBuf>,
    /// Client certificate chain, PEM [default: STATE/clients/IDENTITY.pem]
    #[arg(long, value_name = "FILE", requires = "url", value_hint = ValueHint::FilePath)]
    pub(crate) cert: Option<PathBuf>,
    /// Private key of the client certificate, PEM [default: STATE/clients/IDENTITY.key]
    #[arg(long, value_name = "FILE", requires = "url", value_hint = ValueHint::FilePath)]
    pub(crate) key: Option<PathBuf>,
    /// File that holds the token [default: STATE/tokens/IDENTITY.token]
    #[arg(long, value_name = "FILE", requires = "url", value_hint = ValueHint::FilePath)]
    pub(crate) token_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Issue a token for one identity and the templates it may use
    ///
    /// The token goes to standard output. It is worth nothing without the client certificate of
    /// the same identity, and the policy is asked besides.
    #[command(after_help = "\
Examples:
  postern token issue --identity kiosk --template coffee.v1 --key state/token.key
  postern token issue --identity ci-runner --template impl-test-gen.v1 --template triage.v1 \\
      --ttl 30m --key state/token.key --out state/tokens/ci-runner.token")]
    Issue {
        /// Identity that the client certificate names
        #[arg(long, value_name = "NAME")]
        identity: Identity,
        /// Template that the token is good for; may be given several times
        #[arg(
            long = "template",
            value_name = "ID",
            required_unless_present = "rights"
        )]
        templates: Vec<TemplateId>,
        /// What else the token is good for, if the policy allows it too; may be given several times
        #[arg(long = "right", value_name = "RIGHT", value_enum, id = "rights")]
        rights: Vec<RightArgument>,
        /// How long it is valid: 90s, 15m, 1h; at most 24h
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_ttl)]
        ttl: Duration,
        /// Key that signs tokens (`postern certs dev` makes one)
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        key: PathBuf,
        /// Write the token to this file (mode 0600) instead of standard output
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        out: Option<PathBuf>,
        /// Replace the file of --out if it exists
        #[arg(long, requires = "out")]
        force: bool,
    },
}

/// What a token may allow beside templates.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum RightArgument {
    /// To see held outputs, and to release or reject them
    Approve,
    /// To see and change budgets, and to have the rules read again
    Administer,
}

impl From<RightArgument> for Right {
    fn from(right: RightArgument) -> Self {
        match right {
            RightArgument::Approve => Self::Approve,
            RightArgument::Administer => Self::Administer,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertsCommand {
    /// Make a CA, a server certificate, client certificates and a token key for development
    ///
    /// The CA's private key stays in the folder: good for a desk, not for a fleet. Where the folder has
    /// a CA already, --client adds certificates for further clients, signed by that CA; nothing that
    /// exists is replaced.
    #[command(after_help = "\
Examples:
  postern certs dev && postern serve
  postern certs dev --client barista
  postern certs dev --dir ./state --host pi.local --host 192.168.1.20 --client kiosk --days 7")]
    Dev {
        /// Folder to write to; made if missing
        ///
        /// [default: the state folder of `serve`: $STATE_DIRECTORY, else $XDG_STATE_HOME/postern,
        /// else ~/.local/state/postern]
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        dir: Option<PathBuf>,
        /// Identity to make a client certificate for; may be given several times
        /// [default: kiosk, ci-runner, operator]
        #[arg(long = "client", value_name = "NAME")]
        clients: Vec<Identity>,
        /// Name or address of the server besides localhost, 127.0.0.1 and ::1
        #[arg(long = "host", value_name = "NAME")]
        hosts: Vec<String>,
        /// Days that the certificates are valid, but none longer than their CA
        #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=i64::from(crate::certificates::VALIDITY_DAYS_MAX)))]
        days: u16,
        /// Replace files that exist (every certificate made before stops working)
        #[arg(long)]
        force: bool,
    },
}

/// Take secrets and personal data out of a text
///
/// Reads UTF-8, writes the same text with `[REDACTED:rule:n]` in the place of each finding; the same
/// secret has the same n. The text is streamed, so a file may be of any size. With --report nothing
/// but the report is written, and no report holds a secret.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  git diff | postern sanitize                      the diff without its secrets
  postern sanitize build.log > clean.log
  postern sanitize --fail --only secret .env       exit code 6 if it holds a secret
  postern sanitize app.yaml --report json          where what was found, and how sure that is
  postern sanitize app.yaml --report sarif > findings.sarif
  postern sanitize --rules ours.toml notes.txt     with rules of your own, or of gitleaks")]
pub(crate) struct SanitizeArguments {
    /// File to read; - or nothing is standard input
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,
    /// Write a report instead of the text
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub(crate) report: Option<ReportFormat>,
    /// Look for this class only
    #[arg(long, value_name = "CLASS", value_enum)]
    pub(crate) only: Option<OnlyClass>,
    /// Pass over what is less sure than this, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = postern_governance::CONFIDENCE_MIN_DEFAULT, value_parser = parse_share)]
    pub(crate) confidence_min: f32,
    /// Further rules, TOML (see deploy/policy/sanitizer.md), or in gitleaks' format; may be given
    /// several times
    #[arg(long = "rules", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) rules: Vec<PathBuf>,
    /// Leave the text as it is, for --report or --fail
    #[arg(long)]
    pub(crate) mark: bool,
    /// End with exit code 6 if something was found
    #[arg(long)]
    pub(crate) fail: bool,
}

/// How findings are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    /// One JSON object
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
}

/// Which findings count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnlyClass {
    /// Keys, tokens, passwords
    Secret,
    /// What is about a person
    Personal,
}

impl From<OnlyClass> for RuleClass {
    fn from(only: OnlyClass) -> Self {
        match only {
            OnlyClass::Secret => Self::Secret,
            OnlyClass::Personal => Self::Personal,
        }
    }
}

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postern completions bash > ~/.local/share/bash-completion/completions/postern
  postern completions zsh > ~/.zfunc/_postern
  postern completions fish > ~/.config/fish/completions/postern.fish")]
pub(crate) struct CompletionsArguments {
    /// Shell to complete for
    pub(crate) shell: Shell,
}

impl Command {
    /// Whether a failure is printed as JSON on standard output, for the script that reads it.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Demo(demo) => demo.json,
            Self::Generate(generate) => generate.json,
            Self::Model(model) => model.json(),
            Self::Audit(audit) => audit.json(),
            Self::Budget(budget) => budget.json(),
            Self::Reload(reload) => reload.json,
            Self::Review(review) => review.json(),
            Self::Prompt(prompt) => prompt.json(),
            Self::Serve(_)
            | Self::Token(_)
            | Self::Certs(_)
            | Self::Sanitize(_)
            | Self::Completions(_) => false,
            Self::Policy(command) => command.json(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
