//! Models that say exactly what a test needs: each byte has one successor.
//!
//! The weights are those of a plain llama whose attention and feed-forward
//! parts add nothing, so that the next token depends on the last one alone.
//! The engine runs them like any other model.

use postern_testkit::gguf::{Storage, TinyModel};

const WIDTH: usize = 264;

/// A model that answers `text`, in which no byte may occur twice, and ends.
pub(crate) fn saying(text: &str, context_tokens: usize) -> Vec<u8> {
    let mut chain = vec![b'\n'.into()];
    chain.extend(text.bytes().map(usize::from));
    chain.push(end_token());
    model(&chain, context_tokens)
}

/// A model that answers "on on on on" without end.
pub(crate) fn endless(context_tokens: usize) -> Vec<u8> {
    let chain = b"\non o".map(usize::from);
    model(&chain, context_tokens)
}

fn shape(context_tokens: usize) -> TinyModel {
    TinyModel {
        layers: 1,
        width: WIDTH,
        heads: 4,
        kv_heads: 2,
        head_width: WIDTH / 4,
        feed_forward: 32,
        context_tokens,
        ..TinyModel::new("llama")
    }
}

/// The last token of the vocabulary; bytes are the first 256, in order.
fn end_token() -> usize {
    shape(1).vocabulary() - 1
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
    let mut gguf = shape.builder();
    let square = [WIDTH, WIDTH];
    gguf.tensor("token_embd.weight", &square, &embeddings, Storage::F32)
        .tensor("output.weight", &square, &output, Storage::F32)
        .tensor("output_norm.weight", &[WIDTH], &[1.0; WIDTH], Storage::F32)
        .tensor(
            "blk.0.attn_output.weight",
            &square,
            &[0.0; WIDTH * WIDTH],
            Storage::F32,
        )
        .tensor(
            "blk.0.ffn_down.weight",
            &[WIDTH, 32],
            &[0.0; WIDTH * 32],
            Storage::F32,
        );
    gguf.build()
}
