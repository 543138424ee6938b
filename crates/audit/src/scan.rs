//! Reads one segment and judges each byte of it.
//!
//! Invariant: a frame is handed out only if its hash follows from its bytes and all bytes before, and
//! a signature follows it. Damage is called torn only after the last signature of the last segment,
//! and only in a form that a broken-off write leaves: whole frames, then the file ends within a
//! frame, or is zero from somewhere in it to the end, as a file system leaves blocks it never wrote.
//! Nobody was answered about such frames. Everything else is broken.
//! Absent: any write, any key; what one frame means for the others, which is `history`'s. Memory
//! is one frame, whatever the file's length.

use std::path::{Path, PathBuf};

use crate::chain::{
    HASH_BYTES, Head, checkpoint_digest, content_digest, hex, record_leaf, signature_digest,
};
use crate::clear::{
    CLEAR_BYTES, Clear, KIND_CHECKPOINT, KIND_EXPIRED, KIND_RECORD, KIND_SIGNATURE,
};
use crate::config::RECORD_BYTES_LIMIT;
use crate::entry::Cut;
use crate::error::{AuditError, Reason};
use crate::header::{HeaderError, SegmentHeader, Tip, read_header};
use crate::merkle::Hash;
use crate::segment::{FRAME_BYTES, FRAME_PREFIX_BYTES};
use crate::signature::{SIGNATURE_BODY_BYTES, SIGNATURE_BYTES, SIGNATURE_FRAME_BYTES};
use crate::source::{Source, SourceError};

/// Bytes of a checkpoint's frame before the note: kind, wall time, monotonic time.
pub(crate) const CHECKPOINT_PREFIX_BYTES: usize = 17;
const EXPIRED_BYTES: usize = CLEAR_BYTES + HASH_BYTES;

/// A record whose place in the chain is verified.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) clear: Clear,
    /// Where its frame begins in the segment, in bytes.
    pub(crate) offset: u64,
    pub(crate) head: Head,
    pub(crate) leaf: Hash,
    /// Whether its content is there.
    pub(crate) has_content: bool,
    /// Length of its frame.
    pub(crate) bytes: u64,
}

/// A checkpoint whose place in the chain is verified, and not yet its signature.
#[derive(Clone, Debug)]
pub(crate) struct StoredNote {
    /// Where its frame begins in the segment, in bytes.
    pub(crate) offset: u64,
    pub(crate) wall_us: i64,
    pub(crate) monotonic_us: u64,
    pub(crate) text: String,
}

/// A signature whose place in the chain is verified, and not yet itself.
#[derive(Clone, Debug)]
pub(crate) struct StoredSignature {
    /// Where its frame begins in the segment, in bytes.
    pub(crate) offset: u64,
    /// The head that it signs.
    pub(crate) head: Head,
    pub(crate) bytes: [u8; SIGNATURE_BYTES],
}

/// What stands next in a segment.
#[derive(Debug)]
pub(crate) enum Frame {
    Record(Record),
    Checkpoint(StoredNote),
    Signature(StoredSignature),
    Torn(Cut),
    End,
}

/// Where a segment has to go on from.
#[derive(Clone, Debug)]
pub(crate) struct Joint {
    pub(crate) segment: u32,
    pub(crate) tip: Tip,
}

/// One segment, read from its beginning.
#[derive(Debug)]
pub(crate) struct SegmentScan {
    source: Source,
    /// The end of the last segment; others have none that could be torn.
    tail: Option<Tail>,
    /// Whether the frame that was read last is a signature.
    ends_signed: bool,
    header: SegmentHeader,
    segment: u32,
    /// Where the next frame begins.
    offset: u64,
    tip: Tip,
    body: Vec<u8>,
}

impl SegmentScan {
    /// Opens the segment at `path` and verifies its header. `is_last` says that no segment
    /// follows, so that its end may be torn.
    pub(crate) fn open(path: PathBuf, joint: Joint, is_last: bool) -> Result<Self, AuditError> {
        Self::open_after(path, joint.segment, Some(joint.tip), is_last)
    }

    /// The same of a finished segment by itself, whatever stands before it.
    pub(crate) fn open_alone(path: PathBuf, segment: u32) -> Result<Self, AuditError> {
        Self::open_after(path, segment, None, false)
    }

    fn open_after(
        path: PathBuf,
        segment: u32,
        tip: Option<Tip>,
        is_last: bool,
    ) -> Result<Self, AuditError> {
        let index = tip.as_ref().map_or(0, Tip::index);
        let broken = |reason| AuditError::Broken {
            file: path.clone(),
            offset: 0,
            index,
            reason,
        };
        let mut source = Source::open(path.clone()).map_err(|error| match error {
            SourceError::Broken(reason) => broken(reason),
            SourceError::Io(error) => error,
        })?;
        let read = read_header(&mut source, segment, tip).map_err(|error| match error {
            HeaderError::Broken(reason) => broken(reason),
            HeaderError::Io(error) => error,
        })?;
        let (header, mut tip) = read;
        tip.head = header.head;
        let tail = match is_last {
            true => Tail::find(&source, header.bytes)?,
            false => None,
        };
        Ok(Self {
            source,
            tail,
            ends_signed: false,
            segment,
            offset: header.bytes,
            header,
            tip,
            body: Vec::new(),
        })
    }

    /// Reads and judges the next frame that is signed, or what stands after the last.
    pub(crate) fn next(&mut self) -> Result<Frame, AuditError> {
        if self.tail.is_some_and(|tail| tail.signed_end == self.offset) {
            return self.read_unsigned();
        }
        let frame = self.next_frame()?;
        match frame {
            Frame::End if !self.ends_signed => return Err(self.broken(Reason::NotSigned)),
            Frame::End => {}
            _ => self.ends_signed = matches!(frame, Frame::Signature(_)),
        }
        Ok(frame)
    }

    /// Judges what follows the last signature of the log: nothing, or a write that was broken off.
    fn read_unsigned(&mut self) -> Result<Frame, AuditError> {
        let (offset, tip) = (self.offset, self.tip.clone());
        let end = loop {
            let frame = self.next_frame()?;
            if matches!(frame, Frame::Torn(_) | Frame::End) {
                break frame;
            }
        };
        let is_more = self.offset > offset || matches!(end, Frame::Torn(_));
        (self.offset, self.tip) = (offset, tip);
        if is_more { self.torn() } else { Ok(Frame::End) }
    }

    fn next_frame(&mut self) -> Result<Frame, AuditError> {
        let mut prefix = [0; FRAME_PREFIX_BYTES];
        match self.source.fill(&mut prefix)? {
            0 => return Ok(Frame::End),
            FRAME_PREFIX_BYTES => {}
            found => return self.ends_within(FRAME_PREFIX_BYTES - found),
        }
        let [length, complement] = big_endian_pair(prefix);
        if length != !complement {
            return self.torn_or(FRAME_PREFIX_BYTES, Reason::LengthCopies);
        }
        if length == 0 || length > RECORD_BYTES_LIMIT {
            return Err(self.broken(Reason::RecordLength {
                found: length,
                max: RECORD_BYTES_LIMIT,
            }));
        }
        self.read_frame(length as usize)
    }

    /// Path of the file.
    pub(crate) fn path(&self) -> &Path {
        self.source.path()
    }

    /// Number of the segment.
    pub(crate) fn segment(&self) -> u32 {
        self.segment
    }

    /// What the segment says of itself.
    pub(crate) fn header(&self) -> &SegmentHeader {
        &self.header
    }

    /// The log up to here.
    pub(crate) fn tip(&self) -> &Tip {
        &self.tip
    }

    /// The stored content of the record that was read last, which has content.
    pub(crate) fn content_mut(&mut self) -> &mut [u8] {
        let end = self.body.len() - HASH_BYTES;
        &mut self.body[CLEAR_BYTES..end]
    }

    /// Body of the frame that was read last.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body[..self.body.len() - HASH_BYTES]
    }

    /// Clear part of the record that was read last, as stored.
    pub(crate) fn clear_bytes(&self) -> [u8; CLEAR_BYTES] {
        let clear = self.body[..CLEAR_BYTES].try_into();
        clear.expect("a record has a clear part")
    }

    fn read_frame(&mut self, length: usize) -> Result<Frame, AuditError> {
        let mut bytes = std::mem::take(&mut self.body);
        bytes.resize(length + HASH_BYTES, 0);
        let found = self.source.fill(&mut bytes)?;
        self.body = bytes;
        if found < length + HASH_BYTES {
            return self.ends_within(length + HASH_BYTES - found);
        }
        let (body, stored) = self.body.split_at(length);
        let (digest, stored) = (frame_digest(body), head_of(stored));
        let computed = match digest {
            Ok(digest) => self.tip.head.after(&digest),
            Err(reason) => return self.torn_or(FRAME_BYTES + length, reason),
        };
        if computed != stored {
            let reason = Reason::RecordHash {
                computed: computed.to_string(),
                stored: stored.to_string(),
            };
            return self.torn_or(FRAME_BYTES + length, reason);
        }
        let digest = digest.unwrap_or_default();
        let frame = self
            .judge(length, stored, digest)
            .map_err(|reason| self.broken(reason))?;
        self.tip.head = stored;
        if let Frame::Record(_) = frame {
            self.tip.tree.push(digest);
        }
        self.offset += (FRAME_BYTES + length) as u64;
        Ok(frame)
    }

    /// Reads a frame whose hash is right.
    fn judge(&self, length: usize, head: Head, digest: Hash) -> Result<Frame, Reason> {
        let body = &self.body[..length];
        let kind = body[0];
        if kind == KIND_CHECKPOINT {
            return self.read_note(body).map(Frame::Checkpoint);
        }
        if kind == KIND_SIGNATURE {
            let bytes = body[1..].try_into();
            return Ok(Frame::Signature(StoredSignature {
                offset: self.offset,
                head: self.tip.head,
                bytes: bytes.expect("the length was judged"),
            }));
        }
        let clear =
            Clear::decode(&self.clear_bytes()).map_err(|detail| Reason::RecordBody { detail })?;
        if clear.index != self.tip.index() {
            return Err(Reason::RecordIndex { found: clear.index });
        }
        Ok(Frame::Record(Record {
            clear,
            offset: self.offset,
            head,
            leaf: digest,
            has_content: kind == KIND_RECORD,
            bytes: (FRAME_BYTES + length) as u64,
        }))
    }

    fn read_note(&self, body: &[u8]) -> Result<StoredNote, Reason> {
        let (times, text) = body[1..].split_at(CHECKPOINT_PREFIX_BYTES - 1);
        let text = std::str::from_utf8(text).map_err(|error| Reason::Checkpoint {
            detail: error.to_string(),
        })?;
        let number = |bytes: &[u8]| {
            let eight = bytes.try_into();
            u64::from_be_bytes(eight.expect("eight bytes are taken"))
        };
        Ok(StoredNote {
            offset: self.offset,
            wall_us: number(&times[..8]).cast_signed(),
            monotonic_us: number(&times[8..]),
            text: text.to_owned(),
        })
    }

    /// A torn write, if the last of so many bytes from here, and all that follow, were never written.
    fn torn_or(&mut self, bytes: usize, reason: Reason) -> Result<Frame, AuditError> {
        let end = self.offset + bytes as u64;
        if self
            .unsigned_tail()
            .is_some_and(|tail| tail.zeros_begin < end)
        {
            return self.torn();
        }
        Err(self.broken(reason))
    }

    fn ends_within(&mut self, missing: usize) -> Result<Frame, AuditError> {
        if self.unsigned_tail().is_some() {
            return self.torn();
        }
        let missing = missing as u64;
        Err(self.broken(Reason::EndsWithin { missing }))
    }

    /// The tail, if the frame that begins here is after its last signature: only that can be the trace
    /// of a crash.
    fn unsigned_tail(&self) -> Option<Tail> {
        self.tail.filter(|tail| self.offset >= tail.signed_end)
    }

    /// Describes everything from here on.
    fn torn(&mut self) -> Result<Frame, AuditError> {
        let (bytes, digest) = self.source.digest_from(self.offset)?;
        Ok(Frame::Torn(Cut {
            segment: self.segment,
            offset: self.offset,
            bytes,
            sha256: hex(&digest),
        }))
    }

    /// An error about a frame that was handed out.
    pub(crate) fn broken_at(&self, offset: u64, index: u64, reason: Reason) -> AuditError {
        AuditError::Broken {
            file: self.path().to_owned(),
            offset,
            index,
            reason,
        }
    }

    /// An error about a record that was handed out.
    pub(crate) fn broken_record(&self, record: &Record, reason: Reason) -> AuditError {
        self.broken_at(record.offset, record.clear.index, reason)
    }

    /// An error about the next frame.
    pub(crate) fn broken(&self, reason: Reason) -> AuditError {
        self.broken_at(self.offset, self.tip.index(), reason)
    }
}

/// How a segment ends, going by lengths; what stands there is judged when it is read.
#[derive(Clone, Copy, Debug)]
struct Tail {
    /// Where its last signature ends that was written to its end.
    signed_end: u64,
    /// Where the zero bytes begin that the file ends with.
    zeros_begin: u64,
}

impl Tail {
    /// Of a segment whose frames begin at `start`; nothing if it has no signature.
    fn find(source: &Source, start: u64) -> Result<Option<Self>, AuditError> {
        let (end, zeros_begin) = (source.bytes(), source.zeros_begin()?);
        let of = |signed_end| Self {
            signed_end,
            zeros_begin,
        };
        // So it is of each log that was not broken off in a write.
        let last = end.checked_sub(SIGNATURE_FRAME_BYTES as u64);
        if let Some(last) = last.filter(|&last| last >= start && zeros_begin == end)
            && let Some((SIGNATURE_BODY_BYTES, KIND_SIGNATURE)) = peek(source, last)?
        {
            return Ok(Some(of(end)));
        }
        let mut signed_end = None;
        let mut offset = start;
        while let Some((length, kind)) = peek(source, offset)? {
            let at = offset;
            offset += (FRAME_BYTES + length) as u64;
            if kind == KIND_SIGNATURE && (offset <= zeros_begin || is_chained(source, at)?) {
                signed_end = Some(offset);
            }
        }
        Ok(signed_end.map(of))
    }
}

/// Whether the signature that begins here follows from the head before it: then the zeros that begin
/// within it are its own.
fn is_chained(source: &Source, at: u64) -> Result<bool, AuditError> {
    let mut bytes = [0; HASH_BYTES + SIGNATURE_FRAME_BYTES];
    if !source.peek(at - HASH_BYTES as u64, &mut bytes)? {
        return Ok(false);
    }
    let (before, frame) = bytes.split_at(HASH_BYTES);
    let (body, stored) = frame[FRAME_PREFIX_BYTES..].split_at(SIGNATURE_BODY_BYTES);
    Ok(head_of(before).after(&signature_digest(body)) == head_of(stored))
}

/// Length and kind of the frame that begins here, if one may.
fn peek(source: &Source, offset: u64) -> Result<Option<(usize, u8)>, AuditError> {
    let mut beginning = [0; FRAME_PREFIX_BYTES + 1];
    if !source.peek(offset, &mut beginning)? {
        return Ok(None);
    }
    let [prefix @ .., kind] = beginning;
    let [length, complement] = big_endian_pair(prefix);
    let is_length = length == !complement && (1..=RECORD_BYTES_LIMIT).contains(&length);
    Ok(is_length.then_some((length as usize, kind)))
}

/// What the chain covers of a frame with this body.
fn frame_digest(body: &[u8]) -> Result<Hash, Reason> {
    let kind = body[0];
    let clear = body.first_chunk::<CLEAR_BYTES>();
    let misfit = Reason::FrameBytes {
        kind,
        found: body.len(),
    };
    match (kind, clear) {
        (KIND_RECORD, Some(clear)) => Ok(record_leaf(clear, &content_digest(&body[CLEAR_BYTES..]))),
        (KIND_CHECKPOINT, _) if body.len() > CHECKPOINT_PREFIX_BYTES => Ok(checkpoint_digest(body)),
        (KIND_EXPIRED, Some(clear)) if body.len() == EXPIRED_BYTES => {
            let digest = body[CLEAR_BYTES..].try_into();
            Ok(record_leaf(clear, &digest.expect("the length was judged")))
        }
        (KIND_SIGNATURE, _) if body.len() == SIGNATURE_BODY_BYTES => Ok(signature_digest(body)),
        (KIND_RECORD | KIND_CHECKPOINT | KIND_EXPIRED | KIND_SIGNATURE, _) => Err(misfit),
        _ => Err(Reason::FrameKind { found: kind }),
    }
}

fn head_of(stored: &[u8]) -> Head {
    Head(stored.try_into().expect("a hash ends each frame"))
}

fn big_endian_pair(bytes: [u8; 8]) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = bytes;
    [
        u32::from_be_bytes([a, b, c, d]),
        u32::from_be_bytes([e, f, g, h]),
    ]
}
