//! Measures attention by itself: a prompt of 1024 tokens, and a token decoded at several depths, in the shape of
//! Qwen2.5-0.5B (14 heads of 64 on 2 KV heads, 24 layers).
//!
//! ```text
//! cargo run --release -p postern-benches --example attention_speed [THREADS]
//! ```
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use std::time::Instant;

use postern_kernels::{Attention, Cpu, KvCache, KvShape, PAGE_TOKENS, PageId, Pool, Span};

const HEADS: usize = 14;
const SHAPE: KvShape = KvShape {
    layers: 24,
    kv_heads: 2,
    head_width: 64,
};
const PROMPT_TOKENS: usize = 1024;
const CONTEXT_TOKENS: usize = 8192;
const REPEATS: usize = 5;

fn main() {
    let threads = std::env::args().nth(1);
    let threads = threads.and_then(|text| text.parse().ok()).unwrap_or(2);
    let cpu = Cpu::detect();
    let mut pool = Pool::new(threads, cpu).expect("the system gives threads");
    let mut cache = KvCache::new(SHAPE, CONTEXT_TOKENS / PAGE_TOKENS);
    let pages: Vec<PageId> = std::iter::from_fn(|| cache.allocate()).collect();
    let mut attention = Attention::new(SHAPE, HEADS);
    let whole = Span {
        first_position: 0,
        tokens: CONTEXT_TOKENS,
        pages: &pages,
    };
    let keys = waves(CONTEXT_TOKENS * SHAPE.kv_heads * SHAPE.head_width);
    let start = Instant::now();
    for layer in 0..SHAPE.layers {
        cache.write(&mut pool, layer, whole, &keys, &keys);
    }
    println!(
        "{} write {CONTEXT_TOKENS}: {:?}",
        cpu.name(),
        start.elapsed()
    );
    let prompt = Span {
        tokens: PROMPT_TOKENS,
        ..whole
    };
    measure(&mut pool, &cache, &mut attention, prompt, "prefill");
    for depth in [128, 1024, CONTEXT_TOKENS - 1] {
        let token = Span {
            first_position: depth,
            tokens: 1,
            pages: &pages,
        };
        measure(&mut pool, &cache, &mut attention, token, "decode");
    }
}

fn measure(
    pool: &mut Pool,
    cache: &KvCache,
    attention: &mut Attention,
    span: Span<'_>,
    what: &str,
) {
    let queries = waves(span.tokens * HEADS * SHAPE.head_width);
    let mut out = vec![0.0; queries.len()];
    let mut best = f64::INFINITY;
    for _ in 0..REPEATS {
        let start = Instant::now();
        for layer in 0..SHAPE.layers {
            attention.attend(pool, cache, layer, &[span], &queries, 0.125, &mut out);
        }
        best = best.min(start.elapsed().as_secs_f64());
    }
    let seen: usize = (1..=span.tokens).map(|row| span.first_position + row).sum();
    let products = seen * HEADS * SHAPE.head_width * 2 * SHAPE.layers;
    println!(
        "{} {what} {} at {}: {:.3} ms, {:.1} G multiply-adds/s",
        pool.cpu().name(),
        span.tokens,
        span.first_position,
        best * 1e3,
        products as f64 / best / 1e9
    );
}

fn waves(count: usize) -> Vec<f32> {
    (0..count)
        .map(|index| (index as f32 * 0.37).sin())
        .collect()
}
