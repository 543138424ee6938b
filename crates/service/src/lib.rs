//! The one ordered path of a call, and the only place that starts a generation.
//!
//! ```text
//! authenticate -> governance::decide -> capacity -> tokens reserved (on disk)
//!   -> audit Admitted (on disk) -> engine.submit -> OutputFilter over the stream
//!   -> tokens settled -> audit Completed (on disk) -> Answer
//! ```
//!
//! Each call runs along this line on one blocking thread, so the order can be
//! read in `path.rs` from top to bottom; async is only the edge. Invariants:
//!
//! - No token is generated before the admission is on disk, nor before what it may use is reserved.
//! - No answer is reported as done before its last record is on disk.
//! - Every refusal leaves one record, every admission exactly one last record. Of those who did not prove who
//!   they are, no more than so many a minute have one each; the others are counted in one.
//! - Which model answers is on disk before it does.
//! - No secret, token, variable or generated text reaches a log line or a metric.
//!
//! Absent here: HTTP, TLS and any text meant for callers of the API; those are
//! the server's.

mod administration;
mod authentication;
mod budget_reports;
mod budgets;
mod call;
mod clock;
mod config;
mod error;
mod ledger;
mod metrics;
mod path;
mod progress;
mod proofs;
mod record;
mod refusal;
mod reload;
mod request_id;
mod requester;
mod review;
mod service;
mod strangers;
mod token;
mod translate;

pub use administration::{AdministrationError, BudgetChange, BudgetChanged, change_budget};
pub use budget_reports::{BudgetReport, SpendingReport};
pub use call::{
    Answer, AnswerEnd, AnswerRedaction, AnswerSource, AnswerTimings, AnswerUsage, AuditReceipt,
    Call, CallEvent, CallStream, Caller, ModelSummary, TemplateSummary, VariableSummary,
};
pub use clock::Clock;
pub use config::{CALLS_MAX_LIMIT, DEADLINE_S_LIMIT, ServiceConfig};
pub use error::ServiceError;
pub use ledger::{Ledger, LedgerError, LedgerRecovery};
pub use postern_audit::ProofDocument;
pub use refusal::{AuthenticationError, Refusal, RefusalKind, RequestFault};
pub use reload::Reloaded;
pub use request_id::{RequestId, RequestIdInvalid};
pub use requester::Requester;
pub use review::{
    Decided, Held, ReasonReport, ReviewDecision, ReviewReport, ReviewStatus, WHY_BYTES_MAX,
};
pub use service::{NotReady, Service};
pub use strangers::STRANGERS_RECORDED_MAX;
pub use token::{
    CLOCK_LEEWAY, TOKEN_BYTES_MAX, TOKEN_TEMPLATES_MAX, TOKEN_TTL_MAX, TokenClaims, TokenKey, issue,
};

pub use postern_governance::{
    Account, Adjustment, Denial, DenialClass, Identity, LimitKey, Limits, Right, Shortfall, Source,
    TemplateId,
};
