//! The checks of the fuzz targets, on their corpora and on texts of random parts.

mod checks;

use std::path::Path;

use proptest::prelude::*;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let entries = std::fs::read_dir(folder).expect("the corpus is part of the repository");
    let files =
        entries.map(|entry| std::fs::read(entry.expect("an entry").path()).expect("a file"));
    files.collect()
}

#[test]
fn corpora_hold() {
    corpus("rule_file")
        .iter()
        .for_each(|bytes| checks::rule_file(bytes));
    corpus("sanitize")
        .iter()
        .for_each(|bytes| checks::sanitize(bytes));
    corpus("stream")
        .iter()
        .for_each(|bytes| checks::stream(bytes));
}

/// Parts that rules look at, next to each other.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let parts = proptest::sample::select(vec![
        "a",
        "Z9",
        "0",
        "1",
        " ",
        "\n",
        "-",
        "_",
        ".",
        "@",
        "%",
        "=",
        ":",
        "/",
        "+",
        "\"",
        "'",
        "[",
        "]",
        "(",
        ">",
        "é",
        "１",
        "\u{200b}",
        "ghp_",
        "aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY5",
        "AKIA",
        "QZ7XW4PLMN2KVB6T",
        "sk-",
        "eyJ",
        "hbGciOiJIUzI1NiJ9",
        "password",
        "token",
        "api_key",
        "hunter2!x",
        "://",
        "user:",
        "bearer ",
        "Authorization",
        "-----BEGIN ",
        "RSA PRIVATE KEY-----",
        "-----END ",
        "[REDACTED:",
        "jwt:1]",
        "%20",
        "%3D",
        "Z2hwX2FCM2RFNWZHN2hJOWpLMWxNM25PNXBRN3JTOXRVMXZXM3hZNQ==",
        "4111 1111 1111 1111",
        "DE89 3704 0044 0532 0130 00",
        "phone ",
        "+49 30 1234567",
        "10.20.30.40",
        "anna@posteo.de",
        "ssn ",
        "123-45-6780",
        "born on ",
        "1.2.1980",
        "machine ",
        "login ",
        "00:1a:2b:3c:4d:5e",
        "2a02:8108::1234:5678",
    ]);
    proptest::collection::vec(parts, 0..24).prop_map(|parts| parts.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cleaning_twice_changes_nothing(text in text()) {
        checks::sanitize(&text);
    }

    #[test]
    fn any_split_gives_the_same_text(size in any::<u8>(), text in text()) {
        let mut bytes = vec![size];
        bytes.extend(text);
        checks::stream(&bytes);
    }
}
