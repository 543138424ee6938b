//! Models that say exactly what a test needs: each byte has one successor.
//!
//! The weights are those of a plain llama whose attention and feed-forward parts add nothing, so
//! that the next token depends on the last one alone. The engine runs them like any other model,
//! and their text is the same on every machine.

use crate::gguf::{Storage, TinyModel};

const WIDTH: usize = 264;
const FEED_FORWARD: usize = 32;

/// A model that answers `text`, in which no byte may occur twice, and ends.
pub fn saying(text: &str, context_tokens: usize) -> Vec<u8> {
    let mut chain = vec![usize::from(b'\n')];
    chain.extend(text.bytes().map(usize::from));
    chain.push(end_token());
    model(&chain, context_tokens)
}

/// A model that answers "on on on on" without end.
pub fn endless(context_tokens: usize) -> Vec<u8> {
    let chain = b"\non o".map(usize::from);
    model(&chain, context_tokens)
}

/// The last token of the vocabulary; bytes are the first 256, in order.
fn end_token() -> usize {
    shape(1).vocabulary() - 1
}

fn shape(context_tokens: usize) -> TinyModel {
    TinyModel {
        layers: 1,
        width: WIDTH,
        heads: 4,
        kv_heads: 2,
        head_width: WIDTH / 4,
        feed_forward: FEED_FORWARD,
        context_tokens,
        ..TinyModel::new("llama")
    }
}

/// `chain` is the last token of every prompt, then what follows what.
fn model(chain: &[usize], context_tokens: usize) -> Vec<u8> {
    let shape = shape(context_tokens);
    assert_eq!(shape.vocabulary(), WIDTH, "one direction for each token");
    let mut embeddings = vec![0.0; WIDTH * WIDTH];
    for token in 0..WIDTH {
        embeddings[token * WIDTH + token] = 1.0;
    }
    let mut output = vec![0.0; WIDTH * WIDTH];
    for pair in chain.windows(2) {
        output[pair[1] * WIDTH + pair[0]] = 1.0;
    }
    let square = [WIDTH, WIDTH];
    let silent = [0.0; WIDTH * WIDTH];
    let mut gguf = shape.builder();
    gguf.tensor("token_embd.weight", &square, &embeddings, Storage::F32)
        .tensor("output.weight", &square, &output, Storage::F32)
        .tensor("output_norm.weight", &[WIDTH], &[1.0; WIDTH], Storage::F32)
        .tensor("blk.0.attn_output.weight", &square, &silent, Storage::F32)
        .tensor(
            "blk.0.ffn_down.weight",
            &[WIDTH, FEED_FORWARD],
            &silent[..WIDTH * FEED_FORWARD],
            Storage::F32,
        );
    gguf.build()
}
