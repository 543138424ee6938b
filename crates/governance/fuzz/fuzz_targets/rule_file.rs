//! No rule file makes loading panic, and what loads can be used.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/fuzzed/checks.rs"]
mod checks;

fuzz_target!(|bytes: &[u8]| checks::rule_file(bytes));
