//! Every answer that is not a success: RFC 9457 problem details with fixed text.
//!
//! Invariant: what a caller is told is chosen here from fixed texts, plus names that have the form
//! of a name and numbers; nothing a caller sent as content is ever repeated.
//! Absent on purpose: inner error texts, which belong to the log and the audit record.

mod facts;
mod wording;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use postern_service::{NotReady, Refusal, RefusalKind, RequestId};
use serde::Serialize;

use facts::{Facts, facts};
use wording::{Wording, wording};

/// Media type of a problem (RFC 9457, section 3).
const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");
/// Prefix of a problem's `type`; its code follows.
const TYPE_PREFIX: &str = "urn:postern:problem:";
/// Why writing a document out cannot fail.
const SERIALIZES: &str = "strings and finite numbers serialize";
/// When to come back after 429: calls end within seconds.
const BUSY_RETRY_AFTER_S: u64 = 2;
/// When to come back after 503: a restart, or room on the disk.
const UNAVAILABLE_RETRY_AFTER_S: u64 = 30;

/// The problem document that the API answers a refused call with, for callers that reach the service
/// without HTTP.
#[must_use]
pub fn problem_document(refusal: &Refusal) -> serde_json::Value {
    let problem = Problem::from(refusal.clone());
    serde_json::to_value(problem.members(refusal.id)).expect(SERIALIZES)
}

/// One refusal, ready to be told. It travels as a response extension to the outermost middleware,
/// which alone writes it out, under the request's id.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    wording: Wording,
    facts: Facts,
    /// The call's name in the audit log, where there is one.
    instance: Option<RequestId>,
}

/// The document of RFC 9457, section 3.1.
#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'static str,
    instance: String,
    #[serde(flatten)]
    facts: &'a Facts,
}

impl Problem {
    pub(crate) fn not_found() -> Self {
        Self::plain(Wording(
            StatusCode::NOT_FOUND,
            "route-unknown",
            "No such route",
            "This path leads nowhere; the routes are listed in the API description.",
        ))
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::plain(Wording(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "Method not allowed",
            "This path exists, but not with this method; see the Allow header.",
        ))
    }

    /// A defect of ours outside of any call, such as a panic in a handler.
    pub(crate) fn internal() -> Self {
        Self::plain(wording(&RefusalKind::Internal))
    }

    /// Why the service should get no calls at present.
    pub(crate) fn not_ready(reason: NotReady) -> Self {
        Self::plain(match reason {
            NotReady::ShuttingDown => wording(&RefusalKind::ShuttingDown),
            NotReady::AuditUnavailable => wording(&RefusalKind::AuditUnavailable),
            NotReady::BudgetUnavailable => wording(&RefusalKind::BudgetUnavailable),
            NotReady::EngineStopped => wording(&RefusalKind::EngineStopped),
        })
    }

    fn plain(wording: Wording) -> Self {
        Self {
            wording,
            facts: Facts::default(),
            instance: None,
        }
    }

    /// Names the field of the request at fault, which must be one of the API's own names.
    pub(crate) fn about(mut self, field: Option<&'static str>) -> Self {
        self.facts.field = field.or(self.facts.field);
        self
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.wording.0
    }

    pub(crate) fn code(&self) -> &'static str {
        self.wording.1
    }

    /// The call's name, or `request` where the problem is not of a call.
    pub(crate) fn instance_or(&self, request: RequestId) -> RequestId {
        self.instance.unwrap_or(request)
    }

    /// The JSON document, under the name that [`Problem::instance_or`] gives.
    pub(crate) fn document(&self, request: RequestId) -> String {
        serde_json::to_string(&self.members(request)).expect(SERIALIZES)
    }

    fn members(&self, request: RequestId) -> Document<'_> {
        let Wording(status, code, title, detail) = self.wording;
        Document {
            r#type: format!("{TYPE_PREFIX}{code}"),
            title,
            status: status.as_u16(),
            detail,
            instance: self.instance_or(request).to_string(),
            facts: &self.facts,
        }
    }

    /// The whole response, headers included.
    pub(crate) fn render(&self, request: RequestId) -> Response {
        let mut response = (self.status(), self.document(request)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, MEDIA_TYPE);
        match self.status() {
            StatusCode::UNAUTHORIZED => {
                let challenge = HeaderValue::from_static("Bearer realm=\"postern\"");
                headers.insert(WWW_AUTHENTICATE, challenge);
            }
            StatusCode::TOO_MANY_REQUESTS => {
                let limit = self.facts.limit.as_ref();
                let retry_after_s = limit.and_then(|limit| limit.retry_after_s);
                let retry_after_s = retry_after_s.unwrap_or(BUSY_RETRY_AFTER_S);
                headers.insert(RETRY_AFTER, retry_after_s.into());
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, UNAVAILABLE_RETRY_AFTER_S.into());
            }
            _ => {}
        }
        response
    }
}

/// Without text: the outermost middleware finds the problem among the extensions and renders it.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self {
            wording: wording(&refusal.kind),
            facts: facts(&refusal.kind),
            instance: Some(refusal.id),
        }
    }
}
