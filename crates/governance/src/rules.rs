//! What is loaded, checked and replaced together.

use crate::GovernanceError;
use crate::canonical::Canonical;
use crate::fence::FenceKey;
use crate::policy::Policy;
use crate::sanitizer::Sanitizer;
use crate::template_set::TemplateSet;

/// Templates, policy and redaction rules that fit each other.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RuleSet {
    /// The templates.
    pub templates: TemplateSet,
    /// Who may use them.
    pub policy: Policy,
    /// What is taken out of variables and output.
    pub sanitizer: Sanitizer,
    /// What the marks around untrusted text are derived from, if somebody chose it.
    fence_key: Option<FenceKey>,
    checksum: String,
}

impl RuleSet {
    /// Joins templates and policy, with the built-in redaction rules.
    ///
    /// # Errors
    ///
    /// That the policy names a template that does not exist, or a bound above the template's own.
    pub fn new(templates: TemplateSet, policy: Policy) -> Result<Self, GovernanceError> {
        Self::with_sanitizer(templates, policy, Sanitizer::builtin())
    }

    /// Joins templates, policy and redaction rules.
    ///
    /// # Errors
    ///
    /// As [`RuleSet::new`].
    pub fn with_sanitizer(
        templates: TemplateSet,
        policy: Policy,
        sanitizer: Sanitizer,
    ) -> Result<Self, GovernanceError> {
        check_grants(&templates, &policy)?;
        let checksum = Canonical::object([
            ("format", Canonical::text("postern-rules/1")),
            ("templates", templates.canonical()),
            ("policy", Canonical::text(policy.checksum())),
            ("sanitizer", Canonical::text(sanitizer.checksum())),
        ])
        .sha256_hex();
        Ok(Self {
            templates,
            policy,
            sanitizer,
            fence_key: None,
            checksum,
        })
    }

    /// The same rules with marks that only the holder of the key can know, unless a key was chosen
    /// already. Without any, [`FenceKey::PUBLIC`] serves. The key is not part of the checksum.
    #[must_use]
    pub fn with_fence_key(mut self, fence_key: FenceKey) -> Self {
        self.fence_key.get_or_insert(fence_key);
        self
    }

    pub(crate) fn fence_key(&self) -> FenceKey {
        self.fence_key.unwrap_or(FenceKey::PUBLIC)
    }

    /// SHA-256 over the checksums of all templates, the policy and the redaction rules, 64
    /// lower-case hex digits: names the whole set in one string.
    #[must_use]
    pub fn checksum(&self) -> &str {
        &self.checksum
    }
}

fn check_grants(templates: &TemplateSet, policy: &Policy) -> Result<(), GovernanceError> {
    for (id, line) in policy.limited_templates() {
        if templates.get(id.as_str()).is_none() {
            return Err(GovernanceError::Field {
                file: policy.file().to_owned(),
                line,
                field: format!("templates.{id}"),
                reason:
                    "names a template that does not exist; add the template or remove the lines"
                        .to_owned(),
            });
        }
    }
    for (identity, id, grant) in policy.grants() {
        let Some(template) = templates.get(id.as_str()) else {
            return Err(GovernanceError::PolicyTemplateUnknown {
                file: policy.file().to_owned(),
                identity: identity.to_string(),
                template: id.to_string(),
            });
        };
        if let Some(given) = grant.max_tokens
            && given > template.max_tokens
        {
            return Err(GovernanceError::PolicyBound {
                file: policy.file().to_owned(),
                identity: identity.to_string(),
                template: id.to_string(),
                given,
                limit: template.max_tokens,
            });
        }
    }
    Ok(())
}
