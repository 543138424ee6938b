//! Looks for bytes that the GGUF reader should not survive, or that it believes.
#![no_main]

#[path = "../../tests/arbitrary_gguf/mod.rs"]
mod arbitrary_gguf;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| arbitrary_gguf::check(bytes));
