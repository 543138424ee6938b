//! The command line of `postern prompt`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};
use postern_governance::TemplateId;

use super::values::parse_variable;

#[derive(Debug, Subcommand)]
pub(crate) enum PromptCommand {
    Check(CheckArguments),
    Render(RenderArguments),
    Test(Box<TestArguments>),
    Diff(Box<DiffArguments>),
    Lock(LockArguments),
}

/// Check templates, their tests and the lock, without a model
///
/// Errors: files that do not load, two templates with one id, a template that is not as
/// prompts.lock records it, tests that cannot be read. Warnings: no tests, no lock, variables that
/// nobody described, untrusted text in a system message, marks that no instruction explains.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postern prompt check deploy/prompts
  postern prompt check deploy/prompts --strict --junit prompts.xml
  postern prompt check deploy/prompts --sarif prompts.sarif --json")]
pub(crate) struct CheckArguments {
    /// Folder of templates
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) dir: PathBuf,
    /// Fail on warnings too
    #[arg(long)]
    pub(crate) strict: bool,
    #[command(flatten)]
    pub(crate) report: ReportArguments,
}

/// Fill a template in and show the prompt that a model would get
///
/// Variables are checked and cleaned as in a call; nothing is generated. The numbers of marks are
/// those of tests: a daemon derives others from its own key.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postern prompt render deploy/prompts triage.v1 --var log=@build.log
  git diff | postern prompt render deploy/prompts impl-test-gen.v1 --var diff=@-
  postern prompt render deploy/prompts coffee.v1 --test 'a quiet room' --json")]
pub(crate) struct RenderArguments {
    /// Folder of templates
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) dir: PathBuf,
    /// Template to fill in, e.g. coffee.v1
    #[arg(value_name = "ID")]
    pub(crate) template: TemplateId,
    /// A variable of the template: name=value, name=@file, or name=@- for standard input
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = parse_variable)]
    pub(crate) variables: Vec<(String, String)>,
    /// Take the variables of this test
    #[arg(long, value_name = "NAME", conflicts_with = "variables")]
    pub(crate) test: Option<String>,
    /// Print JSON: messages, variables and redactions
    #[arg(long)]
    pub(crate) json: bool,
}

/// Run the tests that stand beside templates
///
/// For each test in NAME.test.yaml the prompt is rendered and compared with the recorded one, and
/// the recorded output is checked: no model is needed. With --live a model answers anew, through
/// the same service as every call, with the seed of the test. --record renews NAME.recorded.json:
/// prompts, and with --live outputs too.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postern prompt test deploy/prompts
  postern prompt test deploy/prompts --junit prompts.xml
  postern prompt test deploy/prompts --record
  postern prompt test deploy/prompts --template coffee.v1 --live --record
  postern prompt test deploy/prompts --template triage.v1 --live --model qwen.manifest.json")]
pub(crate) struct TestArguments {
    /// Folder of templates
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) dir: PathBuf,
    /// Only the tests of this template; may be given several times
    #[arg(long = "template", value_name = "ID")]
    pub(crate) templates: Vec<TemplateId>,
    /// Record what was found, instead of comparing it with what was recorded
    #[arg(long)]
    pub(crate) record: bool,
    #[command(flatten)]
    pub(crate) report: ReportArguments,
    #[command(flatten)]
    pub(crate) live: LiveArguments,
}

/// Show what a change of a template does to its recorded prompts and outputs
///
/// Each recorded prompt is compared with the one that the template gives now. With --to, the tests
/// of ID are rendered with another version. With --live a model answers the new prompts, and its
/// answers are compared with the recorded ones. Exit code 0 unless --exit-code is given.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postern prompt diff deploy/prompts
  postern prompt diff deploy/prompts coffee.v1 --live
  postern prompt diff deploy/prompts triage.v1 --to triage.v2 --exit-code")]
pub(crate) struct DiffArguments {
    /// Folder of templates
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) dir: PathBuf,
    /// Only this template, e.g. triage.v1
    #[arg(value_name = "ID")]
    pub(crate) template: Option<TemplateId>,
    /// Compare with this version instead of what the template gives now
    #[arg(long, value_name = "ID", requires = "template")]
    pub(crate) to: Option<TemplateId>,
    /// Exit with code 6 if anything differs
    #[arg(long)]
    pub(crate) exit_code: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) live: LiveArguments,
}

/// Record templates in prompts.lock, so that none changes silently
///
/// New templates are recorded. One that is recorded with another content is not, unless --renew
/// names it: give a change a new version where you can. What is not as recorded is not loaded.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postern prompt lock deploy/prompts
  postern prompt lock deploy/prompts --renew coffee.v1
  postern prompt lock deploy/prompts --check")]
pub(crate) struct LockArguments {
    /// Folder of templates
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) dir: PathBuf,
    /// Record the new content of this template under its old id; may be given several times
    #[arg(long, value_name = "ID")]
    pub(crate) renew: Vec<TemplateId>,
    /// Write nothing; exit with code 6 if the lock is not up to date
    #[arg(long, conflicts_with = "renew")]
    pub(crate) check: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where a report goes.
#[derive(Debug, Args)]
pub(crate) struct ReportArguments {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Also write a report in JUnit's XML to this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) junit: Option<PathBuf>,
    /// Also write a report in SARIF 2.1.0 to this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) sarif: Option<PathBuf>,
}

/// The model of a live run.
#[derive(Debug, Args)]
#[command(next_help_heading = "Live model")]
pub(crate) struct LiveArguments {
    /// Let a model answer
    #[arg(long)]
    pub(crate) live: bool,
    /// Model manifest, or a pinned GGUF file [default: the embedded model]
    #[arg(long, value_name = "FILE", requires = "live", value_hint = ValueHint::FilePath)]
    pub(crate) model: Option<PathBuf>,
    /// Configuration file, TOML, for its sections `model` and `engine`
    #[arg(long, value_name = "FILE", requires = "live", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// Keep the audit log of the run in this folder [default: a temporary one]
    #[arg(long, value_name = "DIR", requires = "live", value_hint = ValueHint::DirPath)]
    pub(crate) state_dir: Option<PathBuf>,
}

impl PromptCommand {
    /// Whether a failure is printed as JSON on standard output.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Check(check) => check.report.json,
            Self::Render(render) => render.json,
            Self::Test(test) => test.report.json,
            Self::Diff(diff) => diff.json,
            Self::Lock(lock) => lock.json,
        }
    }
}
