//! Proofs that are handed on convince whoever has the key, and nobody of anything else.

use std::path::Path;

use postern_audit::{
    AuditConfig, AuditError, ProofDocument, SigningKey, VerifierKey, consistency_proof,
    inclusion_proof, read, signer,
};
use tempfile::TempDir;

use crate::fixtures::{open, plain, refused};

/// A log of two openings, with the checkpoint that ended each.
fn log_of_two(dir: &Path, config: &AuditConfig) -> [String; 2] {
    [3, 4].map(|count| {
        let (log, _) = open(dir, config).unwrap();
        for call in 0..count {
            log.append(&refused(&format!("call-{call}"))).unwrap();
        }
        log.checkpoint().unwrap()
    })
}

fn size(key: &VerifierKey, note: &str) -> u64 {
    key.open(note).unwrap().size
}

/// The document for record 2, as it is read from a file.
fn inclusion(dir: &Path, key: &VerifierKey, note: &str) -> ProofDocument {
    let proof = inclusion_proof(dir, 2, size(key, note)).unwrap();
    let leaf = read(dir).unwrap().nth(2).unwrap().unwrap().leaf;
    let document = ProofDocument::inclusion(&proof, &leaf, note);
    let text = serde_json::to_string(&document).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn proofs_hold_with_the_key_alone() {
    let dir = TempDir::new().unwrap();
    let [old, new] = log_of_two(dir.path(), &plain());
    let key = signer(dir.path()).unwrap();
    let document = inclusion(dir.path(), &key, &new);
    let proven = document.verify(&key, None).unwrap();
    assert_eq!(proven, key.open(&new).unwrap());
    document.verify(&key, Some(&new)).unwrap();
    let error = document.verify(&key, Some(&old)).unwrap_err();
    assert!(
        error.to_string().contains("but the proof is for"),
        "{error}"
    );

    let proof = consistency_proof(dir.path(), size(&key, &old), size(&key, &new)).unwrap();
    let document = ProofDocument::consistency(&proof, &old, &new);
    assert_eq!(document.verify(&key, None).unwrap(), proven);
    document.verify(&key, Some(&old)).unwrap();
}

#[test]
fn what_was_altered_or_signed_by_another_is_not_believed() {
    let dir = TempDir::new().unwrap();
    let [_, new] = log_of_two(dir.path(), &plain());
    let key = signer(dir.path()).unwrap();
    let document = inclusion(dir.path(), &key, &new);
    let text = serde_json::to_string(&document).unwrap();
    let verify = |text: &str| {
        serde_json::from_str::<ProofDocument>(text)
            .unwrap()
            .verify(&key, None)
    };

    let moved = text.replace("\"index\":2", "\"index\":1");
    assert!(matches!(verify(&moved), Err(AuditError::Proof(_))));
    let ProofDocument::Inclusion { leaf, .. } = &document else {
        panic!("{document:?}");
    };
    let other_leaf = text.replace(leaf, &"0".repeat(64));
    assert!(matches!(verify(&other_leaf), Err(AuditError::Proof(_))));
    let no_hash = text.replace(leaf, "0");
    assert!(matches!(
        verify(&no_hash),
        Err(AuditError::Witness { what: "proof", .. })
    ));
    assert!(serde_json::from_str::<ProofDocument>(&text.replace("\"size\"", "\"sizes\"")).is_err());

    let stranger = SigningKey::generate(key.name().clone()).unwrap();
    let error = document.verify(stranger.verifier(), None).unwrap_err();
    assert!(
        matches!(
            error,
            AuditError::Witness {
                what: "checkpoint",
                ..
            }
        ),
        "{error}"
    );
}
