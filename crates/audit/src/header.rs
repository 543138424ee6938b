//! Reads a segment's header and judges whether it goes on where the log stands.
//!
//! Invariant: every byte of a header either is hashed or has one allowed value. Its hash covers
//! the body; the body names the digest and length of each wrapped key, so the key area can only
//! hold those keys, or lack one that was destroyed. Absent: frames; whether a destroyed key was
//! meant to be, which the whole log decides.

use std::collections::BTreeMap;

use crate::chain::{HASH_BYTES, Head, hex, parse_hash, segment_head};
use crate::checkpoint::VerifierKey;
use crate::error::{AuditError, Reason};
use crate::kind::{CLASSES, Class};
use crate::merkle::Frontier;
use crate::segment::{
    HEADER_BODY_BYTES_MAX, HEADER_PREFIX_BYTES, Header, KEY_AREA_BYTES_MAX, KEY_AREA_PREFIX_BYTES,
    KeyArea, MAGIC, TreeBefore, VERSION, WrappedKey, decode_key_area,
};
use crate::source::Source;

/// One end of the log: what the next frame or segment has to go on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tip {
    pub(crate) head: Head,
    /// The tree over all records up to here.
    pub(crate) tree: Frontier,
}

impl Tip {
    /// Before the first segment.
    pub(crate) fn genesis() -> Self {
        Self {
            head: Head::GENESIS,
            tree: Frontier::new(),
        }
    }

    /// Index of the next record.
    pub(crate) fn index(&self) -> u64 {
        self.tree.size()
    }

    /// The tree as a header tells it.
    pub(crate) fn tree_before(&self) -> TreeBefore {
        TreeBefore {
            peaks: self.tree.peaks().iter().map(|peak| hex(peak)).collect(),
            size: self.tree.size(),
        }
    }
}

/// A header that was read and judged.
#[derive(Debug)]
pub(crate) struct SegmentHeader {
    pub(crate) body: Header,
    /// The key that must sign this segment.
    pub(crate) signer: VerifierKey,
    /// `None` in a plaintext segment.
    pub(crate) keys: Option<KeyArea>,
    pub(crate) head: Head,
    /// Length of the whole header.
    pub(crate) bytes: u64,
}

impl SegmentHeader {
    /// Whether the key of this class was destroyed.
    pub(crate) fn is_destroyed(&self, class: Class) -> bool {
        let keys = self.keys.as_ref();
        keys.is_some_and(|keys| keys[class.place()].is_empty())
    }
}

/// Why a header is not handed out.
pub(crate) enum HeaderError {
    Broken(Reason),
    Io(AuditError),
}

impl From<AuditError> for HeaderError {
    fn from(error: AuditError) -> Self {
        Self::Io(error)
    }
}

impl From<Reason> for HeaderError {
    fn from(reason: Reason) -> Self {
        Self::Broken(reason)
    }
}

/// Reads the header of segment number `segment`, which has to go on from `tip`, or by itself; gives
/// the log before it, too.
pub(crate) fn read_header(
    source: &mut Source,
    segment: u32,
    tip: Option<Tip>,
) -> Result<(SegmentHeader, Tip), HeaderError> {
    let hashed = read_hashed(source)?;
    let head = segment_head(&hashed);
    let mut prefix = [0; KEY_AREA_PREFIX_BYTES];
    fill(source, &mut prefix)?;
    let length = u32::from_be_bytes(prefix);
    if length > KEY_AREA_BYTES_MAX {
        return Err(Reason::KeyAreaLength {
            found: length,
            max: KEY_AREA_BYTES_MAX,
        }
        .into());
    }
    let mut area = vec![0; length as usize];
    fill(source, &mut area)?;
    let mut stored = [0; HASH_BYTES];
    fill(source, &mut stored)?;
    if head.0 != stored {
        return Err(Reason::HeaderHash.into());
    }
    let body = parse_body(&hashed[HEADER_PREFIX_BYTES..])?;
    let tip = match tip {
        Some(tip) => tip,
        None => tip_before(&body)?,
    };
    check_joint(&body, segment, &tip)?;
    let signer = body.signer.parse::<VerifierKey>();
    let signer = signer.map_err(|error| header_body(format!("signer: {error}")))?;
    if signer.name().as_str() != body.origin {
        return Err(header_body("the signer's name is not the origin".to_owned()).into());
    }
    let keys = read_keys(body.keys.as_ref(), &area)?;
    let bytes = hashed.len() + KEY_AREA_PREFIX_BYTES + area.len() + HASH_BYTES;
    let header = SegmentHeader {
        body,
        signer,
        keys,
        head,
        bytes: bytes as u64,
    };
    Ok((header, tip))
}

/// The log before a segment, as the segment tells it.
fn tip_before(header: &Header) -> Result<Tip, Reason> {
    let head = parse_hash(&header.previous_head);
    let peaks = header.tree.peaks.iter().map(|peak| parse_hash(peak));
    let peaks = peaks.collect::<Option<Vec<_>>>();
    let (Some(head), Some(peaks)) = (head, peaks) else {
        return Err(header_body("a hash is not in hex".to_owned()));
    };
    let tree = Frontier::from_peaks(header.tree.size, peaks);
    Ok(Tip {
        head: Head(head),
        tree: tree.map_err(|error| header_body(error.to_string()))?,
    })
}

/// Reads from the magic to the end of the body.
fn read_hashed(source: &mut Source) -> Result<Vec<u8>, HeaderError> {
    let mut bytes = vec![0; HEADER_PREFIX_BYTES];
    let found = source.fill(&mut bytes)?;
    let magic_found = found.min(MAGIC.len());
    if bytes[..magic_found] != MAGIC[..magic_found] {
        return Err(Reason::Magic.into());
    }
    if found < HEADER_PREFIX_BYTES {
        return Err(ends_within(HEADER_PREFIX_BYTES - found));
    }
    let version = big_endian(&bytes[8..12]);
    if version != VERSION {
        return Err(Reason::Version {
            found: version,
            known: VERSION,
        }
        .into());
    }
    let length = big_endian(&bytes[12..16]);
    if length > HEADER_BODY_BYTES_MAX {
        return Err(Reason::HeaderLength {
            found: length,
            max: HEADER_BODY_BYTES_MAX,
        }
        .into());
    }
    bytes.resize(HEADER_PREFIX_BYTES + length as usize, 0);
    fill(source, &mut bytes[HEADER_PREFIX_BYTES..])?;
    Ok(bytes)
}

fn parse_body(body: &[u8]) -> Result<Header, Reason> {
    let header: Header =
        serde_json::from_slice(body).map_err(|error| header_body(error.to_string()))?;
    let names_all = |keys: &BTreeMap<Class, WrappedKey>| keys.len() == CLASSES;
    if !header.keys.as_ref().is_none_or(names_all) {
        return Err(header_body("keys does not name every class".to_owned()));
    }
    Ok(header)
}

fn read_keys(
    named: Option<&BTreeMap<Class, WrappedKey>>,
    area: &[u8],
) -> Result<Option<KeyArea>, Reason> {
    match named {
        Some(named) => decode_key_area(area, named).map(Some),
        None if area.is_empty() => Ok(None),
        None => Err(Reason::KeyAreaLength {
            found: u32::try_from(area.len()).unwrap_or(u32::MAX),
            max: 0,
        }),
    }
}

fn check_joint(header: &Header, segment: u32, tip: &Tip) -> Result<(), Reason> {
    if header.segment != segment {
        return Err(Reason::SegmentNumber {
            expected: segment,
            found: header.segment,
        });
    }
    if header.first_index != tip.index() {
        return Err(Reason::FirstIndex {
            expected: tip.index(),
            found: header.first_index,
        });
    }
    let expected = tip.head.to_string();
    if header.previous_head != expected {
        return Err(Reason::PreviousHead {
            expected,
            found: header.previous_head.clone(),
        });
    }
    if header.tree != tip.tree_before() {
        return Err(Reason::Tree {
            expected: tip.index(),
            found: header.tree.size,
        });
    }
    Ok(())
}

fn fill(source: &mut Source, buffer: &mut [u8]) -> Result<(), HeaderError> {
    let found = source.fill(buffer)?;
    if found < buffer.len() {
        return Err(ends_within(buffer.len() - found));
    }
    Ok(())
}

fn ends_within(missing: usize) -> HeaderError {
    HeaderError::Broken(Reason::EndsWithin {
        missing: missing as u64,
    })
}

fn header_body(detail: String) -> Reason {
    Reason::HeaderBody { detail }
}

fn big_endian(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().expect("four bytes are taken"))
}
