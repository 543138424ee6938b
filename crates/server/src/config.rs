//! Section `[server]` of the configuration: where to listen, which keys to use, and every bound.
//!
//! Invariant: a [`ServerConfig`] that passed [`ServerConfig::check`] has all its bounds inside the
//! ranges documented on the fields. Absent on purpose: the environment and the command line, which
//! only the command crate reads, and any switch that would turn a bound or the client certificate off.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ServerError;

/// Everything the server needs to know besides the service behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ServerConfig {
    /// Address and port to listen on; port 0 takes a free one. Default `127.0.0.1:8443`.
    pub listen: SocketAddr,
    /// PEM file: the server's certificate, then the intermediates. Default `server.pem`.
    pub tls_cert: PathBuf,
    /// PEM file: the private key of `tls-cert`. Refused where others than its owner and group can
    /// read it, or its group can write it. Default `server.key`.
    pub tls_key: PathBuf,
    /// PEM file: the authorities that sign client certificates, and nobody else. Default `ca.pem`.
    pub client_ca: PathBuf,

    /// Most connections at once, handshakes included; one more is closed at once. 1 to 4096,
    /// default 128.
    pub connections_max: usize,
    /// Longest TLS handshake in milliseconds. 100 to 60 000, default 5 000.
    pub handshake_timeout_ms: u64,
    /// Longest life of a connection in seconds: then no new request is read from it, so that a
    /// certificate's end takes effect. 1 to 86 400, default 3 600.
    pub connection_age_max_s: u64,
    /// Longest time in milliseconds that a connection may stay without any request or answer.
    /// 100 to 600 000, default 60 000.
    pub idle_timeout_ms: u64,
    /// Longest time in milliseconds that the peer may take no byte of what is written to it.
    /// 100 to 600 000, default 30 000.
    pub write_stall_timeout_ms: u64,
    /// After an answer that ends the connection, at most this many milliseconds go into reading
    /// and dropping what the peer still sends, so that it gets to see the answer. 0 to 30 000,
    /// default 2 000.
    pub linger_ms: u64,

    /// Most bytes of a request's line and headers. 8 192 to 262 144, default 16 384.
    pub header_bytes_max: u32,
    /// Most headers of an HTTP/1.1 request (HTTP/2 is bounded by `header-bytes-max`). 8 to 1 024,
    /// default 64.
    pub headers_max: usize,
    /// Longest time in milliseconds from a connection's being ready for a request to the end of
    /// the request's headers. 100 to 60 000, default 10 000.
    pub header_read_timeout_ms: u64,
    /// Most bytes of a request body. 1 to 67 108 864, default 1 048 576.
    pub body_bytes_max: usize,
    /// Longest time in milliseconds for a whole request body. 100 to 600 000, default 30 000.
    pub body_read_timeout_ms: u64,

    /// Most requests at once on one HTTP/2 connection. 1 to 1 024, default 32.
    pub http2_streams_max: u32,
    /// Milliseconds between HTTP/2 pings, and the wait for each reply. 100 to 600 000, default
    /// 20 000.
    pub http2_keep_alive_ms: u64,
    /// Milliseconds of silence in an event stream before a comment keeps it alive. 100 to 600 000,
    /// default 10 000.
    pub sse_keep_alive_ms: u64,

    /// On shutdown, running calls have this many milliseconds before they are cut. 0 to 600 000,
    /// default 20 000.
    pub shutdown_deadline_ms: u64,
    /// After the calls have ended, connections have this many milliseconds to take their last
    /// bytes before they are closed. 0 to 60 000, default 2 000.
    pub shutdown_drain_ms: u64,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8443),
            tls_cert: PathBuf::from("server.pem"),
            tls_key: PathBuf::from("server.key"),
            client_ca: PathBuf::from("ca.pem"),
            connections_max: 128,
            handshake_timeout_ms: 5_000,
            connection_age_max_s: 3_600,
            idle_timeout_ms: 60_000,
            write_stall_timeout_ms: 30_000,
            linger_ms: 2_000,
            header_bytes_max: 16_384,
            headers_max: 64,
            header_read_timeout_ms: 10_000,
            body_bytes_max: 1_048_576,
            body_read_timeout_ms: 30_000,
            http2_streams_max: 32,
            http2_keep_alive_ms: 20_000,
            sse_keep_alive_ms: 10_000,
            shutdown_deadline_ms: 20_000,
            shutdown_drain_ms: 2_000,
        }
    }
}

impl ServerConfig {
    /// Checks every bound against its range; the files are checked when the server binds.
    ///
    /// # Errors
    ///
    /// [`ServerError::ConfigOutOfRange`] with the first field that is outside its range.
    pub fn check(&self) -> Result<(), ServerError> {
        let ranges = [
            ("connections-max", self.connections_max as u64, 1, 4_096),
            (
                "handshake-timeout-ms",
                self.handshake_timeout_ms,
                100,
                60_000,
            ),
            ("connection-age-max-s", self.connection_age_max_s, 1, 86_400),
            ("idle-timeout-ms", self.idle_timeout_ms, 100, 600_000),
            (
                "write-stall-timeout-ms",
                self.write_stall_timeout_ms,
                100,
                600_000,
            ),
            ("linger-ms", self.linger_ms, 0, 30_000),
            (
                "header-bytes-max",
                u64::from(self.header_bytes_max),
                8_192,
                262_144,
            ),
            ("headers-max", self.headers_max as u64, 8, 1_024),
            (
                "header-read-timeout-ms",
                self.header_read_timeout_ms,
                100,
                60_000,
            ),
            ("body-bytes-max", self.body_bytes_max as u64, 1, 67_108_864),
            (
                "body-read-timeout-ms",
                self.body_read_timeout_ms,
                100,
                600_000,
            ),
            (
                "http2-streams-max",
                u64::from(self.http2_streams_max),
                1,
                1_024,
            ),
            (
                "http2-keep-alive-ms",
                self.http2_keep_alive_ms,
                100,
                600_000,
            ),
            ("sse-keep-alive-ms", self.sse_keep_alive_ms, 100, 600_000),
            (
                "shutdown-deadline-ms",
                self.shutdown_deadline_ms,
                0,
                600_000,
            ),
            ("shutdown-drain-ms", self.shutdown_drain_ms, 0, 60_000),
        ];
        for (field, found, min, max) in ranges {
            within(field, found, min, max)?;
        }
        Ok(())
    }

    pub(crate) fn handshake_timeout(&self) -> Duration {
        Duration::from_millis(self.handshake_timeout_ms)
    }

    pub(crate) fn connection_age_max(&self) -> Duration {
        Duration::from_secs(self.connection_age_max_s)
    }

    pub(crate) fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }

    pub(crate) fn write_stall_timeout(&self) -> Duration {
        Duration::from_millis(self.write_stall_timeout_ms)
    }

    pub(crate) fn linger(&self) -> Duration {
        Duration::from_millis(self.linger_ms)
    }

    pub(crate) fn header_read_timeout(&self) -> Duration {
        Duration::from_millis(self.header_read_timeout_ms)
    }

    pub(crate) fn body_read_timeout(&self) -> Duration {
        Duration::from_millis(self.body_read_timeout_ms)
    }

    pub(crate) fn http2_keep_alive(&self) -> Duration {
        Duration::from_millis(self.http2_keep_alive_ms)
    }

    pub(crate) fn sse_keep_alive(&self) -> Duration {
        Duration::from_millis(self.sse_keep_alive_ms)
    }

    pub(crate) fn shutdown_deadline(&self) -> Duration {
        Duration::from_millis(self.shutdown_deadline_ms)
    }

    pub(crate) fn shutdown_drain(&self) -> Duration {
        Duration::from_millis(self.shutdown_drain_ms)
    }
}

fn within(field: &'static str, found: u64, min: u64, max: u64) -> Result<(), ServerError> {
    if (min..=max).contains(&found) {
        return Ok(());
    }
    Err(ServerError::ConfigOutOfRange {
        field,
        found,
        min,
        max,
    })
}
