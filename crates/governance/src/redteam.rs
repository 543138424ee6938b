//! Measures the signals of [`crate::injection`] on texts whose nature is known.
//!
//! A set is a TOML file with the tables `attack` and `benign`, each with lists of texts by class.
//! Absent: files and output, which are the caller's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::injection::{Assessment, assess};
use crate::policy::{Action, Policy};
use crate::{GovernanceError, source};

/// Name and text of the set that ships.
const SHIPPED_FILE: &str = "redteam.toml";
const SHIPPED: &str = include_str!("../../../deploy/policy/redteam.toml");
/// The only version of the format.
const VERSION: u32 = 1;

/// Texts by class.
type Classes = BTreeMap<String, Vec<String>>;

/// Attacks and harmless texts.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedTeamSet {
    version: u32,
    #[serde(default)]
    attack: Classes,
    #[serde(default)]
    benign: Classes,
}

/// One text, judged.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    /// Its class in the set.
    pub class: String,
    /// The text.
    pub text: String,
    /// Score, level and signals.
    pub assessment: Assessment,
    /// What the policy does.
    pub action: Action,
}

/// All texts, judged.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RedTeamReport {
    /// The attacks, by class.
    pub attacks: Vec<Judged>,
    /// The harmless texts, by class.
    pub benign: Vec<Judged>,
}

impl RedTeamSet {
    /// The set that ships.
    ///
    /// # Errors
    ///
    /// As [`RedTeamSet::from_source`].
    pub fn shipped() -> Result<Self, GovernanceError> {
        Self::from_source(SHIPPED_FILE, SHIPPED)
    }

    /// Parses a set; `file` is for messages.
    ///
    /// # Errors
    ///
    /// What is wrong, with line and reason.
    pub fn from_source(file: &str, text: &str) -> Result<Self, GovernanceError> {
        let set: Self = source::parse_toml(file, text)?;
        if set.version != VERSION {
            return Err(GovernanceError::Field {
                file: file.to_owned(),
                line: 0,
                field: "version".to_owned(),
                reason: format!("must be {VERSION}"),
            });
        }
        Ok(set)
    }

    /// Judges every text as the policy would.
    #[must_use]
    pub fn run(&self, policy: &Policy) -> RedTeamReport {
        RedTeamReport {
            attacks: judge(&self.attack, policy),
            benign: judge(&self.benign, policy),
        }
    }
}

fn judge(classes: &Classes, policy: &Policy) -> Vec<Judged> {
    let texts = classes.iter().flat_map(|(class, texts)| {
        let texts = texts.iter();
        texts.map(move |text| (class, text))
    });
    texts
        .map(|(class, text)| {
            let assessment = assess(text);
            Judged {
                class: class.clone(),
                text: text.clone(),
                action: policy.injection_action(assessment.level),
                assessment,
            }
        })
        .collect()
}

impl RedTeamReport {
    /// Share of attacks that the policy at least marks, 0 to 1.
    #[must_use]
    pub fn attacks_marked(&self) -> f64 {
        share(&self.attacks, Action::Mark)
    }

    /// Share of harmless texts that the policy sends to review or refuses, 0 to 1.
    #[must_use]
    pub fn benign_stopped(&self) -> f64 {
        share(&self.benign, Action::Review)
    }
}

fn share(judged: &[Judged], action: Action) -> f64 {
    let reached = judged.iter().filter(|text| text.action >= action).count();
    reached as f64 / judged.len().max(1) as f64
}
