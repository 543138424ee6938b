//! Texts that are made to cost time. Work that grew with the square of their length would keep
//! these tests busy for minutes.

use postern_governance::{Sanitizer, Settings};

/// Length of each text, in bytes.
const TEXT_BYTES: usize = 400_000;

/// What each text repeats; none of it is a secret.
const REPEATED: [&str; 14] = [
    "a",
    "1",
    "1 ",
    "12-",
    "password=",
    "token=\"",
    "=\"'",
    "a@",
    "%41",
    "%",
    "aGVsbG8gd29ybGQg",
    "-----BEGIN ",
    "[REDACTED:",
    "password ",
];

#[test]
fn hostile_texts_pass_in_linear_time() {
    for part in REPEATED {
        let text = part.repeat(TEXT_BYTES / part.len());
        let clean = Sanitizer::builtin().sanitize(&text);
        assert!(clean.text == text, "{part:?} is changed");
        assert_eq!(clean.findings, [], "{part:?}");
    }
}

#[test]
fn invisible_characters_pass_in_linear_time() {
    let text = "\u{200b}a".repeat(TEXT_BYTES / 4);
    let clean = Sanitizer::builtin().sanitize(&text);
    assert!(clean.text == "a".repeat(TEXT_BYTES / 4));
    assert_eq!(clean.invisible_characters, TEXT_BYTES as u64 / 4);
}

#[test]
fn a_hostile_text_in_small_pieces_passes_in_linear_time() {
    for part in ["1 ", "a", "password=", "aGVsbG8gd29ybGQg"] {
        let text = part.repeat(TEXT_BYTES / 4 / part.len());
        let mut stream = Sanitizer::builtin().stream(Settings::default());
        let pieces = text.as_bytes().chunks(7);
        let pieces = pieces.map(|piece| std::str::from_utf8(piece).expect("ASCII"));
        let mut clean: String = pieces.map(|piece| stream.push(piece)).collect();
        clean += &stream.finish();
        assert!(clean == text, "{part:?} is changed");
    }
}
