//! What the tests of all backends share: the specification of the architectures, and a prompt.

mod specification;

use crate::backend::{Backend, Batch, Opening, SequenceId};
use crate::digest::Sha256Digest;
use crate::manifest::ModelManifest;
use crate::model_file::VerifiedModel;

pub(in crate::backend) use specification::Specification;

/// Largest difference between logits (which spread over about 4) that rounding in f32 explains.
pub(in crate::backend) const ROUNDING: f32 = 2e-4;
pub(in crate::backend) const PROMPT: [u32; 23] = [
    65, 12, 200, 7, 7, 99, 131, 250, 3, 64, 65, 66, 180, 181, 1, 0, 77, 42, 240, 11, 90, 91, 5,
];

/// A model file in memory, pinned as it is.
pub(in crate::backend) fn verified(file: &[u8]) -> VerifiedModel {
    let file: &'static [u8] = Box::leak(file.to_vec().into_boxed_slice());
    let manifest = ModelManifest {
        id: "tiny".to_owned(),
        path: "tiny.gguf".into(),
        sha256: Sha256Digest::of(file),
        bytes: file.len() as u64,
    };
    VerifiedModel::from_embedded(file, &manifest).unwrap()
}

/// A sequence that begins with nothing, may have the whole context, and shares with nobody.
pub(in crate::backend) fn open(backend: &mut impl Backend) -> SequenceId {
    let opening = Opening::apart(backend.context_tokens());
    backend.open(&opening).expect("there is room").0
}

/// Appends some tokens to each of some sequences in one pass, and gives the logits after the last of each.
pub(in crate::backend) fn append(
    backend: &mut impl Backend,
    parts: &[(SequenceId, &[u32])],
) -> Vec<Vec<f32>> {
    let (mut batch, mut logits) = (Batch::default(), Vec::new());
    for &(sequence, tokens) in parts {
        batch.push(sequence, tokens.iter().copied(), 1);
    }
    backend.forward(&batch, &mut logits).unwrap();
    let rows = logits.chunks(backend.vocabulary());
    rows.map(<[f32]>::to_vec).collect()
}

/// Logits after `tokens`, fed in chunks of `chunk`.
pub(in crate::backend) fn logits(
    backend: &mut impl Backend,
    tokens: &[u32],
    chunk: usize,
) -> Vec<f32> {
    let sequence = open(backend);
    let mut logits = Vec::new();
    for tokens in tokens.chunks(chunk) {
        logits = append(backend, &[(sequence, tokens)]).remove(0);
    }
    backend.close(sequence);
    logits
}

/// The largest difference.
pub(in crate::backend) fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}
