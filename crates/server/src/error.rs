//! What keeps the server from starting or from going on.
//!
//! Absent here: answers to requests, which are problems, and failures of one connection,
//! which end that connection and a log line.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A failure to set up the server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// A value of the configuration is outside its range.
    #[error(
        "server.{field} is {found}, but must be from {min} to {max}; correct the configuration"
    )]
    ConfigOutOfRange {
        /// Kebab-case name of the field in section `[server]`.
        field: &'static str,
        /// The value that was found.
        found: u64,
        /// The smallest value allowed.
        min: u64,
        /// The largest value allowed.
        max: u64,
    },
    /// A PEM file could not be read.
    #[error("{field} file {path}: {source}; check the path in the configuration and that this user can read it", path = path.display())]
    File {
        /// Kebab-case name of the field in section `[server]`.
        field: &'static str,
        /// The file that was named.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A PEM file is larger than any key or chain needs to be.
    #[error("{field} file {path} has {found} bytes, more than the {max} allowed; check that the right file is named", path = path.display())]
    FileTooLarge {
        /// Kebab-case name of the field in section `[server]`.
        field: &'static str,
        /// The file that was named.
        path: PathBuf,
        /// Its length in bytes.
        found: u64,
        /// The bound in bytes.
        max: u64,
    },
    /// A PEM file does not hold what is needed from it.
    #[error("{field} file {path} holds no usable {expected}: {reason}; put it there as PEM", path = path.display())]
    Pem {
        /// Kebab-case name of the field in section `[server]`.
        field: &'static str,
        /// The file that was named.
        path: PathBuf,
        /// What was looked for: a certificate or a private key.
        expected: &'static str,
        /// What was wrong; never the content.
        reason: String,
    },
    /// The private key can be read by everyone or written by its group.
    #[error("tls-key file {path} has mode {mode:04o}; at most its group may read it, so run chmod 640 (or 600) on it, or make a new key if it may have leaked", path = path.display())]
    KeyExposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Certificate, key and authorities do not make a TLS configuration.
    #[error("TLS from tls-cert {certificate} and client-ca {client_ca}: {reason}; check that the key belongs to the certificate and that client-ca holds authorities", certificate = certificate.display(), client_ca = client_ca.display())]
    Tls {
        /// The server's certificate file.
        certificate: PathBuf,
        /// The file of the clients' authorities.
        client_ca: PathBuf,
        /// What rustls said.
        reason: String,
    },
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address}: {source}; another program may hold the port, or the address may not be of this machine"
    )]
    Listen {
        /// The address of the configuration.
        address: SocketAddr,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
}
