//! A small client over mutual TLS: HTTP/1.1 or HTTP/2, whole answers, event streams, raw bytes.
//!
//! Invariant: it does what it is told, bad requests included, and nothing more: no retries, no
//! redirects, no connection kept behind the test's back. Feature `client`.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::Credentials;

/// What ALPN asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum ClientError {
    /// The connection or the TLS handshake failed.
    Connect(io::Error),
    /// The request failed. In TLS 1.3 a refused client certificate shows only here, since the
    /// client's handshake is over before the server judges it.
    Http(hyper::Error),
}

/// Where to connect and as whom.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    protocol: Protocol,
}

impl Client {
    /// A client that trusts `ca` and shows the certificate of `credentials`, or none.
    ///
    /// # Panics
    ///
    /// When a file cannot be read or is no PEM; tests make these files themselves.
    pub fn new(address: SocketAddr, ca: &Path, credentials: Option<&Credentials>) -> Self {
        Self {
            address,
            tls: Arc::new(tls_config(ca, credentials)),
            protocol: Protocol::Http1,
        }
    }

    /// The same client, asking for HTTP/2.
    #[must_use]
    pub fn over_http2(&self) -> Self {
        Self {
            protocol: Protocol::Http2,
            ..self.clone()
        }
    }

    /// A TLS connection to write raw bytes to; ALPN asks for this client's protocol.
    ///
    /// # Errors
    ///
    /// As the operating system and rustls give them.
    pub async fn connect_raw(&self) -> io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?;
        let mut tls = ClientConfig::clone(&self.tls);
        tls.alpn_protocols = vec![match self.protocol {
            Protocol::Http1 => b"http/1.1".to_vec(),
            Protocol::Http2 => b"h2".to_vec(),
        }];
        let name = ServerName::IpAddress(self.address.ip().into());
        TlsConnector::from(Arc::new(tls)).connect(name, tcp).await
    }

    /// A connection for requests. Dropping it closes it, whatever is under way.
    ///
    /// # Errors
    ///
    /// [`ClientError`], of either kind.
    pub async fn connect(&self) -> Result<Connection, ClientError> {
        let io = TokioIo::new(self.connect_raw().await.map_err(ClientError::Connect)?);
        match self.protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(io).await.map_err(ClientError::Http)?;
                let driver = tokio::spawn(async move { connection.await.err() });
                Ok(Connection {
                    sender: Sender::Http1(sender),
                    driver,
                })
            }
            Protocol::Http2 => {
                let handshake = http2::handshake(TokioExecutor::new(), io);
                let (sender, connection) = handshake.await.map_err(ClientError::Http)?;
                let driver = tokio::spawn(async move { connection.await.err() });
                Ok(Connection {
                    sender: Sender::Http2(sender),
                    driver,
                })
            }
        }
    }

    /// Connects, sends one request and reads the whole answer.
    ///
    /// # Errors
    ///
    /// [`ClientError`], of either kind.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Reply, ClientError> {
        self.connect().await?.send(request).await
    }
}

/// One open connection.
pub struct Connection {
    sender: Sender,
    driver: tokio::task::JoinHandle<Option<hyper::Error>>,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    /// Sends one request and reads the whole answer.
    ///
    /// # Errors
    ///
    /// [`ClientError::Http`].
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Reply, ClientError> {
        let (head, body) = self.open(request).await?.into_parts();
        let body = body.collect().await.map_err(ClientError::Http)?.to_bytes();
        let headers = head.headers.iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.to_string(), value)
        });
        Ok(Reply {
            status: head.status.as_u16(),
            headers: headers.collect(),
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    /// Sends one request and reads the answer's headers only.
    ///
    /// # Errors
    ///
    /// [`ClientError::Http`].
    pub async fn open(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, ClientError> {
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await.map_err(ClientError::Http)?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await.map_err(ClientError::Http)?;
                sender.send_request(request).await
            }
        };
        response.map_err(ClientError::Http)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// All headers by name; of repeated ones, the last.
    pub headers: BTreeMap<String, String>,
    /// The body as text.
    pub body: String,
}

/// A `GET` of `path`, with a bearer token or without.
pub fn get(path: &str, token: Option<&str>) -> Request<Full<Bytes>> {
    request("GET", path, token, Bytes::new())
}

/// A `POST` of `json` to `path`, with a bearer token or without.
pub fn post(path: &str, token: Option<&str>, json: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let mut request = request("POST", path, token, json.into());
    let media_type = hyper::header::HeaderValue::from_static("application/json");
    request
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, media_type);
    request
}

/// The authority is written out because HTTP/2 takes it from the URI.
fn request(method: &str, path: &str, token: Option<&str>, body: Bytes) -> Request<Full<Bytes>> {
    let mut builder = Request::builder()
        .method(method)
        .uri(format!("https://localhost{path}"))
        .header("host", "localhost");
    if let Some(token) = token {
        builder = builder.header("authorization", format!("Bearer {token}"));
    }
    builder
        .body(Full::new(body))
        .expect("tests write well-formed requests")
}

/// One server-sent event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerEvent {
    /// Its name.
    pub event: String,
    /// Its data.
    pub data: String,
}

/// Reads server-sent events from an answer, as they come. Dropping it closes the connection.
pub struct EventReader {
    body: Incoming,
    _connection: Connection,
    text: String,
}

impl EventReader {
    /// Events from the body of `response`, which came over `connection`.
    pub fn over(connection: Connection, response: Response<Incoming>) -> Self {
        Self {
            body: response.into_body(),
            _connection: connection,
            text: String::new(),
        }
    }

    /// The next event, comments left out, or `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// [`ClientError::Http`] if the connection broke.
    pub async fn next(&mut self) -> Result<Option<ServerEvent>, ClientError> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let event = parse_event(block);
                self.text = rest.to_owned();
                if event.is_some() {
                    return Ok(event);
                }
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(ClientError::Http(error)),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        // Events are split at frames, and the server splits no character.
                        self.text.push_str(&String::from_utf8_lossy(data));
                    }
                }
            }
        }
    }

    /// All events up to the end of the stream.
    ///
    /// # Errors
    ///
    /// [`ClientError::Http`] if the connection broke.
    pub async fn rest(&mut self) -> Result<Vec<ServerEvent>, ClientError> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await? {
            events.push(event);
        }
        Ok(events)
    }
}

fn parse_event(block: &str) -> Option<ServerEvent> {
    let field = |name: &str| {
        let lines = block.lines().filter_map(|line| line.strip_prefix(name));
        lines
            .map(|value| value.strip_prefix(' ').unwrap_or(value))
            .collect::<Vec<_>>()
    };
    let event = field("event:").concat();
    let data = field("data:").join("\n");
    (!event.is_empty()).then_some(ServerEvent { event, data })
}

fn tls_config(ca: &Path, credentials: Option<&Credentials>) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca) {
        roots.add(certificate).expect("an authority");
    }
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider knows TLS 1.3")
        .with_root_certificates(roots);
    match credentials {
        None => builder.with_no_client_auth(),
        Some(credentials) => {
            let key = PrivateKeyDer::from_pem_file(&credentials.key).expect("a private key");
            builder
                .with_client_auth_cert(certificates(&credentials.certificate), key)
                .expect("a key that belongs to its certificate")
        }
    }
}

fn certificates(path: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path)
        .expect("a readable file")
        .collect::<Result<_, _>>()
        .expect("PEM certificates")
}
