//! Proofs from an open log, made from its leaf hashes without reading it.
//!
//! Invariant: a proof covers durable records only, and the log is not held up while one is made.
//! Absent: proofs from the files of a log, which are `proof`'s.

use super::AuditLog;
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
