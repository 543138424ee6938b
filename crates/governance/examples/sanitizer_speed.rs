//! How fast the sanitizer reads: `cargo run --release -p postern-governance --example sanitizer_speed -- FILE…`
//!
//! Prints megabytes a second on one core for the given files, joined, and for hostile texts of 10 MB.

use std::time::Instant;

use postern_governance::{Sanitizer, Settings};

/// Length of the texts, in bytes.
const TEXT_BYTES: usize = 10_000_000;

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
        let copies = TEXT_BYTES / code.len() + 1;
        texts.insert(0, ("given files", code.repeat(copies)));
    }
    for (name, text) in texts {
        let mut stream = Sanitizer::builtin().stream(Settings::default());
        let begun = Instant::now();
        let mut clean = stream.push(&text).len();
        clean += stream.finish().len();
        let seconds = begun.elapsed().as_secs_f64();
        let findings = stream.take_findings().len();
        #[expect(clippy::print_stdout, reason = "this is what the example is for")]
        {
            println!(
                "{:>7.1} MB/s  {name}, {clean} bytes, {findings} findings",
                text.len() as f64 / 1e6 / seconds
            );
        }
    }
    Ok(())
}
