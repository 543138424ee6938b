//! Looks for values that rendering should not survive, or that leave their marks.
#![no_main]

#[path = "../../tests/arbitrary_templates/mod.rs"]
#[expect(dead_code, reason = "other targets use the rest")]
mod arbitrary_templates;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| arbitrary_templates::check_value(bytes));
