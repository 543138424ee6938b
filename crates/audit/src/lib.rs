//! Remembers every call in an append-only log that proves itself.
//!
//! [`AuditLog`] writes: an entry is on the disk when [`AuditLog::append`] returns, so a caller who
//! appends before it acts never acts unrecorded. Contents are sealed to auditors, and the writer
//! cannot read them again. [`read`] and [`verify`] need nothing but the files, [`read_with`] an
//! auditor's identity. The on-disk format is described in `FORMAT.md`, beside this crate's manifest.
//!
//! | module | knows |
//! |---|---|
//! | `entry`, `refused_more`, `kind` | what records say, of which types and classes they are |
//! | `encoding` | entries as canonical JSON |
//! | `clear` | what of a record is never sealed |
//! | `seal` | data keys, sealed contents, auditors |
//! | `chain`, `merkle` | hashes in a row, hashes in a tree, proofs |
//! | `checkpoint`, `signature` | signed notes over the tree, signatures over the chain |
//! | `segment` | names, headers, frames, durable files |
//! | `source`, `header`, `scan` | reading and judging one segment |
//! | `history` | what frames say about each other; the same rules for verifier and recovery |
//! | `calls`, `clock` | which calls are open, which clocks were set back |
//! | `walk`, `kept` | all segments in order, and the checkpoint beside them |
//! | `content`, `reader` | reading what records say |
//! | `verify`, `proof`, `leaves` | verifying a log, proofs from it, and the leaf hashes for them |
//! | `document` | proofs as JSON |
//! | `scribe` | making headers, records and checkpoints |
//! | `composer`, `group` | records in their order, and those that share a write |
//! | `writer` | write, sync, cut back, rotate |
//! | `disk` | whether there is room for more calls |
//! | `retention`, `expiry` | which content has to go, and how it is destroyed |
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
//! with its place. Absent: network, async, and any other crate of this workspace.

mod calls;
mod chain;
mod checkpoint;
mod clear;
mod clock;
mod composer;
mod config;
mod content;
mod cursor;
mod disk;
mod document;
mod encoding;
mod entry;
mod error;
mod expiry;
mod export;
mod filter;
mod group;
mod header;
mod history;
mod in_flight;
mod kept;
mod key_file;
mod kind;
mod leaves;
mod lock;
mod log;
mod merkle;
mod outcome_kind;
mod presence;
mod proof;
mod reader;
mod record;
mod recovery;
mod refused_more;
mod retention;
mod scan;
mod scribe;
mod seal;
mod segment;
mod signature;
mod source;
mod stats;
mod verdict;
mod verify;
mod walk;
mod whole_calls;
mod writer;

pub use calls::{CallProblem, OPEN_CALLS_MAX, OpenCall};
pub use checkpoint::{
    Checkpoint, KEY_NAME_BYTES_MAX, KeyError, KeyName, NOTE_BYTES_MAX, NOTE_SIGNATURES_MAX,
    NoteError, SigningKey, VerifierKey,
};
pub use clock::{CLOCK_STEPS_MAX, ClockStep};
pub use config::{
    AuditConfig, CHECKPOINT_RECORDS_LIMIT, CHECKPOINT_SECONDS_LIMIT, DiskFull, Hold, Keep,
    RECORD_BYTES_FLOOR, RECORD_BYTES_LIMIT, Retention, SEGMENT_BYTES_FLOOR, SEGMENT_BYTES_LIMIT,
};
pub use content::Content;
pub use cursor::{CURSOR_BYTES_MAX, Cursor, Delivery, Mark};
pub use document::ProofDocument;
pub use entry::{
    Administered, Admitted, BUDGETS_MAX, BudgetUse, Completed, Cut, DETAIL_BYTES_MAX, Entry,
    Expired, ModelRef, NAME_BYTES_MAX, OUTPUT_BYTES_MAX, Outcome, Parameters, REASONS_MAX,
    REDACTIONS_MAX, REQUEST_ID_BYTES_MAX, RULES_MAX, RedactionCount, Refused, TemplateRef, Timings,
    Usage, VARIABLES_MAX,
};
pub use error::{AuditError, CursorProblem, Displacement, EntryProblem, Reason};
pub use export::{Exporter, Format};
pub use filter::{Criteria, Filter};
pub use key_file::KeyFileError;
pub use kind::{Class, EntryType};
pub use log::{APPENDS_WAITING_MAX, AuditLog, Receipt, Recovery};
pub use merkle::{
    ConsistencyProof, EMPTY_ROOT, Frontier, Hash, InclusionProof, Nodes, PATH_HASHES_MAX,
    ProofError, leaf_hash, node_hash,
};
pub use outcome_kind::{OutcomeKind, OutcomePattern};
pub use proof::{consistency_proof, inclusion_proof};
pub use reader::{Reader, Stored, read, read_with};
pub use record::Record;
pub use refused_more::{REFUSAL_CODES_MAX, RefusalCount, RefusedMore};
pub use seal::{
    DataKey, IDENTITIES_MAX, Identities, RECIPIENTS_MAX, Recipients, SEAL_TAG_BYTES, SealError,
    WRAPPED_KEY_BYTES_MAX,
};
pub use stats::{
    Collector, Count, Counts, DAYS_MAX, DURATION_US_MAX, Day, DayFigures, Distribution, Latency,
    NAMES_MAX, RELATIVE_ERROR_MAX, REVIEWS_PENDING_MAX, ReviewFigures, Stats, Totals, Unread,
    UsageFigures, UsageOfName, Usages,
};
pub use verdict::{REVIEW_APPROVED, REVIEW_READ, REVIEW_REJECTED};
pub use verify::{
    Verified, VerifiedCheckpoint, Witness, signer, verify, verify_against, verify_with,
};
pub use whole_calls::{Call, CallEnd, Calls, EndManner, Event, OPEN_CALLS_BYTES_MAX};
