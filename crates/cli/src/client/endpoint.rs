//! Which server is called, and with which certificates.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use hyper::Uri;
use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::state_folder::development_hint;

/// Certificates in one PEM file at most.
const CERTIFICATES_MAX: usize = 16;

/// The files that a client needs.
#[derive(Debug)]
pub(crate) struct Credentials {
    /// CA that signed the server's certificate.
    pub(crate) ca: PathBuf,
    /// The client's own chain, leaf first.
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// A checked address with everything a handshake needs.
pub(crate) struct Endpoint {
    host: String,
    port: u16,
    authority: String,
    server_name: ServerName<'static>,
    connector: TlsConnector,
}

impl Endpoint {
    /// Reads the certificates and checks `url`, e.g. `https://localhost:8443`.
    ///
    /// # Errors
    /// The URL is not `https://HOST[:PORT]`, or a file holds no usable certificate or key.
    pub(crate) fn new(url: &str, credentials: &Credentials) -> anyhow::Result<Self> {
        let form = || format!("`{url}` is not a server's address; expected https://HOST:PORT");
        let uri: Uri = url.parse().with_context(form)?;
        let (Some("https"), Some(host), "/" | "", None) =
            (uri.scheme_str(), uri.host(), uri.path(), uri.query())
        else {
            anyhow::bail!(form());
        };
        let port = uri.port_u16().unwrap_or(443);
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let server_name = match host.parse::<IpAddr>() {
            Ok(address) => ServerName::IpAddress(address.into()),
            Err(_) => ServerName::try_from(host.clone()).with_context(form)?,
        };
        let authority = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        let connector = TlsConnector::from(Arc::new(tls_config(credentials)?));
        Ok(Self {
            host,
            port,
            authority,
            server_name,
            connector,
        })
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`, as the `Host` header says it.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    pub(crate) async fn tls_connect(
        &self,
        stream: TcpStream,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        self.connector
            .connect(self.server_name.clone(), stream)
            .await
    }
}

fn tls_config(credentials: &Credentials) -> anyhow::Result<ClientConfig> {
    let builder = trusting(&credentials.ca)?;
    let chain = read_certificates(&credentials.certificate, "--cert")?;
    let key = PrivateKeyDer::from_pem_file(&credentials.key).with_context(|| {
        let (key, hint) = (&credentials.key, development_hint(&credentials.key));
        format!(
            "cannot read the private key {}; name it with --key{hint}",
            key.display()
        )
    })?;
    builder.with_client_auth_cert(chain, key).with_context(|| {
        let (certificate, key) = (&credentials.certificate, &credentials.key);
        format!(
            "{} and {} do not belong together",
            certificate.display(),
            key.display()
        )
    })
}

/// TLS for a client that trusts the CA in a file and has no certificate of its own.
///
/// # Errors
/// The file holds no usable CA.
pub(super) fn trusting_config(ca: &Path) -> anyhow::Result<ClientConfig> {
    Ok(trusting(ca)?.with_no_client_auth())
}

/// TLS 1.3 with the CA in a file, before it is said how the client shows itself.
fn trusting(ca: &Path) -> anyhow::Result<ConfigBuilder<ClientConfig, WantsClientCert>> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(ca, "--ca")? {
        roots
            .add(certificate)
            .with_context(|| format!("{} holds no usable CA", ca.display()))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .context("TLS 1.3 is not available")?;
    Ok(builder.with_root_certificates(roots))
}

fn read_certificates(path: &Path, flag: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let place = || {
        let hint = development_hint(path);
        format!(
            "cannot read the certificate {}; name it with {flag}{hint}",
            path.display()
        )
    };
    let certificates = CertificateDer::pem_file_iter(path)
        .with_context(place)?
        .take(CERTIFICATES_MAX)
        .collect::<Result<Vec<_>, _>>()
        .with_context(place)?;
    anyhow::ensure!(
        !certificates.is_empty(),
        "{} holds no PEM certificate",
        path.display()
    );
    Ok(certificates)
}
