//! `postern audit checkpoint`: the newest checkpoint, and that it goes on from an older one.

use anyhow::Context;
use postern_audit::{ProofDocument, VerifierKey, consistency_proof, verify_against};

use super::{classified, inputs};
use crate::arguments::audit::CheckpointArguments;
use crate::terminal::Screen;

pub(super) fn run(arguments: &CheckpointArguments) -> anyhow::Result<()> {
    let dir = &arguments.dir;
    let old = arguments.old.as_deref();
    let old = old.map(inputs::checkpoint).transpose()?;
    let witness = inputs::witness(arguments.pubkey.as_deref(), old.as_slice())?;
    let verified = verify_against(dir, &witness).map_err(|error| classified(dir, error))?;
    let newest = verified
        .checkpoint
        .with_context(|| format!("the log in {} has no checkpoint yet", dir.display()))?;
    let mut screen = Screen::new();
    let Some(old) = old else {
        return match arguments.json {
            true => screen.json(&newest),
            false => Ok(screen.write(&newest.note)?),
        };
    };
    let signer = VerifierKey::parse(&verified.signer)?;
    let old_size = signer.open(&old)?.size;
    anyhow::ensure!(
        old_size <= newest.size,
        "the checkpoint of --old covers {old_size} records, the newest of the log only {}",
        newest.size
    );
    let proof =
        consistency_proof(dir, old_size, newest.size).map_err(|error| classified(dir, error))?;
    let document = ProofDocument::consistency(&proof, &old, &newest.note);
    document
        .verify(&signer, None)
        .map_err(|error| classified(dir, error))?;
    screen.json(&document)
}
