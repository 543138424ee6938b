//! Everything that surrounds the routes, outermost first: name and finish each answer, demand an
//! identity, demand a token.
//!
//! Invariant: no handler runs without an identity proven by the connection's certificate, and none
//! under `/v1` without a caller that certificate and token prove together. Each answer, a panic's
//! included, carries `x-request-id`. Absent on purpose: CORS, compression and cookies.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use postern_service::{AuthenticationError, Identity, RefusalKind, RequestId, Service};

use crate::connection::Peer;
use crate::problem::Problem;
use crate::routes::AppState;

/// The header that names each answer; where there was a call, with the call's id.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Puts the middleware of all routes around `router`.
pub(crate) fn surround(router: Router<AppState>, state: &AppState) -> Router<AppState> {
    router
        .layer(from_fn_with_state(state.clone(), require_identity))
        .layer(from_fn_with_state(state.clone(), finish))
}

/// Puts the middleware of the routes under `/v1` around `router`.
pub(crate) fn require_token(router: Router<AppState>, state: &AppState) -> Router<AppState> {
    router.route_layer(from_fn_with_state(state.clone(), require_caller))
}

/// Names the request, turns panics and problems into their documents, and logs one line.
async fn finish(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let seen = Seen::of(&request);
    let request_id = state.service.next_request_id();
    let answer = match unless_panicked(next.run(request)).await {
        Some(answer) => answer,
        None => Problem::internal().into_response(),
    };
    let problem = answer.extensions().get::<Problem>().cloned();
    let mut answer = match &problem {
        Some(problem) => rendered(problem, answer, request_id),
        None => answer,
    };
    let name = name_answer(answer.headers_mut(), request_id);
    let code = problem.as_ref().map_or("-", Problem::code);
    log::info!(
        "{name} {seen} -> {status} {code} after {ms} ms",
        status = answer.status().as_u16(),
        ms = begun.elapsed().as_millis(),
    );
    answer
}

/// The problem's document, with the headers that `answer` brought (such as `Allow`).
fn rendered(problem: &Problem, mut answer: Response, request_id: RequestId) -> Response {
    let mut document = problem.render(request_id);
    answer
        .headers_mut()
        .remove(axum::http::header::CONTENT_LENGTH);
    for (name, value) in answer.headers() {
        if !document.headers().contains_key(name) {
            document.headers_mut().insert(name, value.clone());
        }
    }
    let name = header_value(problem.instance_or(request_id));
    document.headers_mut().insert(REQUEST_ID, name);
    document
}

/// Sets the headers of all answers and gives the name under which this one goes out.
fn name_answer(headers: &mut HeaderMap, request_id: RequestId) -> String {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let name = headers
        .entry(REQUEST_ID)
        .or_insert_with(|| header_value(request_id));
    name.to_str().unwrap_or("-").to_owned()
}

/// `id` as the value of a header.
pub(crate) fn header_value(id: RequestId) -> HeaderValue {
    HeaderValue::try_from(id.to_string()).expect("ids are ASCII letters and digits")
}

/// What the log line says of a request: nothing that the caller could fill with text.
struct Seen {
    identity: Option<Identity>,
    method: Method,
    route: Option<MatchedPath>,
}

impl Seen {
    fn of(request: &Request) -> Self {
        Self {
            identity: peer(request).and_then(|peer| peer.requester.identity().cloned()),
            method: known_method(request.method()),
            route: request.extensions().get::<MatchedPath>().cloned(),
        }
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let identity = self.identity.as_ref().map_or("-", Identity::as_str);
        let route = self.route.as_ref().map_or("-", MatchedPath::as_str);
        write!(f, "{identity} {} {route}", self.method)
    }
}

/// Extension methods are free text; they are logged as `TRACE`, which no route has.
fn known_method(method: &Method) -> Method {
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
        Method::CONNECT,
    ];
    if known.contains(method) {
        method.clone()
    } else {
        Method::TRACE
    }
}

/// The future's output, or `None` if it panicked.
async fn unless_panicked<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
        match polled {
            Ok(Poll::Ready(output)) => Poll::Ready(Some(output)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(_) => Poll::Ready(None),
        }
    })
    .await
}

/// Lets a request through only if the connection's certificate named an identity.
async fn require_identity(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let Some(peer) = peer(&request).cloned() else {
        return Err(Problem::internal());
    };
    if peer.requester.identity().is_none() {
        let kind = RefusalKind::Unauthenticated(AuthenticationError::CertificateIdentity);
        return Err(state.service.refuse(&peer.requester, kind).await.into());
    }
    Ok(next.run(request).await)
}

/// Lets a request through only with a token that belongs to the certificate's identity.
async fn require_caller(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let Some(peer) = peer(&request).cloned() else {
        return Err(Problem::internal());
    };
    let token = bearer(request.headers());
    let service: &Arc<Service> = &state.service;
    let caller = service.authenticate(&peer.requester, token).await?;
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

fn peer(request: &Request) -> Option<&Arc<Peer>> {
    request.extensions().get::<Arc<Peer>>()
}

/// The token of the one `Authorization: Bearer` header (RFC 6750, section 2.1); two such headers
/// count as none, since it would not be plain which of them was meant.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim_start_matches(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_caught_and_an_output_kept() {
        assert_eq!(unless_panicked(async { 1 }).await, Some(1));
        let panics = async {
            tokio::task::yield_now().await;
            panic!("a defect that this test makes on purpose");
        };
        assert_eq!(unless_panicked::<_>(panics).await, None::<()>);
    }

    #[test]
    fn a_token_comes_from_exactly_one_bearer_header() {
        let cases: [(&[&str], Option<&str>); 9] = [
            (&["Bearer abc"], Some("abc")),
            (&["bearer abc"], Some("abc")),
            (&["BEARER   abc"], Some("abc")),
            (&["Bearer "], Some("")),
            (&["Bearer"], None),
            (&["Basic abc"], None),
            (&["abc"], None),
            (&[], None),
            (&["Bearer abc", "Bearer def"], None),
        ];
        for (values, expected) in cases {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_static(value));
            }
            assert_eq!(bearer(&headers), expected, "{values:?}");
        }
    }
}
