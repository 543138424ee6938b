//! One connection: handshake, identity, HTTP, and an end that always comes.
//!
//! Invariant: a request reaches the router only with a [`Peer`] among its extensions, made from the
//! certificate of this very connection. A handshake that fails is told to the service, unless the
//! server closes. HTTP/1.1 or HTTP/2 is what ALPN agreed on, never guessed from the first bytes.
//! Absent on purpose: protocol upgrades and `CONNECT`.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use postern_service::{AuthenticationError, RefusalKind, Requester, Service};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt as _;

use crate::ServerConfig;
use crate::activity::Activity;
use crate::identity::identity_of;
use crate::socket::GuardedSocket;
use crate::tls::ALPN_HTTP2;

/// What all connections share.
pub(crate) struct Door {
    pub(crate) router: Router,
    pub(crate) acceptor: TlsAcceptor,
    pub(crate) service: Arc<Service>,
    pub(crate) config: ServerConfig,
}

/// The other end of a connection, as TLS proved it.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// With an identity only if the certificate names one.
    pub(crate) requester: Requester,
}

/// A handshake that came to nothing.
struct HandshakeFailure {
    reason: String,
    /// The socket, where the peer can still be told.
    socket: Option<GuardedSocket>,
}

/// Serves `tcp` until it ends, fails, idles, ages or `closing` turns true.
pub(crate) async fn serve(
    tcp: TcpStream,
    address: SocketAddr,
    door: &Door,
    mut closing: watch::Receiver<bool>,
) {
    let handshake = async {
        tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => None,
            stream = shake_hands(tcp, address, door) => Some(stream),
        }
    };
    match handshake.await {
        Some(Ok(stream)) => {
            let requester = peer_requester(&stream, address);
            let peer = Arc::new(Peer { address, requester });
            serve_http(stream, peer, door, closing).await;
        }
        Some(Err(failure)) => turn_away(failure, address, door).await,
        None => {}
    }
}

/// The TLS stream, or why there is none: the peer was refused or too slow.
async fn shake_hands(
    tcp: TcpStream,
    address: SocketAddr,
    door: &Door,
) -> Result<TlsStream<GuardedSocket>, HandshakeFailure> {
    let config = &door.config;
    if let Err(error) = tcp.set_nodelay(true) {
        log::debug!("{address}: {error}");
    }
    let socket = GuardedSocket::new(tcp, config.write_stall_timeout(), config.linger());
    let accept = door.acceptor.accept(socket).into_fallible();
    match timeout(config.handshake_timeout(), accept).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err((error, socket))) => Err(HandshakeFailure {
            reason: error.to_string(),
            socket: Some(socket),
        }),
        Err(_) => Err(HandshakeFailure {
            reason: "it was not done in time".to_owned(),
            socket: None,
        }),
    }
}

/// Has the failure recorded, and lets the peer read why meanwhile. A closing server waits for it.
async fn turn_away(failure: HandshakeFailure, peer: SocketAddr, door: &Door) {
    let HandshakeFailure { reason, socket } = failure;
    log::info!("{peer}: TLS handshake refused: {reason}");
    let error = AuthenticationError::Handshake { peer, reason };
    let kind = RefusalKind::Unauthenticated(error);
    let nobody = Requester::default();
    let recording = door.service.refuse(&nobody, kind);
    let closing = async {
        if let Some(mut socket) = socket {
            // The alert was written; a lingering close lets the peer read it.
            let _: io::Result<()> = socket.shutdown().await;
        }
    };
    tokio::join!(recording, closing);
}

/// Whoever holds the certificate of this connection, with an identity if it names one.
fn peer_requester(stream: &TlsStream<GuardedSocket>, address: SocketAddr) -> Requester {
    let (_, session) = stream.get_ref();
    let chain = session.peer_certificates();
    let Some(certificate) = chain.and_then(|chain| chain.first()) else {
        return Requester::default();
    };
    let identity = identity_of(certificate)
        .inspect_err(|error| {
            log::warn!("{address}: {error}; all its requests will be refused");
        })
        .ok();
    Requester::with_certificate(identity, certificate)
}

async fn serve_http(
    stream: TlsStream<GuardedSocket>,
    peer: Arc<Peer>,
    door: &Door,
    mut closing: watch::Receiver<bool>,
) {
    let config = &door.config;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(ALPN_HTTP2);
    let activity = Activity::new();
    let address = peer.address;
    let handle = service_fn(|request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Arc::clone(&peer));
        let busy = activity.begin();
        let router = door.router.clone();
        async move {
            router
                .oneshot(request)
                .await
                .map(|answer| busy.until_sent(answer))
        }
    });
    let http = http_builder(config, http2);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), handle));
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        _ = closing.wait_for(|closing| *closing) => None,
        () = activity.idle_for(config.idle_timeout()) => None,
        () = sleep(config.connection_age_max()) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            match timeout(config.connection_age_max(), connection).await {
                Ok(ended) => ended,
                Err(_) => return log::warn!("{address}: cut, as it would not end"),
            }
        }
    };
    if let Err(error) = ended {
        log::debug!("{address}: connection failed: {error}");
    }
}

fn http_builder(config: &ServerConfig, http2: bool) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_read_timeout())
        .max_headers(config.headers_max)
        .max_buf_size(config.header_bytes_max as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.http2_streams_max)
        .max_header_list_size(config.header_bytes_max)
        .keep_alive_interval(config.http2_keep_alive())
        .keep_alive_timeout(config.http2_keep_alive());
    if http2 {
        builder.http2_only()
    } else {
        builder.http1_only()
    }
}
