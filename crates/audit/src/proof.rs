//! Proofs over a log's files, for whoever has them.
//!
//! Invariant: a proof is made from a log that was verified as far as the proof goes, so it is never
//! the fault of a proof that it does not hold. Memory is three chunks of leaves. Absent: proofs
//! from an open log, which [`AuditLog`](crate::AuditLog) gives without reading it.

use std::io;
use std::path::Path;

use crate::error::AuditError;
use crate::history::History;
use crate::leaves::{Chunks, TreeView, chunk_of};
use crate::merkle::{ConsistencyProof, Hash, InclusionProof, Nodes, ProofError};
use crate::walk::{Step, Walk};

/// Proves from a log's files that record `index` is in the tree of its first `size` records.
///
/// # Errors
/// [`AuditError::Proof`] where the log has no such record or size, else as
/// [`verify`](crate::verify).
pub fn inclusion_proof(dir: &Path, index: u64, size: u64) -> Result<InclusionProof, AuditError> {
    if index >= size {
        return Err(ProofError::Index { index, size }.into());
    }
    let nodes = nodes(dir, [index, size - 1], size)?;
    Ok(InclusionProof::build(&nodes, index, size)?)
}

/// Proves from a log's files that its first `new_size` records begin with its first `old_size`.
///
/// # Errors
/// As [`inclusion_proof`].
pub fn consistency_proof(
    dir: &Path,
    old_size: u64,
    new_size: u64,
) -> Result<ConsistencyProof, AuditError> {
    let edges = [old_size, new_size].map(|size| size.saturating_sub(1));
    let nodes = nodes(dir, edges, new_size)?;
    Ok(ConsistencyProof::build(&nodes, old_size, new_size)?)
}

/// Reads the first `size` records and keeps the chunks of two leaves.
fn nodes(dir: &Path, leaves: [u64; 2], size: u64) -> Result<impl Nodes, AuditError> {
    let mut walk = Walk::open(dir, History::default(), None)?;
    let mut chunks = Chunks::default();
    let mut kept: Vec<(u64, Vec<Hash>)> = Vec::new();
    while chunks.size() < size {
        match walk.next()? {
            Step::Record(record, _) => {
                let chunk = chunks.push(record.leaf);
                kept.extend(chunk.filter(|(number, _)| leaves.map(chunk_of).contains(number)));
            }
            Step::Checkpoint => {}
            Step::Torn(_) | Step::End => {
                let index = size.saturating_sub(1);
                let size = chunks.size();
                return Err(ProofError::Index { index, size }.into());
            }
        }
    }
    Ok(TreeView::new(chunks, move |number| {
        let chunk = kept.iter().find(|(kept, _)| *kept == number);
        let chunk = chunk.map(|(_, leaves)| leaves.clone());
        chunk.ok_or_else(|| io::Error::other("a proof needs leaves that were not kept"))
    }))
}
