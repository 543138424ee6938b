//! Any split into chunks gives the same text, and no more is held back than is promised.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/fuzzed/checks.rs"]
mod checks;

fuzz_target!(|bytes: &[u8]| checks::stream(bytes));
