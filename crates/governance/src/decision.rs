//! The decision on one call.
//!
//! [`decide`] asks in a fixed order, and the first "no" is the answer: identity, template, token
//! scope, policy, model, variables, parameters, content of variables; then it renders. If a rule of the policy speaks of
//! what was found in the variables, the policy is asked once more with that. It is a pure function.
//!
//! Invariant: a [`GovernedPrompt`] holds sanitized variables only, and parameters within the
//! bounds of template and policy.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::authorization::{Circumstances, Question, Validation};
use crate::body::{RENDERED_BYTES_MAX, RenderFault};
use crate::denial::{Denial, UNPRINTABLE};
use crate::fence::{FenceKey, Marks};
use crate::names::{Identity, TemplateId};
use crate::output_record::OutputRecord;
use crate::policy::Screening;
use crate::review::{ReviewPlan, ReviewReason};
use crate::rules::RuleSet;
use crate::sanitizer::Sanitizer;
use crate::schema::Schema;
use crate::screening::{Screened, screen};
use crate::template::{Redaction, SYSTEM, Template, USER};
use crate::variable::{VariableSpec, is_variable_name};

/// Highest temperature that a call or template may ask for.
pub const TEMPERATURE_MAX: f32 = 2.0;
/// Most token scopes that are looked at; a token with more allows nothing beyond them.
pub const SCOPES_MAX: usize = 256;

/// What a caller asks for, after authentication.
#[derive(Debug, Clone)]
pub struct CallRequest {
    /// Who calls, as proved by certificate and token.
    pub identity: Identity,
    /// Templates that the token allows.
    pub scopes: Vec<String>,
    /// The template asked for.
    pub template: String,
    /// Values of its variables.
    pub variables: BTreeMap<String, String>,
    /// Most tokens to generate; without it, as many as template and policy allow.
    pub max_tokens: Option<u32>,
    /// Sampling temperature, 0 to [`TEMPERATURE_MAX`]; without it, the template's.
    pub temperature: Option<f32>,
    /// Seed of the sampler.
    pub seed: Option<u64>,
    /// The model that would answer.
    pub model: ModelRef,
    /// How the call came.
    pub source: Source,
    /// When it came, in seconds since 1970-01-01 UTC.
    pub time_unix_s: i64,
}

impl CallRequest {
    fn circumstances(&self) -> Circumstances {
        Circumstances {
            source: self.source,
            time_unix_s: self.time_unix_s,
        }
    }
}

/// Which model, by name and by content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRef {
    /// The id that its manifest gives it.
    pub id: String,
    /// SHA-256 of its file, 64 lower-case hex digits.
    pub sha256: String,
}

/// How a call comes in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Source {
    /// Through the server, from whoever may reach it.
    #[default]
    Network,
    /// From the command line of the device, in a process of its own.
    Local,
}

impl Source {
    /// The name in policies and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Local => "local",
        }
    }
}

/// What may happen with a call.
#[must_use]
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "one a call, and most of them allow"
)]
pub enum Decision {
    /// Exactly this may be generated.
    Allow(GovernedPrompt),
    /// Nothing may be generated.
    Deny(Denial),
}

/// Which template, and which content of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TemplateRef {
    /// Its id.
    pub id: String,
    /// Its checksum, 64 lower-case hex digits.
    pub sha256: String,
}

/// Who speaks in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The operator of the template.
    System,
    /// The caller.
    User,
}

/// One message of a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// The rendered text.
    pub content: String,
    /// Leading bytes of the text that the template itself wrote, before its first variable: the same in every call.
    pub fixed_bytes: usize,
}

impl Message {
    fn new(role: Role, source: &str, content: String) -> Self {
        let first_tag = source.find("{{").into_iter();
        let first_tag = first_tag.chain(source.find("{%")).chain(source.find("{#"));
        let literal = &source[..first_tag.min().unwrap_or(source.len())];
        // Rendering may have trimmed white space before a tag.
        let kept = literal.bytes().zip(content.bytes());
        Self {
            role,
            fixed_bytes: kept.take_while(|(written, found)| written == found).count(),
            content,
        }
    }
}

/// What is allowed to reach a model, and what has to be recorded about it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct GovernedPrompt {
    /// The template that was rendered.
    pub template: TemplateRef,
    /// The prompt: system message if the template has one, then the user's.
    pub messages: Vec<Message>,
    /// The variables as they went into the template: sanitized, defaults filled in.
    pub variables: BTreeMap<String, String>,
    /// What was taken out, by variable and rule.
    pub redactions: Vec<Redaction>,
    /// What the variables were judged to hold.
    pub validation: Validation,
    /// Most tokens to generate.
    pub max_tokens: u32,
    /// Sampling temperature; 0 is greedy.
    pub temperature: f32,
    /// Seed of the sampler, if the caller gave one.
    pub seed: Option<u64>,
    /// What the output has to be: JSON of this schema. Without it, any text.
    pub output: Option<Schema>,
    /// Checksum of the policy that allowed it.
    pub policy_sha256: String,
    /// Checksum of the whole rule set, [`RuleSet::checksum`].
    pub rules_sha256: String,
    /// The rules of the policy that permit it, by id.
    pub rules: Vec<String>,
    /// Whether a person has to look at the output first.
    pub review: ReviewPlan,
    /// What the audit log keeps of the output.
    pub output_record: OutputRecord,
}

/// Decides on a call.
///
/// Pure: the same rules and request always give the same decision. The cost is linear in the size
/// of the variables, which the template bounds.
pub fn decide(rules: &RuleSet, request: &CallRequest) -> Decision {
    match judge(rules, request) {
        Ok(prompt) => Decision::Allow(prompt),
        Err(denial) => Decision::Deny(denial),
    }
}

fn judge(rules: &RuleSet, request: &CallRequest) -> Result<GovernedPrompt, Denial> {
    if !rules.policy.knows(&request.identity) {
        return Err(Denial::UnknownIdentity {
            identity: request.identity.clone(),
        });
    }
    let template = find_template(rules, request)?;
    check_scope(request, template)?;
    let mut deciding = permitted(rules, request, template, None)?;
    rules.permit_model(&request.model, template)?;
    let tokens_bound = rules.tokens_bound(&request.identity, template);
    let variables = check_variables(template, &request.variables)?;
    let max_tokens = check_max_tokens(request.max_tokens, tokens_bound)?;
    let temperature = check_temperature(request.temperature, template.temperature)?;
    let screening = &rules.policy.screening;
    let key = rules.fence_key();
    let (filled, found) = fill(&rules.sanitizer, screening, &key, template, variables)?;
    if rules.asks_for_validation() {
        deciding = permitted(rules, request, template, Some(found.validation))?;
    }
    Ok(GovernedPrompt {
        template: TemplateRef {
            id: template.id.to_string(),
            sha256: template.checksum.clone(),
        },
        messages: filled.messages,
        variables: filled.variables,
        redactions: filled.redactions,
        validation: found.validation,
        max_tokens,
        temperature,
        seed: request.seed,
        output: template.output.clone(),
        policy_sha256: rules.policy.checksum().to_owned(),
        rules_sha256: rules.checksum().to_owned(),
        rules: deciding,
        review: rules.policy.review.plan(template, found.review),
        output_record: rules.output_record(template),
    })
}

/// A template filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Filled {
    /// The prompt: system message if the template has one, then the user's.
    pub messages: Vec<Message>,
    /// The variables as they went into the template: sanitized, defaults filled in.
    pub variables: BTreeMap<String, String>,
    /// What was taken out, by variable and rule.
    pub redactions: Vec<Redaction>,
}

/// What was found in the variables, beside what was taken out.
struct Found {
    validation: Validation,
    review: Option<ReviewReason>,
}

/// Fills a template in, with the public fence key and without a policy, so that injections are marked and not refused: for those who write
/// templates. Nothing of it may be generated; only [`decide`] allows that.
///
/// # Errors
///
/// As [`decide`], for what concerns the variables.
pub fn preview(
    sanitizer: &Sanitizer,
    template: &Template,
    variables: &BTreeMap<String, String>,
) -> Result<Filled, Denial> {
    let variables = check_variables(template, variables)?;
    let screening = Screening::marking();
    let (filled, _) = fill(
        sanitizer,
        &screening,
        &FenceKey::PUBLIC,
        template,
        variables,
    )?;
    Ok(filled)
}

fn fill(
    sanitizer: &Sanitizer,
    screening: &Screening,
    fence_key: &FenceKey,
    template: &Template,
    variables: BTreeMap<String, String>,
) -> Result<(Filled, Found), Denial> {
    let Screened {
        variables,
        redactions,
        validation,
        review,
    } = screen(sanitizer, screening, template, variables)?;
    let marks = Marks::new(fence_key, template.id.as_str(), &variables);
    let filled = Filled {
        messages: render(template, &variables, &marks)?,
        variables,
        redactions,
    };
    Ok((filled, Found { validation, review }))
}

fn find_template<'r>(rules: &'r RuleSet, request: &CallRequest) -> Result<&'r Template, Denial> {
    rules.templates.get(&request.template).ok_or_else(|| {
        let id = request.template.parse::<TemplateId>();
        Denial::TemplateUnknown {
            template: id.map_or_else(|_| UNPRINTABLE.to_owned(), |id| id.to_string()),
        }
    })
}

fn check_scope(request: &CallRequest, template: &Template) -> Result<(), Denial> {
    let mut scopes = request.scopes.iter().take(SCOPES_MAX);
    if scopes.any(|scope| scope == template.id.as_str()) {
        return Ok(());
    }
    Err(Denial::TokenScope {
        template: template.id.clone(),
    })
}

/// The ids of the rules that permit the call.
fn permitted(
    rules: &RuleSet,
    request: &CallRequest,
    template: &Template,
    validation: Option<Validation>,
) -> Result<Vec<String>, Denial> {
    let question = Question::Generate {
        identity: &request.identity,
        template: &template.id,
        model: &request.model,
        validation,
    };
    let mut verdict = rules.authorize(&question, &request.circumstances());
    if verdict.allowed {
        return Ok(verdict.rule_ids());
    }
    if let Some(reason) = verdict.failures.pop() {
        return Err(Denial::RuleFailed { reason });
    }
    let (identity, template) = (request.identity.clone(), template.id.clone());
    Err(match verdict.rules.first() {
        Some(rule) => Denial::ForbiddenByRule {
            identity,
            template,
            rule: rule.id.clone(),
        },
        None => Denial::TemplateNotAllowed { identity, template },
    })
}

/// Every declared variable with its value, defaults filled in.
fn check_variables(
    template: &Template,
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Denial> {
    for (name, spec) in &template.variables {
        if spec.required && !given.contains_key(name) {
            return Err(Denial::VariableMissing {
                variable: name.clone(),
            });
        }
    }
    let unknown = given
        .keys()
        .find(|name| !template.variables.contains_key(*name));
    if let Some(name) = unknown {
        let printable = is_variable_name(name);
        let variable = if printable {
            name.as_str()
        } else {
            UNPRINTABLE
        };
        return Err(Denial::VariableUnknown {
            variable: variable.to_owned(),
        });
    }
    let mut variables = BTreeMap::new();
    for (name, spec) in &template.variables {
        let value = match given.get(name) {
            Some(value) => {
                check_value(name, spec, value)?;
                value.clone()
            }
            // The default was checked when the template was loaded.
            None => spec.default.clone().unwrap_or_default(),
        };
        variables.insert(name.clone(), value);
    }
    Ok(variables)
}

fn check_value(name: &str, spec: &VariableSpec, value: &str) -> Result<(), Denial> {
    if value.len() > spec.bytes_max {
        return Err(Denial::VariableOversized {
            variable: name.to_owned(),
            bytes: value.len(),
            bytes_max: spec.bytes_max,
        });
    }
    if let Some((offset, c)) = refused_control(value) {
        return Err(Denial::VariableControlCharacter {
            variable: name.to_owned(),
            offset,
            code_point: c.into(),
        });
    }
    match spec.broken_keyword(value) {
        Some(keyword) => Err(Denial::VariableSchema {
            variable: name.to_owned(),
            keyword,
        }),
        None => Ok(()),
    }
}

/// The first control character that is refused, and where it stands.
fn refused_control(text: &str) -> Option<(usize, char)> {
    // Most texts have none. To say so, no byte has to wait for the one before it.
    let may_be_in = |byte: &u8| !matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r');
    let may_hold = text
        .as_bytes()
        .iter()
        .fold(false, |found, byte| found | may_be_in(byte));
    let mut characters = text.char_indices();
    may_hold.then(|| characters.find(|(_, c)| is_refused_control(*c)))?
}

/// Control characters (Unicode category Cc) other than tab, line feed and carriage return.
pub(crate) fn is_refused_control(c: char) -> bool {
    c.is_control() && !matches!(c, '\t' | '\n' | '\r')
}

fn check_max_tokens(asked: Option<u32>, bound: u32) -> Result<u32, Denial> {
    let max_tokens = asked.unwrap_or(bound);
    if (1..=bound).contains(&max_tokens) {
        return Ok(max_tokens);
    }
    Err(Denial::ParameterOutOfRange {
        parameter: "max_tokens",
        minimum: 1.0,
        maximum: bound.into(),
    })
}

fn check_temperature(asked: Option<f32>, default: f32) -> Result<f32, Denial> {
    let temperature = asked.unwrap_or(default);
    if (0.0..=TEMPERATURE_MAX).contains(&temperature) {
        return Ok(temperature);
    }
    Err(Denial::ParameterOutOfRange {
        parameter: "temperature",
        minimum: 0.0,
        maximum: TEMPERATURE_MAX.into(),
    })
}

fn render(
    template: &Template,
    variables: &BTreeMap<String, String>,
    marks: &Marks,
) -> Result<Vec<Message>, Denial> {
    let system_name = template.system.is_some().then_some(SYSTEM);
    let rendered = template
        .bodies
        .render([system_name, Some(USER)], variables, marks);
    let [system, user] = rendered.map_err(|fault| match fault {
        RenderFault::Oversized => Denial::PromptOversized {
            bytes_max: RENDERED_BYTES_MAX,
        },
        RenderFault::NumberTaken => Denial::RenderFailed {
            template: template.id.clone(),
            reason: "a variable holds the numbers of its own marks".to_owned(),
        },
        RenderFault::Failed(kind) => Denial::RenderFailed {
            template: template.id.clone(),
            reason: kind.to_string(),
        },
    })?;
    let bodies = [
        (Role::System, template.system.as_deref(), system),
        (Role::User, Some(template.user.as_str()), user),
    ];
    let messages = bodies
        .into_iter()
        .filter_map(|(role, source, content)| Some(Message::new(role, source?, content?)));
    Ok(messages.collect())
}
