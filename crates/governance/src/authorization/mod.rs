//! Who may do what: rules in Cedar, and the grants of `policy.yaml`, which are the same in short.
//!
//! A grant `identities.kiosk.templates.coffee.v1` is read as the rule
//! `permit(principal == Identity::"kiosk", action == Action::"generate", resource == Template::"coffee.v1");`,
//! so one engine decides on everything. What rules can speak about stands in `schema.cedarschema`.
//!
//! Invariants: what no rule permits is refused, and a `forbid` wins over every `permit`. Cedar passes
//! over a rule that fails while it is evaluated; here such a failure refuses, or a `forbid` could be
//! switched off by making it fail. Every rule fits the schema and names only roles, identities and
//! templates that exist, which is checked when the rules are loaded.
//!
//! Absent: what a call may cost, and what may stand in it.

mod entities;
mod question;
mod rules;

use std::fmt;
use std::sync::{Arc, LazyLock};

use cedar_policy::{Authorizer, Decision, Entities, PolicySet, Schema};
use serde::Serialize;

use crate::GovernanceError;
use crate::names::Identity;
use crate::policy::Policy;
use crate::registry::ModelRegistry;
use crate::template_set::TemplateSet;
pub use question::{Circumstances, Question, Right, Validation};
pub use rules::AUTHORIZATION_RULES_MAX;
pub(crate) use rules::RuleSource;
use rules::{LoadedRules, Place};

/// The schema of the rules, as text in Cedar's own syntax.
pub const AUTHORIZATION_SCHEMA: &str = include_str!("schema.cedarschema");

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let (schema, _) = Schema::from_cedarschema_str(AUTHORIZATION_SCHEMA)
        .expect("the schema is part of the program and is tested");
    schema
});

/// Whether something is allowed, and which rules say so.
#[must_use]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether it is.
    pub allowed: bool,
    /// The rules that decided, by id: those that forbid if any does, else those that permit; none
    /// if no rule speaks of it, which refuses.
    pub rules: Vec<DecidingRule>,
    /// Rules that could not be evaluated, which refuses whatever the others say.
    pub failures: Vec<String>,
}

/// One rule that had a part in a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DecidingRule {
    /// Its `@id`, its file and line where it has none, or the path of the grant.
    pub id: String,
    /// File and line.
    pub place: String,
    /// Its text, in Cedar.
    pub text: String,
}

impl Verdict {
    /// The ids of the rules that decided.
    #[must_use]
    pub fn rule_ids(&self) -> Vec<String> {
        self.rules.iter().map(|rule| rule.id.clone()).collect()
    }
}

/// All rules of a policy, checked against the templates that exist.
#[derive(Clone)]
pub(crate) struct Authorization(Arc<Inner>);

struct Inner {
    policies: PolicySet,
    places: Vec<Place>,
    entities: Entities,
    asks_for_validation: bool,
    /// Cedar reads the instant from text, which costs as much as all the rest, so it is told only if a rule speaks of it.
    asks_for_now: bool,
    warnings: Vec<String>,
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorization({} rules)", self.0.places.len())
    }
}

impl Authorization {
    /// Joins the grants and the rule files of a policy.
    pub(crate) fn new(policy: &Policy, templates: &TemplateSet) -> Result<Self, GovernanceError> {
        let LoadedRules {
            policies,
            places,
            asks_for_validation,
            asks_for_now,
            mut warnings,
        } = rules::load(policy, templates, &SCHEMA)?;
        warnings.extend(idle_warnings(policy, &places));
        Ok(Self(Arc::new(Inner {
            policies,
            places,
            entities: entities::entities(policy, templates, &SCHEMA),
            asks_for_validation,
            asks_for_now,
            warnings,
        })))
    }

    /// Whether any rule speaks of what is found in a call's variables, so that it has to be asked again with it.
    pub(crate) fn asks_for_validation(&self) -> bool {
        self.0.asks_for_validation
    }

    /// What is allowed by the letter but looks like a mistake.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.0.warnings
    }

    /// How many rules there are, grants included.
    pub(crate) fn rules_count(&self) -> usize {
        self.0.places.len()
    }

    /// `registry` is where a rule that asks for the model's risk looks.
    pub(crate) fn ask(
        &self,
        question: &Question<'_>,
        circumstances: &Circumstances,
        registry: Option<&ModelRegistry>,
    ) -> Verdict {
        if question.concerns_oneself() {
            return Verdict::default();
        }
        let Inner {
            policies,
            entities,
            asks_for_now,
            ..
        } = &*self.0;
        let request = question.request(circumstances, *asks_for_now, registry);
        let response = Authorizer::new().is_authorized(&request, policies, entities);
        let diagnostics = response.diagnostics();
        let mut rules: Vec<_> = diagnostics.reason().map(|id| self.deciding(id)).collect();
        rules.sort_by(|a, b| a.id.cmp(&b.id));
        let mut failures: Vec<_> = diagnostics.errors().map(ToString::to_string).collect();
        failures.sort();
        Verdict {
            allowed: response.decision() == Decision::Allow && failures.is_empty(),
            rules,
            failures,
        }
    }

    fn deciding(&self, id: &cedar_policy::PolicyId) -> DecidingRule {
        let id: &str = id.as_ref();
        let place = self.0.places.iter().find(|place| place.id == id);
        let place = place.expect("a rule that decided is one that was loaded");
        DecidingRule {
            id: place.id.clone(),
            place: place.to_string(),
            text: place.text.clone(),
        }
    }
}

/// Identities that nothing can be given to, and roles that nobody has.
fn idle_warnings(policy: &Policy, places: &[Place]) -> Vec<String> {
    let mut warnings = Vec::new();
    for identity in policy.identities() {
        let named = |place: &Place| place.text.contains(&format!("Identity::\"{identity}\""));
        let has_role = policy.roles_of(identity).next().is_some();
        if !has_role && !policy.has_grants(identity) && !places.iter().any(named) {
            warnings.push(format!(
                "{}: the identity `{identity}` has no role and no template, so every call of it is \
                 refused unless a rule permits everybody",
                policy.file()
            ));
        }
    }
    for role in policy.roles() {
        let has_it = |identity: &Identity| policy.roles_of(identity).any(|name| name == role);
        if !policy.identities().any(has_it) {
            let file = policy.file();
            warnings.push(format!("{file}: no identity has the role `{role}`"));
        }
    }
    warnings
}
