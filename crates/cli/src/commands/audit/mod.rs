//! `postern audit`: verifying, reading, proving, exporting and counting the audit log.
//!
//! Invariant: no command changes the log, and each reads it with a bounded amount of memory. What
//! a log says goes to a terminal only with everything made visible that it would obey. Absent: the
//! format and the proofs, which belong to `postern-audit`.

mod checkpoint;
mod details;
mod export;
mod inputs;
mod keygen;
mod prove;
mod receiver;
mod show;
mod stats;
mod syslog;
mod verify;

use std::path::Path;

use postern_audit::{AuditError, CursorProblem};

use crate::arguments::AuditCommand;
use crate::error::CommandError;

pub(crate) use verify::verdict;

pub(crate) async fn run(command: AuditCommand) -> anyhow::Result<()> {
    match command {
        AuditCommand::Verify(arguments) => verify::run(&arguments),
        AuditCommand::Show(arguments) => show::run(&arguments),
        AuditCommand::Export(arguments) => export::run(&arguments).await,
        AuditCommand::Prove(arguments) => prove::run(&arguments),
        AuditCommand::Checkpoint(arguments) => checkpoint::run(&arguments),
        AuditCommand::Stats(arguments) => stats::run(&arguments),
        AuditCommand::Keygen(arguments) => keygen::run(&arguments),
    }
}

/// A log that cannot be read is a failure; one that can be read and is wrong has its own code.
fn classified(dir: &Path, error: AuditError) -> anyhow::Error {
    match &error {
        AuditError::Broken { .. }
        | AuditError::Cursor {
            problem: CursorProblem::OtherHistory { .. } | CursorProblem::LogShorter { .. },
            ..
        } => CommandError::AuditBroken {
            message: error.to_string(),
        }
        .into(),
        _ => anyhow::Error::new(error).context(format!("audit log {}", dir.display())),
    }
}
