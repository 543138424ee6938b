//! Why a call is refused.
//!
//! Invariant: nothing here repeats the content of a variable. Names that a caller sends are kept
//! only if they have the form of a name; anything else is replaced by [`UNPRINTABLE`].

use crate::names::{Identity, TemplateId};
use crate::template::Risk;

/// Stands for a name that a caller sent and that has not the form of one.
pub(crate) const UNPRINTABLE: &str = "(not a valid name)";

/// What kind of refusal a [`Denial`] is; the server turns it into a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DenialClass {
    /// The caller may not do this.
    Forbidden,
    /// What the call names does not exist.
    NotFound,
    /// The call itself is wrong; the caller can correct it.
    Invalid,
}

/// Why a call is refused. The text of `Display` is safe to hand out, log and audit.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Denial {
    /// The policy does not know the identity.
    #[error("the policy does not know the identity `{identity}`")]
    UnknownIdentity {
        /// Who called.
        identity: Identity,
    },
    /// There is no such template.
    #[error("there is no template `{template}`")]
    TemplateUnknown {
        /// What was asked for, or a fixed text where that is no template id.
        template: String,
    },
    /// The token's scopes do not hold the template.
    #[error("the token does not allow the template `{template}`")]
    TokenScope {
        /// The template asked for.
        template: TemplateId,
    },
    /// The policy does not give the template to the identity.
    #[error("the policy does not allow `{identity}` to use the template `{template}`")]
    TemplateNotAllowed {
        /// Who called.
        identity: Identity,
        /// The template asked for.
        template: TemplateId,
    },
    /// A rule of the policy forbids it.
    #[error(
        "the rule `{rule}` of the policy forbids `{identity}` to use the template `{template}`"
    )]
    ForbiddenByRule {
        /// Who called.
        identity: Identity,
        /// The template asked for.
        template: TemplateId,
        /// The first of the rules that forbid it.
        rule: String,
    },
    /// A rule of the policy could not be evaluated; what it would have said is not known.
    #[error("a rule of the policy cannot be evaluated: {reason}")]
    RuleFailed {
        /// Which, and why.
        reason: String,
    },
    /// The registry does not know the model.
    #[error("the model `{model}` is not in the registry of models")]
    ModelUnregistered {
        /// Its id.
        model: String,
    },
    /// The registry knows a model of this id, but with another file.
    #[error("the model `{model}` is in the registry of models with another SHA-256")]
    ModelMismatch {
        /// Its id.
        model: String,
    },
    /// The model's risk is above the one that is approved.
    #[error(
        "the model `{model}` has the risk {}, and only risks up to {} are approved",
        risk.as_str(),
        approved.as_str()
    )]
    ModelRisk {
        /// Its id.
        model: String,
        /// What the registry says of it.
        risk: Risk,
        /// The highest risk that is approved.
        approved: Risk,
    },
    /// The model is not meant for what the template does.
    #[error(
        "the model `{model}` is not meant for `{use_case}`, which the template `{template}` needs"
    )]
    ModelUse {
        /// Id of the model.
        model: String,
        /// The template asked for.
        template: TemplateId,
        /// Its use case; `any` if it has none.
        use_case: String,
    },
    /// A required variable is not there.
    #[error("the variable `{variable}` is required")]
    VariableMissing {
        /// Its name.
        variable: String,
    },
    /// The template has no such variable.
    #[error("the template has no variable `{variable}`")]
    VariableUnknown {
        /// Its name, or a fixed text where that is no variable name.
        variable: String,
    },
    /// A variable is too long.
    #[error("the variable `{variable}` has {bytes} bytes; at most {bytes_max} are allowed")]
    VariableOversized {
        /// Its name.
        variable: String,
        /// Its size in bytes.
        bytes: usize,
        /// The template's bound in bytes.
        bytes_max: usize,
    },
    /// A variable holds a control character other than tab, line feed and carriage return.
    #[error(
        "the variable `{variable}` holds the control character U+{code_point:04X} at byte {offset}"
    )]
    VariableControlCharacter {
        /// Its name.
        variable: String,
        /// Byte offset in the variable.
        offset: usize,
        /// The character's code point.
        code_point: u32,
    },
    /// A variable holds something that the policy does not let in.
    #[error(
        "the variable `{variable}` holds something that the rule `{rule}` finds, and the policy refuses"
    )]
    SensitiveContent {
        /// Its name.
        variable: String,
        /// The rule that found it.
        rule: String,
    },
    /// A variable holds characters that nobody sees, and the policy refuses them.
    #[error("the variable `{variable}` holds {count} invisible characters; send it without them")]
    InvisibleCharacters {
        /// Its name.
        variable: String,
        /// How many.
        count: u64,
    },
    /// A variable looks like an injection, and the policy refuses it.
    #[error(
        "the variable `{variable}` looks like instructions to the model ({signal}, score {score})"
    )]
    InjectionRefused {
        /// Its name.
        variable: String,
        /// 0 to 100.
        score: u8,
        /// The heaviest sign.
        signal: &'static str,
    },
    /// A variable breaks the JSON Schema that its template gives it.
    #[error("the variable `{variable}` breaks `{keyword}` of its schema")]
    VariableSchema {
        /// Its name.
        variable: String,
        /// The keyword of the schema, such as `pattern`.
        keyword: &'static str,
    },
    /// A parameter is outside of what template and policy allow.
    #[error("the parameter `{parameter}` must be from {minimum} to {maximum}")]
    ParameterOutOfRange {
        /// `max_tokens` or `temperature`.
        parameter: &'static str,
        /// Smallest allowed value.
        minimum: f64,
        /// Largest allowed value.
        maximum: f64,
    },
    /// The rendered prompt is larger than [`crate::RENDERED_BYTES_MAX`].
    #[error("the rendered prompt has more than {bytes_max} bytes; send shorter variables")]
    PromptOversized {
        /// The bound in bytes.
        bytes_max: usize,
    },
    /// The template could not be rendered with these variables.
    #[error("the template `{template}` cannot be rendered with these variables: {reason}")]
    RenderFailed {
        /// The template.
        template: TemplateId,
        /// The kind of failure, from a fixed list.
        reason: String,
    },
}

impl Denial {
    /// Stable name of the reason, in kebab-case.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownIdentity { .. } => "unknown-identity",
            Self::TemplateUnknown { .. } => "template-unknown",
            Self::TokenScope { .. } => "token-scope",
            Self::TemplateNotAllowed { .. } => "template-not-allowed",
            Self::ForbiddenByRule { .. } => "forbidden-by-rule",
            Self::RuleFailed { .. } => "rule-failed",
            Self::ModelUnregistered { .. } => "model-unregistered",
            Self::ModelMismatch { .. } => "model-mismatch",
            Self::ModelRisk { .. } => "model-risk",
            Self::ModelUse { .. } => "model-use",
            Self::VariableMissing { .. } => "variable-missing",
            Self::VariableUnknown { .. } => "variable-unknown",
            Self::VariableOversized { .. } => "variable-oversized",
            Self::VariableControlCharacter { .. } => "variable-control-character",
            Self::SensitiveContent { .. } => "sensitive-content",
            Self::InvisibleCharacters { .. } => "invisible-characters",
            Self::InjectionRefused { .. } => "injection-refused",
            Self::VariableSchema { .. } => "variable-schema",
            Self::ParameterOutOfRange { .. } => "parameter-out-of-range",
            Self::PromptOversized { .. } => "prompt-oversized",
            Self::RenderFailed { .. } => "render-failed",
        }
    }

    /// What kind of refusal this is.
    #[must_use]
    pub fn class(&self) -> DenialClass {
        match self {
            Self::UnknownIdentity { .. }
            | Self::TokenScope { .. }
            | Self::TemplateNotAllowed { .. }
            | Self::ForbiddenByRule { .. }
            | Self::RuleFailed { .. }
            | Self::ModelUnregistered { .. }
            | Self::ModelMismatch { .. }
            | Self::ModelRisk { .. }
            | Self::ModelUse { .. }
            | Self::InjectionRefused { .. } => DenialClass::Forbidden,
            Self::TemplateUnknown { .. } => DenialClass::NotFound,
            Self::VariableMissing { .. }
            | Self::VariableUnknown { .. }
            | Self::VariableOversized { .. }
            | Self::VariableControlCharacter { .. }
            | Self::SensitiveContent { .. }
            | Self::InvisibleCharacters { .. }
            | Self::VariableSchema { .. }
            | Self::ParameterOutOfRange { .. }
            | Self::PromptOversized { .. }
            | Self::RenderFailed { .. } => DenialClass::Invalid,
        }
    }

    /// The variable that the refusal is about, if it is about one.
    #[must_use]
    pub fn variable(&self) -> Option<&str> {
        match self {
            Self::VariableMissing { variable }
            | Self::VariableUnknown { variable }
            | Self::VariableOversized { variable, .. }
            | Self::VariableControlCharacter { variable, .. }
            | Self::SensitiveContent { variable, .. }
            | Self::InvisibleCharacters { variable, .. }
            | Self::InjectionRefused { variable, .. }
            | Self::VariableSchema { variable, .. } => Some(variable),
            _ => None,
        }
    }

    /// The field of the request that the refusal is about, if it is about one.
    #[must_use]
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::TemplateUnknown { .. }
            | Self::TokenScope { .. }
            | Self::TemplateNotAllowed { .. }
            | Self::ForbiddenByRule { .. }
            | Self::ModelUse { .. } => Some("template"),
            Self::VariableMissing { .. }
            | Self::VariableUnknown { .. }
            | Self::VariableOversized { .. }
            | Self::VariableControlCharacter { .. }
            | Self::SensitiveContent { .. }
            | Self::InvisibleCharacters { .. }
            | Self::InjectionRefused { .. }
            | Self::VariableSchema { .. }
            | Self::PromptOversized { .. } => Some("variables"),
            Self::ParameterOutOfRange { parameter, .. } => Some(parameter),
            Self::UnknownIdentity { .. }
            | Self::RuleFailed { .. }
            | Self::ModelUnregistered { .. }
            | Self::ModelMismatch { .. }
            | Self::ModelRisk { .. }
            | Self::RenderFailed { .. } => None,
        }
    }
}
