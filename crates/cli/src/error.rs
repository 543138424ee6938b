//! The outcomes that have an exit code of their own.
//!
//! Everything else travels as [`anyhow::Error`] and leaves with code 1. The codes stand in
//! `postern --help`; scripts depend on them, so a code never changes its meaning.

use std::io;

use postern_service::{Refusal, RefusalKind};
use serde_json::{Value, json};

use crate::terminal::printable;

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
    /// Prompts did not pass, and the report of it was printed.
    #[error("{message}")]
    ChecksFailed {
        /// How many, and what to do next where that is not in the report.
        message: String,
    },
    /// No connection, or it broke off.
    #[error("{message}")]
    Unreachable {
        /// Which address, and what happened there.
        message: String,
    },
    /// A signal came before the command was done.
    #[error("interrupted")]
    Interrupted,
    /// The text holds what it should not hold.
    #[error("{count} findings; run without --fail to get the text without them")]
    Found {
        /// How many.
        count: u64,
    },
    /// The answer is kept until somebody has looked at it.
    #[error("{message}")]
    Held {
        /// Why, and how to get it later.
        message: String,
        /// What the server said.
        held: Value,
    },
    /// A call that was only asked about would be refused, and why was printed.
    #[error("the call would be refused")]
    WouldBeRefused,
    /// A policy lets too many attacks through, or stops too many harmless texts.
    #[error(
        "the policy does not tell attacks from harmless texts well enough; see above, or use --json"
    )]
    RedTeamFailed,
    /// Standard output takes nothing any more.
    #[error("cannot write to standard output")]
    Output(#[from] io::Error),
}

/// Code of the refusal that a larger model helps against.
const CONTEXT_OVERFLOW: &str = "context-overflow";

/// Members of a problem document that tell what exactly was refused.
const FACTS: [&str; 17] = [
    "field",
    "variable",
    "bytes",
    "bytes_max",
    "minimum",
    "maximum",
    "prompt_tokens",
    "max_tokens",
    "context_tokens",
    "deadline_s",
    "account",
    "limit",
    "allowed",
    "used",
    "reserved",
    "asked",
    "resets_at",
];

/// The facts that `problem` has, as `field: temperature, minimum: 0, maximum: 2`.
fn facts(problem: &Value) -> Option<String> {
    let shown: Vec<String> = FACTS
        .iter()
        .filter_map(|&name| {
            let value = match problem.get(name)? {
                Value::String(text) => printable(text),
                Value::Number(number) => number.to_string(),
                _ => return None,
            };
            Some(format!("{name}: {value}"))
        })
        .collect();
    (!shown.is_empty()).then(|| shown.join(", "))
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
        if let Some(reason) = text("reason") {
            message.push_str(&format!(" The reason: {}.", printable(reason)));
        }
        if let Some(facts) = facts(&problem) {
            message.push_str(&format!(" [{facts}]"));
        }
        if code == CONTEXT_OVERFLOW {
            message.push_str("; the server needs a model with a larger context (--model)");
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

impl CommandError {
    /// What the answer to a call says whose output is held.
    pub(crate) fn held(held: Value) -> Self {
        let text = |value: &Value| value.as_str().map(printable).unwrap_or_default();
        let reasons = held["reasons"].as_array().into_iter().flatten();
        let reasons: Vec<_> = reasons.map(|reason| text(&reason["detail"])).collect();
        let id = text(&held["id"]);
        let message = format!(
            "the answer is held until somebody has looked at it: {}; `postern review show {id}` has it \
             once it is approved, until {}",
            reasons.join("; "),
            text(&held["expires"])
        );
        Self::Held { message, held }
    }
}

impl From<Refusal> for CommandError {
    /// A refusal of the service in this process, with the problem that the HTTP API would answer. But
    /// its detail is what the audit record says: whoever runs the service may read that too.
    fn from(refusal: Refusal) -> Self {
        let mut problem = postern_server::problem_document(&refusal);
        let Refusal { id, kind } = refusal;
        let (code, detail) = (kind.code(), kind.detail());
        let refused = match kind {
            RefusalKind::Unauthenticated(_)
            | RefusalKind::Malformed(_)
            | RefusalKind::Denied(_)
            | RefusalKind::Busy
            | RefusalKind::OverLimit { .. }
            | RefusalKind::RightMissing { .. }
            | RefusalKind::BudgetUnknown
            | RefusalKind::ReloadFailed { .. }
            | RefusalKind::ReviewUnknown
            | RefusalKind::ReviewOwn
            | RefusalKind::ReviewClosed { .. }
            | RefusalKind::ReviewWhy
            | RefusalKind::ProofUnknown
            | RefusalKind::CheckpointForeign
            | RefusalKind::ContextOverflow { .. }
            | RefusalKind::DeadlineExceeded { .. } => true,
            RefusalKind::ShuttingDown
            | RefusalKind::AuditUnavailable
            | RefusalKind::ReviewUnavailable
            | RefusalKind::ReviewQueueFull
            | RefusalKind::BudgetUnavailable
            | RefusalKind::ClientGone
            | RefusalKind::EngineStopped
            | RefusalKind::EngineFailed { .. }
            | RefusalKind::OutputInvalid { .. }
            | RefusalKind::Internal => false,
        };
        let advice = if code == CONTEXT_OVERFLOW {
            "; name a model with a larger context with --model"
        } else {
            ""
        };
        let message = format!("the call got no answer: {detail} ({code}){advice} [request {id}]");
        problem["detail"] = json!(detail);
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
    ChecksFailed = 6,
    Held = 7,
    /// As shells report SIGINT.
    Interrupted = 130,
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
                | CommandError::CertificateRefused { .. }
                | CommandError::WouldBeRefused,
            ) => Self::Refused,
            Some(CommandError::AuditBroken { .. }) => Self::AuditBroken,
            Some(CommandError::Unreachable { .. }) => Self::Unreachable,
            Some(
                CommandError::Found { .. }
                | CommandError::RedTeamFailed
                | CommandError::ChecksFailed { .. },
            ) => Self::ChecksFailed,
            Some(CommandError::Held { .. }) => Self::Held,
            Some(CommandError::Interrupted) => Self::Interrupted,
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
            Self::ChecksFailed => "checks-failed",
            Self::Held => "held",
            Self::Interrupted => "interrupted",
        }
    }
}

/// The error with its causes, except those that the text before them has told already.
pub(crate) fn message(error: &anyhow::Error) -> String {
    let mut message = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if message.is_empty() {
            message = cause;
        } else if !message.contains(&cause) {
            message.push_str(&format!(": {cause}"));
        }
    }
    message
}

/// Whether the JSON that was printed as the result tells of the failure already.
pub(crate) fn is_reported(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref::<CommandError>(),
        Some(CommandError::ChecksFailed { .. } | CommandError::WouldBeRefused)
    )
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
            "message": message(error),
            "problem": problem,
        }
    });
    if let Some(CommandError::Held { held, .. }) = error.downcast_ref() {
        json["held"] = held.clone();
    }
    if exit == Exit::AuditBroken {
        json["verified"] = Value::Bool(false);
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        #[track_caller]
        fn check(causes: &[&'static str], expected: &str) {
            let (first, outer) = causes.split_first().expect("a cause");
            let mut error = anyhow::anyhow!(*first);
            for text in outer {
                error = error.context(*text);
            }
            assert_eq!(message(&error), expected);
        }
        check(&["no such file"], "no such file");
        check(
            &["no such file", "cannot read x"],
            "cannot read x: no such file",
        );
        check(
            &["no such file", "cannot read x: no such file"],
            "cannot read x: no such file",
        );
        check(
            &["no", "cannot read x: no", "start"],
            "start: cannot read x: no",
        );
    }

    #[test]
    fn a_problem_tells_its_facts() {
        let problem = json!({
            "type": "urn:postern:problem:parameter-out-of-range",
            "title": "A parameter is out of range",
            "status": 422,
            "detail": "It must lie between minimum and maximum.",
            "instance": "01",
            "field": "temperature",
            "minimum": 0.0,
            "maximum": 2.0,
        });
        let error = CommandError::from_problem(problem).expect("a whole problem");
        assert_eq!(
            error.to_string(),
            "A parameter is out of range (parameter-out-of-range, status 422): It must lie between \
             minimum and maximum. [field: temperature, minimum: 0.0, maximum: 2.0] [request 01]"
        );
    }
}
