//! `POST /v1/generate`: one call, answered whole or as server-sent events.
//!
//! Invariant: the [`CallStream`] lives in the handler's future or in the response's body, so that a
//! client that goes away drops it, which cancels the generation. Absent on purpose: reconnecting to
//! a stream; each call is answered to one connection only.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use futures_core::Stream;
use postern_service::{CallEvent, CallStream, Caller, Refusal, RefusalKind};
use serde::Serialize;

use crate::middleware::{REQUEST_ID, header_value};
use crate::problem::Problem;
use crate::request_body::{BodyFault, read_call};
use crate::routes::AppState;

/// Tells reverse proxies not to hold events back.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Takes a call from a proven caller.
pub(crate) async fn generate(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    let call = match read_call(request, state.body_limits).await {
        Ok(call) => call,
        Err(BodyFault { fault, field }) => {
            let kind = RefusalKind::Malformed(fault);
            let refusal = state.service.refuse(&caller.requester(), kind).await;
            return Err(Problem::from(refusal).about(field));
        }
    };
    let streamed = call.stream;
    let events = state.service.generate(caller, call).await?;
    let id = header_value(events.id);
    let mut response = if streamed {
        as_events(events, state.sse_keep_alive)
    } else {
        as_whole(events).await?
    };
    response.headers_mut().insert(REQUEST_ID, id);
    Ok(response)
}

/// Waits for the end; tokens on the way are part of the answer anyway.
async fn as_whole(mut events: CallStream) -> Result<Response, Problem> {
    while let Some(event) = events.next().await {
        match event {
            CallEvent::Token(_) => {}
            CallEvent::Done(answer) => return Ok(Json(answer).into_response()),
            CallEvent::Held(held) => {
                return Ok((StatusCode::ACCEPTED, Json(held)).into_response());
            }
            CallEvent::Failed(refusal) => return Err(refusal.into()),
        }
    }
    Err(broken_off(&events))
}

/// A stream of events that ended without its last one: a defect of ours.
fn broken_off(events: &CallStream) -> Problem {
    Problem::from(Refusal {
        id: events.id,
        kind: RefusalKind::Internal,
    })
}

fn as_events(events: CallStream, keep_alive: Duration) -> Response {
    let stream = EventStream {
        events,
        ended: false,
    };
    let mut response = Sse::new(stream)
        .keep_alive(KeepAlive::new().interval(keep_alive))
        .into_response();
    let headers = response.headers_mut();
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

/// A call's events as server-sent ones; exactly one `done`, `held` or `error` comes last.
struct EventStream {
    events: CallStream,
    ended: bool,
}

/// Data of a `token` event.
#[derive(Serialize)]
struct TokenData<'a> {
    text: &'a str,
}

impl Stream for EventStream {
    type Item = Result<Event, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let event = match ready!(Pin::new(&mut self.events).poll_next(cx)) {
            Some(CallEvent::Token(text)) => event("token", &TokenData { text: &text }),
            Some(CallEvent::Done(answer)) => {
                self.ended = true;
                event("done", &answer)
            }
            Some(CallEvent::Held(held)) => {
                self.ended = true;
                event("held", &held)
            }
            Some(CallEvent::Failed(refusal)) => {
                self.ended = true;
                error_event(&refusal.into(), &self.events)
            }
            None => {
                self.ended = true;
                error_event(&broken_off(&self.events), &self.events)
            }
        };
        Poll::Ready(Some(Ok(event)))
    }
}

fn event(name: &str, data: &impl Serialize) -> Event {
    let json = serde_json::to_string(data).expect("strings and numbers serialize");
    Event::default().event(name).data(json)
}

fn error_event(problem: &Problem, events: &CallStream) -> Event {
    Event::default()
        .event("error")
        .data(problem.document(events.id))
}
