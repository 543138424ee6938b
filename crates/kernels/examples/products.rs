//! Multiplies one matrix of every format with one token and with many, and says on standard error where each product
//! begins and ends: for a tool that counts instructions, and for one that reads the kernels' machine code.
//!
//! ```text
//! cargo xtask aarch64 --instructions
//! ```
//!
//! The counterpart for llama.cpp, with the same bytes, sizes and output, is `benches/peer/products.cpp`.

use std::io::Write;

use postern_kernels::{Activations, Cpu, Format, Input, PackedMatrix, Pool, Product, matmul};

const COLUMNS: usize = 1024;
/// A token that is decoded and a part of a prompt, and the heights of matrices for each. What the second height costs
/// more than the first is what rows cost, without what a product costs once.
const TOKENS_AND_ROWS: [(usize, [usize; 2]); 2] = [(1, [48, 96]), (64, [16, 32])];
/// Every byte of the weights. Their codes do not change what is executed; as a scale this is small and positive.
const WEIGHT_BYTE: u8 = 0x22;

fn main() {
    let mut pool = Pool::new(1, Cpu::detect()).expect("a pool without threads of its own");
    say(&format!("products of {}", pool.cpu().name()));
    for format in Format::ALL {
        for (tokens, heights) in TOKENS_AND_ROWS {
            for rows in heights {
                measure(&mut pool, format, rows, tokens);
            }
        }
    }
}

fn measure(pool: &mut Pool, format: Format, rows: usize, tokens: usize) {
    let row_bytes = format.row_bytes(COLUMNS).expect("whole blocks");
    let stored = vec![WEIGHT_BYTE; rows * row_bytes];
    let matrix = PackedMatrix::pack(pool, format, rows, COLUMNS, &stored).expect("whole blocks");
    let values: Vec<f32> = (0..tokens * COLUMNS)
        .map(|index| 1.0 + (index % 7) as f32)
        .collect();
    let mut activations = Activations::new(pool.cpu(), tokens, COLUMNS, true);
    let mut out = vec![0.0; tokens * rows];
    let mut products = [Product::new(&matrix, &mut out)];
    say(&format!("begin {format:?} {COLUMNS} {rows} {tokens}"));
    activations.quantize(pool, Input::Plain(&values), COLUMNS);
    matmul(pool, &activations, &mut products);
    say("end");
    say(&format!(
        "mean {}",
        out.iter().sum::<f32>() / out.len() as f32
    ));
}

/// Writes a line in one piece, so that what the tool writes in between does not cut it.
fn say(what: &str) {
    std::io::stderr()
        .write_all(format!("{what}\n").as_bytes())
        .expect("somebody reads standard error");
}
