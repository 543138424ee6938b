//! Who sends a request, as far as it is known: what records of calls and refusals say of them.
//!
//! Absent: whether any of it may be believed; that is [`Service::authenticate`](crate::Service::authenticate)'s.

use postern_governance::Identity;
use sha2::{Digest as _, Sha256};

use crate::RequestId;
use crate::progress::hex;

/// What is known of whoever sends a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requester {
    pub(crate) identity: Option<Identity>,
    /// SHA-256 of the certificate's DER, 64 lower-case hexadecimal digits.
    pub(crate) certificate_sha256: Option<String>,
    /// Of a token that this service signed, whether or not it was good for anything.
    pub(crate) token_id: Option<RequestId>,
}

impl Requester {
    /// Whoever holds the client certificate with this DER, which TLS accepted and which names `identity`, or none.
    #[must_use]
    pub fn with_certificate(identity: Option<Identity>, der: &[u8]) -> Self {
        Self {
            identity,
            certificate_sha256: Some(hex(&Sha256::digest(der))),
            token_id: None,
        }
    }

    /// The identity, if there is one.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }
}

/// Somebody who needs no certificate, as at the device itself.
impl From<Identity> for Requester {
    fn from(identity: Identity) -> Self {
        Self {
            identity: Some(identity),
            ..Self::default()
        }
    }
}
