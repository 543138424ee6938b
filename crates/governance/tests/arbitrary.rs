//! Replays what fuzzing tries, and mutations of good files.

mod arbitrary_templates;

use arbitrary_templates::{check_file, check_value};
use proptest::prelude::*;

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus");

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = format!("{CORPUS}/{target}");
    let entries = std::fs::read_dir(&folder).expect("a corpus");
    let files = entries.map(|entry| std::fs::read(entry.expect("an entry").path()));
    let files: Vec<Vec<u8>> = files.map(|bytes| bytes.expect("a file")).collect();
    assert!(!files.is_empty(), "{folder} is empty");
    files
}

#[test]
fn the_corpora_of_fuzzing_are_refused_or_sound() {
    for (target, ending) in [("yaml", "yaml"), ("markdown", "md"), ("json", "json")] {
        for bytes in corpus(target) {
            check_file(ending, &bytes);
        }
    }
    for bytes in corpus("render") {
        check_value(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn mutated_files_are_refused_or_sound(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        for (target, ending) in [("yaml", "yaml"), ("markdown", "md"), ("json", "json")] {
            let files = corpus(target);
            let mut bytes = files[which.index(files.len())].clone();
            for (place, byte) in &changes {
                let place = place.index(bytes.len());
                bytes[place] = *byte & 0x7f;
            }
            check_file(ending, &bytes);
        }
    }

    #[test]
    fn any_value_stays_between_its_marks(text in "(<\\|im_start\\|>|BEGIN DATA |END DATA |[0-9a-f]{16}|[<>|\\[\\]/]|\\PC){0,30}") {
        check_value(text.as_bytes());
    }
}
