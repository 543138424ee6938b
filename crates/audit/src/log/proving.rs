//! Proofs from an open log, made from its leaf hashes without reading it.
//!
//! Invariant: a proof covers durable records only, and the log is not held up while one is made.
//! Absent: proofs from the files of a log, which are `proof`'s.

use super::AuditLog;
use crate::chain::hex;
use crate::checkpoint::VerifierKey;
use crate::document::ProofDocument;
use crate::error::AuditError;
use crate::merkle::{ConsistencyProof, InclusionProof, Nodes, ProofError};
use crate::writer::lock;

impl AuditLog {
    /// Proves that record `index` is in the tree of the first `size` records.
    ///
    /// # Errors
    /// [`AuditError::Proof`] where there is no such record or size, or where the cache of leaf
    /// hashes was altered.
    pub fn inclusion_proof(&self, index: u64, size: u64) -> Result<InclusionProof, AuditError> {
        let nodes = self.nodes(size)?;
        Ok(InclusionProof::build(&nodes, index, size)?)
    }

    /// Proves that the first `new_size` records begin with the first `old_size`.
    ///
    /// # Errors
    /// As [`AuditLog::inclusion_proof`].
    pub fn consistency_proof(
        &self,
        old_size: u64,
        new_size: u64,
    ) -> Result<ConsistencyProof, AuditError> {
        let nodes = self.nodes(new_size)?;
        Ok(ConsistencyProof::build(&nodes, old_size, new_size)?)
    }

    /// Proves that record `index` is in the tree of the newest checkpoint, in the form that a
    /// client verifies. Where that checkpoint was signed before the record, a new one is.
    ///
    /// # Errors
    /// As [`AuditLog::inclusion_proof`] and [`AuditLog::checkpoint`].
    pub fn prove(&self, index: u64) -> Result<ProofDocument, AuditError> {
        let mut note = self.checkpoint_if_due()?;
        let mut size = self.size_of("newest checkpoint", &note)?;
        if size <= index {
            note = self.checkpoint()?;
            size = self.size_of("newest checkpoint", &note)?;
        }
        let proof = self.inclusion_proof(index, size)?;
        let leaf = self.nodes(size)?.node(0, index).map_err(ProofError::from)?;
        Ok(ProofDocument::inclusion(&proof, &hex(&leaf), &note))
    }

    /// Proves that this log goes on from an older checkpoint of it, a signed note.
    ///
    /// # Errors
    /// [`AuditError::Witness`] if it is not a checkpoint of this log's signer; else as
    /// [`AuditLog::consistency_proof`] and [`AuditLog::checkpoint`].
    pub fn prove_continuation(&self, old: &str) -> Result<ProofDocument, AuditError> {
        let old_size = self.size_of("old checkpoint", old)?;
        let new = self.checkpoint()?;
        let new_size = self.size_of("newest checkpoint", &new)?;
        let proof = self.consistency_proof(old_size, new_size)?;
        Ok(ProofDocument::consistency(&proof, old, &new))
    }

    /// How many records a checkpoint covers that this log's key signed.
    fn size_of(&self, what: &'static str, note: &str) -> Result<u64, AuditError> {
        let opened = VerifierKey::parse(&self.signer).and_then(|signer| signer.open(note));
        match opened {
            Ok(checkpoint) => Ok(checkpoint.size),
            Err(error) => Err(AuditError::Witness {
                what,
                detail: error.to_string(),
            }),
        }
    }

    /// The tree, which must have as many leaves.
    fn nodes(&self, size: u64) -> Result<impl Nodes + use<>, AuditError> {
        let leaves = lock(&self.leaves);
        let found = leaves.size();
        if size > found {
            let index = size - 1;
            return Err(ProofError::Index { index, size: found }.into());
        }
        Ok(leaves.view())
    }
}
