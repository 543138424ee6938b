//! What variables hold: instructions to the model, secrets, personal data.
//!
//! Each variable is scored as it was sent, and then cleaned; the policy says what follows from
//! what is found. Scored first, because cleaning takes out what disguises are made of.
//!
//! Invariant: what comes out is clean by the policy's settings, or nothing comes out.

use std::collections::BTreeMap;

use crate::denial::Denial;
use crate::injection::{self, Level};
use crate::policy::{Action, Invisible, Screening};
use crate::sanitizer::Sanitizer;
use crate::template::{Redaction, Template};
use crate::variable::Trust;

/// What a mark about an injection is called among the redactions, before the signal's name.
const INJECTION_MARK: &str = "injection-";

/// Cleaned variables, and what was found in them.
pub(crate) struct Screened {
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) redactions: Vec<Redaction>,
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
    };
    for (name, value) in variables {
        let spec = template.variables.get(&name);
        if spec.is_none_or(|spec| spec.trust == Trust::Untrusted) {
            let marks = judge(screening, &name, &value)?;
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
fn judge(screening: &Screening, variable: &str, value: &str) -> Result<Vec<Redaction>, Denial> {
    let assessment = injection::assess(value);
    let variable = variable.to_owned();
    let score = assessment.score;
    let signal = assessment.signals.first().map_or("", |signal| signal.name);
    match screening.action(assessment.level) {
        Action::Refuse => Err(Denial::InjectionRefused {
            variable,
            score,
            signal,
        }),
        Action::Review => Err(Denial::ReviewRequired {
            variable,
            score,
            signal,
        }),
        Action::Mark if assessment.level > Level::None => {
            let mut names: Vec<&str> = assessment.signals.iter().map(|s| s.name).collect();
            names.sort_unstable();
            names.dedup();
            let marks = names.into_iter().map(|name| Redaction {
                variable: variable.clone(),
                rule: format!("{INJECTION_MARK}{name}"),
                count: 1,
            });
            Ok(marks.collect())
        }
        Action::Mark | Action::Allow => Ok(Vec::new()),
    }
}
