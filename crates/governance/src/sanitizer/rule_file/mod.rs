//! Rule files: our own format, and that of gitleaks.
//!
//! Both are TOML. Ours has `[[rule]]` and is described in `deploy/policy/sanitizer.md`; a file
//! with `[[rules]]` is read as gitleaks' (its rules about file paths are passed over, as there
//! are no paths here). An unknown key is an error in ours, and so is a pattern that is too large,
//! matches the empty text, or needs more of a secret than a stream may hold back.

mod gitleaks;

use serde::Deserialize;
use toml::Spanned;

use super::assignment::Announced;
use super::checksum::Check;
use super::look::HEAD_BYTES_MAX;
use super::pattern::{ByteSet, Pattern};
use super::rule::{Form, Head, Rule, RuleClass, Words};
use super::rules::{KEYWORD_BYTES_MAX, Worded};
use crate::{GovernanceError, source};

/// Most rules of one file.
pub const RULES_MAX: usize = 2000;
/// Longest id of a rule, in bytes.
const ID_BYTES_MAX: usize = 40;
/// The only version of our format.
const VERSION: u32 = 1;
/// How sure a rule is that does not say so.
const CONFIDENCE_DEFAULT: f32 = 0.9;
const NOT_AFTER_DEFAULT: &str = "A-Za-z0-9_";

/// A file of rules, read.
pub(super) struct RuleFile {
    pub(super) rules: Vec<Worded>,
    /// Ids of rules of earlier files that are not to be used.
    pub(super) disable: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct OwnFile {
    version: Spanned<u32>,
    #[serde(default)]
    disable: Vec<String>,
    #[serde(default)]
    stop_words: Vec<String>,
    #[serde(default, rename = "rule")]
    rules: Vec<Spanned<OwnRule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct OwnRule {
    id: String,
    description: String,
    #[serde(default = "secret")]
    class: RuleClass,
    form: Option<FormName>,
    #[serde(default)]
    keywords: Vec<String>,
    at_words: Option<OwnWords>,
    prefix: Option<String>,
    lead: Option<String>,
    head: Option<String>,
    tail: Option<String>,
    not_after: Option<String>,
    not_before: Option<String>,
    pattern: Option<String>,
    #[serde(default)]
    group: usize,
    announces: Option<Announced>,
    confidence: Option<f32>,
    #[serde(default)]
    context: Vec<String>,
    confidence_in_context: Option<f32>,
    check: Option<Check>,
    confidence_unchecked: Option<f32>,
    #[serde(default)]
    entropy_min: f32,
    #[serde(default)]
    stop_words: Vec<String>,
    #[serde(default)]
    allow: Vec<String>,
    #[serde(default)]
    generic: bool,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum FormName {
    PaymentCard,
    Iban,
    Literal,
    PrivateKey,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct OwnWords {
    first: String,
    #[serde(default)]
    digits_min: usize,
    digits_at: Option<usize>,
    then: Option<String>,
}

fn secret() -> RuleClass {
    RuleClass::Secret
}

/// Where a rule stands, for messages.
struct Location<'a> {
    file: &'a str,
    line: u64,
    rule: &'a str,
}

impl Location<'_> {
    fn fault(&self, key: &str, reason: impl std::fmt::Display) -> GovernanceError {
        GovernanceError::Rule {
            file: self.file.to_owned(),
            line: self.line,
            rule: self.rule.to_owned(),
            reason: format!("`{key}` {reason}"),
        }
    }
}

/// Reads a file of either format.
pub(super) fn parse(file: &str, text: &str) -> Result<RuleFile, GovernanceError> {
    let theirs = text.lines().any(|line| line.trim_end() == "[[rules]]");
    if theirs {
        return gitleaks::parse(file, text);
    }
    let parsed: OwnFile = source::parse_toml(file, text)?;
    if *parsed.version.get_ref() != VERSION {
        return Err(GovernanceError::Field {
            file: file.to_owned(),
            line: source::line_at(text, parsed.version.span().start),
            field: "version".to_owned(),
            reason: format!("must be {VERSION}"),
        });
    }
    let stop_words = lower(&parsed.stop_words);
    let rules = each(
        file,
        text,
        parsed.rules,
        |rule| &rule.id,
        |rule, at| checked(rule, &stop_words, at),
    )?;
    Ok(RuleFile {
        rules,
        disable: parsed.disable,
    })
}

/// Makes something of each rule of a file, which names itself where it is at fault.
fn each<R, T>(
    file: &str,
    text: &str,
    rules: Vec<Spanned<R>>,
    id: fn(&R) -> &str,
    make: impl Fn(R, &Location<'_>) -> Result<T, GovernanceError>,
) -> Result<Vec<T>, GovernanceError> {
    check_count(file, rules.len())?;
    let made = rules.into_iter().map(|spanned| {
        let line = source::line_at(text, spanned.span().start);
        let rule = spanned.into_inner();
        let id = id(&rule).to_owned();
        let rule_at = Location {
            file,
            line,
            rule: &id,
        };
        make(rule, &rule_at)
    });
    made.collect()
}

fn check_count(file: &str, count: usize) -> Result<(), GovernanceError> {
    if count > RULES_MAX {
        return Err(GovernanceError::Field {
            file: file.to_owned(),
            line: 0,
            field: "rule".to_owned(),
            reason: format!("there are {count} rules; a file may have {RULES_MAX}"),
        });
    }
    Ok(())
}

fn checked(
    own: OwnRule,
    stop_words_of_file: &[String],
    at: &Location<'_>,
) -> Result<Worded, GovernanceError> {
    check_id(&own.id, at)?;
    let confidence = own.confidence.unwrap_or(CONFIDENCE_DEFAULT);
    let in_context = own.confidence_in_context.unwrap_or(confidence);
    for (key, value) in [
        ("confidence", confidence),
        ("confidence-in-context", in_context),
        (
            "confidence-unchecked",
            own.confidence_unchecked.unwrap_or(0.0),
        ),
    ] {
        if !(0.0..=1.0).contains(&value) {
            return Err(at.fault(key, "must be from 0 to 1"));
        }
    }
    check_words("keywords", &own.keywords, at)?;
    check_words("context", &own.context, at)?;
    if own.keywords.is_empty() && own.at_words.is_none() {
        return Err(at.fault(
            "keywords",
            "is missing: name some text that each match holds, or use `at-words`",
        ));
    }
    let form = form(&own, at)?;
    let mut stop_words = lower(&own.stop_words);
    if own.class == RuleClass::Secret && own.announces.is_none() {
        stop_words.extend_from_slice(stop_words_of_file);
    }
    let words = own.at_words.as_ref().map(|words| {
        Ok::<_, GovernanceError>(Words {
            first: class("at-words.first", &words.first, at)?,
            digits_min: words.digits_min,
            digits_at: words.digits_at,
            then: words
                .then
                .as_ref()
                .map(|then| class("at-words.then", then, at))
                .transpose()?,
        })
    });
    Ok(Worded {
        rule: Rule {
            form,
            at_words: words.transpose()?,
            allow: allow(&own.allow, at)?,
            has_context: !own.context.is_empty(),
            id: own.id,
            description: own.description,
            class: own.class,
            confidence,
            confidence_in_context: in_context,
            confidence_unchecked: own.confidence_unchecked,
            check: own.check,
            entropy_min: own.entropy_min,
            stop_words,
            is_generic: own.generic || own.announces.is_some(),
        },
        keywords: own.keywords,
        context: own.context,
    })
}

fn form(own: &OwnRule, at: &Location<'_>) -> Result<Form, GovernanceError> {
    let ways = [
        own.form.is_some(),
        own.head.is_some() && own.form.is_none(),
        own.pattern.is_some(),
        own.announces.is_some(),
    ];
    if ways.into_iter().filter(|way| *way).count() != 1 {
        return Err(at.fault(
            "head",
            "or `pattern`, `announces` or `form` must be given, and only one of them",
        ));
    }
    if let Some(announced) = own.announces {
        return Ok(Form::Assignment(announced));
    }
    if let Some(source) = &own.pattern {
        let pattern = around(source, own.group, at)?;
        return Ok(Form::Around {
            pattern,
            group: own.group,
        });
    }
    match (own.form, &own.head) {
        (Some(FormName::PaymentCard), _) => Ok(Form::PaymentCard),
        (Some(FormName::Iban), _) => Ok(Form::Iban),
        (Some(FormName::Literal), _) => Ok(Form::Literal),
        (Some(FormName::PrivateKey), Some(head)) => {
            Ok(Form::PrivateKey(bounded("head", head, 0, at)?))
        }
        (None, Some(source)) => Ok(Form::Head(Box::new(head(own, source, at)?))),
        (_, None) => Err(at.fault("head", "is missing")),
    }
}

fn head(own: &OwnRule, source: &str, at: &Location<'_>) -> Result<Head, GovernanceError> {
    let prefix = own.prefix.as_ref();
    let optional = |key, text: Option<&String>| text.map(|text| class(key, text, at)).transpose();
    let not_before = own.not_before.as_deref().unwrap_or(NOT_AFTER_DEFAULT);
    let not_after = own.not_after.as_deref().unwrap_or(NOT_AFTER_DEFAULT);
    Ok(Head {
        prefix: prefix
            .map(|text| bounded("prefix", text, 0, at))
            .transpose()?,
        lead: optional("lead", own.lead.as_ref())?,
        head: bounded("head", source, own.group, at)?,
        group: own.group,
        tail: optional("tail", own.tail.as_ref())?,
        not_after: class("not-after", not_after, at)?,
        not_before: class("not-before", not_before, at)?,
    })
}

fn class(key: &str, text: &str, at: &Location<'_>) -> Result<ByteSet, GovernanceError> {
    if text.is_empty() {
        return Ok(ByteSet::default());
    }
    ByteSet::of_class(text).map_err(|reason| at.fault(key, reason))
}

/// A pattern that can match within what a stream may hold back.
fn bounded(
    key: &str,
    source: &str,
    group: usize,
    at: &Location<'_>,
) -> Result<Pattern, GovernanceError> {
    let pattern = Pattern::anchored(source).map_err(|reason| at.fault(key, reason))?;
    check_group(&pattern, group, at)?;
    if pattern.bytes_min() > HEAD_BYTES_MAX {
        return Err(at.fault(
            key,
            format!(
                "matches no less than {} bytes, and {HEAD_BYTES_MAX} are looked at; shorten it \
                 and give what follows as `tail`, or write the rule as a `pattern`",
                pattern.bytes_min()
            ),
        ));
    }
    Ok(pattern)
}

fn around(source: &str, group: usize, at: &Location<'_>) -> Result<Pattern, GovernanceError> {
    let pattern = Pattern::searching(source).map_err(|reason| at.fault("pattern", reason))?;
    check_group(&pattern, group, at)?;
    pattern
        .check_size()
        .map_err(|reason| at.fault("pattern", reason))?;
    Ok(pattern)
}

fn check_group(pattern: &Pattern, group: usize, at: &Location<'_>) -> Result<(), GovernanceError> {
    if group > pattern.groups() {
        let reason = format!(
            "is {group}, but the pattern has {} groups",
            pattern.groups()
        );
        return Err(at.fault("group", reason));
    }
    Ok(())
}

fn allow(sources: &[String], at: &Location<'_>) -> Result<Vec<Pattern>, GovernanceError> {
    let patterns = sources.iter().map(|source| {
        let pattern = Pattern::searching(source)?;
        pattern.check_size()?;
        Ok(pattern)
    });
    patterns
        .collect::<Result<_, String>>()
        .map_err(|reason| at.fault("allow", reason))
}

fn check_id(id: &str, at: &Location<'_>) -> Result<(), GovernanceError> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if id.is_empty() || id.len() > ID_BYTES_MAX || !id.bytes().all(good) {
        let reason = format!("must be 1 to {ID_BYTES_MAX} of a-z, 0-9 and `-`");
        return Err(at.fault("id", reason));
    }
    Ok(())
}

fn check_words(key: &str, words: &[String], at: &Location<'_>) -> Result<(), GovernanceError> {
    let bad = words
        .iter()
        .find(|word| word.is_empty() || word.len() > KEYWORD_BYTES_MAX);
    match bad {
        Some(word) => Err(at.fault(
            key,
            format!("holds {word:?}; a keyword has 1 to {KEYWORD_BYTES_MAX} bytes"),
        )),
        None => Ok(()),
    }
}

fn lower(words: &[String]) -> Vec<String> {
    words.iter().map(|word| word.to_ascii_lowercase()).collect()
}
