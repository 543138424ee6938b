//! Any bytes are packed or refused. The cases of `fuzz/corpus/packing` are where the fuzz target of this name starts from:
//! named after what they attack, or found by it.

mod arbitrary_matrix;
mod specified;

use proptest::prelude::*;

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/packing");

#[test]
#[cfg_attr(miri, ignore = "too long")]
fn the_corpus_of_the_fuzz_target_holds() {
    let mut cases = 0;
    for entry in std::fs::read_dir(CORPUS).expect("the corpus is in the repository") {
        let path = entry.expect("an entry can be read").path();
        let bytes = std::fs::read(&path).expect("a case can be read");
        let outcome = std::panic::catch_unwind(|| arbitrary_matrix::check(&bytes));
        assert!(outcome.is_ok(), "{}", path.display());
        cases += 1;
    }
    assert!(cases > 0, "{CORPUS} is empty");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 400 }))]

    #[test]
    fn any_bytes_are_packed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
        arbitrary_matrix::check(&bytes);
    }
}
