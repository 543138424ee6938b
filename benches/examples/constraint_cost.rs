//! Measures what keeping output to a JSON Schema costs over a real vocabulary, without a model: the time to prepare the
//! vocabulary and its memory, the time to compile each schema, and the time a token of mask and commit.
//!
//! ```text
//! cargo run --release -p postern-benches --example constraint_cost VOCABULARY.gguf
//! ```
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use postern_engine::{Constraint, Grammars, Tokenizer};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde_json::{Value, json};

const WALKS: u64 = 40;
const WALK_TOKENS_MAX: usize = 400;

fn main() -> Result<()> {
    let file = std::env::args().nth(1).context("name a GGUF file")?;
    let tokenizer = Tokenizer::from_gguf_file(Path::new(&file))?;
    let before = resident_bytes();
    let start = Instant::now();
    let grammars = Grammars::new(tokenizer.clone());
    drop(Constraint::new(&grammars, &json!({ "const": 1 }))?);
    println!(
        "{} tokens: prepared in {:.0} ms, {:.1} MiB",
        tokenizer.len(),
        start.elapsed().as_secs_f64() * 1e3,
        (resident_bytes() - before) / f64::from(1 << 20)
    );
    println!("schema            compile ms  forced %   mean µs   p50 µs   p99 µs   max µs");
    for (name, schema) in schemas() {
        measure(name, &tokenizer, &grammars, &schema)?;
    }
    Ok(())
}

fn schemas() -> [(&'static str, Value); 4] {
    let finding = json!({
        "type": "object",
        "properties": {
            "file": { "type": "string", "pattern": "^[a-z_/]{1,40}\\.rs$" },
            "line": { "type": "integer", "minimum": 1, "maximum": 99999 },
            "severity": { "enum": ["info", "warning", "error"] },
            "message": { "type": "string", "maxLength": 200 },
            "fixed": { "type": "boolean" },
        },
        "required": ["file", "line", "severity", "message", "fixed"],
        "additionalProperties": false,
    });
    let report = json!({
        "type": "object",
        "properties": {
            "summary": { "type": "string", "maxLength": 400 },
            "findings": { "type": "array", "items": finding, "maxItems": 5 },
        },
        "required": ["summary", "findings"],
        "additionalProperties": false,
    });
    let labels = json!({
        "type": "array",
        "items": { "enum": ["bug", "feature", "question", "documentation", "duplicate"] },
        "minItems": 1,
        "maxItems": 5,
    });
    [
        ("labels", labels),
        ("finding", finding),
        ("report", report),
        ("any object", json!({ "type": "object" })),
    ]
}

fn measure(name: &str, tokenizer: &Tokenizer, grammars: &Grammars, schema: &Value) -> Result<()> {
    let mut compiled = Duration::ZERO;
    let mut times = Vec::new();
    let mut forced = 0;
    for seed in 0..WALKS {
        let start = Instant::now();
        let mut constraint = Constraint::new(grammars, schema)?;
        compiled += start.elapsed();
        let mut random = ChaCha12Rng::seed_from_u64(seed);
        for _ in 0..WALK_TOKENS_MAX {
            let start = Instant::now();
            let must = constraint.forced().first().copied();
            let (token, chosen) = match must {
                Some(token) => (token, Duration::ZERO),
                None => {
                    constraint.mask()?;
                    let choosing = Instant::now();
                    (choose(&mut constraint, &mut random)?, choosing.elapsed())
                }
            };
            constraint.commit(token)?;
            times.push(start.elapsed() - chosen);
            forced += usize::from(must.is_some());
            let ends = &tokenizer.special().end_of_generation;
            if constraint.is_complete() || ends.contains(&token) {
                break;
            }
        }
    }
    times.sort_unstable();
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let rank = |percent: usize| micros(times[(times.len() - 1) * percent / 100]);
    let total: Duration = times.iter().sum();
    println!(
        "{name:16}  {:10.2}  {:8.0}  {:8.1}  {:7.1}  {:7.1}  {:7.0}",
        compiled.as_secs_f64() * 1e3 / WALKS as f64,
        forced as f64 * 100.0 / times.len() as f64,
        micros(total) / times.len() as f64,
        rank(50),
        rank(99),
        rank(100)
    );
    Ok(())
}

/// One of the allowed tokens.
fn choose(constraint: &mut Constraint, random: &mut ChaCha12Rng) -> Result<u32> {
    let mask = constraint.mask()?;
    let place = random.next_u64() as usize % mask.count();
    mask.iter().nth(place).context("as many as were counted")
}

/// Memory that this process holds now, where the system says so.
fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|text| text.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kibibytes.unwrap_or(0.0) * 1024.0
}
