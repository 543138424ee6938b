//! Answers as snapshots show them: whole, members in order of their names, with what differs
//! between runs taken out.

use std::collections::BTreeMap;

use postern_testkit::client::Reply;
use serde_json::{Value, json};

/// Members whose value differs between runs, wherever they stand.
const VARYING: &[&str] = &[
    "id",
    "instance",
    "head",
    "leaf",
    "checkpoint",
    "ticket",
    "sha256",
    "timings",
];

/// Status, headers and body; a JSON body as JSON.
pub(crate) fn shown(reply: &Reply) -> Value {
    let mut headers = reply.headers.clone();
    headers.remove("date");
    headers.remove("content-length");
    if let Some(id) = headers.get_mut("x-request-id") {
        assert_eq!(id.len(), 26, "{id}");
        *id = "[id]".to_owned();
    }
    json!({ "body": shown_body(&reply.body), "headers": headers, "status": reply.status })
}

/// `text` as JSON without what varies, or as it is.
pub(crate) fn shown_body(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(body) => redacted(body),
        Err(_) => Value::String(text.to_owned()),
    }
}

fn redacted(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| {
                let varies = VARYING.contains(&name.as_str()) && (name != "id" || !is_name(&value));
                let value = if varies {
                    Value::String(format!("[{name}]"))
                } else {
                    redacted(value)
                };
                (name, value)
            })
            .collect::<BTreeMap<_, _>>()
            .into_iter()
            .collect(),
        Value::Array(items) => items.into_iter().map(redacted).collect(),
        other => other,
    }
}

/// Ids of models and templates stay the same.
fn is_name(value: &Value) -> bool {
    value
        .as_str()
        .is_some_and(|text| text.contains('-') || text.contains('.'))
}
