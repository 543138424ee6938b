//! Pushing bodies to a system outside, which need not be a Postern server.
//!
//! One connection a body, over TLS 1.3 with a CA that was named, or in the clear. A body counts as
//! received with a status of 200 to 299 only. Redirects are not followed, and a secret is sent
//! over TLS or to the device itself only.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::endpoint::trusting_config;
use super::{CONNECT_WAIT_MAX, broke_off, cause_of, handshake_failed, unreachable};
use crate::terminal::printable;

/// How long a receiver may take to answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(60);
/// Most bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Most characters of an answer that says no which are shown.
const ANSWER_SHOWN_MAX: usize = 300;
const PORT_HTTP: u16 = 80;
const PORT_HTTPS: u16 = 443;

/// A receiver of bodies.
pub(crate) struct Push {
    host: String,
    port: u16,
    authority: String,
    path: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    authorization: Option<HeaderValue>,
}

impl Push {
    /// The receiver at `http://HOST[:PORT]/PATH`, or the same with https and the CA of its
    /// certificate, and the value of the header `Authorization` that it asks for.
    ///
    /// # Errors
    /// The URL is of another form, https has no CA or its file no certificate, or a secret would go
    /// over the network in the clear.
    pub(crate) fn new(
        url: &str,
        ca: Option<&Path>,
        authorization: Option<&str>,
    ) -> anyhow::Result<Self> {
        let form = || format!("`{url}` is no address to push to; expected https://HOST:PORT/PATH");
        let uri: Uri = url.parse().with_context(form)?;
        let written = uri.host().with_context(form)?;
        let host = written.trim_start_matches('[').trim_end_matches(']');
        let (tls, port) = match uri.scheme_str() {
            Some("https") => {
                let name = server_name(host).with_context(form)?;
                let ca = ca.context("https:// needs --ca, the CA of the receiver's certificate")?;
                let connector = TlsConnector::from(Arc::new(trusting_config(ca)?));
                (Some((connector, name)), PORT_HTTPS)
            }
            Some("http") => {
                anyhow::ensure!(
                    authorization.is_none() || is_loopback(host),
                    "a secret is not sent to {host} in the clear; use https:// with --ca"
                );
                (None, PORT_HTTP)
            }
            _ => anyhow::bail!(form()),
        };
        let port = uri.port_u16().unwrap_or(port);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            host: host.to_owned(),
            port,
            authority: format!("{written}:{port}"),
            path: path.to_owned(),
            tls,
            authorization: authorization.map(secret).transpose()?,
        })
    }

    /// Pushes one body and waits until the receiver says that it has it.
    ///
    /// # Errors
    /// [`CommandError::Unreachable`](crate::error::CommandError::Unreachable) where there is no
    /// connection or answer, else what the receiver says instead of a status of success.
    pub(crate) async fn post(
        &self,
        content_type: &'static str,
        body: Vec<u8>,
    ) -> anyhow::Result<()> {
        let authority = &self.authority;
        let connected = timeout(CONNECT_WAIT_MAX, self.connect()).await;
        let stream = connected.map_err(|_| {
            let seconds = CONNECT_WAIT_MAX.as_secs();
            unreachable(format!("{authority} did not answer within {seconds} s"))
        })??;
        let request = self.request(content_type, body)?;
        let answered = timeout(ANSWER_WAIT_MAX, self.exchange(stream, request)).await;
        answered.map_err(|_| {
            let seconds = ANSWER_WAIT_MAX.as_secs();
            unreachable(format!("{authority} did not answer within {seconds} s"))
        })?
    }

    async fn connect(&self) -> anyhow::Result<Box<dyn Stream>> {
        let authority = &self.authority;
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|source| unreachable(format!("cannot connect to {authority}: {source}")))?;
        let Some((connector, name)) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let tls = connector.connect(name.clone(), stream).await;
        Ok(Box::new(
            tls.map_err(|source| handshake_failed(authority, &source))?,
        ))
    }

    fn request(
        &self,
        content_type: &'static str,
        body: Vec<u8>,
    ) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.path.as_str())
            .header(HOST, self.authority.as_str())
            .header(CONTENT_TYPE, content_type);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        Ok(request.body(Full::new(Bytes::from(body)))?)
    }

    async fn exchange(
        &self,
        stream: Box<dyn Stream>,
        request: Request<Full<Bytes>>,
    ) -> anyhow::Result<()> {
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|source| broke_off(&source))?;
        let connection = tokio::spawn(connection);
        let response = match sender.send_request(request).await {
            Ok(response) => response,
            Err(source) => return Err(cause_of(source, connection).await),
        };
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
        // What it says beside its status only helps a person.
        let body = body.collect().await.map(|body| body.to_bytes());
        let said = String::from_utf8_lossy(&body.unwrap_or_default()).into_owned();
        let said: String = printable(said.trim())
            .chars()
            .take(ANSWER_SHOWN_MAX)
            .collect();
        anyhow::bail!("{} answered {status}: {said}", self.authority)
    }
}

/// A connection, encrypted or not.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

fn server_name(host: &str) -> anyhow::Result<ServerName<'static>> {
    match host.parse::<IpAddr>() {
        Ok(address) => Ok(ServerName::IpAddress(address.into())),
        Err(_) => Ok(ServerName::try_from(host.to_owned())?),
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn secret(value: &str) -> anyhow::Result<HeaderValue> {
    let value = HeaderValue::try_from(value);
    let mut value = value.map_err(|_| {
        anyhow::anyhow!("the file of --authorization-file is not one line that a header can carry")
    })?;
    value.set_sensitive(true);
    Ok(value)
}
