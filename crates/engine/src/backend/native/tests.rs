//! The native decoder against the specification, against candle on the same file, and against itself: in chunks, side
//! by side, and with any number of threads.

use postern_testkit::gguf::{Entry, Storage, TinyModel};

use super::NativeBackend;
use crate::backend::candle::CandleBackend;
use crate::backend::tests::{PROMPT, Specification, append, difference, logits, open, verified};
use crate::backend::{Backend, Batch, Opening, SequenceId};
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
    let sequences = continuations.map(|_| open(&mut backend));
    for sequence in sequences {
        append(&mut backend, &[(sequence, &PROMPT)]);
    }
    let mut found = Vec::new();
    for step in 0..4 {
        let parts: Vec<_> = sequences
            .into_iter()
            .zip(&continuations)
            .map(|(sequence, tokens)| (sequence, &tokens[step..=step]))
            .collect();
        found = append(&mut backend, &parts);
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

/// The likeliest token after each of `tokens` more.
fn greedy(
    backend: &mut NativeBackend,
    sequence: SequenceId,
    first: &[u32],
    tokens: usize,
) -> Vec<u32> {
    let mut found: Vec<u32> = Vec::new();
    for _ in 0..tokens {
        let next = found.last().map_or(first, std::slice::from_ref);
        let logits = append(backend, &[(sequence, next)]).remove(0);
        let likeliest = (0..).zip(logits).max_by(|a, b| a.1.total_cmp(&b.1));
        found.push(likeliest.expect("a vocabulary is not empty").0);
    }
    found
}

#[test]
fn a_prompt_that_is_known_already_changes_no_bit() {
    let file = stored("qwen2", Storage::Q8_0);
    let mut backend = backend(&file);
    let prompt: Vec<u32> = (0..100).map(|at| at * 7 % 250).collect();
    let cold = logits(&mut backend, &prompt, 33);
    let opening = Opening {
        prompt: &prompt,
        shared_tokens: 0,
        tenant: "",
        tokens_max: 110,
    };
    let (sequence, found) = backend.open(&opening).expect("there is room");
    assert_eq!(found, 96);
    let warm = append(&mut backend, &[(sequence, &prompt[found..])]).remove(0);
    assert_eq!(warm, cold);
}

#[test]
fn tokens_computed_ahead_and_taken_back_change_no_bit() {
    let file = stored("llama", Storage::Q8_0);
    let mut backend = backend(&file);
    let plain = open(&mut backend);
    let expected = greedy(&mut backend, plain, &PROMPT, 12);
    let sequence = open(&mut backend);
    let mut batch = Batch::default();
    let mut rows = Vec::new();
    batch.push(sequence, PROMPT, 1);
    backend.forward(&batch, &mut rows).unwrap();
    for at in 0..8 {
        // Two right guesses and three wrong ones behind each token.
        let guess = [expected[at], expected[at + 1], expected[at + 2], 9, 9, 9];
        batch.clear();
        batch.push(sequence, guess, 6);
        backend.forward(&batch, &mut rows).unwrap();
        for (ahead, row) in rows.chunks(backend.vocabulary()).take(3).enumerate() {
            let likeliest = (0..).zip(row).max_by(|a, b| a.1.total_cmp(b.1));
            assert_eq!(likeliest.unwrap().0, expected[at + ahead + 1]);
        }
        backend.truncate(sequence, PROMPT.len() + at + 1);
    }
}
