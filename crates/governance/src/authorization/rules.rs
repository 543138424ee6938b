//! The rules: grants and files, parsed and held against the schema and what exists.

use std::fmt;

use cedar_policy::{
    EntityUid, ParseErrors, Policy as Rule, PolicyId, PolicySet, Schema, ValidationMode,
    ValidationWarning, Validator,
};
use miette::Diagnostic;

use super::question::DEVICE_ID;
use crate::GovernanceError;
use crate::canonical::Canonical;
use crate::names::TemplateId;
use crate::policy::Policy;
use crate::source::line_at;
use crate::template_set::TemplateSet;

/// Most rules of a policy, grants included: every call asks all of them.
pub const AUTHORIZATION_RULES_MAX: usize = 1024;

/// Longest `@id` of a rule, in bytes: records name the rules that permitted a call. The path of a grant is no longer.
const RULE_ID_BYTES_MAX: usize = 160;

/// The annotation that names a rule.
const ID_ANNOTATION: &str = "id";
/// How a rule that looks at a call's variables spells that.
const VALIDATION: &str = "validation";
/// How a rule that looks at the instant spells that.
const NOW: &str = "now";

/// A file of rules, as it was read.
#[derive(Debug, Clone)]
pub(crate) struct RuleSource {
    pub(crate) file: String,
    pub(crate) text: String,
}

impl RuleSource {
    /// What the checksum is taken over: the rules as Cedar's JSON, in the order of the file, so that comments and layout do
    /// not matter. A file that does not parse is refused before anybody asks for its checksum.
    pub(crate) fn canonical(&self) -> Result<Canonical, GovernanceError> {
        let rules = self.parse()?;
        let json = rules.into_iter().map(|(rule, _)| {
            rule.to_json()
                .map_err(|error| self.fault(0, error.to_string()))
        });
        let json: Vec<_> = json.collect::<Result<_, _>>()?;
        Ok(Canonical::Json(json.into()))
    }

    /// The rules in the order of the file, and the line that each begins in.
    fn parse(&self) -> Result<Vec<(Rule, u64)>, GovernanceError> {
        let set: PolicySet = self.text.parse().map_err(|error| self.syntax(&error))?;
        if let Some(template) = set.templates().next() {
            let line = self.line_of(&template.to_cedar());
            let reason = "has a slot such as `?principal`, which nothing fills; name the role or identity instead";
            return Err(self.fault(line, reason.to_owned()));
        }
        // The set numbers its rules in the order of the file, and forgets that order.
        let mut rules: Vec<_> = set.policies().cloned().collect();
        rules.sort_by_key(|rule| ordinal(rule.id()));
        let mut from = 0;
        let located = rules.into_iter().map(|rule| {
            let text = rule.to_cedar().unwrap_or_default();
            let start = self.text[from..].find(&text).map_or(from, |at| from + at);
            from = start + text.len().min(self.text.len() - start);
            let line = line_at(&self.text, start);
            (rule, line)
        });
        Ok(located.collect())
    }

    fn line_of(&self, text: &str) -> u64 {
        self.text
            .find(text)
            .map_or(0, |start| line_at(&self.text, start))
    }

    fn syntax(&self, errors: &ParseErrors) -> GovernanceError {
        let first = errors.iter().next();
        let offset = first.and_then(|error| Some(error.labels()?.next()?.offset()));
        let reason = first.map_or_else(|| errors.to_string(), ToString::to_string);
        self.fault(offset.map_or(0, |at| line_at(&self.text, at)), reason)
    }

    fn fault(&self, line: u64, reason: String) -> GovernanceError {
        GovernanceError::Authorization {
            file: self.file.clone(),
            line,
            reason,
        }
    }
}

/// The number in the id that a set gives a rule, such as `policy12`.
fn ordinal(id: &PolicyId) -> usize {
    let id: &str = id.as_ref();
    let digits = id.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.parse().unwrap_or(0)
}

/// Where a rule comes from.
pub(super) struct Place {
    pub(super) id: String,
    file: String,
    line: u64,
    pub(super) text: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

impl Place {
    fn fault(&self, reason: String) -> GovernanceError {
        GovernanceError::Rule {
            file: self.file.clone(),
            line: self.line,
            rule: self.id.clone(),
            reason,
        }
    }
}

pub(super) struct LoadedRules {
    pub(super) policies: PolicySet,
    /// One a rule, in order: grants, then the files.
    pub(super) places: Vec<Place>,
    pub(super) asks_for_validation: bool,
    pub(super) asks_for_now: bool,
    pub(super) warnings: Vec<String>,
}

/// All rules of a policy.
pub(super) fn load(
    policy: &Policy,
    templates: &TemplateSet,
    schema: &Schema,
) -> Result<LoadedRules, GovernanceError> {
    let mut loaded = LoadedRules {
        policies: PolicySet::new(),
        places: Vec::new(),
        asks_for_validation: false,
        asks_for_now: false,
        warnings: Vec::new(),
    };
    for (identity, template, _, line) in policy.grants() {
        let text = format!(
            "permit(principal == Identity::\"{identity}\", action == Action::\"generate\", \
             resource == Template::\"{template}\");"
        );
        let rule =
            Rule::parse(None, &text).expect("names have no character with a meaning in Cedar");
        let id = format!("identities.{identity}.templates.{template}");
        loaded.add(rule, policy.file(), line, id)?;
    }
    for source in policy.authorization() {
        for (rule, line) in source.parse()? {
            let named = rule.annotation(ID_ANNOTATION);
            let id = named.map_or_else(|| format!("{}:{line}", source.file), str::to_owned);
            check_names(&rule, policy, templates)
                .map_err(|reason| loaded.place(&rule, &source.file, line, &id).fault(reason))?;
            loaded.add(rule, &source.file, line, id)?;
        }
    }
    loaded.validate(schema)?;
    Ok(loaded)
}

impl LoadedRules {
    fn place(&self, rule: &Rule, file: &str, line: u64, id: &str) -> Place {
        Place {
            id: id.to_owned(),
            file: file.to_owned(),
            line,
            text: rule.to_cedar().unwrap_or_default(),
        }
    }

    fn add(
        &mut self,
        rule: Rule,
        file: &str,
        line: u64,
        id: String,
    ) -> Result<(), GovernanceError> {
        let place = self.place(&rule, file, line, &id);
        if id.is_empty() {
            return Err(
                place.fault("has an empty `@id`; give it a name or leave it out".to_owned())
            );
        }
        if id.len() > RULE_ID_BYTES_MAX {
            let reason = format!("has an `@id` of more than {RULE_ID_BYTES_MAX} bytes; shorten it");
            return Err(place.fault(reason));
        }
        if let Some(other) = self.places.iter().find(|other| other.id == id) {
            let reason = format!("has the same `@id` as the rule in {other}; give each its own");
            return Err(place.fault(reason));
        }
        if self.places.len() == AUTHORIZATION_RULES_MAX {
            let reason = format!(
                "is one more than the {AUTHORIZATION_RULES_MAX} that a policy may have; use roles to \
                 say more with fewer"
            );
            return Err(place.fault(reason));
        }
        // As JSON, a name that is spelled with escapes is spelled out.
        let json = rule
            .to_json()
            .map_err(|error| place.fault(error.to_string()))?;
        let json = json.to_string();
        self.asks_for_validation |= json.contains(VALIDATION);
        self.asks_for_now |= json.contains(NOW);
        self.policies
            .add(rule.new_id(PolicyId::new(id)))
            .expect("the id is new, and the rule has no slot");
        self.places.push(place);
        Ok(())
    }

    /// Holds all rules against the schema. A rule that can never apply is an error like any other.
    fn validate(&mut self, schema: &Schema) -> Result<(), GovernanceError> {
        let result =
            Validator::new(schema.clone()).validate(&self.policies, ValidationMode::Strict);
        if let Some(error) = result.validation_errors().next() {
            return Err(self.told(error.policy_id(), &error.to_string(), error.help()));
        }
        for warning in result.validation_warnings() {
            match warning {
                ValidationWarning::ImpossiblePolicy(_)
                | ValidationWarning::InvalidActionApplication(_) => {
                    return Err(self.told(
                        warning.policy_id(),
                        &warning.to_string(),
                        warning.help(),
                    ));
                }
                other => self.warnings.push(other.to_string()),
            }
        }
        Ok(())
    }

    fn told(
        &self,
        id: &PolicyId,
        message: &str,
        help: Option<Box<dyn fmt::Display + '_>>,
    ) -> GovernanceError {
        let id: &str = id.as_ref();
        let place = self.places.iter().find(|place| place.id == id);
        let place = place.expect("a rule that was validated is one that was loaded");
        // The message repeats the id, which stands before it here.
        let prefix = format!("for policy `{id}`, ");
        let mut reason = message.strip_prefix(&prefix).unwrap_or(message).to_owned();
        if let Some(help) = help {
            reason.push_str("; ");
            reason.push_str(&help.to_string());
        }
        place.fault(reason)
    }
}

/// That everything a rule names is there.
fn check_names(rule: &Rule, policy: &Policy, templates: &TemplateSet) -> Result<(), String> {
    match rule
        .entity_literals()
        .iter()
        .find(|uid| !exists(uid, policy, templates))
    {
        Some(uid) => Err(format!("names {uid}, {}", what_to_do(uid))),
        None => Ok(()),
    }
}

fn exists(uid: &EntityUid, policy: &Policy, templates: &TemplateSet) -> bool {
    let id = uid.id().unescaped();
    match uid.type_name().to_string().as_str() {
        "Role" => policy.roles().any(|role| role.as_str() == id),
        "Identity" => id.parse().is_ok_and(|identity| policy.knows(&identity)),
        "Template" => id.parse::<TemplateId>().is_ok() && templates.get(id).is_some(),
        "Device" => id == DEVICE_ID,
        // Types and actions are the validator's.
        _ => true,
    }
}

fn what_to_do(uid: &EntityUid) -> String {
    match uid.type_name().to_string().as_str() {
        "Role" => "which is not among the `roles` of the policy; declare it there".to_owned(),
        "Identity" => "which is not among the `identities` of the policy; list it there".to_owned(),
        "Template" => "and there is no such template; name one that is loaded".to_owned(),
        _ => format!("but the only device is Device::\"{DEVICE_ID}\""),
    }
}
