//! Looks for bytes that packing should not survive, or that products get wrong.
#![no_main]

#[path = "../../tests/arbitrary_matrix/mod.rs"]
mod arbitrary_matrix;
#[path = "../../tests/specified/mod.rs"]
mod specified;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| arbitrary_matrix::check(bytes));
