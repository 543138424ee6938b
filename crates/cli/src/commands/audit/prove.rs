//! `postern audit prove`: making a proof from a log, and verifying one without it.
//!
//! Invariant: a proof that is printed was verified first, and a proof that is said to hold rests on
//! nothing but the public key, the files that were named, and their signatures.

use std::path::Path;

use anyhow::Context;
use postern_audit::{Checkpoint, ProofDocument, VerifierKey, inclusion_proof, verify_against};
use serde_json::json;

use super::{classified, inputs};
use crate::arguments::audit::ProveArguments;
use crate::error::CommandError;
use crate::terminal::{Screen, Tone};

pub(super) fn run(arguments: &ProveArguments) -> anyhow::Result<()> {
    match (&arguments.proof, &arguments.dir, arguments.index) {
        (Some(proof), ..) => check(proof, arguments),
        (None, Some(dir), Some(index)) => make(dir, index, arguments),
        (None, ..) => anyhow::bail!("name a log's folder and --index, or a proof with --proof"),
    }
}

fn make(dir: &Path, index: u64, arguments: &ProveArguments) -> anyhow::Result<()> {
    let kept = arguments.checkpoint.as_deref();
    let kept = kept.map(inputs::checkpoint).transpose()?;
    let witness = inputs::witness(arguments.pubkey.as_deref(), kept.as_slice())?;
    let verified = verify_against(dir, &witness).map_err(|error| classified(dir, error))?;
    let signer = VerifierKey::parse(&verified.signer)?;
    let newest = verified.checkpoint.map(|newest| newest.note);
    let note = kept.or(newest).with_context(|| {
        format!(
            "the log in {} has no checkpoint yet, on which a proof could rest",
            dir.display()
        )
    })?;
    let size = signer.open(&note)?.size;
    anyhow::ensure!(
        index < size,
        "the checkpoint covers {size} records, so not #{index}; {}",
        if index < verified.records {
            "wait for the next one, or name a later one with --checkpoint"
        } else {
            "the log has no such record"
        }
    );
    let proof = inclusion_proof(dir, index, size).map_err(|error| classified(dir, error))?;
    let document = ProofDocument::inclusion(&proof, &leaf(dir, index)?, &note);
    document
        .verify(&signer, None)
        .map_err(|error| classified(dir, error))?;
    Screen::new().json(&document)
}

/// The leaf hash of a record, which its proof begins with.
fn leaf(dir: &Path, index: u64) -> anyhow::Result<String> {
    for stored in inputs::records(dir, None)? {
        let stored = stored.map_err(|error| classified(dir, error))?;
        if stored.index == index {
            return Ok(stored.leaf);
        }
    }
    anyhow::bail!("the log in {} has no record #{index}", dir.display())
}

/// Verifies a proof; one that does not hold is an error with the code of a broken log.
fn check(path: &Path, arguments: &ProveArguments) -> anyhow::Result<()> {
    let pubkey = arguments.pubkey.as_deref();
    let signer = inputs::signer(pubkey.context("--proof needs --pubkey")?)?;
    let document = inputs::proof(path)?;
    let kept = arguments.checkpoint.as_deref();
    let kept = kept.map(inputs::checkpoint).transpose()?;
    let proven = document
        .verify(&signer, kept.as_deref())
        .map_err(|error| refuted(path, error))?;
    if let Some(receipt) = &arguments.receipt {
        check_receipt(path, &document, receipt)?;
    }
    let mut screen = Screen::new();
    if arguments.json {
        return screen.json(&json!({
            "verified": true,
            "origin": proven.origin.to_string(),
            "size": proven.size,
            "index": index(&document),
            "receipt": arguments.receipt.is_some(),
        }));
    }
    let verdict = screen.paint(Tone::Good, verdict(&document, &proven));
    Ok(screen.line(format_args!("{}: {verdict}", path.display()))?)
}

/// That a proof is of the very record of a receipt.
fn check_receipt(path: &Path, document: &ProofDocument, receipt: &Path) -> anyhow::Result<()> {
    let receipt_path = receipt.display();
    let receipt = inputs::receipt_in(receipt)?;
    let ProofDocument::Inclusion { index, leaf, .. } = document else {
        anyhow::bail!(
            "{} is of no record, so no receipt belongs to it",
            path.display()
        );
    };
    anyhow::ensure!(
        !receipt.leaf.is_empty(),
        "the receipt in {receipt_path} has no leaf hash; give the whole receipt as JSON"
    );
    if (receipt.index, &receipt.leaf) == (*index, leaf) {
        return Ok(());
    }
    let found = format!(
        "it is of record #{index} with the leaf {leaf}, but the receipt is of #{} with {}",
        receipt.index, receipt.leaf
    );
    Err(refuted(path, found))
}

fn verdict(document: &ProofDocument, proven: &Checkpoint) -> String {
    let Checkpoint { origin, size, .. } = proven;
    match document {
        ProofDocument::Inclusion { index, .. } => {
            format!("record #{index} is in the log of {origin}, one of {size} records")
        }
        ProofDocument::Consistency { old_size, .. } => {
            format!("the log of {origin} with {size} records goes on from the one with {old_size}")
        }
    }
}

fn index(document: &ProofDocument) -> Option<u64> {
    match document {
        ProofDocument::Inclusion { index, .. } => Some(*index),
        ProofDocument::Consistency { .. } => None,
    }
}

fn refuted(path: &Path, why: impl std::fmt::Display) -> anyhow::Error {
    CommandError::AuditBroken {
        message: format!("the proof in {} does not hold: {why}", path.display()),
    }
    .into()
}
