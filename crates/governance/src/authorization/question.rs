//! What can be asked, and how it is put to Cedar.

use std::sync::LazyLock;

use cedar_policy::{Context, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression};
use jiff::Timestamp;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::decision::{ModelRef, Source};
use crate::names::{Identity, TemplateId};
use crate::registry::{ModelEntry, ModelRegistry};
use crate::template::Risk;

/// The name of the one device that rules know.
pub(super) const DEVICE_ID: &str = "this";
/// The latest time that jiff knows, on the last day but one of the year 9999.
const TIME_UNIX_S_MAX: i64 = 253_402_207_200;

/// What a token may allow beside the use of templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Right {
    /// To see held outputs, and to release or reject them.
    Approve,
    /// To see and change budgets, and to have the rules read again.
    Administer,
}

impl Right {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Approve, Self::Administer];

    /// The name in tokens, rules and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Administer => "administer",
        }
    }
}

/// One member of a context.
type Fact = (&'static str, RestrictedExpression);

/// What somebody wants to do.
#[derive(Debug, Clone, Copy)]
pub enum Question<'q> {
    /// To have a template filled in and answered.
    Generate {
        /// Who.
        identity: &'q Identity,
        /// Which template.
        template: &'q TemplateId,
        /// What would answer.
        model: &'q ModelRef,
        /// What was found in the variables, once they were looked at.
        validation: Option<Validation>,
    },
    /// To see, release or reject a held output.
    Approve {
        /// Who.
        identity: &'q Identity,
        /// Of which template.
        template: &'q TemplateId,
        /// Who made the call.
        author: &'q Identity,
    },
    /// To look after the device.
    Administer {
        /// Who.
        identity: &'q Identity,
    },
}

/// What was found in a call's variables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Validation {
    /// The highest score of an untrusted variable as an injection, 0 to 100.
    pub injection_score: u8,
    /// How many secrets and personal data were found.
    pub redactions: u64,
}

/// What is the same for all questions of a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Circumstances {
    /// How the call came.
    pub source: Source,
    /// When, in seconds since 1970-01-01 UTC.
    pub time_unix_s: i64,
}

impl Question<'_> {
    /// Who wants it.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        match self {
            Self::Generate { identity, .. }
            | Self::Approve { identity, .. }
            | Self::Administer { identity } => identity,
        }
    }

    /// Whether somebody wants to look over a call of their own, which no rule can permit.
    pub(super) fn concerns_oneself(&self) -> bool {
        matches!(self, Self::Approve { identity, author, .. } if identity == author)
    }

    pub(super) fn request(
        &self,
        circumstances: &Circumstances,
        asks_for_now: bool,
        registry: Option<&ModelRegistry>,
    ) -> Request {
        let (action, resource) = match self {
            Self::Generate { template, .. } => ("generate", uid("Template", template.as_str())),
            Self::Approve { template, .. } => {
                (Right::Approve.as_str(), uid("Template", template.as_str()))
            }
            Self::Administer { .. } => (Right::Administer.as_str(), uid("Device", DEVICE_ID)),
        };
        let facts = moment(circumstances, asks_for_now).chain(self.facts(registry));
        let context = Context::from_pairs(facts.map(|(name, value)| (name.to_owned(), value)))
            .expect("no fact stands there twice, and the time is one that Cedar reads");
        let principal = uid("Identity", self.identity().as_str());
        Request::new(principal, uid("Action", action), resource, context, None)
            .expect("only a request that is held to a schema can be refused")
    }

    /// What is true of this question alone.
    fn facts(&self, registry: Option<&ModelRegistry>) -> Vec<Fact> {
        match self {
            Self::Generate {
                model, validation, ..
            } => {
                let mut facts = vec![("model", model_record(model, registry))];
                if let Some(validation) = validation {
                    facts.push(("validation", validation_record(validation)));
                }
                facts
            }
            Self::Approve { author, .. } => {
                let author = uid("Identity", author.as_str());
                vec![("author", RestrictedExpression::new_entity_uid(author))]
            }
            Self::Administer { .. } => Vec::new(),
        }
    }
}

/// The time, as rules can use it, and the way the call came.
fn moment(circumstances: &Circumstances, asks_for_now: bool) -> impl Iterator<Item = Fact> {
    // Years of more than four digits are none to Cedar, nor are those before 1970 to us.
    let second = circumstances.time_unix_s.clamp(0, TIME_UNIX_S_MAX);
    let now = Timestamp::from_second(second).expect("the year is one of four digits");
    let civil = now.to_zoned(TimeZone::UTC);
    let instant = || ("now", RestrictedExpression::new_datetime(now.to_string()));
    let facts = [
        ("hour", RestrictedExpression::new_long(civil.hour().into())),
        ("weekday", text(weekday(civil.weekday()))),
        ("source", text(circumstances.source.as_str())),
    ];
    asks_for_now.then(instant).into_iter().chain(facts)
}

fn weekday(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "monday",
        Weekday::Tuesday => "tuesday",
        Weekday::Wednesday => "wednesday",
        Weekday::Thursday => "thursday",
        Weekday::Friday => "friday",
        Weekday::Saturday => "saturday",
        Weekday::Sunday => "sunday",
    }
}

/// A model that the registry does not hold is taken for one of the highest risk.
fn model_record(model: &ModelRef, registry: Option<&ModelRegistry>) -> RestrictedExpression {
    let entry = registry.and_then(|registry| registry.find(model));
    let risk = entry.map_or(Risk::High, ModelEntry::risk);
    record([
        ("id", text(&model.id)),
        ("sha256", text(&model.sha256)),
        (
            "registered",
            RestrictedExpression::new_bool(entry.is_some()),
        ),
        ("provider", text(entry.map_or("", ModelEntry::provider))),
        ("risk", text(risk.as_str())),
        ("riskLevel", RestrictedExpression::new_long(risk.level())),
    ])
}

fn validation_record(validation: &Validation) -> RestrictedExpression {
    let redactions = i64::try_from(validation.redactions).unwrap_or(i64::MAX);
    record([
        (
            "injectionScore",
            RestrictedExpression::new_long(validation.injection_score.into()),
        ),
        ("redactions", RestrictedExpression::new_long(redactions)),
    ])
}

fn record<const N: usize>(members: [Fact; N]) -> RestrictedExpression {
    let members = members.map(|(name, value)| (name.to_owned(), value));
    RestrictedExpression::new_record(members).expect("no member stands there twice")
}

fn text(text: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(text.to_owned())
}

/// The entity of a type that the schema has.
pub(super) fn uid(type_name: &'static str, id: &str) -> EntityUid {
    static TYPES: LazyLock<[(&str, EntityTypeName); 5]> = LazyLock::new(|| {
        ["Action", "Device", "Identity", "Role", "Template"].map(|name| {
            let parsed = name.parse().expect("the name of a type of the schema");
            (name, parsed)
        })
    });
    let known = TYPES.iter().find(|(name, _)| *name == type_name);
    let (_, type_name) = known.expect("a type of the schema");
    EntityUid::from_type_name_and_id(type_name.clone(), EntityId::new(id))
}
