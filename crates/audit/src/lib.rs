//! Remembers every call in an append-only, hash-chained log.
mod calls;
mod config;
mod entry;
mod error;
mod log;
mod reader;

pub use calls::{CallProblem, OPEN_CALLS_MAX, OpenCall};
pub use config::{
    AuditConfig, RECORD_BYTES_FLOOR, RECORD_BYTES_LIMIT, SEGMENT_BYTES_FLOOR, SEGMENT_BYTES_LIMIT,
};
pub use entry::{
    Admitted, Completed, Cut, DETAIL_BYTES_MAX, Entry, ModelRef, NAME_BYTES_MAX, Outcome,
    Parameters, REDACTIONS_MAX, REQUEST_ID_BYTES_MAX, RedactionCount, Refused, TemplateRef,
    Timings, Usage, VARIABLES_MAX,
};
pub use error::{AuditError, EntryProblem, Reason};
pub use log::{AuditLog, Receipt, Recovery};
pub use reader::{Reader, Stored, Verified, read, verify, verify_with};
