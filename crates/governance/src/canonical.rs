//! Canonical bytes and their SHA-256.
//!
//! Invariant: the bytes depend on values only. They are JSON without white space, object keys in
//! byte order (but schemas in the order of their file), strings escaped as `serde_json` escapes
//! them, numbers as Rust prints them. The
//! writer is here and not a derive, so that neither the order of struct fields nor a cargo feature
//! of a JSON crate can change a checksum.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

/// Digits of a SHA-256 in hexadecimal.
const SHA256_DIGITS: usize = 64;

/// SHA-256 of bytes, 64 lower-case hex digits.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a text has the form of a SHA-256: 64 lower-case hex digits.
pub(crate) fn is_sha256_hex(text: &str) -> bool {
    let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.len() == SHA256_DIGITS && text.bytes().all(is_digit)
}

/// A value with exactly one byte form.
pub(crate) enum Canonical {
    Null,
    Bool(bool),
    Integer(u64),
    Number(f32),
    Text(String),
    Object(BTreeMap<String, Canonical>),
    /// JSON as it is, in the order of its file: the order of a schema's members is the order in
    /// which output has them.
    Json(serde_json::Value),
}

impl Canonical {
    /// An object of the given entries; their order here does not matter.
    pub(crate) fn object<const N: usize>(entries: [(&str, Canonical); N]) -> Self {
        let owned = entries
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value));
        Self::Object(owned.collect())
    }

    /// The object with one more entry, which may be absent in others of its format.
    pub(crate) fn with(self, key: &str, value: Canonical) -> Self {
        match self {
            Self::Object(mut entries) => {
                entries.insert(key.to_owned(), value);
                Self::Object(entries)
            }
            other => other,
        }
    }

    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    /// The text, or null where there is none.
    pub(crate) fn optional(text: Option<&str>) -> Self {
        text.map_or(Self::Null, Self::text)
    }

    /// The canonical bytes, which are UTF-8.
    pub(crate) fn to_json(&self) -> String {
        let mut json = String::new();
        self.write(&mut json);
        json
    }

    /// SHA-256 over the canonical bytes, 64 lower-case hex digits.
    pub(crate) fn sha256_hex(&self) -> String {
        sha256_hex(self.to_json().as_bytes())
    }

    fn write(&self, json: &mut String) {
        match self {
            Self::Null => json.push_str("null"),
            Self::Bool(value) => json.push_str(if *value { "true" } else { "false" }),
            Self::Integer(value) => json.push_str(&value.to_string()),
            Self::Number(value) => json.push_str(&value.to_string()),
            Self::Text(text) => write_text(json, text),
            Self::Json(value) => json.push_str(&value.to_string()),
            Self::Object(entries) => {
                json.push('{');
                for (index, (key, value)) in entries.iter().enumerate() {
                    if index > 0 {
                        json.push(',');
                    }
                    write_text(json, key);
                    json.push(':');
                    value.write(json);
                }
                json.push('}');
            }
        }
    }
}

fn write_text(json: &mut String, text: &str) {
    let quoted = serde_json::to_string(text).expect("a string always serializes to JSON");
    json.push_str(&quoted);
}
