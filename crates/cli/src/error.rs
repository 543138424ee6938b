//! The outcomes that have an exit code of their own.
//!
//! Everything else travels as [`anyhow::Error`] and leaves with code 1. The codes stand in
//! `postern --help`; scripts depend on them, so a code never changes its meaning.

use std::io;

use postern_service::{Refusal, RefusalKind};
use serde_json::{Value, json};

/// An outcome that a script can tell apart by its exit code.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// The API answered with a problem document (RFC 9457).
    #[error("{message}")]
    Problem {
        /// What was refused and what to do next.
        message: String,
        /// Whether the caller was refused; else the server failed.
        refused: bool,
        /// The document as it came.
        problem: Value,
    },
    /// The server does not take the client certificate.
    #[error("{message}")]
    CertificateRefused {
        /// The TLS alert and what to do next.
        message: String,
    },
    /// The audit log does not verify.
    #[error("{message}")]
    AuditBroken {
        /// Where the log is broken and why.
        message: String,
    },
    /// No connection, or it broke off.
    #[error("{message}")]
    Unreachable {
        /// Which address, and what happened there.
        message: String,
    },
    /// Standard output takes nothing any more.
    #[error("cannot write to standard output")]
    Output(#[from] io::Error),
}

impl CommandError {
    /// The error that a problem document stands for.
    ///
    /// # Errors
    /// The document lacks what every problem of ours has: type, title and status.
    pub(crate) fn from_problem(problem: Value) -> anyhow::Result<Self> {
        let text = |name: &str| problem.get(name).and_then(Value::as_str);
        let (Some(kind), Some(title), Some(status)) = (
            text("type"),
            text("title"),
            problem.get("status").and_then(Value::as_u64),
        ) else {
            anyhow::bail!("the server's problem document lacks type, title or status");
        };
        let code = kind.rsplit(':').next().unwrap_or(kind);
        let mut message = format!("{title} ({code}, status {status})");
        if let Some(detail) = text("detail") {
            message.push_str(&format!(": {detail}"));
        }
        if let Some(instance) = text("instance") {
            message.push_str(&format!(" [request {instance}]"));
        }
        let refused = (400..500).contains(&status);
        Ok(Self::Problem {
            message,
            refused,
            problem,
        })
    }
}

impl From<Refusal> for CommandError {
    /// A refusal of the service in this process. It says what the audit record says: whoever runs
    /// the service may read that too.
    fn from(refusal: Refusal) -> Self {
        let Refusal { id, kind } = refusal;
        let (code, detail) = (kind.code(), kind.detail());
        let refused = match kind {
            RefusalKind::Unauthenticated(_)
            | RefusalKind::Malformed(_)
            | RefusalKind::Denied(_)
            | RefusalKind::Busy
            | RefusalKind::ContextOverflow { .. }
            | RefusalKind::DeadlineExceeded { .. } => true,
            RefusalKind::ShuttingDown
            | RefusalKind::AuditUnavailable
            | RefusalKind::ClientGone
            | RefusalKind::EngineFailed { .. }
            | RefusalKind::Internal => false,
        };
        let message = format!("the call got no answer: {detail} ({code}) [request {id}]");
        let problem = json!({
            "type": format!("urn:postern:problem:{code}"),
            "title": "The call got no answer",
            "detail": detail,
            "instance": id,
        });
        Self::Problem {
            message,
            refused,
            problem,
        }
    }
}

/// Why the process ends, as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    Refused = 3,
    AuditBroken = 4,
    Unreachable = 5,
}

impl Exit {
    /// The exit code that `error` calls for.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        match error.downcast_ref::<CommandError>() {
            // The reader has seen enough (`postern audit show | head`): nothing went wrong.
            Some(CommandError::Output(source)) if source.kind() == io::ErrorKind::BrokenPipe => {
                Self::Done
            }
            Some(
                CommandError::Problem { refused: true, .. }
                | CommandError::CertificateRefused { .. },
            ) => Self::Refused,
            Some(CommandError::AuditBroken { .. }) => Self::AuditBroken,
            Some(CommandError::Unreachable { .. }) => Self::Unreachable,
            Some(CommandError::Problem { .. } | CommandError::Output(_)) | None => Self::Failed,
        }
    }

    fn code(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::AuditBroken => "audit-broken",
            Self::Unreachable => "unreachable",
        }
    }
}

/// The error for a script: what `--json` prints instead of a result.
pub(crate) fn to_json(error: &anyhow::Error) -> Value {
    let exit = Exit::of(error);
    let problem = match error.downcast_ref::<CommandError>() {
        Some(CommandError::Problem { problem, .. }) => problem.clone(),
        _ => Value::Null,
    };
    let mut json = json!({
        "error": {
            "code": exit.code(),
            "exit_code": exit as u8,
            "message": format!("{error:#}"),
            "problem": problem,
        }
    });
    if exit == Exit::AuditBroken {
        json["verified"] = Value::Bool(false);
    }
    json
}
