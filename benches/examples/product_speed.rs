//! Measures products by themselves: a matrix in the shape of a feed-forward layer of Qwen2.5-0.5B with one token, with some,
//! and with a prompt, in all formats or in one: 10^9 multiply-accumulates a second of all threads. The instruction set is the
//! best that there is, or what is named: `scalar`, `avx2`, `avx512-vnni` or `neon-dotprod`.
//!
//! ```text
//! cargo run --release -p postern-benches --example product_speed [THREADS [FORMAT|all [INSTRUCTION_SET]]]
//! ```
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use std::time::Instant;

use postern_kernels::{Activations, Cpu, Format, Input, PackedMatrix, Pool, Product, matmul};

const COLUMNS: usize = 1024;
const ROWS: usize = 4864;
const TOKENS: [usize; 5] = [1, 2, 4, 8, 256];
const REPEATS: usize = 5;
/// Every byte of the weights: as a scale it is small and positive.
const WEIGHT_BYTE: u8 = 0x22;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let threads = arguments.next().and_then(|text| text.parse().ok());
    let threads = threads.unwrap_or(2);
    let only = arguments.next().filter(|format| format != "all");
    let cpu = match arguments.next() {
        Some(name) => named(&name),
        None => Cpu::detect(),
    };
    let mut pool = Pool::new(threads, cpu).expect("the system gives threads");
    println!(
        "{} threads, {}; tokens: {TOKENS:?}",
        threads,
        pool.cpu().name()
    );
    let is_wanted = |format: &Format| match &only {
        Some(only) => format!("{format:?}") == *only,
        None => true,
    };
    for format in Format::ALL.into_iter().filter(is_wanted) {
        let figures = TOKENS.map(|tokens| format!("{:7.1}", measure(&mut pool, format, tokens)));
        println!("{format:7?} {}", figures.join(" "));
    }
}

/// One of this processor's instruction sets.
fn named(name: &str) -> Cpu {
    let all = Cpu::all();
    let found = all.iter().find(|cpu| cpu.name() == name).copied();
    found.unwrap_or_else(|| {
        let names: Vec<_> = all.iter().map(|cpu| cpu.name()).collect();
        panic!("{name} is no instruction set of this processor, which has {names:?}")
    })
}

/// The best of some repeats; with few tokens each over several matrices, so that the weights come from memory.
fn measure(pool: &mut Pool, format: Format, tokens: usize) -> f64 {
    let matrices = if tokens > 8 { 1 } else { 8 };
    let row_bytes = format.row_bytes(COLUMNS).expect("whole blocks");
    let stored = vec![WEIGHT_BYTE; ROWS * row_bytes];
    let matrices: Vec<PackedMatrix> = (0..matrices)
        .map(|_| PackedMatrix::pack(pool, format, ROWS, COLUMNS, &stored).expect("whole blocks"))
        .collect();
    let values: Vec<f32> = (0..tokens * COLUMNS)
        .map(|index| 1.0 + (index % 7) as f32)
        .collect();
    let mut activations = Activations::new(pool.cpu(), tokens, COLUMNS, true);
    activations.quantize(pool, Input::Plain(&values), COLUMNS);
    let mut out = vec![0.0; tokens * ROWS];
    let products = (matrices.len() * tokens * ROWS * COLUMNS) as f64;
    (0..REPEATS)
        .map(|_| {
            let start = Instant::now();
            for matrix in &matrices {
                matmul(pool, &activations, &mut [Product::new(matrix, &mut out)]);
            }
            products / start.elapsed().as_secs_f64() / 1e9
        })
        .fold(0.0, f64::max)
}
