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

use crate::AuthenticationError;

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

/// Reads a token and checks its form, signature, times and identity, in this
/// order.
///
/// # Errors
///
/// The first check that fails, as an [`AuthenticationError`].
pub(crate) fn verify(
    key: &TokenKey,
    token: &str,
    identity: &Identity,
    now: Timestamp,
) -> Result<TokenClaims, AuthenticationError> {
    let claims = open(key, token)?;
    if claims.not_before().duration_since(now) > CLOCK_LEEWAY {
        return Err(AuthenticationError::TokenNotYetValid);
    }
    if now.duration_since(claims.expires()) > CLOCK_LEEWAY {
        return Err(AuthenticationError::TokenExpired);
    }
    if claims.identity() != identity {
        return Err(AuthenticationError::TokenOfOtherIdentity);
    }
    Ok(claims)
}

/// Checks form and signature, and only then parses the claims.
fn open(key: &TokenKey, token: &str) -> Result<TokenClaims, AuthenticationError> {
    let malformed = AuthenticationError::TokenMalformed;
    if token.len() > TOKEN_BYTES_MAX {
        return Err(malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(malformed)?;
    let (format, claims) = signed.split_once('.').ok_or(malformed)?;
    if format != FORMAT {
        return Err(malformed);
    }
    let signature = BASE64_URL_SAFE_NO_PAD
        .decode(signature)
        .map_err(|_| malformed)?;
    let claims = BASE64_URL_SAFE_NO_PAD
        .decode(claims)
        .map_err(|_| malformed)?;
    if !key.verifies(signed.as_bytes(), &signature) {
        return Err(AuthenticationError::TokenSignature);
    }
    serde_json::from_slice(&claims).map_err(|_| malformed)
}
