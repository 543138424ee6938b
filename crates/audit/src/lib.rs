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
//! | `merkle` | the tree over the records, and proofs |
//! | `checkpoint` | signed notes over the tree's root, and the key that signs them |
//! | `seal`, `key_file` | contents that only auditors can read; files of keys |
//! | `segment` | names, headers, frames, durable files |
//! | `scan`, `walk` | reading and judging one segment, all segments |
//! | `calls` | which calls are open; the same rules for writer and verifier |
//! | `reader` | the public side of reading |
//! | `writer` | group, write, sync, cut back, rotate |
//! | `presence` | whether the open files still are the log |
//! | `recovery`, `lock` | opening for writing |
//! | `log` | threads that append |
//!
//! Invariant: nothing is repaired silently; what is not a torn write at the very end is refused
//! with its place. Absent: network, async, and any other crate of this workspace.

mod calls;
mod chain;
mod checkpoint;
mod config;
mod encoding;
mod entry;
mod error;
mod key_file;
mod lock;
mod log;
mod merkle;
mod presence;
mod reader;
mod recovery;
mod scan;
mod seal;
mod segment;
mod walk;
mod writer;

pub use calls::{CallProblem, OPEN_CALLS_MAX, OpenCall};
pub use checkpoint::{
    Checkpoint, KEY_NAME_BYTES_MAX, KeyError, KeyName, NOTE_BYTES_MAX, NOTE_SIGNATURES_MAX,
    NoteError, SigningKey, VerifierKey,
};
pub use config::{
    AuditConfig, RECORD_BYTES_FLOOR, RECORD_BYTES_LIMIT, SEGMENT_BYTES_FLOOR, SEGMENT_BYTES_LIMIT,
};
pub use entry::{
    Administered, Admitted, BUDGETS_MAX, BudgetUse, Completed, Cut, DETAIL_BYTES_MAX, Entry,
    ModelRef, NAME_BYTES_MAX, Outcome, Parameters, REASONS_MAX, REDACTIONS_MAX,
    REQUEST_ID_BYTES_MAX, RULES_MAX, RedactionCount, Refused, TemplateRef, Timings, Usage,
    VARIABLES_MAX,
};
pub use error::{AuditError, Displacement, EntryProblem, Reason};
pub use key_file::KeyFileError;
pub use log::{APPENDS_WAITING_MAX, AuditLog, Receipt, Recovery};
pub use merkle::{
    ConsistencyProof, EMPTY_ROOT, Frontier, Hash, InclusionProof, Nodes, PATH_HASHES_MAX,
    ProofError, leaf_hash, node_hash,
};
pub use reader::{Reader, Stored, Verified, read, verify, verify_with};
pub use seal::{
    DataKey, IDENTITIES_MAX, Identities, RECIPIENTS_MAX, Recipients, SEAL_TAG_BYTES, SealError,
    WRAPPED_KEY_BYTES_MAX,
};
