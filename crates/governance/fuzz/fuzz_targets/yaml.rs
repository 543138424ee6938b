//! Looks for YAML that reading a template should not survive, or that it believes.
#![no_main]

#[path = "../../tests/arbitrary_templates/mod.rs"]
#[expect(dead_code, reason = "other targets use the rest")]
mod arbitrary_templates;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| arbitrary_templates::check_file("yaml", bytes));
