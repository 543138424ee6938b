//! Entries as canonical JSON.
//!
//! Invariant: an object's keys are sorted by their UTF-8 bytes and nothing stands between tokens,
//! so equal entries have equal bytes. Hashes are over stored bytes, so a reader never needs to
//! encode anything. Absent: how entries are sealed, framed and chained.

use serde::Serialize;
use serde_json::Value;

use crate::entry::Entry;

/// The entry alone, canonical.
pub(crate) fn encode_entry(entry: &Entry) -> String {
    let value = serde_json::to_value(entry).expect("an entry is plain data with string keys");
    let mut out = Vec::new();
    write_canonical(&mut out, &value);
    String::from_utf8(out).expect("JSON is text")
}

/// Reads an entry; the error is the parser's own text.
pub(crate) fn decode_entry(content: &[u8]) -> Result<Entry, String> {
    serde_json::from_slice(content).map_err(|error| error.to_string())
}

/// Appends a value, canonical.
pub(crate) fn write_canonical(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => write(out, value),
        Value::Array(elements) => {
            out.push(b'[');
            for (place, element) in elements.iter().enumerate() {
                separate(out, place);
                write_canonical(out, element);
            }
            out.push(b']');
        }
        Value::Object(members) => {
            // Sorted here, because the map's own order depends on how serde_json was built.
            let mut members: Vec<(&String, &Value)> = members.iter().collect();
            members.sort_unstable_by_key(|(key, _)| key.as_bytes());
            out.push(b'{');
            for (place, (key, member)) in members.into_iter().enumerate() {
                separate(out, place);
                write(out, key);
                out.push(b':');
                write_canonical(out, member);
            }
            out.push(b'}');
        }
    }
}

fn write(out: &mut Vec<u8>, scalar: &impl Serialize) {
    serde_json::to_writer(out, scalar).expect("memory takes all that is written");
}

fn separate(out: &mut Vec<u8>, place: usize) {
    if place > 0 {
        out.push(b',');
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
            let mut out = Vec::new();
            write_canonical(&mut out, &serde_json::from_str(source).unwrap());
            assert_eq!(String::from_utf8(out).unwrap(), canonical);
        }
    }
}
