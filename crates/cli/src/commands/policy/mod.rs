//! `postern policy`: checks, explains and tries out who may ask what.

mod check;
mod explain;
mod redteam;

use postern_governance::{AUTHORIZATION_SCHEMA, RuleSet};

use crate::arguments::{PolicyCommand, RuleFileArguments};
use crate::daemon::{RulePaths, rules_of};
use crate::terminal::Screen;

/// Runs one of the commands.
pub(crate) fn run(command: PolicyCommand) -> anyhow::Result<()> {
    match command {
        PolicyCommand::Check(arguments) => check::run(&arguments),
        PolicyCommand::Explain(arguments) => explain::run(&arguments),
        PolicyCommand::Schema => Ok(Screen::new().write(AUTHORIZATION_SCHEMA)?),
        PolicyCommand::Redteam(arguments) => redteam::run(&arguments),
    }
}

/// The rules that the arguments name.
fn rules(files: &RuleFileArguments) -> anyhow::Result<RuleSet> {
    rules_of(&RulePaths {
        prompts: files.prompts.as_deref(),
        policy: files.policy.as_deref(),
        models: files.models.as_deref(),
        ..RulePaths::default()
    })
}
