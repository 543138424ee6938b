//! Proofs of inclusion and consistency: made from stored hashes, checked with none.
//!
//! Both climb from a complete subtree to the root and meet a sibling on most levels; [`siblings`]
//! is that way, and making and checking a proof walk it alike.
//!
//! Invariant: the sizes alone say how many hashes a path has; one with another number is refused
//! before anything is hashed. Absent: signatures. Who says what root a tree has is the caller's
//! to know.

use std::io;

use super::{EMPTY_ROOT, Hash, Nodes, ProofError, join, node_hash};

/// Most hashes that a path can have: one for each level of a tree of 2^64 leaves, and the one
/// that a consistency proof begins with.
pub const PATH_HASHES_MAX: usize = 65;

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
