//! A throwaway certificate authority for tests: every key is made at run time.
//!
//! Invariant: nothing here outlives the [`Pki`] value; its folder is removed on drop, so no private
//! key is ever committed or shared between two runs. Absent on purpose: revocation, intermediate
//! authorities and anything that a production authority would need.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use tempfile::TempDir;

/// The URI that names an identity in a client certificate is this prefix and the name.
const IDENTITY_URI_PREFIX: &str = "postern://identity/";

/// Where a certificate and its private key lie, both as PEM. The key file has mode 0600.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The certificate, one PEM block.
    pub certificate: PathBuf,
    /// The private key, PKCS#8 in one PEM block.
    pub key: PathBuf,
}

/// A throwaway authority with a server certificate, and a second authority that nobody trusts.
pub struct Pki {
    dir: TempDir,
    ca: Authority,
    foreign: Authority,
    server: Credentials,
}

impl Pki {
    /// Makes both authorities and a server certificate for `localhost` and `127.0.0.1`.
    ///
    /// # Panics
    ///
    /// When the temporary folder cannot be written; a test cannot go on without it.
    pub fn new() -> Self {
        let dir = TempDir::new().expect("a temporary folder for test keys");
        let ca = Authority::create(dir.path(), "ca");
        let foreign = Authority::create(dir.path(), "foreign-ca");
        let mut params = leaf_params("localhost", ExtendedKeyUsagePurpose::ServerAuth);
        params.subject_alt_names = vec![
            SanType::DnsName(ia5("localhost")),
            SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()),
        ];
        let server = ca.sign(dir.path(), "server", &params);
        Self {
            dir,
            ca,
            foreign,
            server,
        }
    }

    /// The folder that holds every file of this authority; removed when `self` is dropped.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// PEM of the authority that signs the server and the good clients.
    pub fn ca(&self) -> &Path {
        &self.ca.certificate
    }

    /// The server's certificate and key, valid for `localhost` and `127.0.0.1`.
    pub fn server(&self) -> &Credentials {
        &self.server
    }

    /// A good client: signed by [`Pki::ca`], with one URI that names `identity`.
    pub fn client(&self, identity: &str) -> Credentials {
        self.client_with_uris(identity, &[&identity_uri(identity)])
    }

    /// A client signed by [`Pki::ca`] whose URI names are exactly `uris`; `file` names its files.
    pub fn client_with_uris(&self, file: &str, uris: &[&str]) -> Credentials {
        self.ca
            .sign(self.dir(), &format!("client-{file}"), &client_params(uris))
    }

    /// A client that names `identity` but is signed by an authority the server does not trust.
    pub fn foreign_client(&self, identity: &str) -> Credentials {
        let params = client_params(&[&identity_uri(identity)]);
        self.foreign
            .sign(self.dir(), &format!("foreign-{identity}"), &params)
    }

    /// A client signed by [`Pki::ca`] whose certificate ended on 2 January 2020.
    pub fn expired_client(&self, identity: &str) -> Credentials {
        let mut params = client_params(&[&identity_uri(identity)]);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 2);
        self.ca
            .sign(self.dir(), &format!("expired-{identity}"), &params)
    }

    /// A certificate for `identity` from [`Pki::ca`] that may serve, but not act as a client.
    pub fn server_only_client(&self, identity: &str) -> Credentials {
        let mut params = client_params(&[&identity_uri(identity)]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.ca
            .sign(self.dir(), &format!("server-only-{identity}"), &params)
    }
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}

/// One self-signed authority and the file of its certificate.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: PathBuf,
}

impl Authority {
    fn create(dir: &Path, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("postern test {name}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("the provider makes P-256 keys");
        let certificate = params
            .self_signed(&key)
            .expect("well-formed authority parameters");
        let path = dir.join(format!("{name}.pem"));
        write_file(&path, &certificate.pem());
        Self {
            issuer: Issuer::new(params, key),
            certificate: path,
        }
    }

    fn sign(&self, dir: &Path, name: &str, params: &CertificateParams) -> Credentials {
        let key = KeyPair::generate().expect("the provider makes P-256 keys");
        let certificate = params
            .signed_by(&key, &self.issuer)
            .expect("well-formed leaf parameters");
        let credentials = Credentials {
            certificate: dir.join(format!("{name}.pem")),
            key: dir.join(format!("{name}.key")),
        };
        write_file(&credentials.certificate, &certificate.pem());
        write_file(&credentials.key, &key.serialize_pem());
        credentials
    }
}

fn client_params(uris: &[&str]) -> CertificateParams {
    let mut params = leaf_params("postern test client", ExtendedKeyUsagePurpose::ClientAuth);
    params.subject_alt_names = uris.iter().map(|uri| SanType::URI(ia5(uri))).collect();
    params
}

fn leaf_params(common_name: &str, usage: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    params
}

fn identity_uri(identity: &str) -> String {
    format!("{IDENTITY_URI_PREFIX}{identity}")
}

fn ia5(text: &str) -> rcgen::string::Ia5String {
    text.try_into().expect("test names are ASCII")
}

/// Mode 0600 for every file: the server refuses keys that others can read.
fn write_file(path: &Path, pem: &str) {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .expect("a file in the temporary folder");
    file.write_all(pem.as_bytes())
        .expect("a file in the temporary folder");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_certificate_is_written_and_removed_with_the_authority() {
        let pki = Pki::new();
        let all = [
            pki.server().clone(),
            pki.client("kiosk"),
            pki.client_with_uris("two", &["postern://identity/a", "postern://identity/b"]),
            pki.foreign_client("kiosk"),
            pki.expired_client("kiosk"),
            pki.server_only_client("kiosk"),
        ];
        for credentials in &all {
            let certificate = std::fs::read_to_string(&credentials.certificate).expect("written");
            assert!(certificate.starts_with("-----BEGIN CERTIFICATE-----"));
            let key = std::fs::read_to_string(&credentials.key).expect("written");
            assert!(key.starts_with("-----BEGIN PRIVATE KEY-----"));
        }
        let dir = pki.dir().to_owned();
        drop(pki);
        assert!(!dir.exists(), "keys stay behind in {}", dir.display());
    }
}
