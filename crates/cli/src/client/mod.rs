//! A client of the HTTP API: HTTP/1.1 over mutual TLS 1.3, one connection a call.
//!
//! Everything read is bounded in bytes and time. Proxies, redirects, HTTP/2 and connection reuse
//! are absent: a call goes to the named server and to no other.

mod answer;
mod endpoint;
mod events;
mod push;

use std::time::Duration;

use anyhow::Context;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::http::request::Builder;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub(crate) use answer::{Answer, Call, Receipt, Redaction};
pub(crate) use endpoint::{Credentials, Endpoint};
pub(crate) use push::Push;

use crate::error::CommandError;
use events::EventReader;

/// How long a connection with its TLS handshake may take.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long the server may be silent: a little more than the longest deadline it can be given.
const SILENCE_WAIT_MAX: Duration = Duration::from_secs(3660);

/// How long a connection that failed has to say why.
const CAUSE_WAIT_MAX: Duration = Duration::from_secs(1);

/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// A caller at one server.
pub(crate) struct Client {
    endpoint: Endpoint,
    authorization: HeaderValue,
}

impl Client {
    /// A caller that presents `token` with the certificate of `endpoint`.
    ///
    /// # Errors
    /// The token has characters that no header can carry.
    pub(crate) fn new(endpoint: Endpoint, token: &str) -> anyhow::Result<Self> {
        let mut authorization = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| anyhow::anyhow!("the token holds characters that no token has"))?;
        authorization.set_sensitive(true);
        Ok(Self {
            endpoint,
            authorization,
        })
    }

    /// Makes a call and waits for the whole answer.
    ///
    /// # Errors
    /// [`CommandError::Problem`] when the server says no, [`CommandError::Held`] when it keeps the
    /// answer for a review, [`CommandError::Unreachable`] when there is no connection, else what was
    /// unusable in the answer.
    pub(crate) async fn generate(&self, call: &Call) -> anyhow::Result<Answer> {
        let response = self.post("/v1/generate", "application/json", call).await?;
        let status = response.status();
        let body = read_whole(response.into_body()).await?;
        if status == StatusCode::ACCEPTED {
            return Err(answer::held(&body)?.into());
        }
        Answer::from_json(&body)
    }

    /// Makes a call and hands on each piece of text as it arrives.
    ///
    /// # Errors
    /// As [`Self::generate`], and what `on_text` returns.
    pub(crate) async fn generate_streaming(
        &self,
        call: &Call,
        on_text: &mut (dyn FnMut(&str) -> anyhow::Result<()> + Send),
    ) -> anyhow::Result<Answer> {
        let response = self.post("/v1/generate", "text/event-stream", call).await?;
        let mut body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
        let mut reader = EventReader::default();
        while let Some(frame) = within(SILENCE_WAIT_MAX, body.frame()).await? {
            let frame = frame.map_err(|source| broke_off(&*source))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            for event in reader.push(&data)? {
                match event.name.as_str() {
                    "token" => on_text(&answer::token_text(&event.data)?)?,
                    "done" => return Answer::from_json(event.data.as_bytes()),
                    "held" => return Err(answer::held(event.data.as_bytes())?.into()),
                    "error" => return Err(answer::problem(event.data.as_bytes())?.into()),
                    // A later server may say more than we know.
                    _ => {}
                }
            }
        }
        Err(unreachable(
            "the server ended the stream without `done`, `held` or `error`",
        ))
    }

    /// What a route that only reads answers.
    ///
    /// # Errors
    /// As [`Self::generate`].
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<serde_json::Value> {
        let request = self.request(Method::GET, path, "application/json");
        let response = self.answered(request.body(Full::default())?).await?;
        let body = read_whole(response.into_body()).await?;
        serde_json::from_slice(&body).context("the server's answer is not JSON")
    }

    /// What a route answers to a change.
    ///
    /// # Errors
    /// As [`Self::generate`].
    pub(crate) async fn put(
        &self,
        path: &str,
        change: &serde_json::Value,
    ) -> anyhow::Result<serde_json::Value> {
        self.change(Method::PUT, path, change).await
    }

    /// What a route answers to something that is to be done.
    ///
    /// # Errors
    /// As [`Self::generate`].
    pub(crate) async fn post_json(
        &self,
        path: &str,
        deed: &serde_json::Value,
    ) -> anyhow::Result<serde_json::Value> {
        self.change(Method::POST, path, deed).await
    }

    async fn change(
        &self,
        method: Method,
        path: &str,
        change: &serde_json::Value,
    ) -> anyhow::Result<serde_json::Value> {
        let request = self
            .request(method, path, "application/json")
            .header(CONTENT_TYPE, "application/json");
        let body = Bytes::from(serde_json::to_vec(change)?);
        let response = self.answered(request.body(Full::new(body))?).await?;
        let body = read_whole(response.into_body()).await?;
        serde_json::from_slice(&body).context("the server's answer is not JSON")
    }

    async fn post(
        &self,
        path: &str,
        accept: &'static str,
        call: &Call,
    ) -> anyhow::Result<Response<Incoming>> {
        let request = self
            .request(Method::POST, path, accept)
            .header(CONTENT_TYPE, "application/json");
        let body = Bytes::from(serde_json::to_vec(call)?);
        self.answered(request.body(Full::new(body))?).await
    }

    fn request(&self, method: Method, path: &str, accept: &'static str) -> Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.endpoint.authority())
            .header(ACCEPT, accept)
            .header(AUTHORIZATION, &self.authorization)
    }

    /// The response, if it is a success.
    async fn answered(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Response<Incoming>> {
        let response = self.send(request).await?;
        let status = response.status();
        if matches!(status, StatusCode::OK | StatusCode::ACCEPTED) {
            return Ok(response);
        }
        let body = read_whole(response.into_body()).await?;
        match answer::problem(&body) {
            Ok(problem) => Err(problem.into()),
            Err(_) => anyhow::bail!(
                "{} answered {status} without a problem document; is it a Postern server?",
                self.endpoint.authority()
            ),
        }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Response<Incoming>> {
        let authority = self.endpoint.authority();
        let connecting = async {
            let stream = TcpStream::connect((self.endpoint.host(), self.endpoint.port()))
                .await
                .map_err(|source| {
                    unreachable(format!(
                        "cannot connect to {authority}: {source}; is it running?"
                    ))
                })?;
            // Latency over throughput: a call is one small request.
            stream
                .set_nodelay(true)
                .context("cannot set up the connection")?;
            let tls = self
                .endpoint
                .tls_connect(stream)
                .await
                .map_err(|source| handshake_failed(authority, &source))?;
            Ok::<_, anyhow::Error>(tls)
        };
        let tls = timeout(CONNECT_WAIT_MAX, connecting).await.map_err(|_| {
            let seconds = CONNECT_WAIT_MAX.as_secs();
            unreachable(format!("{authority} did not answer within {seconds} s"))
        })??;
        let (mut sender, connection) = http1::handshake(TokioIo::new(tls))
            .await
            .map_err(|source| broke_off(&source))?;
        // The connection ends by itself once the response body is dropped.
        let connection = tokio::spawn(connection);
        let response = within(SILENCE_WAIT_MAX, sender.send_request(request)).await?;
        match response {
            Ok(response) => Ok(response),
            Err(source) => Err(cause_of(source, connection).await),
        }
    }
}

/// Why a request failed. A server that refuses the certificate may do so before the request is
/// even begun; then only the connection knows the reason, and the request merely that it is gone.
async fn cause_of(
    request_error: hyper::Error,
    connection: JoinHandle<Result<(), hyper::Error>>,
) -> anyhow::Error {
    match timeout(CAUSE_WAIT_MAX, connection).await {
        Ok(Ok(Err(source))) => broke_off(&source),
        Ok(_) | Err(_) => broke_off(&request_error),
    }
}

/// Reads a body that may have at most [`ANSWER_BYTES_MAX`] bytes.
async fn read_whole(body: Incoming) -> anyhow::Result<Bytes> {
    let reading = Limited::new(body, ANSWER_BYTES_MAX).collect();
    let collected = within(SILENCE_WAIT_MAX, reading).await?;
    Ok(collected.map_err(|source| broke_off(&*source))?.to_bytes())
}

async fn within<T>(wait: Duration, work: impl Future<Output = T>) -> anyhow::Result<T> {
    timeout(wait, work)
        .await
        .map_err(|_| unreachable(format!("the server said nothing for {} s", wait.as_secs())))
}

fn unreachable(message: impl Into<String>) -> anyhow::Error {
    CommandError::Unreachable {
        message: message.into(),
    }
    .into()
}

/// Our side of the handshake failed: mostly a CA that did not sign the server's certificate.
fn handshake_failed(authority: &str, source: &std::io::Error) -> anyhow::Error {
    if let Some(refused) = certificate_refused(source) {
        return refused;
    }
    unreachable(format!(
        "no TLS connection to {authority}: {source}; does --ca name the CA of that server?"
    ))
}

/// The connection ended early. With TLS 1.3 a server refuses a client certificate only here, after
/// the client thinks the handshake is over.
fn broke_off(source: &(dyn std::error::Error + 'static)) -> anyhow::Error {
    if let Some(refused) = certificate_refused(source) {
        return refused;
    }
    let mut message = format!("the connection broke off: {source}");
    let mut cause = source.source();
    while let Some(inner) = cause {
        message.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    unreachable(message)
}

/// The refusal, if a TLS alert about our certificate is among the causes of `error`.
fn certificate_refused(error: &(dyn std::error::Error + 'static)) -> Option<anyhow::Error> {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(rustls::Error::AlertReceived(alert)) = inner.downcast_ref() {
            let message = format!(
                "the server refuses the client certificate ({alert:?}); \
                 use one that its CA signed and that is still valid"
            );
            return Some(CommandError::CertificateRefused { message }.into());
        }
        let wrapped = inner
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        cause = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => inner.source(),
        };
    }
    None
}
