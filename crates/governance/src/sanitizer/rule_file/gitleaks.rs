//! Rule files in gitleaks' format: a pattern with keywords, an entropy, and lists of what is let pass.
//!
//! Its patterns were written for whole lines, so each becomes a rule that may match anywhere
//! around its keyword. Absent: paths, and everything about commits.

use serde::Deserialize;
use toml::Spanned;

use super::{
    CONFIDENCE_DEFAULT, Location, RuleFile, allow, check_group, check_id, check_words, each, lower,
};
use crate::sanitizer::pattern::Pattern;
use crate::sanitizer::rule::{Form, Rule, RuleClass};
use crate::sanitizer::rules::Worded;
use crate::{GovernanceError, source};

/// What gitleaks' files may hold; what has no meaning here is read and passed over.
#[derive(Deserialize)]
struct TheirFile {
    #[serde(default)]
    rules: Vec<Spanned<TheirRule>>,
    allowlist: Option<TheirAllow>,
    #[serde(default)]
    allowlists: Vec<TheirAllow>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TheirRule {
    id: String,
    #[serde(default)]
    description: String,
    regex: Option<String>,
    #[serde(default)]
    secret_group: usize,
    #[serde(default)]
    entropy: f32,
    #[serde(default)]
    keywords: Vec<String>,
    allowlist: Option<TheirAllow>,
    #[serde(default)]
    allowlists: Vec<TheirAllow>,
}

#[derive(Deserialize)]
struct TheirAllow {
    #[serde(default)]
    regexes: Vec<String>,
    #[serde(default)]
    stopwords: Vec<String>,
}

/// Reads a whole file.
pub(super) fn parse(file: &str, text: &str) -> Result<RuleFile, GovernanceError> {
    let parsed: TheirFile = source::parse_toml(file, text)?;
    let everywhere: Vec<TheirAllow> = parsed
        .allowlist
        .into_iter()
        .chain(parsed.allowlists)
        .collect();
    let rules = each(
        file,
        text,
        parsed.rules,
        |rule| &rule.id,
        |rule, at| translated(rule, &everywhere, at),
    )?;
    Ok(RuleFile {
        rules: rules.into_iter().flatten().collect(),
        disable: Vec::new(),
    })
}

/// One of their rules as one of ours; `None` if it is about paths.
fn translated(
    rule: TheirRule,
    everywhere: &[TheirAllow],
    at: &Location<'_>,
) -> Result<Option<Worded>, GovernanceError> {
    let Some(source) = &rule.regex else {
        return Ok(None);
    };
    check_id(&rule.id, at)?;
    check_words("keywords", &rule.keywords, at)?;
    if rule.keywords.is_empty() {
        return Err(at.fault(
            "keywords",
            "is missing: name some text that each match holds",
        ));
    }
    let pattern = Pattern::searching(source).map_err(|reason| at.fault("regex", reason))?;
    pattern
        .check_size()
        .map_err(|reason| at.fault("regex", reason))?;
    check_group(&pattern, rule.secret_group, at)?;
    // As there: the first group is the secret, if there is one.
    let group = match rule.secret_group {
        0 => pattern.groups().min(1),
        group => group,
    };
    let own = rule.allowlist.iter().chain(&rule.allowlists);
    let lists: Vec<&TheirAllow> = own.chain(everywhere).collect();
    let regexes: Vec<String> = lists.iter().flat_map(|list| list.regexes.clone()).collect();
    let stop_words: Vec<String> = lists
        .iter()
        .flat_map(|list| list.stopwords.clone())
        .collect();
    Ok(Some(Worded {
        rule: Rule {
            allow: allow(&regexes, at)?,
            id: rule.id,
            description: rule.description,
            class: RuleClass::Secret,
            form: Form::Around { pattern, group },
            confidence: CONFIDENCE_DEFAULT,
            confidence_in_context: CONFIDENCE_DEFAULT,
            confidence_unchecked: None,
            check: None,
            entropy_min: rule.entropy,
            stop_words: lower(&stop_words),
            has_context: false,
            is_generic: true,
            at_words: None,
        },
        keywords: rule.keywords,
        context: Vec::new(),
    }))
}
