//! What is loaded, checked and replaced together.

use crate::GovernanceError;
use crate::authorization::{Authorization, Circumstances, Question, Verdict};
use crate::canonical::Canonical;
use crate::decision::ModelRef;
use crate::denial::Denial;
use crate::fence::FenceKey;
use crate::names::Identity;
use crate::output_record::OutputRecord;
use crate::policy::Policy;
use crate::registry::ModelRegistry;
use crate::sanitizer::Sanitizer;
use crate::template::Template;
use crate::template_set::TemplateSet;

/// Templates, policy, redaction rules and the registry of models, which fit each other.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RuleSet {
    /// The templates.
    pub templates: TemplateSet,
    /// Who may use them.
    pub policy: Policy,
    /// What is taken out of variables and output.
    pub sanitizer: Sanitizer,
    /// Which models may answer; without it, any.
    registry: Option<ModelRegistry>,
    /// What the marks around untrusted text are derived from, if somebody chose it.
    fence_key: Option<FenceKey>,
    authorization: Authorization,
    checksum: String,
}

impl RuleSet {
    /// Joins templates and policy, with the built-in redaction rules.
    ///
    /// # Errors
    ///
    /// That the policy names a template that does not exist or a bound above the template's own, or
    /// that a rule of its does not fit the schema or names what does not exist.
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
        let authorization = Authorization::new(&policy, &templates)?;
        let mut rules = Self {
            templates,
            policy,
            sanitizer,
            registry: None,
            fence_key: None,
            authorization,
            checksum: String::new(),
        };
        rules.checksum = rules.canonical().sha256_hex();
        Ok(rules)
    }

    /// The same rules for the models of a registry, and for no others.
    #[must_use]
    pub fn with_registry(mut self, registry: ModelRegistry) -> Self {
        self.registry = Some(registry);
        self.checksum = self.canonical().sha256_hex();
        self
    }

    /// The same rules with marks that only the holder of the key can know, unless a key was chosen
    /// already. Without any, [`FenceKey::PUBLIC`] serves. The key is not part of the checksum.
    #[must_use]
    pub fn with_fence_key(mut self, fence_key: FenceKey) -> Self {
        self.fence_key.get_or_insert(fence_key);
        self
    }

    /// Whether the policy's rules allow something, and which of them say so. An identity that the policy does not list is
    /// allowed nothing.
    pub fn authorize(&self, question: &Question<'_>, circumstances: &Circumstances) -> Verdict {
        if !self.policy.knows(question.identity()) {
            return Verdict::default();
        }
        self.authorization
            .ask(question, circumstances, self.registry.as_ref())
    }

    /// Whether a call of this identity for this template would be let in and may be answered by this model, as far as nothing
    /// in its variables speaks against it.
    #[must_use]
    pub fn opens(
        &self,
        identity: &Identity,
        template: &Template,
        model: &ModelRef,
        circumstances: &Circumstances,
    ) -> bool {
        let question = Question::Generate {
            identity,
            template: &template.id,
            model,
            validation: None,
        };
        self.authorize(&question, circumstances).allowed
            && self.permit_model(model, template).is_ok()
    }

    /// The most tokens that a call of this identity for this template may generate.
    #[must_use]
    pub fn tokens_bound(&self, identity: &Identity, template: &Template) -> u32 {
        let grant = self.policy.grant(identity, &template.id);
        let granted = grant.and_then(|grant| grant.max_tokens);
        let limit = self.policy.output_tokens(identity, &template.id);
        let bounds = [granted, limit].into_iter().flatten();
        bounds.fold(template.max_tokens, u32::min)
    }

    /// What the audit log keeps of this template's outputs.
    #[must_use]
    pub fn output_record(&self, template: &Template) -> OutputRecord {
        self.policy.outputs.of(template)
    }

    /// Whether a rule speaks of what is found in variables, so that a call is asked about again with it.
    pub(crate) fn asks_for_validation(&self) -> bool {
        self.authorization.asks_for_validation()
    }

    /// What is allowed by the letter but looks like a mistake, such as a role that nobody has.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        self.authorization.warnings()
    }

    /// How many rules decide on who may do what, grants included.
    #[must_use]
    pub fn authorization_rules_count(&self) -> usize {
        self.authorization.rules_count()
    }

    pub(crate) fn fence_key(&self) -> FenceKey {
        self.fence_key.unwrap_or(FenceKey::PUBLIC)
    }

    /// Which models may answer, if that was judged.
    #[must_use]
    pub fn registry(&self) -> Option<&ModelRegistry> {
        self.registry.as_ref()
    }

    /// Whether this model may answer this template. Without a registry, every model may.
    ///
    /// # Errors
    ///
    /// The first reason why not, as [`ModelRegistry::permit`].
    pub fn permit_model(&self, model: &ModelRef, template: &Template) -> Result<(), Denial> {
        match &self.registry {
            Some(registry) => registry.permit(model, template).map(drop),
            None => Ok(()),
        }
    }

    /// Whether this model may serve under these rules. Without a registry, every model may.
    ///
    /// # Errors
    ///
    /// Why not and what to do, as [`ModelRegistry::require`].
    pub fn require_model(&self, model: &ModelRef) -> Result<(), GovernanceError> {
        match &self.registry {
            Some(registry) => registry.require(model, &self.templates).map(drop),
            None => Ok(()),
        }
    }

    /// SHA-256 over the checksums of all templates, the policy, the redaction rules and the registry if
    /// there is one, 64 lower-case hex digits: names the whole set in one string.
    #[must_use]
    pub fn checksum(&self) -> &str {
        &self.checksum
    }

    fn canonical(&self) -> Canonical {
        let canonical = Canonical::object([
            ("format", Canonical::text("postern-rules/1")),
            ("templates", self.templates.canonical()),
            ("policy", Canonical::text(self.policy.checksum())),
            ("sanitizer", Canonical::text(self.sanitizer.checksum())),
        ]);
        match &self.registry {
            Some(registry) => canonical.with("models", Canonical::text(registry.checksum())),
            None => canonical,
        }
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
    for (identity, id, grant, _) in policy.grants() {
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
