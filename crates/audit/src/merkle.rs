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

/// A SHA-256.
pub type Hash = [u8; HASH_BYTES];

/// Root of the tree without leaves: the SHA-256 of nothing (RFC 6962, section 2.1).
pub const EMPTY_ROOT: Hash = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
    0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// Most hashes that a path can have: one for each level of a tree of 2^64 leaves, and the one
/// that a consistency proof begins with.
pub const PATH_HASHES_MAX: usize = 65;

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

/// That a leaf stands at an index of a tree (RFC 6962, section 2.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InclusionProof {
    /// Index of the leaf.
    pub index: u64,
    /// Leaves of the tree.
    pub size: u64,
    /// Hashes of the siblings on the way from the leaf to the root.
    pub path: Vec<Hash>,
}

impl InclusionProof {
    /// Makes the proof for one leaf of the tree of `size` leaves; asks for at most 126 nodes.
    ///
    /// # Errors
    ///
    /// [`ProofError::Index`] if there is no such leaf, [`ProofError::Nodes`] if `nodes` fails.
    pub fn build(nodes: &(impl Nodes + ?Sized), index: u64, size: u64) -> Result<Self, ProofError> {
        if index >= size {
            return Err(ProofError::Index { index, size });
        }
        let path = siblings(0, index, size)
            .map(|sibling| sibling.hash(nodes, size))
            .collect::<io::Result<_>>()?;
        Ok(Self { index, size, path })
    }

    /// Whether the leaf with this hash stands at the index of the tree with this root. Take root
    /// and size from one checkpoint: trees of several sizes can share the shape of a path, so the
    /// proof alone does not tell how large the tree is.
    ///
    /// # Errors
    ///
    /// What is wrong with the proof, if it does not show that.
    pub fn verify(&self, leaf: &Hash, root: &Hash) -> Result<(), ProofError> {
        let Self { index, size, .. } = *self;
        if index >= size {
            return Err(ProofError::Index { index, size });
        }
        check_length(&self.path, siblings(0, index, size).count())?;
        let mut hash = *leaf;
        for (sibling, other) in siblings(0, index, size).zip(&self.path) {
            hash = sibling.join(&hash, other);
        }
        check_root(size, root, &hash)
    }
}

/// That a tree is the beginning of another (RFC 6962, section 2.1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsistencyProof {
    /// Leaves of the older tree.
    pub old_size: u64,
    /// Leaves of the newer tree.
    pub new_size: u64,
    /// The root of the older tree's last complete subtree, unless that is the older tree itself,
    /// then hashes of the siblings on the way from there to the root of the newer tree. Empty if
    /// the sizes are equal or the older tree is.
    pub path: Vec<Hash>,
}

impl ConsistencyProof {
    /// Makes the proof between two sizes of one tree; asks for at most 127 nodes.
    ///
    /// # Errors
    ///
    /// [`ProofError::Sizes`] if the old size is the larger one, [`ProofError::Nodes`] if `nodes`
    /// fails.
    pub fn build(
        nodes: &(impl Nodes + ?Sized),
        old_size: u64,
        new_size: u64,
    ) -> Result<Self, ProofError> {
        check_sizes(old_size, new_size)?;
        let mut path = Vec::new();
        if old_size != 0 && old_size != new_size {
            let (level, index) = last_complete(old_size);
            if !old_size.is_power_of_two() {
                path.push(nodes.node(level, index)?);
            }
            for sibling in siblings(level, index, new_size) {
                path.push(sibling.hash(nodes, new_size)?);
            }
        }
        Ok(Self {
            old_size,
            new_size,
            path,
        })
    }

    /// Whether the tree with the old root is the beginning of the one with the new root. Take each
    /// root and its size from one checkpoint. Every tree begins with the empty one.
    ///
    /// # Errors
    ///
    /// What is wrong with the proof, if it does not show that.
    pub fn verify(&self, old_root: &Hash, new_root: &Hash) -> Result<(), ProofError> {
        let (old, new) = (self.old_size, self.new_size);
        check_sizes(old, new)?;
        if old == 0 {
            check_root(old, old_root, &EMPTY_ROOT)?;
        }
        if old == new {
            check_root(new, new_root, old_root)?;
        }
        if old == 0 || old == new {
            return check_length(&self.path, 0);
        }
        let (level, index) = last_complete(old);
        let begins_with_hash = !old.is_power_of_two();
        let climbed = siblings(level, index, new).count();
        check_length(&self.path, climbed + usize::from(begins_with_hash))?;
        let (begin, path) = self.path.split_at(usize::from(begins_with_hash));
        let begin = *begin.first().unwrap_or(old_root);
        let (mut old_hash, mut new_hash) = (begin, begin);
        for (sibling, other) in siblings(level, index, new).zip(path) {
            if sibling.is_left {
                // What stands left of a node that ends the older tree belongs to that tree.
                old_hash = sibling.join(&old_hash, other);
            }
            new_hash = sibling.join(&new_hash, other);
        }
        check_root(old, old_root, &old_hash)?;
        check_root(new, new_root, &new_hash)
    }
}

/// Level and index of the complete subtree that ends a tree with leaves.
fn last_complete(size: u64) -> (u32, u64) {
    let level = size.trailing_zeros();
    (level, (size >> level) - 1)
}

/// A node whose hash is joined with that of a node on the way to the root.
struct Sibling {
    level: u32,
    index: u64,
    is_left: bool,
}

/// The siblings on the way from a complete subtree to the root of a tree of `size` leaves. Where
/// the last node of a level has none, it moves up as it is.
fn siblings(level: u32, index: u64, size: u64) -> impl Iterator<Item = Sibling> {
    let levels = u64::BITS - ((size - 1) >> level).leading_zeros();
    (0..levels).filter_map(move |climbed| {
        let level = level + climbed;
        let index = index >> climbed;
        let last = (size - 1) >> level;
        let is_left = index % 2 == 1;
        (is_left || index < last).then_some(Sibling {
            level,
            index: index ^ 1,
            is_left,
        })
    })
}

impl Sibling {
    /// Its hash in a tree of `size` leaves, at whose right edge it can be incomplete.
    fn hash(&self, nodes: &(impl Nodes + ?Sized), size: u64) -> io::Result<Hash> {
        if self.index < size >> self.level {
            return nodes.node(self.level, self.index);
        }
        let mut begin = self.index << self.level;
        let mut peaks = Vec::new();
        while begin < size {
            let level = (size - begin).ilog2();
            peaks.push(nodes.node(level, begin >> level)?);
            begin += 1 << level;
        }
        Ok(join(&peaks).expect("a sibling has leaves"))
    }

    fn join(&self, hash: &Hash, sibling: &Hash) -> Hash {
        if self.is_left {
            node_hash(sibling, hash)
        } else {
            node_hash(hash, sibling)
        }
    }
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

fn check_sizes(old: u64, new: u64) -> Result<(), ProofError> {
    if old > new {
        return Err(ProofError::Sizes { old, new });
    }
    Ok(())
}

fn check_length(path: &[Hash], expected: usize) -> Result<(), ProofError> {
    if path.len() != expected {
        return Err(ProofError::PathLength {
            expected,
            found: path.len(),
        });
    }
    Ok(())
}

fn check_root(size: u64, expected: &Hash, computed: &Hash) -> Result<(), ProofError> {
    if computed != expected {
        return Err(ProofError::Root {
            size,
            expected: *expected,
            computed: *computed,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
