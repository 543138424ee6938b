//! Why a call got no answer.
//!
//! Each refusal has a code that never changes. What a caller may be told is
//! the server's to word, from the kind; what the log and the audit record are
//! told is [`RefusalKind::detail`], which never repeats a variable's content,
//! a token or generated text.

use std::fmt;
use std::net::SocketAddr;

use postern_governance::{Account, Denial, LimitKey, Right, Shortfall};

use crate::RequestId;
use crate::review::{ReviewStatus, WHY_BYTES_MAX};

/// A call that was not answered, under its id.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("call {id} was refused: {kind}")]
pub struct Refusal {
    /// The call's name in the audit log.
    pub id: RequestId,
    /// Why.
    pub kind: RefusalKind,
}

/// Every way in which a call ends without an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum RefusalKind {
    /// The caller did not prove an identity.
    Unauthenticated(AuthenticationError),
    /// The request could not be read as a call, as the server found.
    Malformed(RequestFault),
    /// The rules do not allow it.
    Denied(Denial),
    /// As many calls run and wait as may; try again later.
    Busy,
    /// A limit of the policy does not allow it, at present or at all.
    OverLimit {
        /// Whose limit it is.
        account: Account,
        /// Which limit, and the numbers.
        shortfall: Shortfall,
    },
    /// What was asked for needs a right that the token or the policy does not give.
    RightMissing {
        /// The right.
        right: Right,
    },
    /// There is no budget of this account.
    BudgetUnknown,
    /// What a day or month still allows cannot be read or written, so nothing is allowed.
    BudgetUnavailable,
    /// The rules could not be read again; the old ones stay in force.
    ReloadFailed {
        /// What is wrong, with file and line.
        reason: String,
    },
    /// There is no held output of this name that the caller may know of.
    ReviewUnknown,
    /// Somebody wants to decide on a call of their own.
    ReviewOwn,
    /// It was decided already, or its time is over.
    ReviewClosed {
        /// Where it stands.
        status: ReviewStatus,
    },
    /// The reason of a decision is missing or too long.
    ReviewWhy,
    /// The policy may want the output to be held, and nothing can be held.
    ReviewUnavailable,
    /// As many outputs are held as may be.
    ReviewQueueFull,
    /// There is no record of the caller's at this index, or the ticket is not of it.
    ProofUnknown,
    /// What was handed in is no checkpoint of this device's audit log.
    CheckpointForeign,
    /// Prompt and answer do not fit into the model's context together.
    ContextOverflow {
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// Tokens that the answer may have.
        max_tokens: usize,
        /// Tokens that the context holds.
        context_tokens: usize,
    },
    /// The call took longer than it may.
    DeadlineExceeded {
        /// How long a call may take, in seconds.
        deadline_s: u64,
    },
    /// The service is closing, before this call began or while it ran.
    ShuttingDown,
    /// No audit record could be written, so there is no answer.
    AuditUnavailable,
    /// The client went away; nobody is left to read this.
    ClientGone,
    /// The engine has stopped, before this call began or while it ran, and
    /// takes no more calls until the service is started again.
    EngineStopped,
    /// The engine failed at this call.
    EngineFailed {
        /// The engine's code of its error.
        code: &'static str,
    },
    /// The output is not what the template's schema asks for. It may have been streamed already.
    OutputInvalid {
        /// What is wrong, without its text.
        reason: String,
    },
    /// A defect of ours, such as a panic on the call's thread.
    Internal,
}

/// Why a caller was not believed. The difference is for the log and the audit
/// record; a caller is told one text for all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticationError {
    /// The TLS handshake was not completed: no certificate, one that is not accepted, no TLS, or none in time.
    /// Nobody is left to be told.
    #[error("the TLS handshake with {peer} failed: {reason}")]
    Handshake {
        /// Address of the other end.
        peer: SocketAddr,
        /// What TLS said.
        reason: String,
    },
    /// The client certificate does not carry exactly one valid identity.
    #[error("the client certificate does not name exactly one identity as postern://identity/NAME")]
    CertificateIdentity,
    /// The request carried no token.
    #[error("no bearer token came with the request")]
    TokenMissing,
    /// The token is no token of ours, or breaks a bound.
    #[error("the token is malformed")]
    TokenMalformed,
    /// The signature is not of this service's key.
    #[error("the token was not signed with this service's key")]
    TokenSignature,
    /// The token's life has not begun.
    #[error("the token is not valid yet")]
    TokenNotYetValid,
    /// The token's life is over.
    #[error("the token has expired")]
    TokenExpired,
    /// Certificate and token name different identities.
    #[error("the token belongs to another identity than the client certificate")]
    TokenOfOtherIdentity,
}

/// How a request failed to be a call, found before the rules were asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestFault {
    /// The body is longer than it may be.
    #[error("the body is too large")]
    BodyTooLarge,
    /// The body did not come in time.
    #[error("the body did not arrive in time")]
    BodyTimeout,
    /// The body broke off.
    #[error("the body broke off")]
    BodyIncomplete,
    /// The content type is not JSON.
    #[error("the content type is not application/json")]
    ContentType,
    /// The body is not the JSON of a call.
    #[error("the body is not a call in JSON (line {line}, column {column})")]
    Json {
        /// Line of the first fault, from 1.
        line: usize,
        /// Column of the first fault, from 1.
        column: usize,
    },
}

impl AuthenticationError {
    /// The code in logs and audit records.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Handshake { .. } => "handshake-failed",
            Self::CertificateIdentity => "certificate-identity",
            Self::TokenMissing => "token-missing",
            Self::TokenMalformed => "token-malformed",
            Self::TokenSignature => "token-signature",
            Self::TokenNotYetValid => "token-not-yet-valid",
            Self::TokenExpired => "token-expired",
            Self::TokenOfOtherIdentity => "token-of-other-identity",
        }
    }
}

impl RequestFault {
    /// The code in logs, audit records and answers.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::BodyTooLarge => "body-too-large",
            Self::BodyTimeout => "body-timeout",
            Self::BodyIncomplete => "body-incomplete",
            Self::ContentType => "content-type",
            Self::Json { .. } => "body-malformed",
        }
    }
}

impl RefusalKind {
    /// The code in logs, metrics and audit records.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unauthenticated(error) => error.code(),
            Self::Malformed(fault) => fault.code(),
            Self::Denied(denial) => denial.code(),
            Self::Busy => "busy",
            Self::OverLimit { shortfall, .. } => over_limit_code(shortfall),
            Self::RightMissing { .. } => "right-missing",
            Self::BudgetUnknown => "budget-unknown",
            Self::BudgetUnavailable => "budget-unavailable",
            Self::ReloadFailed { .. } => "reload-failed",
            Self::ReviewUnknown => "review-unknown",
            Self::ReviewOwn => "review-own",
            Self::ReviewClosed { .. } => "review-closed",
            Self::ReviewWhy => "review-why",
            Self::ReviewUnavailable => "review-unavailable",
            Self::ReviewQueueFull => "review-queue-full",
            Self::ProofUnknown => "proof-unknown",
            Self::CheckpointForeign => "checkpoint-foreign",
            Self::ContextOverflow { .. } => "context-overflow",
            Self::DeadlineExceeded { .. } => "deadline-exceeded",
            Self::ShuttingDown => "shutting-down",
            Self::AuditUnavailable => "audit-unavailable",
            Self::ClientGone => "client-gone",
            Self::EngineStopped => "engine-stopped",
            Self::EngineFailed { code } => code,
            Self::OutputInvalid { .. } => "output-invalid",
            Self::Internal => "internal",
        }
    }

    /// The facts for log and audit record, without a caller's content.
    #[must_use]
    pub fn detail(&self) -> String {
        self.to_string()
    }
}

/// By what helps: waiting for a minute, for a call to end, for a day or month, or nothing but a smaller call.
fn over_limit_code(shortfall: &Shortfall) -> &'static str {
    if shortfall.retry_after_s.is_none() {
        return "call-over-limit";
    }
    match shortfall.limit {
        LimitKey::RequestsPerMinute | LimitKey::TokensPerMinute => "rate-limited",
        LimitKey::ConcurrentCalls => "too-many-calls",
        LimitKey::TokensPerDay | LimitKey::TokensPerMonth => "budget-exhausted",
        LimitKey::PromptTokens => "call-over-limit",
    }
}

impl fmt::Display for RefusalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unauthenticated(error) => error.fmt(f),
            Self::Malformed(fault) => fault.fmt(f),
            Self::Denied(denial) => denial.fmt(f),
            Self::Busy => f.write_str("as many calls are running and waiting as may"),
            Self::OverLimit { account, shortfall } => write!(f, "{account}: {shortfall}"),
            Self::RightMissing { right } => {
                write!(
                    f,
                    "token and policy do not both give the right `{}`",
                    right.as_str()
                )
            }
            Self::BudgetUnknown => f.write_str("the policy gives this account no budget"),
            Self::BudgetUnavailable => f.write_str("the ledger of budgets cannot be used"),
            Self::ReloadFailed { reason } => {
                write!(
                    f,
                    "the rules were not reloaded, the old ones stay in force: {reason}"
                )
            }
            Self::ReviewUnknown => f.write_str("there is no such held output"),
            Self::ReviewOwn => f.write_str("nobody decides on the output of a call of their own"),
            Self::ReviewClosed { status } => write!(f, "the held output is {}", status.as_str()),
            Self::ReviewWhy => write!(f, "a decision needs a reason of 1 to {WHY_BYTES_MAX} bytes"),
            Self::ReviewUnavailable => f.write_str("no output can be held for review"),
            Self::ReviewQueueFull => f.write_str("as many outputs are held for review as may be"),
            Self::ProofUnknown => f.write_str("the ticket is of no such record of this caller"),
            Self::CheckpointForeign => f.write_str("it is no checkpoint of this audit log"),
            Self::ContextOverflow {
                prompt_tokens,
                max_tokens,
                context_tokens,
            } => write!(
                f,
                "{prompt_tokens} prompt tokens and {max_tokens} answer tokens exceed the context of {context_tokens}"
            ),
            Self::DeadlineExceeded { deadline_s } => {
                write!(f, "the call was not done within {deadline_s} s")
            }
            Self::ShuttingDown => f.write_str("the service is shutting down"),
            Self::AuditUnavailable => f.write_str("the audit record could not be written"),
            Self::ClientGone => f.write_str("the client went away"),
            Self::EngineStopped => f.write_str("the engine has stopped"),
            Self::EngineFailed { code } => write!(f, "the engine failed: {code}"),
            Self::OutputInvalid { reason } => {
                write!(f, "the output does not keep to its schema: {reason}")
            }
            Self::Internal => f.write_str("an internal fault ended the call"),
        }
    }
}
