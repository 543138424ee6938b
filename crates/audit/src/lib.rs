//! Remembers every call in an append-only, hash-chained log.
//!
//! [`AuditLog`] writes: an entry is on the disk when [`AuditLog::append`] returns, so a caller who
//! appends before it acts never acts unrecorded. [`read`] and [`verify`] need nothing but the
//! files. The on-disk format is described in `FORMAT.md`, beside this crate's manifest.
//!
//! | module | knows |
//! |---|---|
//! | `entry` | what records say |
//! | `encoding` | records as canonical JSON |
//! | `chain` | hashes |
//! | `segment` | names, headers, frames, durable files |
//! | `scan`, `walk` | reading and judging one segment, all segments |
//! | `calls` | which calls are open; the same rules for writer and verifier |
//! | `reader` | the public side of reading |
//! | `writer` | group, write, sync, cut back, rotate |
//! | `presence` | whether the open files still are the log |
//! | `recovery`, `lock` | opening for writing |
//! | `log` | threads that append |
//! | `record`, `outcome_kind`, `verdict` | records as reports see them |
//! | `whole_calls`, `in_flight` | what belongs to one call, in bounded memory |
//! | `filter` | what a query is about |
//! | `export` | records as lines of JSON, for other systems |
//! | `cursor` | how far a log was delivered elsewhere |
//! | `stats` | figures, as JSON, as text and as a page |
//!
//! Invariant: nothing is repaired silently; what is not a torn write at the very end is refused
//! with its place. Absent: network, async, keys, and any other crate of this workspace.

mod calls;
mod chain;
mod config;
mod cursor;
mod encoding;
mod entry;
mod error;
mod export;
mod filter;
mod in_flight;
mod lock;
mod log;
mod outcome_kind;
mod presence;
mod reader;
mod record;
mod recovery;
mod scan;
mod segment;
mod stats;
mod verdict;
mod walk;
mod whole_calls;
mod writer;

pub use calls::{CallProblem, OPEN_CALLS_MAX, OpenCall};
pub use config::{
    AuditConfig, RECORD_BYTES_FLOOR, RECORD_BYTES_LIMIT, SEGMENT_BYTES_FLOOR, SEGMENT_BYTES_LIMIT,
};
pub use cursor::{CURSOR_BYTES_MAX, Cursor, Delivery, Mark};
pub use entry::{
    Administered, Admitted, BUDGETS_MAX, BudgetUse, Completed, Cut, DETAIL_BYTES_MAX, Entry,
    ModelRef, NAME_BYTES_MAX, Outcome, Parameters, REASONS_MAX, REDACTIONS_MAX,
    REQUEST_ID_BYTES_MAX, RULES_MAX, RedactionCount, Refused, TemplateRef, Timings, Usage,
    VARIABLES_MAX,
};
pub use error::{AuditError, CursorProblem, Displacement, EntryProblem, Reason};
pub use export::{Exporter, Format};
pub use filter::{Criteria, Filter};
pub use log::{APPENDS_WAITING_MAX, AuditLog, Receipt, Recovery};
pub use outcome_kind::{OutcomeKind, OutcomePattern};
pub use reader::{Reader, Stored, Verified, read, verify, verify_with};
pub use record::Record;
pub use stats::{
    Collector, Count, Counts, DAYS_MAX, DURATION_US_MAX, Day, DayFigures, Distribution, Latency,
    NAMES_MAX, RELATIVE_ERROR_MAX, REVIEWS_PENDING_MAX, ReviewFigures, Stats, Totals, UsageFigures,
    UsageOfName, Usages,
};
pub use verdict::{REVIEW_APPROVED, REVIEW_REJECTED};
pub use whole_calls::{Call, CallEnd, Calls, EndManner, Event, OPEN_CALLS_BYTES_MAX};
