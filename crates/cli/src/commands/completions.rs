//! `postern completions`.

use clap::CommandFactory;

use crate::arguments::{Arguments, CompletionsArguments};
use crate::error::CommandError;

/// Prints the completion script for a shell.
pub(crate) fn run(arguments: &CompletionsArguments) -> anyhow::Result<()> {
    let mut script = Vec::new();
    let mut command = Arguments::command();
    clap_complete::generate(arguments.shell, &mut command, "postern", &mut script);
    let written = std::io::Write::write_all(&mut std::io::stdout(), &script);
    Ok(written.map_err(CommandError::from)?)
}
