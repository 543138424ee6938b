//! Cleaning twice changes nothing, and what was found is gone.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/fuzzed/checks.rs"]
mod checks;

fuzz_target!(|bytes: &[u8]| checks::sanitize(bytes));
