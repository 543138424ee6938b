//! When an output is not handed out but held, until a person has looked at it.
//!
//! ```yaml
//! review:
//!   risk: high                # outputs of templates of this risk or above
//!   schema_failure: true      # outputs that do not keep to the template's schema; else such a call fails
//!   probability_min: 0.5      # outputs whose tokens the model gave less than this, in the mean
//!   expires_hours: 72         # a held output that nobody decided on is thrown away after this long
//! ```
//!
//! Beside this section, an injection of a level whose action is `review` holds the output. Every line
//! may be left out; without the section only such injections lead to a review.
//!
//! Absent: the queue of held outputs, and who may decide on them.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;

use crate::GovernanceError;
use crate::canonical::Canonical;
use crate::template::{Risk, Template};

/// Longest time that an output may be held, in hours.
pub const REVIEW_HOURS_MAX: u32 = 24 * 90;
/// How long an output is held where the policy does not say, in hours.
pub const REVIEW_HOURS_DEFAULT: u32 = 72;

/// What leads to a review, and how long that may take.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ReviewRules {
    risk: Option<Risk>,
    schema_failure: bool,
    probability_min: Option<f32>,
    expires_hours: u32,
}

impl Default for ReviewRules {
    fn default() -> Self {
        Self {
            risk: None,
            schema_failure: false,
            probability_min: None,
            expires_hours: REVIEW_HOURS_DEFAULT,
        }
    }
}

/// The section of the policy.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReviewFile {
    risk: Option<Risk>,
    schema_failure: Option<bool>,
    probability_min: Option<Spanned<f32>>,
    expires_hours: Option<Spanned<u32>>,
}

impl ReviewRules {
    /// Checks the section.
    pub(crate) fn new(file: &str, section: ReviewFile) -> Result<Self, GovernanceError> {
        let fault = |line, field: &str, reason: String| GovernanceError::Field {
            file: file.to_owned(),
            line,
            field: format!("review.{field}"),
            reason,
        };
        if let Some(least) = &section.probability_min
            && !(least.value > 0.0 && least.value <= 1.0)
        {
            let reason = "must be above 0 and at most 1; leave it out to hold nothing for it";
            let line = least.defined.line();
            return Err(fault(line, "probability_min", reason.to_owned()));
        }
        if let Some(hours) = &section.expires_hours
            && !(1..=REVIEW_HOURS_MAX).contains(&hours.value)
        {
            let reason = format!("must be from 1 to {REVIEW_HOURS_MAX}");
            return Err(fault(hours.defined.line(), "expires_hours", reason));
        }
        let default = Self::default();
        Ok(Self {
            risk: section.risk,
            schema_failure: section.schema_failure.unwrap_or(default.schema_failure),
            probability_min: section.probability_min.map(|least| least.value),
            expires_hours: section
                .expires_hours
                .map_or(default.expires_hours, |hours| hours.value),
        })
    }

    /// What is to be done with the output of a call for this template, in which `injection` was found.
    pub(crate) fn plan(&self, template: &Template, injection: Option<ReviewReason>) -> ReviewPlan {
        let risky = self.risk.filter(|least| template.risk >= *least);
        let risky = risky.map(|_| ReviewReason::Risk {
            risk: template.risk,
        });
        ReviewPlan {
            certain: risky.into_iter().chain(injection).collect(),
            schema_failure: self.schema_failure && template.output.is_some(),
            probability_min: self.probability_min,
            expires_hours: self.expires_hours,
        }
    }

    pub(crate) fn canonical(&self) -> Canonical {
        let risk = self.risk.map(Risk::as_str);
        let least = self.probability_min;
        Canonical::object([
            ("risk", Canonical::optional(risk)),
            ("schema_failure", Canonical::Bool(self.schema_failure)),
            (
                "probability_min",
                least.map_or(Canonical::Null, Canonical::Number),
            ),
            (
                "expires_hours",
                Canonical::Integer(self.expires_hours.into()),
            ),
        ])
    }
}

/// What the policy says about the output of one call.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReviewPlan {
    /// Why the output is held whatever it is; empty if it need not be.
    pub certain: Vec<ReviewReason>,
    /// Whether an output that does not keep to its schema is held, instead of failing the call.
    pub schema_failure: bool,
    /// Mean probability of the tokens below which the output is held.
    pub probability_min: Option<f32>,
    /// How long a held output waits for a decision, in hours.
    pub expires_hours: u32,
}

impl ReviewPlan {
    /// Whether the output may turn out to be one that is held, so that nothing of it can be handed out before its end.
    #[must_use]
    pub fn may_hold(&self) -> bool {
        !self.certain.is_empty() || self.schema_failure || self.probability_min.is_some()
    }

    /// Why the finished output is held; nothing if it is not. `fault` is what its schema says against it.
    #[must_use]
    pub fn reasons(&self, fault: Option<&str>, mean_probability: Option<f32>) -> Vec<ReviewReason> {
        let schema = fault.filter(|_| self.schema_failure);
        let schema = schema.map(|fault| ReviewReason::SchemaFailure {
            reason: fault.to_owned(),
        });
        let unsure = self
            .probability_min
            .zip(mean_probability)
            .filter(|(least, found)| found < least);
        let unsure = unsure.map(|(least, found)| ReviewReason::LowProbability { found, least });
        let found = schema.into_iter().chain(unsure);
        self.certain.iter().cloned().chain(found).collect()
    }
}

/// Why an output is held. The text of `Display` is safe to hand out, log and audit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "kebab-case")]
pub enum ReviewReason {
    /// The template's answers may do harm.
    Risk {
        /// The template's risk.
        risk: Risk,
    },
    /// A variable looks like an injection.
    Injection {
        /// Its name.
        variable: String,
        /// 0 to 100.
        score: u8,
        /// The heaviest sign.
        signal: String,
    },
    /// The output does not keep to the template's schema.
    SchemaFailure {
        /// What is wrong, without its text.
        reason: String,
    },
    /// The model was not sure of its words.
    LowProbability {
        /// Mean probability of the tokens.
        found: f32,
        /// The policy's least.
        least: f32,
    },
}

impl ReviewReason {
    /// Stable name of the reason, in kebab-case.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Risk { .. } => "risk",
            Self::Injection { .. } => "injection",
            Self::SchemaFailure { .. } => "schema-failure",
            Self::LowProbability { .. } => "low-probability",
        }
    }
}

impl fmt::Display for ReviewReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Risk { risk } => write!(f, "the template has the risk {}", risk.as_str()),
            Self::Injection {
                variable,
                score,
                signal,
            } => write!(
                f,
                "the variable `{variable}` may hold instructions to the model ({signal}, score {score})"
            ),
            Self::SchemaFailure { reason } => {
                write!(f, "the output does not keep to its schema: {reason}")
            }
            Self::LowProbability { found, least } => write!(
                f,
                "the mean probability of its tokens is {found:.3}, and the policy wants {least}"
            ),
        }
    }
}
