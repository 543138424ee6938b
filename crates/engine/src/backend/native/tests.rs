//! The native decoder against the specification, against candle on the same file, and against itself: in chunks, side
//! by side, and with any number of threads.

use postern_testkit::gguf::{Entry, Storage, TinyModel};

use super::NativeBackend;
use crate::backend::candle::CandleBackend;
use crate::backend::tests::{PROMPT, Specification, difference, logits, verified};
use crate::backend::{Backend, DecodeStep};
use crate::config::EngineConfig;
use crate::gguf::Gguf;

const ARCHITECTURES: [&str; 4] = ["llama", "mistral", "qwen2", "qwen3"];
/// Largest difference between logits (which spread over about 4) that keys and values in half precision explain.
const HALF_PRECISION: f32 = 1e-2;
/// The same for activations of 8 bits, too.
const EIGHT_BITS: f32 = 0.15;

fn backend_with(file: &[u8], config: &EngineConfig) -> NativeBackend {
    let gguf = Gguf::read(file, file.len() as u64).unwrap();
    NativeBackend::load(verified(file), &gguf, config).unwrap()
}

fn backend(file: &[u8]) -> NativeBackend {
    backend_with(file, &EngineConfig::default())
}

fn stored(architecture: &str, storage: Storage) -> Vec<u8> {
    TinyModel {
        storage,
        ..TinyModel::new(architecture)
    }
    .build()
}

#[test]
fn every_architecture_computes_what_its_specification_says() {
    for architecture in ARCHITECTURES {
        for (storage, bound) in [
            (Storage::F32, HALF_PRECISION),
            (Storage::F16, HALF_PRECISION),
            (Storage::Q8_0, EIGHT_BITS),
        ] {
            let file = stored(architecture, storage);
            let expected = Specification::read(&file).logits(&PROMPT);
            let found = logits(&mut backend(&file), &PROMPT, PROMPT.len());
            let difference = difference(&found, &expected);
            assert!(
                difference < bound,
                "{architecture} in {storage:?}: {difference}"
            );
        }
    }
}

#[test]
fn rope_factors_and_scalings_follow_the_specification() {
    let factors: Vec<f32> = (0..8).map(|pair| 1.0 + pair as f32).collect();
    let mut with_factors = TinyModel::new("llama").builder();
    with_factors.tensor("rope_freqs.weight", &[8], &factors, Storage::F32);
    let mut linear = TinyModel::new("llama").builder();
    linear.entry("llama.rope.scaling.type", Entry::Text("linear".to_owned()));
    linear.entry("llama.rope.scaling.factor", Entry::F32(4.0));
    for (name, gguf) in [("factors", with_factors), ("linear", linear)] {
        let file = gguf.build();
        let expected = Specification::read(&file).logits(&PROMPT);
        let found = logits(&mut backend(&file), &PROMPT, PROMPT.len());
        let difference = difference(&found, &expected);
        assert!(difference < HALF_PRECISION, "{name}: {difference}");
    }
}

#[test]
fn candle_computes_the_same_but_for_rounding() {
    for architecture in ARCHITECTURES {
        let file = stored(architecture, Storage::Q8_0);
        let gguf = Gguf::read(&file[..], file.len() as u64).unwrap();
        let mut candle =
            CandleBackend::load(verified(&file), &gguf, &EngineConfig::default()).unwrap();
        let expected = logits(&mut candle, &PROMPT, PROMPT.len());
        let found = logits(&mut backend(&file), &PROMPT, PROMPT.len());
        let difference = difference(&found, &expected);
        assert!(difference < EIGHT_BITS, "{architecture}: {difference}");
    }
}

#[test]
fn chunks_and_threads_change_no_bit() {
    for storage in [Storage::F32, Storage::Q8_0] {
        let file = stored("qwen2", storage);
        let whole = logits(&mut backend(&file), &PROMPT, PROMPT.len());
        for (chunk, threads) in [(1, 1), (2, 3), (7, 2), (22, 4)] {
            let config = EngineConfig {
                threads: Some(threads),
                prefill_chunk_tokens: chunk.max(3),
                ..EngineConfig::default()
            };
            let found = logits(&mut backend_with(&file, &config), &PROMPT, chunk);
            assert_eq!(found, whole, "chunks of {chunk}, {threads} threads");
        }
    }
}

#[test]
fn sequences_side_by_side_change_no_bit_of_each_other() {
    let file = stored("llama", Storage::Q8_0);
    let continuations: [[u32; 4]; 3] = [[5, 9, 3, 250], [5, 5, 5, 5], [1, 2, 3, 4]];
    let alone: Vec<Vec<f32>> = continuations
        .iter()
        .map(|tokens| {
            let all = [&PROMPT[..], &tokens[..]].concat();
            logits(&mut backend(&file), &all, all.len())
        })
        .collect();
    let mut backend = backend(&file);
    let sequences = continuations.map(|_| {
        let sequence = backend.open();
        backend.prefill(sequence, &PROMPT, None).unwrap();
        sequence
    });
    let mut found = vec![Vec::new(); 3];
    for step in 0..4 {
        let steps: Vec<DecodeStep> = sequences
            .iter()
            .zip(&continuations)
            .map(|(&sequence, tokens)| DecodeStep {
                sequence,
                token: tokens[step],
            })
            .collect();
        backend.decode(&steps, &mut found).unwrap();
    }
    assert_eq!(found, alone);
}

#[test]
fn a_closed_sequence_leaves_its_place_to_the_next() {
    let file = stored("qwen3", Storage::Q8_0);
    let mut backend = backend(&file);
    let first = logits(&mut backend, &PROMPT, 5);
    let whole_context = vec![7; backend.context_tokens()];
    for _ in 0..6 {
        let _ = logits(&mut backend, &whole_context, 64);
    }
    assert_eq!(logits(&mut backend, &PROMPT, 5), first);
}

#[test]
fn too_many_sequences_are_an_error_and_not_a_panic() {
    let config = EngineConfig {
        sequences_max: 1,
        ..EngineConfig::default()
    };
    let mut backend = backend_with(&stored("llama", Storage::Q8_0), &config);
    let context = vec![1; backend.context_tokens()];
    let (first, second) = (backend.open(), backend.open());
    backend.prefill(first, &context, None).unwrap();
    let error = backend.prefill(second, &[1], None).unwrap_err();
    assert!(error.to_string().contains("KV cache"), "{error}");
}
