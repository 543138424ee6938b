//! What holds for every text.

use postern_governance::Sanitizer;
use proptest::prelude::*;

use crate::fixtures::*;

/// Texts that are likely to hold secrets, parts of them, and what lies around them.
fn tricky_text() -> impl Strategy<Value = String> {
    let mut fragments = keys();
    fragments.extend([openai_legacy(), aws_secret()]);
    let secrets = proptest::sample::select(fragments);
    let part = (secrets.clone(), any::<proptest::sample::Index>())
        .prop_map(|(text, index)| text[..index.index(text.len())].to_owned());
    let small = proptest::sample::select(vec![
        "password",
        "=",
        ": ",
        "\"",
        "'",
        " ",
        "\n",
        "-",
        "_",
        ".",
        ",",
        "]",
        "[",
        "\\",
        "token",
        "api_key",
        "secret_access_key",
        "hunter22",
        "4111",
        "1111",
        "4111 1111 1111 1111",
        "0",
        "-----",
        "BEGIN ",
        "END ",
        "PRIVATE KEY",
        "ß",
        "日",
        "\u{a0}",
        "[REDACTED:",
        "payment-card",
        ":1]",
        "[REDACTED:jwt:3]",
        "x",
        "Z9",
        "sk-",
        "eyJ",
        "(",
        "$",
        "/",
        "&",
        "=>",
        "**",
    ]);
    let fragment = prop_oneof![
        2 => secrets,
        2 => part,
        8 => small.prop_map(str::to_owned),
        1 => "[ -~]{0,12}",
        1 => "\\PC{0,4}",
        1 => (1usize..700).prop_map(|n| "aB1".repeat(n)),
    ];
    proptest::collection::vec(fragment, 0..14).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cleaning_twice_changes_nothing(text in tricky_text()) {
        let once = Sanitizer::builtin().sanitize(&text);
        let twice = Sanitizer::builtin().sanitize(&once.text);
        prop_assert_eq!(&twice.text, &once.text);
        prop_assert!(twice.redactions.is_empty());
    }

    #[test]
    fn every_split_gives_the_text_of_the_whole(
        text in tricky_text(),
        sizes in proptest::collection::vec(1usize..40, 1..8),
    ) {
        let whole = clean(&text);
        prop_assert_eq!(stream(&text, &sizes), whole.clone());
        prop_assert_eq!(stream(&text, &[1]), whole);
    }

    #[test]
    fn a_key_among_anything_is_gone(before in "[ -~\\n]{0,30}", after in "[ -~\\n]{0,30}") {
        for key in [openai(), github(), aws(), google(), stripe(), jwt()] {
            let text = format!("{before} {key} {after}");
            prop_assert!(!clean(&text).contains(&key));
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        let whole = clean(&text);
        prop_assert_eq!(stream(&text, &[3]), whole);
    }
}

#[test]
fn what_stands_before_or_around_another_secret_is_found_at_once() {
    for text in [
        secret(&["bearer aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY5/AKI", "AQZ7XW4PLMN2KVB6T"]),
        secret(&["anna@posteo.de.AKI", "AQZ7XW4PLMN2KVB6T"]),
        "%2010.20.30.40%4111 1111 1111 1111.".to_owned(),
        "Authorization=\"aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY500:1a:2b:3c:4d:5e'4111 1111 1111 1111.".to_owned(),
    ] {
        let once = clean(&text);
        assert_eq!(clean(&once), once);
    }
    let both = clean(&secret(&["anna@posteo.de.AKI", "AQZ7XW4PLMN2KVB6T"]));
    assert_eq!(
        both,
        "[REDACTED:email-address:1].[REDACTED:aws-access-key:1]"
    );
}
