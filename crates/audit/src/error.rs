//! Everything that can go wrong with the log.
//!
//! Invariant: an error that concerns the disk names the file, and one that concerns the log's
//! contents also names offset and index.

mod reason;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::calls::CallProblem;
use crate::merkle::ProofError;
use crate::outcome_kind::OutcomeKind;

pub use reason::Reason;

/// What went wrong. Cloneable, because one failed write answers every append that shared it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuditError {
    /// A configured bound is out of its range.
    #[error("audit.{field} is {found}, but must be from {min} to {max}; correct the configuration")]
    Config {
        /// The field, as it is written in the configuration.
        field: &'static str,
        /// Its value.
        found: u64,
        /// Smallest allowed value.
        min: u64,
        /// Largest allowed value.
        max: u64,
    },
    /// The origin cannot be the name of a key.
    #[error("audit.origin is {found:?}: {detail}; correct the configuration")]
    Origin {
        /// Its value.
        found: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Nothing says how content is to be written.
    #[error(
        "no auditor's public key is configured, so nobody could ever read the audit log; make one with `age-keygen` and name its public half in audit.recipients, or say audit.plaintext = true to write content for all to read who have the files"
    )]
    NoRecipients,
    /// The configuration says both that content is sealed and that it is not.
    #[error("audit.plaintext = true contradicts audit.recipients; remove one of them")]
    PlaintextWithRecipients,
    /// A configured public key does not read.
    #[error(
        "audit.recipients does not read: {detail}; each is a public key as `age-keygen` prints it"
    )]
    Recipients {
        /// What the parser says.
        detail: String,
    },
    /// The signing key's file cannot be read, made or understood.
    #[error("the audit log's signing key {path} cannot be used: {detail}")]
    SigningKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The signing key or the origin is not the one that the log began with.
    #[error(
        "the audit log {dir} is signed by {expected}, but this device now signs as {found}; put the old key file and origin back, or move the log's folder away and begin a new log"
    )]
    OtherSigner {
        /// Directory of the log.
        dir: PathBuf,
        /// Verifier key in the log's headers.
        expected: String,
        /// Verifier key of the configured signing key.
        found: String,
    },
    /// A checkpoint or a verifier key that was handed in is of no use for this log.
    #[error("the {what} that was given is not usable: {detail}")]
    Witness {
        /// What was given.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// A proof cannot be made.
    #[error("no proof: {0}")]
    Proof(#[from] ProofError),
    /// Sealing failed; nothing was written.
    #[error("the entry was not recorded: it cannot be sealed: {detail}")]
    Seal {
        /// What the cryptography says.
        detail: String,
    },
    /// A file operation failed, and nothing of the log was changed by it.
    #[error("cannot {action} {path}: {source}; check that it exists, its owner and its room")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: Arc<io::Error>,
    },
    /// Another writer has the log open.
    #[error(
        "the audit log {dir} is already open for writing{}; stop that process or use another directory",
        holder.map_or_else(String::new, |pid| format!(" in process {pid}"))
    )]
    Locked {
        /// Directory of the log.
        dir: PathBuf,
        /// Process id of the writer, where its lock file tells it.
        holder: Option<u32>,
    },
    /// Others than its owner may write to the directory, so they could remove or plant segments.
    #[error(
        "the audit log's folder {dir} has mode {mode:04o}: others than its owner could change the log; run `chmod 700 {dir}` if it is meant for the log alone, else name another folder"
    )]
    WritableDirectory {
        /// Directory of the log.
        dir: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The directory belongs to another user, who could remove or plant segments.
    #[error(
        "the audit log's folder {dir} belongs to user {owner}, but this process runs as user {user}; run `chown {user} {dir}`, run as its owner, or name another folder"
    )]
    ForeignDirectory {
        /// Directory of the log.
        dir: PathBuf,
        /// User id of its owner.
        owner: u32,
        /// Effective user id of this process.
        user: u32,
    },
    /// The directory holds no log.
    #[error("{dir} holds no audit log (no segment file); check the path")]
    NoLog {
        /// The directory.
        dir: PathBuf,
    },
    /// The stored log is not what was written. Never repaired.
    #[error(
        "the audit log is broken in {file} at byte {offset}, record {index}: {reason}; keep the directory as evidence"
    )]
    Broken {
        /// The segment file.
        file: PathBuf,
        /// Byte offset in the file where the damaged part begins.
        offset: u64,
        /// Index of the record that is damaged, or would stand there.
        index: u64,
        /// What is wrong with it.
        reason: Reason,
    },
    /// The entry breaks a bound or a form; nothing was written.
    #[error("the entry was not recorded: its field {field} {problem}")]
    InvalidEntry {
        /// Path of the field.
        field: &'static str,
        /// What is wrong with it.
        problem: EntryProblem,
    },
    /// The entry is well-formed, but does not fit the calls in flight; nothing was written.
    #[error("the entry of call {request_id} was not recorded: {problem}")]
    Call {
        /// The call.
        request_id: String,
        /// What is wrong with it.
        problem: CallProblem,
    },
    /// The record would be too long; nothing was written.
    #[error(
        "the entry was not recorded: its record has {found} bytes, audit.record-bytes-max is {max}"
    )]
    RecordTooLarge {
        /// Length of the record's body in bytes.
        found: u64,
        /// The configured bound in bytes.
        max: u64,
    },
    /// Too many appends wait for the disk; nothing was written.
    #[error("the entry was not recorded: {max} others wait for the disk already; try again later")]
    Busy {
        /// The bound.
        max: usize,
    },
    /// The disk is nearly full, so no call is admitted; what is no call can still be recorded.
    #[error(
        "the call was not recorded: the audit log's disk has {free} bytes free, less than audit.disk-free-bytes-min = {min}; make room, shorten audit.retention, or say audit.disk-full = \"expire\""
    )]
    DiskNearlyFull {
        /// Free room in bytes.
        free: u64,
        /// The configured bound in bytes.
        min: u64,
    },
    /// The write failed. The file was cut back to its last whole record; a later append can work.
    #[error(
        "the entry was not recorded: cannot {action} {path}: {source}; make room, then try again"
    )]
    Write {
        /// What was being done.
        action: &'static str,
        /// The segment file.
        path: PathBuf,
        /// The system's reason.
        source: Arc<io::Error>,
    },
    /// A write failed in a way that leaves unknown what is on the disk. The log refuses every
    /// append until it is opened again, which reads the disk and recovers.
    #[error(
        "the audit log has stopped: cannot {action} {path}: {source}; check the disk, then restart the daemon"
    )]
    Stopped {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: Arc<io::Error>,
    },
    /// The open log is not where it was opened, or not as it was written. Nothing of the entry was
    /// written, and the log refuses every append until it is opened again.
    #[error(
        "the audit log has stopped and the entry was not recorded: {path} {found}; put the log's own files back or keep what is left as evidence, verify it with the newest receipt, then restart the daemon"
    )]
    Displaced {
        /// The segment file, or the log's directory.
        path: PathBuf,
        /// What was found there.
        found: Displacement,
    },
    /// What was to be looked for is no outcome.
    #[error(
        "`{found}` is no outcome; write one of {}, and a code only after refused, held, failed, administered or expired, as in `refused:token-expired`",
        OutcomeKind::ALL.map(OutcomeKind::as_str).join(", ")
    )]
    OutcomePattern {
        /// The text.
        found: String,
    },
    /// The name of a form of export is not known.
    #[error("`{found}` is no form of export; write jsonl, ocsf or ecs")]
    Format {
        /// The name.
        found: String,
    },
    /// What was delivered is remembered in a way that does not fit the log, or not at all.
    #[error("cannot go on with the delivery that {path} remembers: {problem}")]
    Cursor {
        /// The cursor's file.
        path: PathBuf,
        /// What is wrong with it.
        problem: CursorProblem,
    },
}

impl AuditError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source: Arc::new(source),
        }
    }
}

/// What was found in place of a file or directory that the open log writes.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Displacement {
    /// Nothing: it was removed or moved.
    #[error("is gone: it was removed or moved")]
    Gone,
    /// Another file or directory with the same name.
    #[error("was replaced: it is not what this log opened")]
    Replaced,
    /// The segment file can be changed under another name, too.
    #[error("has {links} names (hard links), but must have one")]
    Linked {
        /// How many names it has.
        links: u64,
    },
    /// The segment file was cut, or something was appended to it.
    #[error("has {found} bytes, but this log wrote {expected}")]
    Length {
        /// What was written, in bytes.
        expected: u64,
        /// What is there, in bytes.
        found: u64,
    },
    /// It cannot be told what is there.
    #[error("cannot be looked at: {source}")]
    Hidden {
        /// The system's reason.
        source: Arc<io::Error>,
    },
}

/// Why a cursor cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CursorProblem {
    /// Another process delivers with it.
    #[error("another process uses it; stop that process, or name another file")]
    InUse,
    /// It is a link, a directory or another thing.
    #[error("it is not a regular file; name another file")]
    NotAFile,
    /// It is longer than any cursor.
    #[error("it has more than {max} bytes, so it is not a cursor; name another file")]
    TooLong {
        /// The bound in bytes.
        max: u64,
    },
    /// It does not read as a cursor.
    #[error(
        "it does not read as a cursor ({detail}); name another file, or remove it to deliver the log from its beginning"
    )]
    Malformed {
        /// What the parser says.
        detail: String,
    },
    /// The log holds another history than the one that was delivered.
    #[error(
        "record {index} has the head {found} now, but {expected} when it was delivered; verify the log, and keep both as evidence"
    )]
    OtherHistory {
        /// Index of the record that was delivered last.
        index: u64,
        /// Its head when it was delivered, lower-case hex.
        expected: String,
        /// Its head now, lower-case hex.
        found: String,
    },
    /// The log ends before the record that was delivered last.
    #[error(
        "record {index} was delivered, but the log has only {records} records now; verify the log, and keep both as evidence"
    )]
    LogShorter {
        /// Index of the record that was delivered last.
        index: u64,
        /// How many records the log has.
        records: u64,
    },
    /// Records are told out of their order.
    #[error(
        "record {expected} should come next, but {found} came; read the log from its beginning"
    )]
    OutOfOrder {
        /// Index of the record that should come.
        expected: u64,
        /// Index of the record that came.
        found: u64,
    },
}

/// What is wrong with a field of an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryProblem {
    /// Nothing in it.
    #[error("is empty")]
    Empty,
    /// Too many bytes.
    #[error("has {found} bytes, more than {max}")]
    TooLong {
        /// Its length in bytes.
        found: usize,
        /// The bound in bytes.
        max: usize,
    },
    /// Too many elements.
    #[error("has {found} elements, more than {max}")]
    TooMany {
        /// Number of elements.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// Not a request id.
    #[error("must be letters, digits, '-', '_' and '.'")]
    RequestId,
    /// Not a SHA-256.
    #[error("must be 64 lower-case hexadecimal digits")]
    Digest,
    /// Infinite or not a number.
    #[error("must be a finite number")]
    NotFinite,
    /// Only the log itself writes this kind of entry.
    #[error("names a kind of entry that only the log itself writes")]
    Reserved,
}
