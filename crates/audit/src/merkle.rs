//! The Merkle tree over the records, as RFC 6962, section 2.1, defines it.
//!
//! A [`Frontier`] is what a writer keeps: the few hashes from which the root of the tree follows,
//! and to which a leaf is added at the cost of one hash. An [`InclusionProof`] shows that a record
//! is in the tree of a checkpoint, a [`ConsistencyProof`] that one checkpoint's tree is the
//! beginning of another's; both are checked with nothing but the hashes in them.
//!
//! Invariant: a proof has one valid form. Its path has exactly as many hashes as its sizes ask
//! for, so that nothing can be added to it or left out of it. Absent: where hashes are stored;
//! whoever asks for a proof brings them as [`Nodes`].

use std::io;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::chain::{HASH_BYTES, hex};

mod proof;

pub use proof::{ConsistencyProof, InclusionProof, PATH_HASHES_MAX};

/// A SHA-256.
pub type Hash = [u8; HASH_BYTES];

/// Root of the tree without leaves: the SHA-256 of nothing (RFC 6962, section 2.1).
pub const EMPTY_ROOT: Hash = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
    0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

const LEAF_PREFIX: [u8; 1] = [0];
const NODE_PREFIX: [u8; 1] = [1];

/// Hash of a leaf with this content.
#[must_use]
pub fn leaf_hash(content: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update(LEAF_PREFIX);
    hasher.update(content);
    hasher.finalize().into()
}

/// Hash of the node above two others.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [NODE_PREFIX[0]; 1 + 2 * HASH_BYTES];
    bytes[1..=HASH_BYTES].copy_from_slice(left);
    bytes[1 + HASH_BYTES..].copy_from_slice(right);
    Sha256::digest(bytes).into()
}

/// Why a proof was not made or not believed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProofError {
    /// There is no such leaf.
    #[error("leaf {index} is not in a tree of {size} leaves")]
    Index {
        /// Index of the leaf.
        index: u64,
        /// Leaves of the tree.
        size: u64,
    },
    /// The older tree is the larger one.
    #[error("a tree of {old} leaves is not the beginning of one of {new}")]
    Sizes {
        /// Leaves of the older tree.
        old: u64,
        /// Leaves of the newer tree.
        new: u64,
    },
    /// A frontier with too few or too many hashes.
    #[error("the frontier of a tree of {size} leaves has {expected} hashes, not {found}")]
    PeakCount {
        /// Leaves of the tree.
        size: u64,
        /// How many there must be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// The stored hashes could not be read.
    #[error("cannot read the hashes of the tree: {source}")]
    Nodes {
        /// What the source of hashes says.
        source: Arc<io::Error>,
    },
    /// The path has too few or too many hashes for the sizes.
    #[error("the proof has {found} hashes, but must have {expected}")]
    PathLength {
        /// How many there must be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// The proof leads to another root: leaf, path or root is not that of this tree.
    #[error("the proof leads to root {}, but the tree of {size} leaves has root {}", hex(.computed), hex(.expected))]
    Root {
        /// Leaves of the tree.
        size: u64,
        /// The root that was to be proven.
        expected: Hash,
        /// The root that leaf and path give.
        computed: Hash,
    },
}

impl From<io::Error> for ProofError {
    fn from(source: io::Error) -> Self {
        Self::Nodes {
            source: Arc::new(source),
        }
    }
}

/// The right edge of a tree that grows: the roots of its largest complete subtrees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// One for each bit of the size that is set, from the largest subtree to the smallest.
    peaks: Vec<Hash>,
}

impl Frontier {
    /// That of a tree without leaves.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The frontier of a tree of `size` leaves from what [`peaks`](Self::peaks) gave.
    ///
    /// # Errors
    ///
    /// [`ProofError::PeakCount`] if that many leaves have another number of peaks. Whether the
    /// hashes are right shows only in the root.
    pub fn from_peaks(size: u64, peaks: Vec<Hash>) -> Result<Self, ProofError> {
        let expected = size.count_ones() as usize;
        if peaks.len() != expected {
            return Err(ProofError::PeakCount {
                size,
                expected,
                found: peaks.len(),
            });
        }
        Ok(Self { size, peaks })
    }

    /// How many leaves the tree has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Roots of the complete subtrees that the tree consists of, from the largest to the smallest.
    #[must_use]
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// Adds a leaf, given by its hash. Costs one hash on average, at most 64.
    pub fn push(&mut self, leaf: Hash) {
        self.push_and_tell(leaf, |_, _, _| {});
    }

    /// Adds a leaf and tells the level, index and hash of every subtree that is now complete, the
    /// leaf itself first: what a store of [`Nodes`] has to keep.
    pub fn push_and_tell(&mut self, leaf: Hash, mut tell: impl FnMut(u32, u64, &Hash)) {
        let mut hash = leaf;
        tell(0, self.size, &hash);
        for level in 1..=self.size.trailing_ones() {
            let left = self.peaks.pop().expect("a peak for each set bit");
            hash = node_hash(&left, &hash);
            tell(level, self.size >> level, &hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// Root of the tree. Costs fewer hashes than there are peaks, so at most 63.
    #[must_use]
    pub fn root(&self) -> Hash {
        join(&self.peaks).unwrap_or(EMPTY_ROOT)
    }
}

/// Where the hashes of a tree come from when a proof is made.
pub trait Nodes {
    /// Hash of the complete subtree over the 2^`level` leaves from `index` * 2^`level` on; level 0
    /// is the leaves. Asked only for subtrees that lie within the tree of the proof.
    ///
    /// # Errors
    ///
    /// Whatever reading the hash runs into; a leaf that is not there, too.
    fn node(&self, level: u32, index: u64) -> io::Result<Hash>;
}

/// All leaf hashes in order, from which those above are computed.
impl Nodes for [Hash] {
    fn node(&self, level: u32, index: u64) -> io::Result<Hash> {
        let leaves = leaf_range(level, index)
            .and_then(|(begin, end)| self.get(begin..end))
            .ok_or_else(|| missing_node(level, index, self.len()))?;
        let mut subtree = Frontier::new();
        leaves.iter().for_each(|leaf| subtree.push(*leaf));
        Ok(subtree.root())
    }
}

fn leaf_range(level: u32, index: u64) -> Option<(usize, usize)> {
    let width = 1_u64.checked_shl(level)?;
    let begin = index.checked_mul(width)?;
    let end = begin.checked_add(width)?;
    Some((begin.try_into().ok()?, end.try_into().ok()?))
}

fn missing_node(level: u32, index: u64, leaves: usize) -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        format!("subtree {index} of level {level} does not lie within {leaves} leaves"),
    )
}

/// Root over complete subtrees that become smaller from left to right.
fn join(peaks: &[Hash]) -> Option<Hash> {
    let (last, others) = peaks.split_last()?;
    let root = others
        .iter()
        .rev()
        .fold(*last, |right, left| node_hash(left, &right));
    Some(root)
}

#[cfg(test)]
mod tests;
