//! The listening socket: accepts connections within a bound, and closes them in order.
//!
//! Invariant: at most `connections-max` connections exist at a time, each as one task of one set,
//! and none of them outlives [`Server::run`]. Absent on purpose: binding again, and reloading keys.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use postern_service::Service;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::connection::{self, Door};
use crate::{ServerConfig, ServerError, routes, tls};

/// Pause after a failed accept, mostly for want of file descriptors, so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound server that has not begun to accept.
pub struct Server {
    listener: TcpListener,
    local_addr: SocketAddr,
    router: Router,
    acceptor: TlsAcceptor,
    service: Arc<Service>,
    config: ServerConfig,
}

impl Server {
    /// Checks `config`, reads the keys and takes the address. Clients that connect from now on wait
    /// until [`Server::run`].
    ///
    /// # Errors
    ///
    /// A [`ServerError`] that names the field or file at fault, or the address that is taken.
    pub async fn bind(config: &ServerConfig, service: Arc<Service>) -> Result<Self, ServerError> {
        config.check()?;
        let acceptor = TlsAcceptor::from(tls::server_tls(config)?);
        let unavailable = |source| ServerError::Listen {
            address: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(unavailable)?;
        let local_addr = listener.local_addr().map_err(unavailable)?;
        Ok(Self {
            listener,
            local_addr,
            router: routes::router(Arc::clone(&service), config),
            acceptor,
            service,
            config: config.clone(),
        })
    }

    /// The address that was taken; tells the port where the configuration said 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `shutdown` completes, then closes in order: no more connections, no more
    /// requests on the open ones, running calls finish or are cut at `shutdown-deadline-ms`,
    /// connections take their last bytes within `shutdown-drain-ms`, and what is left is closed.
    ///
    /// # Errors
    ///
    /// None at present: a failing connection ends that connection only.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServerError> {
        let Self {
            listener,
            local_addr,
            router,
            acceptor,
            service,
            config,
        } = self;
        let (close, closing) = watch::channel(false);
        let mut connections = Connections {
            slots: Arc::new(Semaphore::new(config.connections_max)),
            refused: 0,
            tasks: JoinSet::new(),
            door: Arc::new(Door {
                router,
                acceptor,
                service: Arc::clone(&service),
                config: config.clone(),
            }),
            closing,
        };
        log::info!("serving on {local_addr}");
        connections.accept_until(&listener, shutdown).await;
        drop(listener);
        log::info!("closing {} connections", connections.tasks.len());
        close.send_replace(true);
        service.shutdown(config.shutdown_deadline()).await;
        connections.drain(config.shutdown_drain()).await;
        log::info!("closed");
        Ok(())
    }
}

/// All connections there are.
struct Connections {
    slots: Arc<Semaphore>,
    /// Connections closed for want of a slot since the last one that got one.
    refused: u64,
    tasks: JoinSet<()>,
    door: Arc<Door>,
    closing: watch::Receiver<bool>,
}

impl Connections {
    async fn accept_until(&mut self, listener: &TcpListener, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => return,
                Some(ended) = self.tasks.join_next() => report(ended),
                accepted = listener.accept() => match accepted {
                    Ok((tcp, peer)) => self.admit(tcp, peer),
                    Err(error) => {
                        log::warn!("accepting a connection failed: {error}");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    /// Starts a task for the connection if there is a slot, and closes it otherwise. Only the first
    /// of several closed in a row is logged, so that a flood does not fill the log.
    fn admit(&mut self, tcp: TcpStream, peer: SocketAddr) {
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            if self.refused == 0 {
                log::warn!("closing connections, first of {peer}: all slots are in use");
            }
            self.refused += 1;
            return;
        };
        if self.refused > 0 {
            log::warn!(
                "{} connections were closed for want of a slot",
                self.refused
            );
            self.refused = 0;
        }
        let task = serve_in(
            slot,
            tcp,
            peer,
            Arc::clone(&self.door),
            self.closing.clone(),
        );
        self.tasks.spawn(task);
    }

    async fn drain(&mut self, limit: Duration) {
        let all_ended = async {
            while let Some(ended) = self.tasks.join_next().await {
                report(ended);
            }
        };
        if timeout(limit, all_ended).await.is_err() {
            log::warn!("cutting {} connections", self.tasks.len());
            self.tasks.shutdown().await;
        }
    }
}

async fn serve_in(
    slot: OwnedSemaphorePermit,
    tcp: TcpStream,
    peer: SocketAddr,
    door: Arc<Door>,
    closing: watch::Receiver<bool>,
) {
    connection::serve(tcp, peer, &door, closing).await;
    drop(slot);
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        log::error!("a connection's task panicked");
    }
}
