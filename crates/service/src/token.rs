//! Bearer tokens: short-lived claims, signed with a key that only this daemon
//! holds.
//!
//! A token is `pst1.<claims>.<signature>`: base64url without padding of the
//! claims as JSON, and of HMAC-SHA-256 (RFC 2104) over everything before the
//! second point. The signature is compared in constant time and before the
//! claims are parsed, so no byte that we did not sign reaches a parser.
//!
//! Absent here: algorithm negotiation, unlimited scopes and revocation. A
//! token ends by itself within [`TOKEN_TTL_MAX`]; a new key ends all at once.

mod claims;
mod key;

pub use claims::{TOKEN_TEMPLATES_MAX, TOKEN_TTL_MAX, TokenClaims};
pub use key::TokenKey;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use postern_governance::Identity;

use crate::{AuthenticationError, RequestId};

/// Longest token that is looked at, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8192;

/// How far the clocks of issuer and verifier may differ.
pub const CLOCK_LEEWAY: SignedDuration = SignedDuration::from_secs(30);

/// First part of a token: its format and version.
const FORMAT: &str = "pst1";

/// Signs `claims` with `key`.
#[must_use]
pub fn issue(key: &TokenKey, claims: &TokenClaims) -> String {
    let json = serde_json::to_vec(claims).expect("claims are strings and lists of strings");
    let signed = format!("{FORMAT}.{}", BASE64_URL_SAFE_NO_PAD.encode(json));
    let signature = BASE64_URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// Why a token is not believed.
#[derive(Debug)]
pub(crate) struct Disbelieved {
    pub(crate) error: AuthenticationError,
    /// Id of the token, if its signature held.
    pub(crate) token_id: Option<RequestId>,
}

impl From<AuthenticationError> for Disbelieved {
    fn from(error: AuthenticationError) -> Self {
        Self {
            error,
            token_id: None,
        }
    }
}

/// Reads a token and checks its form, signature, times and identity, in this
/// order.
///
/// # Errors
///
/// The first check that fails, as an [`AuthenticationError`], with the token's id where it is known.
pub(crate) fn verify(
    key: &TokenKey,
    token: &str,
    identity: &Identity,
    now: Timestamp,
) -> Result<TokenClaims, Disbelieved> {
    let claims = open(key, token)?;
    match check(&claims, identity, now) {
        Ok(()) => Ok(claims),
        Err(error) => Err(Disbelieved {
            error,
            token_id: Some(claims.id()),
        }),
    }
}

/// Checks times and identity of what this service signed.
fn check(
    claims: &TokenClaims,
    identity: &Identity,
    now: Timestamp,
) -> Result<(), AuthenticationError> {
    if claims.not_before().duration_since(now) > CLOCK_LEEWAY {
        return Err(AuthenticationError::TokenNotYetValid);
    }
    if now.duration_since(claims.expires()) > CLOCK_LEEWAY {
        return Err(AuthenticationError::TokenExpired);
    }
    if claims.identity() != identity {
        return Err(AuthenticationError::TokenOfOtherIdentity);
    }
    Ok(())
}

/// Checks form and signature, and only then parses the claims.
fn open(key: &TokenKey, token: &str) -> Result<TokenClaims, AuthenticationError> {
    let malformed = || AuthenticationError::TokenMalformed;
    if token.len() > TOKEN_BYTES_MAX {
        return Err(malformed());
    }
    let (signed, signature) = token.rsplit_once('.').ok_or_else(malformed)?;
    let (format, claims) = signed.split_once('.').ok_or_else(malformed)?;
    if format != FORMAT {
        return Err(malformed());
    }
    let signature = BASE64_URL_SAFE_NO_PAD
        .decode(signature)
        .map_err(|_| malformed())?;
    let claims = BASE64_URL_SAFE_NO_PAD
        .decode(claims)
        .map_err(|_| malformed())?;
    if !key.verifies(signed.as_bytes(), &signature) {
        return Err(AuthenticationError::TokenSignature);
    }
    serde_json::from_slice(&claims).map_err(|_| malformed())
}
