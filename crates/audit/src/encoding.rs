//! Records as canonical JSON.
//!
//! Invariant: an object's keys are sorted by their UTF-8 bytes and nothing stands between tokens,
//! so equal entries have equal bytes. Hashes are over stored bytes, so a reader never needs to
//! encode anything. Absent: how bodies are framed and chained.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::entry::Entry;

/// Most bytes of a record's body that are not the entry's: `{"entry":`, `,"index":`, 20 digits,
/// `,"time":"`, the time and `"}`.
pub(crate) const ENVELOPE_BYTES_MAX: usize = 80;

/// What a record's body holds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Body {
    pub(crate) entry: Entry,
    pub(crate) index: u64,
    pub(crate) time: Timestamp,
}

/// The entry alone, canonical.
pub(crate) fn encode_entry(entry: &Entry) -> String {
    let value = serde_json::to_value(entry).expect("an entry is plain data with string keys");
    let mut out = String::new();
    write_canonical(&mut out, &value);
    out
}

/// The body of a record around a canonical entry. The keys are in order as they stand.
pub(crate) fn encode_body(entry: &str, index: u64, time: Timestamp) -> String {
    format!(r#"{{"entry":{entry},"index":{index},"time":"{time:.6}"}}"#)
}

/// Reads a record's body; the error is the parser's own text.
pub(crate) fn decode_body(body: &[u8]) -> Result<Body, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

/// Appends a value, canonical.
pub(crate) fn write_canonical(out: &mut String, value: &Value) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            out.push_str(&value.to_string());
        }
        Value::Array(elements) => {
            out.push('[');
            for (place, element) in elements.iter().enumerate() {
                separate(out, place);
                write_canonical(out, element);
            }
            out.push(']');
        }
        Value::Object(members) => {
            // Sorted here, because the map's own order depends on how serde_json was built.
            let mut members: Vec<(&String, &Value)> = members.iter().collect();
            members.sort_unstable_by_key(|(key, _)| key.as_bytes());
            out.push('{');
            for (place, (key, member)) in members.into_iter().enumerate() {
                separate(out, place);
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_canonical(out, member);
            }
            out.push('}');
        }
    }
}

fn separate(out: &mut String, place: usize) {
    if place > 0 {
        out.push(',');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_json_sorts_keys_and_leaves_no_room() {
        let cases = [
            (
                r#"{ "b": 1, "a": [true, null] }"#,
                r#"{"a":[true,null],"b":1}"#,
            ),
            (
                r#"{"é":0.7,"z":"\u0007\n/\"é"}"#,
                r#"{"z":"\u0007\n/\"é","é":0.7}"#,
            ),
            (r#"{"a":{"d":{},"c":[]}}"#, r#"{"a":{"c":[],"d":{}}}"#),
        ];
        for (source, canonical) in cases {
            let mut out = String::new();
            write_canonical(&mut out, &serde_json::from_str(source).unwrap());
            assert_eq!(out, canonical);
        }
    }

    #[test]
    fn envelope_is_bounded_for_every_time() {
        for time in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX] {
            assert!(encode_body("", u64::MAX, time).len() <= ENVELOPE_BYTES_MAX);
        }
    }
}
