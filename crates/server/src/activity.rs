//! Whether a connection is busy, and since when it is not.
//!
//! Invariant: a request counts from its arrival until the last byte of its answer was handed over
//! or the answer was dropped; so a long event stream is never idle.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use hyper::Response;
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, sleep_until};

/// The requests of one connection.
#[derive(Clone)]
pub(crate) struct Activity(Arc<Mutex<State>>);

struct State {
    requests: usize,
    changed: Instant,
}

impl Activity {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            requests: 0,
            changed: Instant::now(),
        })))
    }

    /// Counts a request until the returned value is dropped.
    pub(crate) fn begin(&self) -> Busy {
        self.update(|requests| requests + 1);
        Busy(self.clone())
    }

    /// Completes once there was no request for `timeout` without a break.
    pub(crate) async fn idle_for(&self, timeout: Duration) {
        loop {
            let now = Instant::now();
            let wake = match self.idle_since() {
                Some(since) if now >= since + timeout => return,
                Some(since) => since + timeout,
                None => now + timeout,
            };
            sleep_until(wake).await;
        }
    }

    fn idle_since(&self) -> Option<Instant> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (state.requests == 0).then_some(state.changed)
    }

    fn update(&self, count: impl FnOnce(usize) -> usize) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.requests = count(state.requests);
        state.changed = Instant::now();
    }
}

/// One request that is being answered.
pub(crate) struct Busy(Activity);

impl Busy {
    /// Hands itself to the answer's body, to be dropped with it.
    pub(crate) fn until_sent(self, answer: Response<Body>) -> Response<Body> {
        answer.map(|body| Body::new(BusyBody { body, _busy: self }))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.update(|requests| requests.saturating_sub(1));
    }
}

struct BusyBody {
    body: Body,
    _busy: Busy,
}

impl hyper::body::Body for BusyBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_only_without_requests_and_from_the_last_one_on() {
        let activity = Activity::new();
        let timeout = Duration::from_secs(60);
        let first = activity.begin();
        let second = activity.begin();
        let begun = Instant::now();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(100)).await;
            drop(first);
            tokio::time::sleep(Duration::from_secs(100)).await;
            let answer = Response::new(Body::from("text"));
            let answer = second.until_sent(answer);
            tokio::time::sleep(Duration::from_secs(100)).await;
            drop(answer);
        });
        activity.idle_for(timeout).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(300) + timeout);
    }
}
