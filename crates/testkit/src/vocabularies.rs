//! Published vocabularies: vocabulary-only GGUF files in the folder that `POSTERN_VOCAB_DIR` names.

use std::path::{Path, PathBuf};

/// Those that the tests know.
pub const VOCABULARIES: [&str; 5] = ["gpt-2", "llama-bpe", "llama-spm", "phi-3", "qwen2"];

/// Their folder; without one, says that the test was skipped.
#[expect(clippy::print_stderr, reason = "a skipped test has to say so")]
#[must_use]
pub fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("POSTERN_VOCAB_DIR").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: POSTERN_VOCAB_DIR does not name a folder of published vocabularies");
    }
    folder
}

/// The file of one.
#[must_use]
pub fn file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("ggml-vocab-{name}.gguf"))
}
