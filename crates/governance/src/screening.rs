//! What variables hold: instructions to the model, secrets, personal data.
//!
//! Each variable is scored as it was sent, and then cleaned; the policy says what follows from
//! what is found. Scored first, because cleaning takes out what disguises are made of.
//!
//! Invariant: what comes out is clean by the policy's settings, or nothing comes out.

use std::collections::BTreeMap;

use crate::authorization::Validation;
use crate::denial::Denial;
use crate::injection::{self, Assessment, Level};
use crate::policy::{Action, Invisible, Screening};
use crate::review::ReviewReason;
use crate::sanitizer::Sanitizer;
use crate::template::{Redaction, Template};
use crate::variable::Trust;

/// What a mark about an injection is called among the redactions, before the signal's name.
const INJECTION_MARK: &str = "injection-";

/// Cleaned variables, and what was found in them.
pub(crate) struct Screened {
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) redactions: Vec<Redaction>,
    pub(crate) validation: Validation,
    /// The heaviest sign of an injection that a person has to look at.
    pub(crate) review: Option<ReviewReason>,
}

/// Scores and cleans all variables, in one session, so that a secret has the same number in all.
pub(crate) fn screen(
    sanitizer: &Sanitizer,
    screening: &Screening,
    template: &Template,
    variables: BTreeMap<String, String>,
) -> Result<Screened, Denial> {
    let mut session = sanitizer.session();
    let mut screened = Screened {
        variables: BTreeMap::new(),
        redactions: Vec::new(),
        validation: Validation::default(),
        review: None,
    };
    let validation = &mut screened.validation;
    let mut heaviest = 0;
    for (name, value) in variables {
        let spec = template.variables.get(&name);
        if spec.is_none_or(|spec| spec.trust == Trust::Untrusted) {
            let assessment = injection::assess(&value);
            validation.injection_score = validation.injection_score.max(assessment.score);
            let reviewed = screening.action(assessment.level) == Action::Review;
            if reviewed && assessment.score > heaviest {
                heaviest = assessment.score;
                screened.review = Some(injection_review(&name, &assessment));
            }
            let marks = judge(screening, &name, &assessment)?;
            screened.redactions.extend(marks);
        }
        let settings = screening.settings(spec.map(|spec| spec.data_class));
        let sanitized = session.sanitize(&value, settings);
        if let Some(rule) = session.refused() {
            return Err(Denial::SensitiveContent {
                variable: name,
                rule,
            });
        }
        if sanitized.invisible_characters > 0 && screening.invisible == Invisible::Refuse {
            return Err(Denial::InvisibleCharacters {
                variable: name,
                count: sanitized.invisible_characters,
            });
        }
        let counts = sanitized.redactions.iter().map(|found| found.count);
        validation.redactions += counts.sum::<u64>();
        let found = sanitized.redactions.into_iter().map(|found| Redaction {
            variable: name.clone(),
            rule: found.rule,
            count: found.count,
        });
        screened.redactions.extend(found);
        screened.variables.insert(name, sanitized.text);
    }
    Ok(screened)
}

/// Marks of a text that looks like an injection, or the refusal.
fn judge(
    screening: &Screening,
    variable: &str,
    assessment: &Assessment,
) -> Result<Vec<Redaction>, Denial> {
    match screening.action(assessment.level) {
        Action::Refuse => Err(Denial::InjectionRefused {
            variable: variable.to_owned(),
            score: assessment.score,
            signal: heaviest_signal(assessment),
        }),
        Action::Mark | Action::Review if assessment.level > Level::None => {
            let mut names: Vec<&str> = assessment.signals.iter().map(|s| s.name).collect();
            names.sort_unstable();
            names.dedup();
            let marks = names.into_iter().map(|name| Redaction {
                variable: variable.to_owned(),
                rule: format!("{INJECTION_MARK}{name}"),
                count: 1,
            });
            Ok(marks.collect())
        }
        Action::Mark | Action::Review | Action::Allow => Ok(Vec::new()),
    }
}

fn injection_review(variable: &str, assessment: &Assessment) -> ReviewReason {
    ReviewReason::Injection {
        variable: variable.to_owned(),
        score: assessment.score,
        signal: heaviest_signal(assessment).to_owned(),
    }
}

fn heaviest_signal(assessment: &Assessment) -> &'static str {
    assessment.signals.first().map_or("", |signal| signal.name)
}
