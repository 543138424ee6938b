//! What the commands read beside the log: public keys, checkpoints, receipts, proofs, identities.
//!
//! Invariant: each file is read up to a bound that no such file reaches, and an error names it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::Context;
use postern_audit::{
    Identities, NOTE_BYTES_MAX, ProofDocument, Reader, Receipt, VerifierKey, Witness, read_with,
};
use serde_json::Value;

use super::classified;
use crate::arguments::audit::ReceiptArgument;
use crate::arguments::parse_receipt;
use crate::client;

/// Longest file with a public key, in bytes.
const PUBKEY_BYTES_MAX: u64 = 4 << 10;
/// Longest file with a receipt or a proof, in bytes. An answer in which a receipt stands has its
/// whole text beside it.
const JSON_BYTES_MAX: u64 = 16 << 20;

/// A public key, written out or in a file whose first line it is.
pub(super) fn signer(written: &str) -> anyhow::Result<VerifierKey> {
    if let Ok(key) = VerifierKey::parse(written) {
        return Ok(key);
    }
    let path = Path::new(written);
    let text = read_text(path, PUBKEY_BYTES_MAX).with_context(|| {
        format!("{written} is no public key of the form name+hash+key, so it was taken for a file")
    })?;
    let line = text.lines().next().unwrap_or_default().trim();
    VerifierKey::parse(line)
        .with_context(|| format!("{} holds no public key of a log", path.display()))
}

/// What must agree with a log: who signed it, and checkpoints that were kept.
pub(super) fn witness(pubkey: Option<&str>, checkpoints: &[String]) -> anyhow::Result<Witness> {
    Ok(Witness {
        signer: pubkey.map(signer).transpose()?,
        checkpoints: checkpoints.to_vec(),
        ..Witness::default()
    })
}

/// A checkpoint as its file has it.
pub(super) fn checkpoint(path: &Path) -> anyhow::Result<String> {
    read_text(path, NOTE_BYTES_MAX as u64)
}

pub(super) fn receipt(argument: &ReceiptArgument) -> anyhow::Result<Receipt> {
    match argument {
        ReceiptArgument::Written(receipt) => Ok(receipt.clone()),
        ReceiptArgument::File(path) => receipt_in(path),
    }
}

/// A receipt in a file: INDEX:HEAD, its JSON, or an answer that has it as its member `audit`.
pub(super) fn receipt_in(path: &Path) -> anyhow::Result<Receipt> {
    let place = || {
        format!(
            "{} holds no receipt; expected INDEX:HEAD, or `audit` of an answer as JSON",
            path.display()
        )
    };
    let text = read_text(path, JSON_BYTES_MAX)?;
    let text = text.trim();
    if !text.starts_with('{') {
        return parse_receipt(text)
            .map_err(anyhow::Error::msg)
            .with_context(place);
    }
    let mut json: Value = serde_json::from_str(text).with_context(place)?;
    let of_answer = json.get_mut("audit").map(Value::take);
    let kept: client::Receipt =
        serde_json::from_value(of_answer.unwrap_or(json)).with_context(place)?;
    Ok(kept.into())
}

pub(super) fn proof(path: &Path) -> anyhow::Result<ProofDocument> {
    let text = read_text(path, JSON_BYTES_MAX)?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} holds no proof as JSON", path.display()))
}

/// The log's records, with what an auditor's identities open.
pub(super) fn records(dir: &Path, identity_file: Option<&Path>) -> anyhow::Result<Reader> {
    let reader = match identity_file {
        Some(path) => {
            let identities = Identities::read(path)
                .with_context(|| format!("--identity-file {}", path.display()))?;
            read_with(dir, identities)
        }
        None => postern_audit::read(dir),
    };
    reader.map_err(|error| classified(dir, error))
}

/// A text file of at most so many bytes.
pub(super) fn read_text(path: &Path, bytes_max: u64) -> anyhow::Result<String> {
    let place = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(place)?;
    let mut bytes = Vec::new();
    file.take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .with_context(place)?;
    anyhow::ensure!(
        bytes.len() as u64 <= bytes_max,
        "{} has more than {bytes_max} bytes, so it is not what is expected here; check the path",
        path.display()
    );
    String::from_utf8(bytes).map_err(|_| {
        anyhow::anyhow!(
            "{} is not text in UTF-8, so it is not what is expected here; check the path",
            path.display()
        )
    })
}
