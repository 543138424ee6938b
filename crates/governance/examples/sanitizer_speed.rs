//! How fast the sanitizer reads: `cargo run --release -p postern-governance --example sanitizer_speed -- FILE…`
//!
//! Prints megabytes a second on one core for the given files, joined, and for hostile texts; and
//! how long a small text takes by itself, which is the beginning of the given files. Of several
//! runs the best counts, as a busy machine only makes them slower.

use std::time::{Duration, Instant};

use postern_governance::{Sanitizer, Settings};

/// Length of the texts, in bytes.
const TEXT_BYTES: usize = 400_000;
/// Length of a small text, in bytes: a usual diff.
const SMALL_TEXT_BYTES: usize = 16 * 1024;
const RUNS: usize = 50;
const SMALL_RUNS: usize = 1000;

fn main() -> std::io::Result<()> {
    let mut code = String::new();
    for path in std::env::args().skip(1) {
        code.push_str(&std::fs::read_to_string(path)?);
    }
    let mut texts = vec![
        ("one character", "a".repeat(TEXT_BYTES)),
        ("one digit", "1".repeat(TEXT_BYTES)),
        ("digits and spaces", "1 ".repeat(TEXT_BYTES / 2)),
        ("nested names", "password=".repeat(TEXT_BYTES / 9)),
        ("open quotes", "token=\"".repeat(TEXT_BYTES / 7)),
        ("at signs", "a@".repeat(TEXT_BYTES / 2)),
        ("percent signs", "%41".repeat(TEXT_BYTES / 3)),
        ("base64 of text", "aGVsbG8gd29ybGQg".repeat(TEXT_BYTES / 16)),
        ("begin lines", "-----BEGIN ".repeat(TEXT_BYTES / 11)),
    ];
    if !code.is_empty() {
        show_small(&code[..code.floor_char_boundary(SMALL_TEXT_BYTES)]);
        texts.insert(0, ("given files", code));
    }
    for (name, text) in texts {
        show(name, &text);
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "this is what the example is for")]
fn show(name: &str, text: &str) {
    let (mut clean, mut findings) = (0, 0);
    let took = best_of(RUNS, || {
        let mut stream = Sanitizer::builtin().stream(Settings::default());
        clean = stream.push(text).len() + stream.finish().len();
        findings = stream.take_findings().len();
    });
    let speed = text.len() as f64 / 1e6 / took.as_secs_f64();
    println!("{speed:>7.1} MB/s  {name}, {clean} bytes, {findings} findings");
}

#[expect(clippy::print_stdout, reason = "this is what the example is for")]
fn show_small(text: &str) {
    let took = best_of(SMALL_RUNS, || drop(Sanitizer::builtin().sanitize(text)));
    let micros = took.as_secs_f64() * 1e6;
    println!("{micros:>7.1} µs    {} bytes by themselves", text.len());
}

fn best_of(runs: usize, mut run: impl FnMut()) -> Duration {
    let timed = (0..runs).map(|_| {
        let begun = Instant::now();
        run();
        begun.elapsed()
    });
    timed.min().unwrap_or_default()
}
