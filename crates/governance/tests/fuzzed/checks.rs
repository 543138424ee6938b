//! What the fuzz targets check, shared with the test that replays their corpora.

use postern_governance::{HOLD_BACK_CHARS_MAX, Sanitizer, Settings};

/// No rule file makes loading panic, and what loads can be used.
#[allow(dead_code, reason = "each fuzz target uses one of the checks")]
pub(crate) fn rule_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match Sanitizer::with_rules(&[("fuzzed.toml".to_owned(), text.to_owned())]) {
        Ok(sanitizer) => drop(sanitizer.sanitize(text)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Cleaning twice changes nothing, and what was found is gone.
#[allow(dead_code, reason = "each fuzz target uses one of the checks")]
pub(crate) fn sanitize(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let once = Sanitizer::builtin().sanitize(text);
    let twice = Sanitizer::builtin().sanitize(&once.text);
    assert_eq!(twice.text, once.text, "cleaned twice");
    assert!(twice.findings.is_empty(), "{:?}", twice.findings);
}

/// Any split into chunks gives the same text, and no more is held back than is promised. The
/// first byte says how long a chunk is.
#[allow(dead_code, reason = "each fuzz target uses one of the checks")]
pub(crate) fn stream(bytes: &[u8]) {
    let Some((size, rest)) = bytes.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(rest) else {
        return;
    };
    let whole = Sanitizer::builtin().sanitize(text);
    let mut stream = Sanitizer::builtin().stream(Settings::default());
    let mut pieces = String::new();
    let mut pushed = 0;
    let characters: Vec<char> = text.chars().collect();
    for chunk in characters.chunks(usize::from(*size % 70) + 1) {
        let chunk: String = chunk.iter().collect();
        pushed += chunk.chars().count();
        pieces.push_str(&stream.push(&chunk));
        if whole.findings.is_empty() && whole.invisible_characters == 0 {
            let held = pushed - pieces.chars().count();
            assert!(
                held <= HOLD_BACK_CHARS_MAX,
                "{held} characters are held back"
            );
        }
    }
    pieces.push_str(&stream.finish());
    assert_eq!(pieces, whole.text, "in pieces");
}
