//! The checkpoint that lies beside the segments: an end that the log had already reached.
//!
//! Invariant: it only ever speaks against a log. A note that the log's key did not sign, or none,
//! says nothing, since the file is written without a sync; one that it signed must be of this log's
//! own beginning. Absent: other witnesses, which whoever verifies hands in.

use std::io::{self, Read};
use std::path::Path;

use crate::chain::hex;
use crate::checkpoint::{Checkpoint, NOTE_BYTES_MAX, VerifierKey};
use crate::error::Reason;
use crate::merkle::Frontier;
use crate::segment::{CHECKPOINT_NAME, open_to_read};

/// What the folder itself says that the log holds.
#[derive(Debug, Default)]
pub(crate) struct KeptCheckpoint {
    note: Option<String>,
    /// Once the log's key is known, and until the log has come as far.
    expected: Option<Checkpoint>,
}

impl KeptCheckpoint {
    pub(crate) fn read(dir: &Path) -> Self {
        Self {
            note: read_note(&dir.join(CHECKPOINT_NAME)).ok(),
            expected: None,
        }
    }

    /// Takes note of who signs the log.
    pub(crate) fn signed_by(&mut self, signer: &VerifierKey) {
        if let Some(note) = self.note.take() {
            self.expected = signer.open(&note).ok();
        }
    }

    /// Judges the log when its tree is this one.
    pub(crate) fn see(&mut self, tree: &Frontier) -> Result<(), Reason> {
        let Some(expected) = self.expected.take_if(|kept| kept.size == tree.size()) else {
            return Ok(());
        };
        let root = tree.root();
        if root == expected.root {
            return Ok(());
        }
        Err(Reason::CheckpointRoot {
            size: expected.size,
            expected: hex(&expected.root),
            found: hex(&root),
        })
    }

    /// Judges a log that ends.
    pub(crate) fn end(&self) -> Result<(), Reason> {
        match &self.expected {
            Some(Checkpoint { size: 0, .. }) | None => Ok(()),
            Some(kept) => Err(Reason::CutOff { kept: kept.size }),
        }
    }
}

fn read_note(path: &Path) -> io::Result<String> {
    let mut note = String::new();
    let file = open_to_read(path)?;
    file.take(NOTE_BYTES_MAX as u64).read_to_string(&mut note)?;
    Ok(note)
}
