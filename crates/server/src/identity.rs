//! From a client certificate to the one identity it names.
//!
//! Invariant: an [`Identity`] comes out only if the certificate has exactly one URI of the scheme
//! `postern` among its subject alternative names, and that URI is `postern://identity/` and a valid
//! name. Absent on purpose: the common name, e-mail and DNS names, and any other fallback.

use postern_service::Identity;
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

const SCHEME: &str = "postern:";
const PREFIX: &str = "postern://identity/";

/// Why a certificate names no identity. The certificate itself was accepted by TLS before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CertificateIdentityError {
    #[error("the certificate cannot be parsed")]
    Unreadable,
    #[error("the certificate has no URI of the form {PREFIX}NAME")]
    Missing,
    #[error("the certificate has more than one URI of the scheme postern")]
    Several,
    #[error("the certificate's URI is not {PREFIX} followed by a valid name")]
    Invalid,
}

/// The identity that `certificate` names.
pub(crate) fn identity_of(
    certificate: &CertificateDer<'_>,
) -> Result<Identity, CertificateIdentityError> {
    let (rest, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| CertificateIdentityError::Unreadable)?;
    if !rest.is_empty() {
        return Err(CertificateIdentityError::Unreadable);
    }
    let names = parsed
        .subject_alternative_name()
        .map_err(|_| CertificateIdentityError::Unreadable)?
        .ok_or(CertificateIdentityError::Missing)?;
    let mut uris = names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) if of_our_scheme(uri) => Some(*uri),
            _ => None,
        });
    let uri = uris.next().ok_or(CertificateIdentityError::Missing)?;
    if uris.next().is_some() {
        return Err(CertificateIdentityError::Several);
    }
    uri.strip_prefix(PREFIX)
        .and_then(|name| name.parse().ok())
        .ok_or(CertificateIdentityError::Invalid)
}

/// Schemes are compared without case (RFC 3986, section 3.1), so that `POSTERN:` counts as ours
/// and is then refused for its form.
fn of_our_scheme(uri: &str) -> bool {
    uri.get(..SCHEME.len())
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME))
}
