//! What can be wrong with a stored log at one place.
//!
//! Invariant: each reason is a fact that anyone can check who has the files, and says what was found
//! and what must be there. Absent: the place, which the error around it has.

use crate::calls::CallProblem;
use crate::kind::Class;

/// What is wrong with the stored log at one place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// A segment number is not there although a higher one is.
    #[error("the segment is missing")]
    SegmentMissing,
    /// A file ends in `.seg` but is not named by eight digits.
    #[error("the name is not that of a segment (eight digits and .seg)")]
    SegmentName,
    /// A link, a directory or another thing with the name of a segment.
    #[error("it is not a regular file")]
    NotAFile,
    /// The file does not begin as a segment does.
    #[error("the file does not begin with the magic bytes of a segment")]
    Magic,
    /// The format's version is not known.
    #[error("format version {found} is not known, this reader knows version {known}{}", version_advice(*.found))]
    Version {
        /// The version in the file.
        found: u32,
        /// The version of this reader.
        known: u32,
    },
    /// The header's length is out of bounds.
    #[error("the header claims {found} bytes, more than {max}")]
    HeaderLength {
        /// The claimed length in bytes.
        found: u32,
        /// The bound in bytes.
        max: u32,
    },
    /// The header's hash is wrong.
    #[error("the header's bytes do not have the stored hash")]
    HeaderHash,
    /// The header has the right hash but does not read.
    #[error("the header does not read: {detail}")]
    HeaderBody {
        /// What the parser says.
        detail: String,
    },
    /// The key area's length is out of bounds.
    #[error("the header claims {found} bytes of wrapped keys, more than {max}")]
    KeyAreaLength {
        /// The claimed length in bytes.
        found: u32,
        /// The bound in bytes.
        max: u32,
    },
    /// A wrapped key is not the one that the header names.
    #[error("the wrapped key of {class} is not the one that the header names")]
    WrappedKey {
        /// Whose key.
        class: Class,
    },
    /// The header's tree is not that of the records before.
    #[error(
        "the header's tree has {found} leaves or other hashes than the tree of the {expected} records before"
    )]
    Tree {
        /// Records before this segment.
        expected: u64,
        /// From the header.
        found: u64,
    },
    /// The segment is signed by another key than those before, or than was asked for.
    #[error("this segment is signed by {found}, but must be by {expected}")]
    Signer {
        /// The key that must sign.
        expected: String,
        /// From the header.
        found: String,
    },
    /// The header names another segment than the file's name.
    #[error("the header belongs to segment {found}, not {expected}")]
    SegmentNumber {
        /// From the file's name.
        expected: u32,
        /// From the header.
        found: u32,
    },
    /// The segment does not go on where the one before ends.
    #[error(
        "the segment begins at record {found}, but the one before ends with record {expected} to come"
    )]
    FirstIndex {
        /// Next index after the segment before.
        expected: u64,
        /// From the header.
        found: u64,
    },
    /// The segment follows another history than the one before.
    #[error("the segment follows head {found}, but the one before ends with {expected}")]
    PreviousHead {
        /// Head of the segment before, lower-case hex.
        expected: String,
        /// From the header, lower-case hex.
        found: String,
    },
    /// The file ends within its header or, where others follow it, within a record.
    #[error("the file ends within a header or record that {missing} more bytes would complete")]
    EndsWithin {
        /// How many bytes are missing at least.
        missing: u64,
    },
    /// The last segment ends as a write that was broken off would leave it. Opening the log for
    /// writing would cut these bytes and record the cut.
    #[error(
        "the last {bytes} bytes are a torn write, as a kill, a power loss or a write in progress leaves it"
    )]
    TornTail {
        /// How many bytes follow the last signature.
        bytes: u64,
    },
    /// The two copies of a record's length differ.
    #[error("the two copies of the record's length contradict each other")]
    LengthCopies,
    /// A record's length is out of bounds.
    #[error("the record claims {found} bytes, but must have from 1 to {max}")]
    RecordLength {
        /// The claimed length in bytes.
        found: u32,
        /// The bound in bytes.
        max: u32,
    },
    /// The record's hash does not follow from its bytes and the head before.
    #[error("the record's bytes and the head before give {computed}, but {stored} is stored")]
    RecordHash {
        /// Computed head, lower-case hex.
        computed: String,
        /// Stored head, lower-case hex.
        stored: String,
    },
    /// The frame is of a kind that does not exist.
    #[error("a frame of kind {found} is not known")]
    FrameKind {
        /// From the frame.
        found: u8,
    },
    /// The frame is shorter than its kind needs, or longer.
    #[error("a frame of kind {kind} cannot have {found} bytes")]
    FrameBytes {
        /// From the frame.
        kind: u8,
        /// Length of its body in bytes.
        found: usize,
    },
    /// The sealing counter did not go up, so that a nonce could have been used twice.
    #[error("the record has sealing counter {found}, which must be greater than {before}")]
    Counter {
        /// Counter of the sealing before.
        before: u64,
        /// From the record.
        found: u64,
    },
    /// The segment ends with something that nobody signed, although each write ends with a signature.
    #[error("the file ends without a signature over what stands before")]
    NotSigned,
    /// What stands before this signature is not what the log's key signed.
    #[error(
        "the signature is not that of the log's key over the bytes before: since the signature before, they were altered or written by somebody else"
    )]
    Signature,
    /// The checkpoint has the right hash but is none of this log's signer.
    #[error("the checkpoint does not hold: {detail}")]
    Checkpoint {
        /// What is wrong with the note.
        detail: String,
    },
    /// The checkpoint is well signed, but the records before it give another tree.
    #[error("a checkpoint of {size} records has root {expected}, but the records give {found}")]
    CheckpointRoot {
        /// How many records the checkpoint covers.
        size: u64,
        /// Its root, lower-case hex.
        expected: String,
        /// Root of the tree over as many records of this log, lower-case hex.
        found: String,
    },
    /// The checkpoint stands at another place than it says.
    #[error("the checkpoint covers {found} records, but stands after {expected}")]
    CheckpointPlace {
        /// Records before it.
        expected: u64,
        /// From the note.
        found: u64,
    },
    /// The log ends before the records that an outside checkpoint covers.
    #[error("the log ends here, but a checkpoint covers {expected} records")]
    CheckpointMissing {
        /// Size of the checkpoint.
        expected: u64,
    },
    /// The log ends before the records that the checkpoint beside its segments covers.
    #[error(
        "the log ends here, but the checkpoint in its own folder covers {kept} records: its end was cut off, or the folder was copied while it was being written"
    )]
    CutOff {
        /// Size of that checkpoint.
        kept: u64,
    },
    /// Content is gone, and nothing in the log says that it was to go.
    #[error(
        "content of {class} in segment {segment} is gone, and no later record says that it expired"
    )]
    ExpiredUnrecorded {
        /// The segment.
        segment: u32,
        /// What of it is gone.
        class: Class,
    },
    /// A record says that content of a segment expired that was not finished.
    #[error("the record expires content of segment {segment}, which is not finished")]
    ExpiredUnfinished {
        /// The segment.
        segment: u32,
    },
    /// In one segment, content of one class is partly gone, or its key is and it is not.
    #[error("content of {class} in this segment is destroyed in part")]
    ExpiredPartly {
        /// What of it.
        class: Class,
    },
    /// The content is not what was sealed: another key, or altered before it was hashed.
    #[error("the content does not open with its segment's key: {detail}")]
    Content {
        /// What the cryptography says.
        detail: String,
    },
    /// Clear part and content of a record contradict each other.
    #[error("the clear part says {clear}, but the content {content}")]
    ClearPart {
        /// What the clear part says.
        clear: String,
        /// What the content says.
        content: String,
    },
    /// The record has the right hash but does not read.
    #[error("the record does not read: {detail}")]
    RecordBody {
        /// What the parser says.
        detail: String,
    },
    /// The record carries another index than its place.
    #[error("the record carries index {found}")]
    RecordIndex {
        /// From the record.
        found: u64,
    },
    /// The record does not fit the calls in flight.
    #[error("the entry of call {request_id} does not fit: {problem}")]
    Call {
        /// The call.
        request_id: String,
        /// What is wrong with it.
        problem: CallProblem,
    },
    /// There is not one record in the log, although every log begins with one.
    #[error("the log holds no record")]
    NoRecords,
    /// The log ends before the record that a receipt names.
    #[error("the log ends here, but a receipt names record {expected}")]
    ReceiptMissing {
        /// Index of the receipt.
        expected: u64,
    },
    /// The record is not the one that a receipt names.
    #[error("the record's head is {found}, but its receipt says {expected}")]
    ReceiptHead {
        /// Head of the receipt, lower-case hex.
        expected: String,
        /// Head of the record, lower-case hex.
        found: String,
    },
    /// The record has the head that a receipt names, and another leaf hash.
    #[error("the record's leaf hash is {found}, but its receipt says {expected}")]
    ReceiptLeaf {
        /// Leaf hash of the receipt, lower-case hex.
        expected: String,
        /// Leaf hash of the record, lower-case hex.
        found: String,
    },
}

fn version_advice(found: u32) -> &'static str {
    if found == 1 {
        ": it was written by an older Postern; move the log's folder away"
    } else {
        ""
    }
}
