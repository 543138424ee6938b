//! The decoder against a scalar specification, against candle-transformers where that is right, and
//! against itself: in chunks, side by side, and windowed.

use std::io::Cursor;

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::{Device, Tensor};
use candle_transformers::models::{
    quantized_llama, quantized_phi3, quantized_qwen2, quantized_qwen3,
};
use postern_testkit::gguf::{Entry, GgufBuilder, Storage, TinyModel};

use super::CandleBackend;
use crate::backend::tests::{
    PROMPT, ROUNDING, Specification, append, difference, logits, open, verified,
};
use crate::backend::{Backend, KNOWN_ARCHITECTURES};
use crate::config::{BackendChoice, EngineConfig};
use crate::error::EngineError;
use crate::gguf::Gguf;

/// What a case changes about a tiny model.
type Change<'a> = &'a dyn Fn(&mut GgufBuilder);

fn try_backend(file: &[u8]) -> Result<CandleBackend, EngineError> {
    let gguf = Gguf::read(file, file.len() as u64)?;
    CandleBackend::load(verified(file), &gguf, &EngineConfig::default())
}

fn backend(file: &[u8]) -> CandleBackend {
    try_backend(file).unwrap()
}

#[test]
fn every_architecture_computes_what_its_specification_says() {
    for &architecture in KNOWN_ARCHITECTURES {
        let file = TinyModel::new(architecture).build();
        let expected = Specification::read(&file).logits(&PROMPT);
        let found = logits(&mut backend(&file), &PROMPT, PROMPT.len());
        let difference = difference(&found, &expected);
        assert!(difference < ROUNDING, "{architecture}: {difference}");
    }
}

/// Scalings and factors that files ask for.
#[test]
fn rope_scalings_follow_the_specification() {
    let text = |text: &str| Entry::Text(text.to_owned());
    let factors: Vec<f32> = (0..8).map(|pair| 1.0 + pair as f32).collect();
    let cases: [(&str, &str, Change); 6] = [
        ("frequency factors", "llama", &|gguf| {
            gguf.tensor("rope_freqs.weight", &[8], &factors, Storage::F32);
        }),
        ("linear", "llama", &|gguf| {
            gguf.entry("llama.rope.scaling.type", text("linear"));
            gguf.entry("llama.rope.scaling.factor", Entry::F32(4.0));
        }),
        ("linear, global layers only", "gemma3", &|gguf| {
            gguf.entry("gemma3.rope.scaling.type", text("linear"));
            gguf.entry("gemma3.rope.scaling.factor", Entry::F32(8.0));
        }),
        ("long factors", "phi3", &|gguf| {
            gguf.entry("phi3.rope.scaling.type", text("longrope"));
            gguf.entry("phi3.rope.scaling.original_context_length", Entry::U32(32));
            gguf.entry("phi3.rope.scaling.attn_factor", Entry::F32(1.2));
            gguf.tensor("rope_factors_long.weight", &[8], &factors, Storage::F32);
            gguf.tensor("rope_factors_short.weight", &[8], &[1.0; 8], Storage::F32);
        }),
        ("short factors", "phi3", &|gguf| {
            gguf.entry("phi3.rope.scaling.original_context_length", Entry::U32(256));
            gguf.tensor("rope_factors_long.weight", &[8], &[1.0; 8], Storage::F32);
            gguf.tensor("rope_factors_short.weight", &[8], &factors, Storage::F32);
        }),
        ("partial rotation", "phi3", &|gguf| {
            gguf.entry("phi3.rope.dimension_count", Entry::U32(12));
        }),
    ];
    for (name, architecture, change) in cases {
        let mut gguf = TinyModel::new(architecture).builder();
        let plain = gguf.build();
        change(&mut gguf);
        let file = gguf.build();
        let expected = Specification::read(&file).logits(&PROMPT);
        let found = logits(&mut backend(&file), &PROMPT, PROMPT.len());
        assert!(
            difference(&found, &expected) < ROUNDING,
            "{name}: {}",
            difference(&found, &expected)
        );
        let unscaled = logits(&mut backend(&plain), &PROMPT, PROMPT.len());
        assert!(
            difference(&found, &unscaled) > 10.0 * ROUNDING,
            "{name} has no effect"
        );
    }
}

/// YaRN leaves the fastest pair alone, divides the slowest by the factor, and scales the magnitude.
#[test]
fn yarn_interpolates_slow_pairs_only() {
    use crate::backend::rope::{RopeSpec, RopeStyle};
    use crate::gguf::{Metadata, Value};
    let metadata = Metadata::from_entries([
        (
            "qwen2.rope.scaling.type".to_owned(),
            Value::String("yarn".to_owned()),
        ),
        ("qwen2.rope.scaling.factor".to_owned(), Value::Float(4.0)),
        (
            "qwen2.rope.scaling.original_context_length".to_owned(),
            Value::Unsigned(32_768),
        ),
        ("qwen2.rope.freq_base".to_owned(), Value::Float(1e6)),
    ]);
    let rope = RopeSpec::read("qwen2", &metadata, RopeStyle::Halves, 128, 1e4, 131_072).unwrap();
    let (frequencies, magnitude) = (rope.frequencies(None), rope.magnitude());
    let plain = |pair: usize| 1e6_f64.powf(-2.0 * pair as f64 / 128.0) as f32;
    assert!((frequencies[0] / plain(0) - 1.0).abs() < 1e-6);
    assert!((frequencies[63] / plain(63) - 0.25).abs() < 1e-6);
    assert!(frequencies.windows(2).all(|pair| pair[0] > pair[1]));
    assert!((magnitude - (1.0 + 0.1 * 4.0_f32.ln())).abs() < 1e-6);
}

#[test]
fn the_decoder_agrees_with_candle_transformers_where_that_is_right() {
    for (architecture, storage) in [
        ("llama", Storage::F32),
        ("llama", Storage::Q8_0),
        ("llama", Storage::F16),
        ("qwen2", Storage::F32),
        ("qwen2", Storage::Q8_0),
        ("qwen3", Storage::F32),
        ("phi3", Storage::F32),
        ("phi3", Storage::Q8_0),
    ] {
        let file = TinyModel {
            storage,
            ..TinyModel::new(architecture)
        }
        .build();
        let expected = candle_transformers_logits(architecture, &file);
        let found = logits(&mut backend(&file), &PROMPT, PROMPT.len());
        let difference = difference(&found, &expected);
        assert!(
            difference < ROUNDING,
            "{architecture} in {storage:?}: {difference}"
        );
    }
}

fn candle_transformers_logits(architecture: &str, file: &[u8]) -> Vec<f32> {
    let mut reader = Cursor::new(file);
    let mut content = Content::read(&mut reader).unwrap();
    // Without this key, qwen3 rotates in half precision.
    content
        .metadata
        .insert("general.dtype".to_owned(), Value::U32(0));
    let input = Tensor::new(&PROMPT[..], &Device::Cpu)
        .unwrap()
        .unsqueeze(0)
        .unwrap();
    let device = &Device::Cpu;
    let logits = match architecture {
        "llama" => quantized_llama::ModelWeights::from_gguf(content, &mut reader, device)
            .unwrap()
            .forward(&input, 0),
        "qwen2" => quantized_qwen2::ModelWeights::from_gguf(content, &mut reader, device)
            .unwrap()
            .forward(&input, 0),
        "qwen3" => quantized_qwen3::ModelWeights::from_gguf(content, &mut reader, device)
            .unwrap()
            .forward(&input, 0),
        _ => quantized_phi3::ModelWeights::from_gguf(false, content, &mut reader, device)
            .unwrap()
            .forward(&input, 0),
    };
    logits.unwrap().squeeze(0).unwrap().to_vec1().unwrap()
}

/// A prompt in chunks of any length, down to single tokens, gives the logits of the whole.
#[test]
fn chunks_compute_what_the_whole_computes() {
    for &architecture in KNOWN_ARCHITECTURES {
        for storage in [Storage::F32, Storage::Q8_0] {
            let file = TinyModel {
                storage,
                ..TinyModel::new(architecture)
            }
            .build();
            let mut backend = backend(&file);
            let whole = logits(&mut backend, &PROMPT, PROMPT.len());
            for chunk in [1, 2, 7, 8, 22] {
                let chunked = logits(&mut backend, &PROMPT, chunk);
                let difference = difference(&whole, &chunked);
                assert!(
                    difference < ROUNDING,
                    "{architecture} in {storage:?} by {chunk}: {difference}"
                );
            }
        }
    }
}

/// The KV cache grows beyond its first allocation without changing what was computed.
#[test]
fn long_sequences_outgrow_the_first_allocation() {
    let tokens: Vec<u32> = (0..300).map(|position| position * 7 % 251).collect();
    for architecture in ["llama", "gemma3"] {
        let file = TinyModel {
            context_tokens: 512,
            ..TinyModel::new(architecture)
        }
        .build();
        let mut backend = backend(&file);
        let whole = logits(&mut backend, &tokens, tokens.len());
        let chunked = logits(&mut backend, &tokens, 33);
        assert!(difference(&whole, &chunked) < ROUNDING, "{architecture}");
    }
}

/// What a sequence computes does not depend on the others, bit for bit.
#[test]
fn sequences_side_by_side_compute_what_each_computes_alone() {
    for &architecture in KNOWN_ARCHITECTURES {
        let mut backend = backend(&TinyModel::new(architecture).build());
        let prompts = [&PROMPT[..5], &PROMPT[5..7], &PROMPT[7..]];
        let alone: Vec<_> = prompts
            .iter()
            .map(|prompt| greedy(&mut backend, &[prompt]).remove(0))
            .collect();
        let together = greedy(&mut backend, &prompts);
        assert_eq!(alone, together, "{architecture}");
    }
}

/// Twelve greedy tokens for each prompt, and the bits of all logits on the way.
fn greedy(backend: &mut CandleBackend, prompts: &[&[u32]]) -> Vec<(Vec<u32>, Vec<u32>)> {
    let sequences: Vec<_> = prompts.iter().map(|_| open(backend)).collect();
    let mut found = vec![(Vec::new(), Vec::new()); prompts.len()];
    let mut parts: Vec<_> = sequences
        .iter()
        .copied()
        .zip(prompts.iter().copied())
        .collect();
    let mut tokens = vec![0; prompts.len()];
    for _ in 0..12 {
        let logits = append(backend, &parts);
        for ((logits, found), token) in logits.iter().zip(&mut found).zip(&mut tokens) {
            let numbered = (0..).zip(logits);
            *token = numbered.max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
            found.0.push(*token);
            found.1.extend(logits.iter().map(|logit| logit.to_bits()));
        }
        parts = sequences.iter().copied().zip(tokens.chunks(1)).collect();
    }
    sequences
        .into_iter()
        .for_each(|sequence| backend.close(sequence));
    found
}

#[test]
fn models_that_do_not_fit_together_are_refused() {
    let cases: [(&str, Change); 9] = [
        ("`llama.block_count`", &|gguf| {
            gguf.without_entry("llama.block_count");
        }),
        ("`llama.block_count`, from 1 to", &|gguf| {
            gguf.entry("llama.block_count", Entry::U32(u32::MAX));
        }),
        ("an unsigned integer at `llama.rope.freq_base`", &|gguf| {
            gguf.entry("llama.rope.freq_base", Entry::U32(1));
        }),
        ("3 at `llama.attention.head_count_kv`", &|gguf| {
            gguf.entry("llama.attention.head_count_kv", Entry::U32(3));
        }),
        ("a mixture of 8 experts", &|gguf| {
            gguf.entry("llama.expert_count", Entry::U32(8));
        }),
        ("RoPE scaling \"spiral\"", &|gguf| {
            gguf.entry("llama.rope.scaling.type", Entry::Text("spiral".to_owned()));
        }),
        ("lacks the tensor \"blk.1.attn_k.weight\"", &|gguf| {
            gguf.without_tensor("blk.1.attn_k.weight");
        }),
        (
            "\"blk.0.ffn_down.weight\" has the shape [96, 64], [64, 96] was expected",
            &|gguf| {
                gguf.tensor(
                    "blk.0.ffn_down.weight",
                    &[96, 64],
                    &[0.0; 64 * 96],
                    Storage::F32,
                );
            },
        ),
        ("\"token_embd.weight\"", &|gguf| {
            gguf.without_tensor("token_embd.weight");
        }),
    ];
    for (expected, change) in cases {
        let mut gguf = TinyModel::new("llama").builder();
        change(&mut gguf);
        match try_backend(&gguf.build()) {
            Ok(_) => panic!("{expected}: accepted"),
            Err(error) => assert!(error.to_string().contains(expected), "{expected}: {error}"),
        }
    }
}

#[test]
fn a_storage_type_without_kernels_is_refused_by_name() {
    let mut gguf = TinyModel::new("phi3").builder();
    // IQ4_NL: blocks of 32 weights in 18 bytes.
    gguf.raw_tensor("output.weight", &[264, 64], 20, vec![0; 264 * 2 * 18]);
    let file = gguf.build();
    let head = Gguf::read(&file[..], file.len() as u64).unwrap();
    match crate::backend::choose(&head, BackendChoice::Auto) {
        Err(EngineError::QuantizationUnsupported {
            name, quantization, ..
        }) => {
            assert_eq!(
                (name.as_str(), quantization.as_str()),
                ("output.weight", "IQ4_NL")
            );
        }
        other => panic!("{other:?}"),
    }
}
