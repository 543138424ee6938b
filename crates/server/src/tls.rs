//! The TLS configuration: version 1.3 only, client certificate required, no resumption.
//!
//! Invariant: no configuration made here completes a handshake without a client certificate that
//! chains to `client-ca` and is valid at that moment. Session tickets are off, so that this is
//! checked anew on each connection. Absent on purpose: TLS 1.2, early data, plain HTTP, and
//! certificate revocation lists (client certificates are meant to live for days).

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};

use crate::{ServerConfig, ServerError};

/// Protocol names of RFC 7301: HTTP/2 first, since one connection carries many calls.
pub(crate) const ALPN_HTTP2: &[u8] = b"h2";
const ALPN_HTTP1: &[u8] = b"http/1.1";

/// Longest PEM file that is read, in bytes: hundreds of certificates.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// Permission bits that no key file may have: anything for others, and writing for its group. The
/// group may read, because a key handed over by systemd credentials or kept in a folder such as
/// `/etc/ssl/private` is readable through its group.
const KEY_MODE_FORBIDDEN: u32 = 0o027;

/// Reads the three files of `config` and makes the one TLS configuration of the server.
///
/// # Errors
///
/// A [`ServerError`] that names the file and what is wrong with it.
pub(crate) fn server_tls(config: &ServerConfig) -> Result<Arc<rustls::ServerConfig>, ServerError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let chain = read_certificates("tls-cert", &config.tls_cert)?;
    let key = read_key(&config.tls_key)?;
    let roots = read_roots(&config.client_ca)?;
    let refused = |reason: String| ServerError::Tls {
        certificate: config.tls_cert.clone(),
        client_ca: config.client_ca.clone(),
        reason,
    };
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|error| refused(error.to_string()))?;
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| refused(error.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| refused(error.to_string()))?;
    tls.alpn_protocols = vec![ALPN_HTTP2.to_vec(), ALPN_HTTP1.to_vec()];
    tls.send_tls13_tickets = 0;
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(tls))
}

fn read_roots(path: &Path) -> Result<RootCertStore, ServerError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates("client-ca", path)? {
        roots
            .add(certificate)
            .map_err(|error| bad_pem("client-ca", path, "authority", &error))?;
    }
    Ok(roots)
}

fn read_certificates(
    field: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, ServerError> {
    let (pem, _mode) = read_pem(field, path)?;
    let certificates = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| bad_pem(field, path, "certificate", &error))?;
    if certificates.is_empty() {
        return Err(bad_pem(field, path, "certificate", &"no such block"));
    }
    Ok(certificates)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, ServerError> {
    let (pem, mode) = read_pem("tls-key", path)?;
    if mode & KEY_MODE_FORBIDDEN != 0 {
        return Err(ServerError::KeyExposed {
            path: path.to_owned(),
            mode,
        });
    }
    PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|error| bad_pem("tls-key", path, "private key", &error))
}

/// The bytes and the permission bits of one open file, so that both are of the same file.
fn read_pem(field: &'static str, path: &Path) -> Result<(Vec<u8>, u32), ServerError> {
    let unreadable = |source| ServerError::File {
        field,
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    let mut pem = Vec::new();
    file.take(PEM_BYTES_MAX + 1)
        .read_to_end(&mut pem)
        .map_err(unreadable)?;
    if pem.len() as u64 > PEM_BYTES_MAX {
        return Err(ServerError::FileTooLarge {
            field,
            path: path.to_owned(),
            found: metadata.len(),
            max: PEM_BYTES_MAX,
        });
    }
    Ok((pem, metadata.permissions().mode() & 0o7777))
}

fn bad_pem(
    field: &'static str,
    path: &Path,
    expected: &'static str,
    reason: &dyn std::fmt::Display,
) -> ServerError {
    ServerError::Pem {
        field,
        path: path.to_owned(),
        expected,
        reason: reason.to_string(),
    }
}
