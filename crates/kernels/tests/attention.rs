//! Attention over the paged cache: close to the definition in f64, and the same bits for a row in whatever company.

use postern_kernels::{
    Attention, Cpu, HEAD_WIDTH_MAX, KvCache, KvShape, PAGE_TOKENS, PageId, Pool, SEGMENT_TOKENS,
    Span,
};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a sequence's rows are: queries, keys and values, `[tokens, heads or kv_heads * head_width]`.
#[derive(Clone)]
struct Sequence {
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    tokens: usize,
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    heads: usize,
    kv_heads: usize,
    head_width: usize,
}

impl Shape {
    fn kv(self) -> KvShape {
        KvShape {
            layers: 2,
            kv_heads: self.kv_heads,
            head_width: self.head_width,
        }
    }

    fn scale(self) -> f32 {
        1.0 / (self.head_width as f32).sqrt()
    }

    fn query_width(self) -> usize {
        self.heads * self.head_width
    }

    fn key_width(self) -> usize {
        self.kv_heads * self.head_width
    }

    fn sequence(self, tokens: usize, seed: u64) -> Sequence {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut floats = |count: usize, size: f32| -> Vec<f32> {
            (0..count)
                .map(|_| random.random_range(-size..size))
                .collect()
        };
        Sequence {
            queries: floats(tokens * self.query_width(), 4.0),
            keys: floats(tokens * self.key_width(), 4.0),
            values: floats(tokens * self.key_width(), 2.0),
            tokens,
        }
    }
}

/// A cache, and the pages of each sequence in it.
struct Context {
    shape: Shape,
    pool: Pool,
    cache: KvCache,
    attention: Attention,
    pages: Vec<Vec<PageId>>,
}

const LAYER: usize = 1;

impl Context {
    /// With pages that once held what is no number.
    fn new(shape: Shape, lengths: &[usize], threads: usize, cpu: Cpu) -> Self {
        let needed: Vec<usize> = lengths
            .iter()
            .map(|len| len.div_ceil(PAGE_TOKENS))
            .collect();
        let mut pool = Pool::new(threads, cpu).expect("threads");
        let mut cache = KvCache::new(shape.kv(), needed.iter().sum());
        let mut pages: Vec<Vec<PageId>> = Vec::new();
        for needed in needed {
            let taken = (0..needed).map(|_| cache.allocate().expect("a page"));
            pages.push(taken.collect());
        }
        for pages in &pages {
            let tokens = pages.len() * PAGE_TOKENS;
            let span = Span {
                first_position: 0,
                tokens,
                pages,
            };
            let old = vec![f32::NAN; tokens * shape.key_width()];
            let infinite = vec![f32::INFINITY; old.len()];
            cache.write(&mut pool, LAYER, span, &old, &infinite);
        }
        Self {
            shape,
            pool,
            cache,
            attention: Attention::new(shape.kv(), shape.heads),
            pages,
        }
    }

    /// Writes and attends a batch: `parts` are (sequence, first position, tokens). Gives each part's rows.
    fn step(&mut self, sequences: &[Sequence], parts: &[(usize, usize, usize)]) -> Vec<Vec<f32>> {
        let (query_width, key_width) = (self.shape.query_width(), self.shape.key_width());
        let mut queries = Vec::new();
        let mut spans = Vec::new();
        for &(index, first_position, tokens) in parts {
            let sequence = &sequences[index];
            let span = Span {
                first_position,
                tokens,
                pages: &self.pages[index],
            };
            let rows = first_position * key_width..(first_position + tokens) * key_width;
            let (keys, values) = (&sequence.keys[rows.clone()], &sequence.values[rows]);
            self.cache.write(&mut self.pool, LAYER, span, keys, values);
            let rows = first_position * query_width..(first_position + tokens) * query_width;
            queries.extend_from_slice(&sequence.queries[rows]);
            spans.push(span);
        }
        let mut out = vec![f32::NAN; queries.len()];
        self.attention.attend(
            &mut self.pool,
            &self.cache,
            LAYER,
            &spans,
            &queries,
            self.shape.scale(),
            &mut out,
        );
        let mut rest = out.as_slice();
        let mut results = Vec::new();
        for (_, _, tokens) in parts {
            let (part, others) = rest.split_at(tokens * query_width);
            results.push(part.to_vec());
            rest = others;
        }
        results
    }
}

/// All rows of a sequence by itself.
fn alone(shape: Shape, sequence: &Sequence, threads: usize, cpu: Cpu) -> Vec<f32> {
    let mut context = Context::new(shape, &[sequence.tokens], threads, cpu);
    let whole = (0, 0, sequence.tokens);
    context
        .step(std::slice::from_ref(sequence), &[whole])
        .remove(0)
}

fn bits(floats: &[f32]) -> Vec<u32> {
    floats.iter().map(|float| float.to_bits()).collect()
}

/// The definition, in f64 over keys and values rounded to half precision.
fn reference(shape: Shape, sequence: &Sequence) -> Vec<f64> {
    let half = |x: &f32| half::f16::from_f32(*x).to_f64();
    let keys: Vec<f64> = sequence.keys.iter().map(half).collect();
    let values: Vec<f64> = sequence.values.iter().map(half).collect();
    let width = shape.head_width;
    let mut out = Vec::new();
    for (row, query) in sequence.queries.chunks(width).enumerate() {
        let (token, head) = (row / shape.heads, row % shape.heads);
        let kv_head = head * shape.kv_heads / shape.heads;
        let at = |other: usize| other * shape.key_width() + kv_head * width;
        let score = |other: usize| -> f64 {
            let key = &keys[at(other)..][..width];
            let products = key.iter().zip(query).map(|(k, q)| k * f64::from(*q));
            products.sum::<f64>() * f64::from(shape.scale())
        };
        let scores: Vec<f64> = (0..=token).map(score).collect();
        let greatest = scores.iter().fold(f64::NEG_INFINITY, |a, b| a.max(*b));
        let weights: Vec<f64> = scores
            .iter()
            .map(|score| (score - greatest).exp())
            .collect();
        let total: f64 = weights.iter().sum();
        out.extend((0..width).map(|column| {
            let weighted = weights.iter().enumerate();
            weighted
                .map(|(other, weight)| weight * values[at(other) + column])
                .sum::<f64>()
                / total
        }));
    }
    out
}

const SHAPES: [Shape; 7] = [
    shape(2, 2, 16),
    shape(14, 2, 64),
    shape(3, 1, 80),
    shape(6, 2, 96),
    shape(9, 1, 24),
    shape(4, 2, 128),
    shape(2, 1, 256),
];

const fn shape(heads: usize, kv_heads: usize, head_width: usize) -> Shape {
    Shape {
        heads,
        kv_heads,
        head_width,
    }
}

/// Miri takes its time.
fn shapes() -> &'static [Shape] {
    if cfg!(miri) { &SHAPES[..1] } else { &SHAPES }
}

fn check_definition(shape: Shape, tokens: usize, threads: usize, seed: u64) {
    let sequence = shape.sequence(tokens, seed);
    let found = alone(shape, &sequence, threads, Cpu::detect());
    for (found, expected) in found.iter().zip(reference(shape, &sequence)) {
        let error = (f64::from(*found) - expected).abs();
        assert!(error < 3e-5, "{shape:?}, {tokens}: {found}, not {expected}");
    }
}

#[test]
fn rows_are_close_to_the_definition() {
    let lengths: &[usize] = if cfg!(miri) {
        &[PAGE_TOKENS + 1]
    } else {
        &[1, 31, 33, 100, 530]
    };
    for shape in shapes() {
        for &tokens in lengths {
            check_definition(*shape, tokens, 1, 11);
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "only the scalar instruction set is there")]
fn rows_are_equal_on_every_instruction_set() {
    for shape in SHAPES {
        // Plain Rust takes its time: only narrow shapes go beyond a segment.
        let long = if shape.query_width() <= 64 { 530 } else { 70 };
        for tokens in [1, 40, long] {
            check_equality(shape, tokens, 2, 12);
        }
    }
}

fn check_equality(shape: Shape, tokens: usize, threads: usize, seed: u64) {
    let sequence = shape.sequence(tokens, seed);
    let scalar = alone(shape, &sequence, 1, Cpu::scalar());
    for cpu in Cpu::all() {
        let found = alone(shape, &sequence, threads, cpu);
        assert_eq!(
            bits(&found),
            bits(&scalar),
            "{shape:?}, {tokens}, {}",
            cpu.name()
        );
    }
}

#[test]
#[cfg_attr(miri, ignore = "too long")]
fn a_long_context_decoded_by_many_threads_equals_its_prefill() {
    let shape = shape(7, 1, 64);
    let tokens = 3 * SEGMENT_TOKENS + 40;
    let sequence = shape.sequence(tokens, 13);
    // Plain Rust, the first, would take too long here; the shorter tests have it.
    for cpu in Cpu::all().into_iter().skip(1) {
        let prefill = alone(shape, &sequence, 1, cpu);
        for threads in [1, 2, 5] {
            let mut context = Context::new(shape, &[tokens], threads, cpu);
            let sequences = std::slice::from_ref(&sequence);
            context.step(sequences, &[(0, 0, tokens - 2)]);
            for position in [tokens - 2, tokens - 1] {
                let row = context.step(sequences, &[(0, position, 1)]).remove(0);
                let expected = &prefill[position * shape.query_width()..][..shape.query_width()];
                assert_eq!(
                    bits(&row),
                    bits(expected),
                    "{threads} threads, {}",
                    cpu.name()
                );
            }
        }
    }
}

#[test]
fn a_later_token_that_is_no_number_spoils_no_earlier_row() {
    let shape = shape(6, 2, 16);
    let first_spoiled = if cfg!(miri) { 3 } else { PAGE_TOKENS + 2 };
    let clean = shape.sequence(first_spoiled + 2, 14);
    let mut spoiled = clean.clone();
    let from = first_spoiled * shape.key_width();
    spoiled.keys[from..].fill(f32::INFINITY);
    spoiled.values[from..].fill(f32::NAN);
    let rows = first_spoiled * shape.query_width();
    let (clean, spoiled) = (
        alone(shape, &clean, 1, Cpu::detect()),
        alone(shape, &spoiled, 1, Cpu::detect()),
    );
    assert_eq!(bits(&clean[..rows]), bits(&spoiled[..rows]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    #[cfg_attr(miri, ignore = "too long")]
    fn a_row_has_the_same_bits_in_any_company(
        shape in prop::sample::select(&SHAPES),
        lengths in prop::collection::vec(1_usize..700, 1..4),
        cuts in prop::collection::vec(1_usize..90, 1..8),
        threads in 1_usize..5,
        seed in any::<u64>(),
    ) {
        let sequences: Vec<Sequence> = lengths
            .iter()
            .enumerate()
            .map(|(index, tokens)| shape.sequence(*tokens, seed ^ index as u64))
            .collect();
        let mut context = Context::new(shape, &lengths, threads, Cpu::detect());
        let mut found: Vec<Vec<f32>> = vec![Vec::new(); lengths.len()];
        let mut written = vec![0; lengths.len()];
        let mut cuts = cuts.iter().cycle();
        while written != lengths {
            let mut parts = Vec::new();
            for (index, tokens) in lengths.iter().enumerate() {
                let left = tokens - written[index];
                if left > 0 {
                    let tokens = left.min(*cuts.next().expect("a cycle"));
                    parts.push((index, written[index], tokens));
                    written[index] += tokens;
                }
            }
            for ((index, _, _), rows) in parts.iter().zip(context.step(&sequences, &parts)) {
                found[*index].extend(rows);
            }
        }
        for (sequence, found) in sequences.iter().zip(&found) {
            prop_assert_eq!(bits(found), bits(&alone(shape, sequence, 1, Cpu::detect())));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    #[cfg_attr(miri, ignore = "too long")]
    fn heads_of_any_number_and_width_are_as_defined_on_every_instruction_set(
        kv_heads in 1_usize..4,
        group in 1_usize..10,
        head_width in 1_usize..=HEAD_WIDTH_MAX,
        tokens in 1_usize..40,
        threads in 1_usize..4,
        seed in any::<u64>(),
    ) {
        let shape = shape(kv_heads * group, kv_heads, head_width);
        check_definition(shape, tokens, threads, seed);
        check_equality(shape, tokens, threads, seed);
    }
}

#[test]
fn pages_are_counted_shared_and_given_back() {
    let mut cache = KvCache::new(shape(1, 1, 16).kv(), 2);
    assert_eq!((cache.pages(), cache.free_pages()), (2, 2));
    let (a, b) = (
        cache.allocate().expect("one"),
        cache.allocate().expect("two"),
    );
    assert_ne!(a, b);
    assert_eq!(cache.allocate(), None);
    cache.share(a);
    cache.release(a);
    assert_eq!((cache.references(a), cache.free_pages()), (1, 0));
    cache.release(a);
    assert_eq!((cache.references(a), cache.free_pages()), (0, 1));
    assert_eq!(cache.allocate(), Some(a));
}

#[test]
#[should_panic(expected = "is free")]
fn a_page_cannot_be_given_back_twice() {
    let mut cache = KvCache::new(shape(1, 1, 16).kv(), 1);
    let page = cache.allocate().expect("a page");
    cache.release(page);
    cache.release(page);
}

#[test]
#[should_panic(expected = "2 owners")]
fn a_shared_page_is_not_written() {
    let mut cache = KvCache::new(shape(1, 1, 16).kv(), 1);
    let pages = [cache.allocate().expect("a page")];
    cache.share(pages[0]);
    let mut pool = Pool::new(1, Cpu::scalar()).expect("a thread");
    let span = Span {
        first_position: 0,
        tokens: 1,
        pages: &pages,
    };
    cache.write(&mut pool, 0, span, &[0.0; 16], &[0.0; 16]);
}

#[test]
#[should_panic(expected = "do not reach")]
fn a_span_beyond_its_pages_is_refused() {
    let shape = shape(1, 1, 16);
    let mut context = Context::new(shape, &[PAGE_TOKENS], 1, Cpu::scalar());
    let sequence = shape.sequence(PAGE_TOKENS + 1, 1);
    context.step(&[sequence], &[(0, PAGE_TOKENS, 1)]);
}
