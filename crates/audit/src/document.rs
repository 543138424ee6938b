//! Proofs as JSON: what a device hands out, and what is verified far from it.
//!
//! Invariant: a document holds with a public key and nothing else, since the checkpoints that it
//! rests on are in it. What it says is believed only after [`ProofDocument::verify`]. Absent: files
//! and the network. The form is described in `FORMAT.md`.

use serde::{Deserialize, Serialize};

use crate::chain::{hex, parse_hash};
use crate::checkpoint::{Checkpoint, VerifierKey};
use crate::error::AuditError;
use crate::merkle::{ConsistencyProof, Hash, InclusionProof, PATH_HASHES_MAX};

/// A proof with the checkpoints that it rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "proof", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ProofDocument {
    /// A record is in the log.
    Inclusion {
        /// Index of the record.
        index: u64,
        /// How many records the tree has.
        size: u64,
        /// The record's leaf hash, lower-case hex, as in its receipt.
        leaf: String,
        /// Hashes from the leaf to the root, lower-case hex.
        path: Vec<String>,
        /// The checkpoint of that tree (a signed note).
        checkpoint: String,
    },
    /// A log goes on from what it was.
    Consistency {
        /// How many records the older tree has.
        old_size: u64,
        /// How many records the newer tree has.
        new_size: u64,
        /// Hashes that lead to both roots, lower-case hex.
        path: Vec<String>,
        /// The checkpoint of the older tree (a signed note).
        old_checkpoint: String,
        /// The checkpoint of the newer tree.
        new_checkpoint: String,
    },
}

impl ProofDocument {
    /// The document of a proof for the record with this leaf hash (hex), which rests on this
    /// checkpoint.
    #[must_use]
    pub fn inclusion(proof: &InclusionProof, leaf: &str, checkpoint: &str) -> Self {
        Self::Inclusion {
            index: proof.index,
            size: proof.size,
            leaf: leaf.to_owned(),
            path: hexes(&proof.path),
            checkpoint: checkpoint.to_owned(),
        }
    }

    /// The document of a proof between the trees of two checkpoints.
    #[must_use]
    pub fn consistency(proof: &ConsistencyProof, old: &str, new: &str) -> Self {
        Self::Consistency {
            old_size: proof.old_size,
            new_size: proof.new_size,
            path: hexes(&proof.path),
            old_checkpoint: old.to_owned(),
            new_checkpoint: new.to_owned(),
        }
    }

    /// Verifies the proof and the checkpoints in it, and gives the one that it leads to. A
    /// checkpoint that was kept elsewhere stands in for the one in the document: for that of an
    /// inclusion, or the older one of a consistency.
    ///
    /// # Errors
    /// [`AuditError::Witness`] if a checkpoint is not the signer's, or of another size;
    /// [`AuditError::Proof`] if the proof does not hold.
    pub fn verify(
        &self,
        signer: &VerifierKey,
        kept: Option<&str>,
    ) -> Result<Checkpoint, AuditError> {
        match self {
            Self::Inclusion {
                index,
                size,
                leaf,
                path,
                checkpoint,
            } => {
                let checkpoint = open(signer, kept.unwrap_or(checkpoint), *size)?;
                let proof = InclusionProof {
                    index: *index,
                    size: *size,
                    path: hashes(path)?,
                };
                proof.verify(&hash(leaf)?, &checkpoint.root)?;
                Ok(checkpoint)
            }
            Self::Consistency {
                old_size,
                new_size,
                path,
                old_checkpoint,
                new_checkpoint,
            } => {
                let old = open(signer, kept.unwrap_or(old_checkpoint), *old_size)?;
                let new = open(signer, new_checkpoint, *new_size)?;
                let proof = ConsistencyProof {
                    old_size: *old_size,
                    new_size: *new_size,
                    path: hashes(path)?,
                };
                proof.verify(&old.root, &new.root)?;
                Ok(new)
            }
        }
    }
}

/// The checkpoint in a note, which must be that of a tree of this size.
fn open(signer: &VerifierKey, note: &str, size: u64) -> Result<Checkpoint, AuditError> {
    let unusable = |detail: String| AuditError::Witness {
        what: "checkpoint",
        detail,
    };
    let checkpoint = signer
        .open(note)
        .map_err(|error| unusable(error.to_string()))?;
    if checkpoint.size != size {
        let found = checkpoint.size;
        return Err(unusable(format!(
            "it covers {found} records, but the proof is for {size}; ask for a proof for that checkpoint"
        )));
    }
    Ok(checkpoint)
}

fn hexes(path: &[Hash]) -> Vec<String> {
    path.iter().map(|hash| hex(hash)).collect()
}

fn hashes(path: &[String]) -> Result<Vec<Hash>, AuditError> {
    // No tree has a longer path, so this bounds memory and changes no verdict.
    let path = path.iter().take(PATH_HASHES_MAX + 1);
    path.map(|text| hash(text)).collect()
}

fn hash(text: &str) -> Result<Hash, AuditError> {
    parse_hash(text).ok_or_else(|| AuditError::Witness {
        what: "proof",
        detail: format!("{text:?} is no hash; expected 64 lower-case hexadecimal digits"),
    })
}
