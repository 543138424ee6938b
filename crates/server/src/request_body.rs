//! From a request's bytes to a [`Call`], within bounds of size and time.
//!
//! Invariant: no more than `body-bytes-max` bytes are held, and a body that announces more is
//! refused before a byte of it is read. Absent on purpose: any other encoding than JSON in UTF-8,
//! and any repetition of what was sent; faults are told by place and by our own field names.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body as _;
use postern_service::{Call, RequestFault};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;

use crate::ServerConfig;

/// How much body, and how long to wait for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyLimits {
    bytes_max: usize,
    read_timeout: Duration,
}

impl BodyLimits {
    pub(crate) fn new(config: &ServerConfig) -> Self {
        Self {
            bytes_max: config.body_bytes_max,
            read_timeout: config.body_read_timeout(),
        }
    }
}

/// Why a body is no call, and the field at fault where it is one of ours.
#[derive(Debug)]
pub(crate) struct BodyFault {
    pub(crate) fault: RequestFault,
    pub(crate) field: Option<&'static str>,
}

impl From<RequestFault> for BodyFault {
    fn from(fault: RequestFault) -> Self {
        Self { fault, field: None }
    }
}

/// Reads the whole body of `request` as a call.
pub(crate) async fn read_call(
    request: Request<Body>,
    limits: BodyLimits,
) -> Result<Call, BodyFault> {
    check_content_type(request.headers())?;
    let bytes = read_bytes(request.into_body(), limits).await?;
    parse_call(&bytes)
}

/// Reads the whole body of `request` as a JSON object of another kind.
pub(crate) async fn read_json<T: DeserializeOwned>(
    request: Request<Body>,
    limits: BodyLimits,
) -> Result<T, RequestFault> {
    check_content_type(request.headers())?;
    let bytes = read_bytes(request.into_body(), limits).await?;
    serde_json::from_str(object_text(&bytes)?).map_err(|error| RequestFault::Json {
        line: error.line(),
        column: error.column(),
    })
}

/// `application/json`, alone or with `charset=utf-8`, and not compressed.
fn check_content_type(headers: &HeaderMap) -> Result<(), RequestFault> {
    let media_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .ok_or(RequestFault::ContentType)?;
    let mut parts = media_type.split(';').map(str::trim);
    let is_json = parts
        .next()
        .is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    let is_utf8 = parts.all(|parameter| {
        parameter.eq_ignore_ascii_case("charset=utf-8")
            || parameter.eq_ignore_ascii_case("charset=\"utf-8\"")
    });
    if is_json && is_utf8 && !headers.contains_key(CONTENT_ENCODING) {
        Ok(())
    } else {
        Err(RequestFault::ContentType)
    }
}

async fn read_bytes(body: Body, limits: BodyLimits) -> Result<Bytes, RequestFault> {
    if body.size_hint().lower() > limits.bytes_max as u64 {
        return Err(RequestFault::BodyTooLarge);
    }
    let whole = Limited::new(body, limits.bytes_max).collect();
    match timeout(limits.read_timeout, whole).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(RequestFault::BodyTooLarge),
        Ok(Err(_)) => Err(RequestFault::BodyIncomplete),
        Err(_) => Err(RequestFault::BodyTimeout),
    }
}

/// The body as text, which begins as an object.
fn object_text(bytes: &[u8]) -> Result<&str, RequestFault> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let (line, column) = place(&bytes[..error.valid_up_to()]);
        RequestFault::Json { line, column }
    })?;
    check_object(text)?;
    Ok(text)
}

fn parse_call(bytes: &[u8]) -> Result<Call, BodyFault> {
    let text = object_text(bytes)?;
    serde_json::from_str(text).map_err(|error| BodyFault {
        fault: RequestFault::Json {
            line: error.line(),
            column: error.column(),
        },
        field: if error.is_data() {
            field_at_fault(text)
        } else {
            None
        },
    })
}

/// The body must begin as an object: serde would also read an array as the fields in order, which
/// is no form of ours.
fn check_object(text: &str) -> Result<(), RequestFault> {
    let begun = text.trim_start_matches([' ', '\t', '\r', '\n']);
    if begun.starts_with('{') {
        return Ok(());
    }
    let (line, column) = place(&text.as_bytes()[..text.len() - begun.len()]);
    Err(RequestFault::Json { line, column })
}

/// Line and column, both from 1, of the byte after `before`.
fn place(before: &[u8]) -> (usize, usize) {
    let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
    let column = before
        .iter()
        .rev()
        .take_while(|&&byte| byte != b'\n')
        .count()
        + 1;
    (line, column)
}

/// The first of our fields that is absent or has a value of the wrong type. Names that are not ours
/// are never told, since they are the caller's content.
fn field_at_fault(text: &str) -> Option<&'static str> {
    let Ok(Value::Object(fields)) = serde_json::from_str(text) else {
        return None;
    };
    let optional = |name: &str, fits: fn(&Value) -> bool| {
        fields
            .get(name)
            .is_none_or(|value| value.is_null() || fits(value))
    };
    let fits_u32 = |value: &Value| value.as_u64().is_some_and(|n| u32::try_from(n).is_ok());
    let is_text_map = |value: &Value| {
        value
            .as_object()
            .is_some_and(|map| map.values().all(Value::is_string))
    };
    [
        (
            "template",
            fields.get("template").is_some_and(Value::is_string),
        ),
        ("variables", fields.get("variables").is_none_or(is_text_map)),
        ("max_tokens", optional("max_tokens", fits_u32)),
        ("temperature", optional("temperature", Value::is_number)),
        ("seed", optional("seed", Value::is_u64)),
        ("stream", fields.get("stream").is_none_or(Value::is_boolean)),
    ]
    .into_iter()
    .find_map(|(name, fits)| (!fits).then_some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_told_by_place_and_by_our_own_field_names() {
        let cases: [(&[u8], usize, usize, Option<&str>); 14] = [
            (b"", 1, 1, None),
            (b"{\"template\": \"a.v1\"", 1, 19, None),
            (b"{\n\"template\": \"a\xff\"}", 2, 15, None),
            (b"[]", 1, 1, None),
            (b" \n\t[\"a.v1\", {}]", 2, 2, None),
            (b"{}", 1, 2, Some("template")),
            (b"{\"template\": 1}", 1, 14, Some("template")),
            (b"{\"template\": \"a\", \"secret\": 1}", 1, 26, None),
            (b"{\"template\": \"a\", \"template\": \"b\"}", 1, 28, None),
            (
                b"{\"template\": \"a\", \"variables\": {\"x\": 1}}",
                1,
                38,
                Some("variables"),
            ),
            (
                b"{\"template\": \"a\", \"max_tokens\": -1}",
                1,
                34,
                Some("max_tokens"),
            ),
            (
                b"{\"template\": \"a\", \"temperature\": \"hot\"}",
                1,
                38,
                Some("temperature"),
            ),
            (b"{\"template\": \"a\", \"seed\": 1.5}", 1, 29, Some("seed")),
            (
                b"{\"template\": \"a\", \"stream\": null}",
                1,
                32,
                Some("stream"),
            ),
        ];
        for (body, line, column, field) in cases {
            let shown = String::from_utf8_lossy(body).into_owned();
            let fault = parse_call(body).err().expect("no call");
            assert_eq!(fault.fault, RequestFault::Json { line, column }, "{shown}");
            assert_eq!(fault.field, field, "{shown}");
        }
    }

    #[test]
    fn only_plain_json_is_taken() {
        let cases = [
            ("application/json", true),
            ("Application/JSON; charset=UTF-8", true),
            ("application/json;charset=latin1", false),
            ("application/jsonp", false),
            ("text/plain", false),
            ("", false),
        ];
        for (media_type, taken) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, media_type.parse().expect("a header value"));
            assert_eq!(check_content_type(&headers).is_ok(), taken, "{media_type}");
        }
        assert!(check_content_type(&HeaderMap::new()).is_err());
    }
}
