//! What comes out while a text is written.

use postern_governance::{HOLD_BACK_CHARS_MAX, Sanitizer, Settings};

use crate::fixtures::*;

#[test]
fn no_piece_of_a_secret_is_emitted_before_it_is_known() {
    let card = "4111 1111 1111 1111".to_owned();
    for key in keys().into_iter().chain([card]) {
        let mut filter = filter();
        let mut emitted = filter.push("see ");
        for c in key.chars() {
            emitted.push_str(&filter.push(&c.to_string()));
            let safe = emitted == "see " || emitted.starts_with("see [REDACTED:");
            assert!(safe, "{emitted:?} while {key:?} was written");
        }
        emitted.push_str(&filter.finish());
        assert!(emitted.starts_with("see [REDACTED:"), "{emitted}");
        assert_eq!(filter.redactions().len(), 1);
        assert_eq!(filter.redactions()[0].variable, "output");
    }
}

#[test]
fn prose_is_held_back_by_one_word_only() {
    let text = "The Copper Kettle has oat milk and a garden. It is open until nine. ";
    let mut filter = filter();
    let mut pushed = 0;
    let mut emitted = 0;
    let longest_word = text.split(' ').map(str::len).max().unwrap_or(0);
    for c in text.chars() {
        pushed += c.len_utf8();
        emitted += filter.push(&c.to_string()).len();
        assert!(
            pushed - emitted <= longest_word,
            "{} bytes are held back",
            pushed - emitted
        );
    }
    assert_eq!(pushed, emitted);
}

#[test]
fn hostile_texts_are_held_back_within_the_bound() {
    let texts = [
        "a".repeat(20_000),
        "-".repeat(20_000),
        "1 ".repeat(10_000),
        "password=".repeat(2_000),
        format!("password = \"{}", "a".repeat(20_000)),
        format!("password{}", " ".repeat(20_000)),
        "-----BEGIN ".repeat(2_000),
        format!("-----BEGIN {}", "A".repeat(20_000)),
        "eyJ".repeat(7_000),
        "[REDACTED:".repeat(2_000),
    ];
    for text in texts {
        let mut filter = filter();
        let (mut pushed, mut emitted) = (0, 0);
        for c in text.chars() {
            pushed += c.len_utf8();
            emitted += filter.push(&c.to_string()).len();
            let held = pushed - emitted;
            assert!(
                held <= HOLD_BACK_CHARS_MAX,
                "{held} bytes of {:?} are held",
                &text[..20]
            );
        }
        emitted += filter.finish().len();
        assert_eq!(pushed, emitted, "{:?}", &text[..20]);
    }
}

#[test]
fn debug_output_shows_nothing_that_is_held_back() {
    let mut filter = filter();
    let _ = filter.push("password = hunter");
    assert!(!format!("{filter:?}").contains("hunter"));
}

#[test]
fn a_secret_that_never_seems_to_end_leaves_nothing_behind() {
    let text = format!(
        "secret_access_key=>wJalr7UtnFEMI/K7MDENG/bPxRfiCYzq81RtKm4p{} and on",
        "aB1".repeat(2000)
    );
    let whole = clean(&text);
    assert!(!whole.contains("aB1"), "{whole}");
    for size in [1, 7, 64] {
        assert_eq!(stream(&text, &[size]), whole, "pieces of {size}");
    }
}

#[test]
fn a_percent_sign_that_encodes_nothing_is_not_decoded_while_text_is_missing() {
    let text = secret(&["tokenxo", "xb-123456789012-abcdefGHIJKLa%&0"]);
    for size in [1, 2, 38] {
        assert_eq!(stream(&text, &[size]), clean(&text), "pieces of {size}");
    }
}

#[test]
fn the_number_before_a_keyword_waits_for_it() {
    let text = secret(&["at 123456789", ":AAHq3Zk9fQ2xT7mLw8RbV5nYc1Hd4gJs6K now"]);
    for size in [1, 3, 13] {
        let expected = "at [REDACTED:telegram-bot-token:1] now";
        assert_eq!(stream(&text, &[size]), expected, "pieces of {size}");
    }
}

#[test]
fn a_keyword_of_several_words_is_not_half_emitted() {
    let rules = "version = 1\n[[rule]]\nid = \"names\"\ndescription = \"Names\"\nclass = \"personal\"\nform = \"literal\"\n\
                 keywords = [\"Jo Anna Bloggs\"]\n";
    let rules = Sanitizer::with_rules(&[("names.toml".to_owned(), rules.to_owned())]);
    let rules = rules.expect("rules");
    for text in [
        "ask Jo Anna Bloggs now",
        "ask Jo Anna Bloom now",
        "ask Jo Ann",
    ] {
        let whole = rules.sanitize(text).text;
        let mut stream = rules.stream(Settings::default());
        let mut streamed = String::new();
        for c in text.chars() {
            streamed.push_str(&stream.push(&c.to_string()));
            let half = text.contains("Bloggs") && streamed.contains("Jo");
            assert!(!half, "{streamed:?} is emitted");
        }
        streamed.push_str(&stream.finish());
        assert_eq!(streamed, whole);
    }
}

#[test]
fn a_name_that_is_also_a_context_word_holds_no_more_back() {
    let text = format!(
        "_Authorization://aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY5{}",
        "ghp_".repeat(20)
    );
    let mut filter = filter();
    let (mut pushed, mut emitted) = (0, 0);
    for c in text.chars() {
        pushed += 1;
        emitted += filter.push(&c.to_string()).len();
        assert!(
            pushed - emitted <= HOLD_BACK_CHARS_MAX,
            "{} are held",
            pushed - emitted
        );
    }
}
