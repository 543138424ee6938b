//! What the policy says about the content of variables: how strictly secrets and personal data
//! are looked for, and what happens with texts that look like an injection.
//!
//! ```yaml
//! sanitizer:
//!   confidence_min: 0.5                # findings below are passed over
//!   invisible_characters: strip        # or refuse
//!   secret: {default: redact}          # by data class of the variable; redact, mark or refuse
//!   personal: {default: redact, public: mark}
//! injection:                           # allow, mark, review or refuse
//!   low: mark
//!   medium: review
//!   high: refuse
//! ```
//!
//! Both sections and each of their lines may be left out; the values above without `public` are
//! the defaults.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;

use crate::GovernanceError;
use crate::canonical::Canonical;
use crate::injection::Level;
use crate::sanitizer::{CONFIDENCE_MIN_DEFAULT, Mode, Modes, Settings};
use crate::variable::DataClass;

/// Stands for every data class that is not named.
const DEFAULT: &str = "default";

/// What happens with a text that looks like an injection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Nothing.
    Allow,
    /// It is recorded with the call.
    Mark,
    /// The output is held until a person has looked at it.
    Review,
    /// The call is refused.
    Refuse,
}

impl Action {
    /// The name in files and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Mark => "mark",
            Self::Review => "review",
            Self::Refuse => "refuse",
        }
    }
}

/// What happens with characters that nobody sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Invisible {
    /// They are taken out.
    #[default]
    Strip,
    /// The call is refused.
    Refuse,
}

/// Both sections, checked.
#[derive(Debug, Clone)]
pub(crate) struct Screening {
    confidence_min: f32,
    pub(crate) invisible: Invisible,
    secret: BTreeMap<String, Mode>,
    personal: BTreeMap<String, Mode>,
    low: Action,
    medium: Action,
    high: Action,
}

impl Default for Screening {
    fn default() -> Self {
        Self {
            confidence_min: CONFIDENCE_MIN_DEFAULT,
            invisible: Invisible::Strip,
            secret: BTreeMap::new(),
            personal: BTreeMap::new(),
            low: Action::Mark,
            medium: Action::Review,
            high: Action::Refuse,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SanitizerFile {
    confidence_min: Option<Spanned<f32>>,
    invisible_characters: Option<Invisible>,
    secret: Option<Spanned<BTreeMap<String, Mode>>>,
    personal: Option<Spanned<BTreeMap<String, Mode>>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InjectionFile {
    low: Option<Action>,
    medium: Option<Spanned<Action>>,
    high: Option<Spanned<Action>>,
}

impl Screening {
    /// Lets everything through that is cleaned, and marks what looks like an injection: for those who test whether a template
    /// withstands one.
    pub(crate) fn marking() -> Self {
        Self {
            medium: Action::Mark,
            high: Action::Mark,
            ..Self::default()
        }
    }

    /// Checks both sections.
    pub(super) fn new(
        file: &str,
        sanitizer: SanitizerFile,
        injection: InjectionFile,
    ) -> Result<Self, GovernanceError> {
        let fault = |line, field: &str, reason: String| GovernanceError::Field {
            file: file.to_owned(),
            line,
            field: field.to_owned(),
            reason,
        };
        let default = Self::default();
        if let Some(confidence) = &sanitizer.confidence_min
            && !(0.0..=1.0).contains(&confidence.value)
        {
            let line = confidence.defined.line();
            return Err(fault(
                line,
                "sanitizer.confidence_min",
                "must be from 0 to 1".to_owned(),
            ));
        }
        let low = injection.low.unwrap_or(default.low);
        let medium = injection
            .medium
            .as_ref()
            .map_or(default.medium.max(low), |a| a.value);
        let high = injection
            .high
            .as_ref()
            .map_or(default.high.max(medium), |a| a.value);
        for (name, below, action, given) in [
            ("medium", low, medium, injection.medium),
            ("high", medium, high, injection.high),
        ] {
            if action < below {
                let line = given.map_or(0, |action| action.defined.line());
                let reason = format!(
                    "must not do less than the level below, `{}`",
                    below.as_str()
                );
                return Err(fault(line, &format!("injection.{name}"), reason));
            }
        }
        Ok(Self {
            confidence_min: sanitizer
                .confidence_min
                .map_or(default.confidence_min, |confidence| confidence.value),
            invisible: sanitizer.invisible_characters.unwrap_or_default(),
            secret: modes(file, "sanitizer.secret", sanitizer.secret)?,
            personal: modes(file, "sanitizer.personal", sanitizer.personal)?,
            low,
            medium,
            high,
        })
    }

    /// How text of a data class is cleaned, or of none.
    pub(crate) fn settings(&self, data_class: Option<DataClass>) -> Settings {
        let mode = |modes: &BTreeMap<String, Mode>| {
            let named = data_class.and_then(|class| modes.get(class.as_str()));
            let found = named.or_else(|| modes.get(DEFAULT));
            found.copied().unwrap_or_default()
        };
        Settings {
            confidence_min: self.confidence_min,
            modes: Modes {
                secret: mode(&self.secret),
                personal: mode(&self.personal),
            },
        }
    }

    /// What happens with a text of this level.
    pub(crate) fn action(&self, level: Level) -> Action {
        match level {
            Level::None => Action::Allow,
            Level::Low => self.low,
            Level::Medium => self.medium,
            Level::High => self.high,
        }
    }

    pub(super) fn canonical(&self) -> Canonical {
        let modes = |modes: &BTreeMap<String, Mode>| {
            let entries = modes.iter();
            let entries =
                entries.map(|(class, mode)| (class.clone(), Canonical::text(mode.as_str())));
            Canonical::Object(entries.collect())
        };
        let invisible = match self.invisible {
            Invisible::Strip => "strip",
            Invisible::Refuse => "refuse",
        };
        Canonical::object([
            ("confidence_min", Canonical::Number(self.confidence_min)),
            ("invisible_characters", Canonical::text(invisible)),
            ("secret", modes(&self.secret)),
            ("personal", modes(&self.personal)),
            ("low", Canonical::text(self.low.as_str())),
            ("medium", Canonical::text(self.medium.as_str())),
            ("high", Canonical::text(self.high.as_str())),
        ])
    }
}

/// Modes by data class, each of which exists.
fn modes(
    file: &str,
    field: &str,
    modes: Option<Spanned<BTreeMap<String, Mode>>>,
) -> Result<BTreeMap<String, Mode>, GovernanceError> {
    let Some(modes) = modes else {
        return Ok(BTreeMap::new());
    };
    let classes = DataClass::ALL.map(DataClass::as_str);
    let known = |class: &String| class == DEFAULT || classes.contains(&class.as_str());
    if let Some(class) = modes.value.keys().find(|class| !known(class)) {
        return Err(GovernanceError::Field {
            file: file.to_owned(),
            line: modes.defined.line(),
            field: field.to_owned(),
            reason: format!(
                "names `{class}`; use `{DEFAULT}` or one of {}",
                classes.join(", ")
            ),
        });
    }
    Ok(modes.value)
}
