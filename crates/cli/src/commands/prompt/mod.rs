//! `postern prompt`: templates as code, checked, rendered, tested, compared and locked.
//!
//! What is right is decided in `postern-governance`; here are files, reports and the live model,
//! which is asked through the one service like every call.

mod check;
mod diff;
mod folder;
mod live;
mod lock;
mod render;
mod report;
mod test;

use crate::arguments::PromptCommand;

/// Runs one of the commands.
pub(crate) async fn run(command: PromptCommand) -> anyhow::Result<()> {
    match command {
        PromptCommand::Check(arguments) => check::run(&arguments),
        PromptCommand::Render(arguments) => render::run(&arguments),
        PromptCommand::Test(arguments) => test::run(&arguments).await,
        PromptCommand::Diff(arguments) => diff::run(&arguments).await,
        PromptCommand::Lock(arguments) => lock::run(&arguments),
    }
}
