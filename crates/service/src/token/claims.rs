//! What a token says of its bearer, checked whenever it is made or read.

use jiff::{SignedDuration, Timestamp};
use postern_governance::{Identity, Right, TemplateId};
use serde::{Deserialize, Serialize};

use crate::{RequestId, ServiceError};

/// Most templates that one token may name.
pub const TOKEN_TEMPLATES_MAX: usize = 32;

/// Longest life of a token, from its first to its last valid instant.
pub const TOKEN_TTL_MAX: SignedDuration = SignedDuration::from_hours(24);

/// The claims of one token. A value of this type keeps every bound: at most
/// [`TOKEN_TEMPLATES_MAX`] templates, each by its full name, at least one of them if
/// the token has no right beside them, and a life of at most [`TOKEN_TTL_MAX`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct TokenClaims {
    id: RequestId,
    identity: Identity,
    templates: Vec<TemplateId>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rights: Vec<Right>,
    not_before: Timestamp,
    expires: Timestamp,
}

/// Claims as they are written, before any bound is checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    id: RequestId,
    identity: Identity,
    templates: Vec<TemplateId>,
    #[serde(default)]
    rights: Vec<Right>,
    not_before: Timestamp,
    expires: Timestamp,
}

impl TokenClaims {
    /// Claims under a fresh random id, valid from `not_before` for `ttl`, that open templates and nothing else.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Claims`] if no or too many templates are named, or if
    /// `ttl` is not positive or longer than [`TOKEN_TTL_MAX`];
    /// [`ServiceError::Random`] if there are no random bytes for the id.
    pub fn new(
        identity: Identity,
        templates: Vec<TemplateId>,
        not_before: Timestamp,
        ttl: SignedDuration,
    ) -> Result<Self, ServiceError> {
        Self::with_rights(identity, templates, Vec::new(), not_before, ttl)
    }

    /// As [`TokenClaims::new`], with rights, beside which no template is needed. A right that is named twice counts once.
    ///
    /// # Errors
    ///
    /// As [`TokenClaims::new`].
    pub fn with_rights(
        identity: Identity,
        templates: Vec<TemplateId>,
        rights: Vec<Right>,
        not_before: Timestamp,
        ttl: SignedDuration,
    ) -> Result<Self, ServiceError> {
        let expires = not_before
            .checked_add(ttl)
            .map_err(|error| ServiceError::Claims {
                reason: format!("the end of the token's life is no valid time: {error}"),
            })?;
        Self::try_from(Unchecked {
            id: RequestId::random(not_before)?,
            identity,
            templates,
            rights,
            not_before,
            expires,
        })
    }

    /// The token's own name, which audit records carry instead of the token.
    #[must_use]
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// Who may bear the token.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The templates that the token opens.
    #[must_use]
    pub fn templates(&self) -> &[TemplateId] {
        &self.templates
    }

    /// What else the token allows, in order.
    #[must_use]
    pub fn rights(&self) -> &[Right] {
        &self.rights
    }

    /// The first instant at which the token is valid.
    #[must_use]
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// The last instant at which the token is valid.
    #[must_use]
    pub fn expires(&self) -> Timestamp {
        self.expires
    }
}

impl TryFrom<Unchecked> for TokenClaims {
    type Error = ServiceError;

    fn try_from(claims: Unchecked) -> Result<Self, Self::Error> {
        let named = claims.templates.len();
        let named_min = usize::from(claims.rights.is_empty());
        if !(named_min..=TOKEN_TEMPLATES_MAX).contains(&named) {
            return Err(ServiceError::Claims {
                reason: format!(
                    "{named} templates are named, but must be {named_min} to {TOKEN_TEMPLATES_MAX}"
                ),
            });
        }
        let ttl = claims.expires.duration_since(claims.not_before);
        if ttl <= SignedDuration::ZERO || ttl > TOKEN_TTL_MAX {
            return Err(ServiceError::Claims {
                reason: format!(
                    "the token would live {} s, but must live 1 to {} s",
                    ttl.as_secs(),
                    TOKEN_TTL_MAX.as_secs()
                ),
            });
        }
        let Unchecked {
            id,
            identity,
            templates,
            mut rights,
            not_before,
            expires,
        } = claims;
        rights.sort_unstable();
        rights.dedup();
        Ok(Self {
            id,
            identity,
            templates,
            rights,
            not_before,
            expires,
        })
    }
}
