//! What an entry must keep to before it is written: bounded strings, well-formed digests, finite numbers.

use crate::error::{AuditError, EntryProblem};

use super::{
    Administered, Admitted, BUDGETS_MAX, Completed, DETAIL_BYTES_MAX, Entry, NAME_BYTES_MAX,
    OUTPUT_BYTES_MAX, Outcome, REASONS_MAX, REDACTIONS_MAX, REQUEST_ID_BYTES_MAX, RULES_MAX,
    RedactionCount, Refused, VARIABLES_MAX,
};

impl Entry {
    /// Checks bounds and forms of every field.
    ///
    /// # Errors
    /// [`AuditError::InvalidEntry`] names the first field that is wrong.
    pub fn check(&self) -> Result<(), AuditError> {
        match self {
            Self::Opened { version, cut } => {
                check_name("version", version)?;
                cut.as_ref()
                    .map_or(Ok(()), |cut| check_digest("cut.sha256", &cut.sha256))
            }
            Self::Admitted(admitted) => admitted.check(),
            Self::Refused(refused) => refused.check(),
            Self::RefusedMore(more) => more.check(),
            Self::Completed(completed) => completed.check(),
            Self::Administered(administered) => administered.check(),
            Self::Interrupted { request_id, .. } if request_id.is_empty() => Ok(()),
            Self::Interrupted { request_id, .. } => check_request_id(request_id),
            Self::Expired(expired) => check_name("reason", &expired.reason),
        }
    }
}

impl Admitted {
    fn check(&self) -> Result<(), AuditError> {
        check_request_id(&self.request_id)?;
        check_name("identity", &self.identity)?;
        check_optional_name("token_id", self.token_id.as_deref())?;
        check_certificate(&self.certificate_sha256)?;
        check_name("model.id", &self.model.id)?;
        check_digest("model.sha256", &self.model.sha256)?;
        check_digest("model.tokenizer_sha256", &self.model.tokenizer_sha256)?;
        if let Some(digest) = &self.model.chat_template_sha256 {
            check_digest("model.chat_template_sha256", digest)?;
        }
        check_name("template.id", &self.template.id)?;
        check_digest("template.sha256", &self.template.sha256)?;
        check_digest("policy_sha256", &self.policy_sha256)?;
        check_rules_digest(&self.rules_sha256)?;
        check_count("rules", self.rules.len(), RULES_MAX)?;
        for rule in &self.rules {
            check_name("rules", rule)?;
        }
        check_count("variables", self.variables.len(), VARIABLES_MAX)?;
        for name in self.variables.keys() {
            check_name("variables", name)?;
        }
        check_redactions("redactions", &self.redactions)?;
        check_count("budgets", self.budgets.len(), BUDGETS_MAX)?;
        for budget in &self.budgets {
            check_name("budgets", &budget.account)?;
            check_name("budgets", &budget.limit)?;
        }
        check_finite("parameters.temperature", self.parameters.temperature)
    }
}

impl Refused {
    fn check(&self) -> Result<(), AuditError> {
        check_request_id(&self.request_id)?;
        check_optional_bytes("identity", self.identity.as_deref(), NAME_BYTES_MAX)?;
        check_optional_name("token_id", self.token_id.as_deref())?;
        check_certificate(&self.certificate_sha256)?;
        check_optional_bytes("template", self.template.as_deref(), NAME_BYTES_MAX)?;
        check_optional_name("subject", self.subject.as_deref())?;
        check_name("code", &self.code)?;
        check_bytes("detail", &self.detail, DETAIL_BYTES_MAX)?;
        check_rules_digest(&self.rules_sha256)
    }
}

impl Completed {
    fn check(&self) -> Result<(), AuditError> {
        check_request_id(&self.request_id)?;
        match &self.outcome {
            Outcome::Failed { code } => check_name("outcome.code", code)?,
            Outcome::Held { reasons } => {
                check_count("outcome.reasons", reasons.len(), REASONS_MAX)?;
                for code in reasons {
                    check_name("outcome.reasons", code)?;
                }
            }
            _ => {}
        }
        check_digest("output_sha256", &self.output_sha256)?;
        check_optional_bytes("output", self.output.as_deref(), OUTPUT_BYTES_MAX)?;
        check_redactions("output_redactions", &self.output_redactions)?;
        self.mean_probability.map_or(Ok(()), |probability| {
            check_finite("mean_probability", probability)
        })
    }
}

impl Administered {
    fn check(&self) -> Result<(), AuditError> {
        check_optional_name("identity", self.identity.as_deref())?;
        check_name("action", &self.action)?;
        check_name("subject", &self.subject)?;
        check_bytes("detail", &self.detail, DETAIL_BYTES_MAX)?;
        check_rules_digest(&self.rules_sha256)
    }
}

fn check_request_id(id: &str) -> Result<(), AuditError> {
    check_bytes("request_id", id, REQUEST_ID_BYTES_MAX)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if id.is_empty() || !id.bytes().all(plain) {
        return Err(invalid("request_id", EntryProblem::RequestId));
    }
    Ok(())
}

pub(crate) fn check_name(field: &'static str, name: &str) -> Result<(), AuditError> {
    if name.is_empty() {
        return Err(invalid(field, EntryProblem::Empty));
    }
    check_bytes(field, name, NAME_BYTES_MAX)
}

fn check_optional_name(field: &'static str, name: Option<&str>) -> Result<(), AuditError> {
    name.map_or(Ok(()), |name| check_name(field, name))
}

fn check_optional_bytes(
    field: &'static str,
    text: Option<&str>,
    bytes_max: usize,
) -> Result<(), AuditError> {
    text.map_or(Ok(()), |text| check_bytes(field, text, bytes_max))
}

fn check_bytes(field: &'static str, text: &str, max: usize) -> Result<(), AuditError> {
    let found = text.len();
    if found > max {
        return Err(invalid(field, EntryProblem::TooLong { found, max }));
    }
    Ok(())
}

fn check_digest(field: &'static str, digest: &str) -> Result<(), AuditError> {
    let lower_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if digest.len() != 64 || !digest.bytes().all(lower_hex) {
        return Err(invalid(field, EntryProblem::Digest));
    }
    Ok(())
}

fn check_rules_digest(digest: &str) -> Result<(), AuditError> {
    check_known_digest("rules_sha256", digest)
}

fn check_certificate(digest: &str) -> Result<(), AuditError> {
    check_known_digest("certificate_sha256", digest)
}

/// A digest, or nothing where it is not known.
fn check_known_digest(field: &'static str, digest: &str) -> Result<(), AuditError> {
    if digest.is_empty() {
        return Ok(());
    }
    check_digest(field, digest)
}

fn check_redactions(field: &'static str, redactions: &[RedactionCount]) -> Result<(), AuditError> {
    check_count(field, redactions.len(), REDACTIONS_MAX)?;
    for redaction in redactions {
        check_name(field, &redaction.variable)?;
        check_name(field, &redaction.rule)?;
    }
    Ok(())
}

pub(crate) fn check_count(field: &'static str, found: usize, max: usize) -> Result<(), AuditError> {
    if found > max {
        return Err(invalid(field, EntryProblem::TooMany { found, max }));
    }
    Ok(())
}

fn check_finite(field: &'static str, number: f32) -> Result<(), AuditError> {
    if !number.is_finite() {
        return Err(invalid(field, EntryProblem::NotFinite));
    }
    Ok(())
}

pub(crate) fn invalid(field: &'static str, problem: EntryProblem) -> AuditError {
    AuditError::InvalidEntry { field, problem }
}
