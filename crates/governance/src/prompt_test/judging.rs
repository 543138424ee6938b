//! Whether a prompt and an output are what a test asks for.
//!
//! Invariant: pure; the same texts always fail the same checks, in the same order.

use serde::Serialize;

use super::{PromptCase, TextAssertions};
use crate::decision::{Filled, Role};
use crate::denial::Denial;
use crate::sanitizer::Sanitizer;
use crate::template::Template;
use crate::{preview, prompt_text};

/// Characters of a text that a message repeats.
const QUOTED_CHARS_MAX: usize = 60;

/// A check that did not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CheckFailure {
    /// Stable name of the check, such as `output-contains`.
    pub check: &'static str,
    /// What was expected and what was found.
    pub reason: String,
}

impl CheckFailure {
    fn new(check: &'static str, reason: impl Into<String>) -> Self {
        Self {
            check,
            reason: reason.into(),
        }
    }
}

/// How alike two texts are: twice the pairs of neighbouring characters that both have, by all
/// pairs of both (Dice's coefficient); white space is ignored. 1 is alike, 0 nothing in common.
#[must_use]
pub fn similarity(one: &str, other: &str) -> f64 {
    strsim::sorensen_dice(one, other)
}

impl PromptCase {
    /// Whether anything is asked of an output.
    #[must_use]
    pub fn judges_output(&self) -> bool {
        let output = &self.output;
        let is_silent = output.json_schema.is_none()
            && output.text.contains.is_empty()
            && output.text.not_contains.is_empty()
            && output.regex.is_empty()
            && output.not_regex.is_empty()
            && output.chars_min.is_none()
            && output.chars_max.is_none()
            && output.similar_to.is_none();
        !is_silent
    }

    /// Fills the template in and checks the prompt; `None` where a refusal was expected and came.
    ///
    /// # Errors
    ///
    /// That the template refuses the variables, or does not refuse them though it should.
    pub fn fill(
        &self,
        template: &Template,
        sanitizer: &Sanitizer,
    ) -> Result<Option<Filled>, CheckFailure> {
        let fail = |reason| Err(CheckFailure::new("denied", reason));
        match (preview(sanitizer, template, &self.variables), &self.denied) {
            (Ok(filled), None) => Ok(Some(filled)),
            (Ok(_), Some(code)) => fail(format!("expected the refusal {code}, but it is allowed")),
            (Err(denial), Some(code)) if denial.code() == code => Ok(None),
            (Err(denial), Some(code)) => fail(format!(
                "expected the refusal {code}, got {}",
                explained(&denial)
            )),
            (Err(denial), None) => fail(explained(&denial)),
        }
    }

    /// Checks a prompt that [`PromptCase::fill`] gave.
    #[must_use]
    pub fn judge_prompt(&self, template: &Template, filled: &Filled) -> Vec<CheckFailure> {
        let prompt = prompt_text(&filled.messages);
        let names = ["prompt-contains", "prompt-not-contains"];
        let mut failures = text_failures(names, &self.prompt, &prompt);
        let secrets = self.safety.secrets.iter().chain(&self.safety.personal);
        for planted in secrets.filter(|planted| prompt.contains(*planted)) {
            let reason = format!("the planted {} came into the prompt", quoted(planted));
            failures.push(CheckFailure::new("safety-prompt", reason));
        }
        let instructions = instructions(template, filled);
        let injections = self.safety.injections.iter();
        for injection in injections.filter(|planted| instructions.contains(&planted.text)) {
            let reason = format!(
                "the injection {} stands in the prompt outside of the data",
                quoted(&injection.text)
            );
            failures.push(CheckFailure::new("safety-injection", reason));
        }
        failures
    }

    /// Checks an output, recorded or live. The template's own schema is always asked.
    #[must_use]
    pub fn judge_output(&self, template: &Template, output: &str) -> Vec<CheckFailure> {
        let asked = &self.output;
        let mut failures = Vec::new();
        let schemas = [
            ("output-schema", &template.output),
            ("output-json-schema", &asked.json_schema),
        ];
        for (check, schema) in schemas {
            let fault = schema
                .as_ref()
                .and_then(|schema| schema.output_fault(output));
            failures.extend(fault.map(|reason| CheckFailure::new(check, reason)));
        }
        let names = ["output-contains", "output-not-contains"];
        failures.extend(text_failures(names, &asked.text, output));
        for (check, expressions, wanted) in [
            ("output-regex", &asked.regex, true),
            ("output-not-regex", &asked.not_regex, false),
        ] {
            let broken = expressions
                .iter()
                .filter(|expression| expression.is_match(output) != wanted);
            failures.extend(broken.map(|expression| {
                let verb = if wanted { "does not match" } else { "matches" };
                CheckFailure::new(check, format!("the output {verb} `{expression}`"))
            }));
        }
        failures.extend(self.length_failures(output));
        failures.extend(self.planted_failures(output));
        failures
    }

    fn length_failures(&self, output: &str) -> Vec<CheckFailure> {
        let asked = &self.output;
        let mut failures = Vec::new();
        let chars = output.chars().count();
        if asked.chars_min.is_some_and(|min| chars < min)
            || asked.chars_max.is_some_and(|max| chars > max)
        {
            let bound = |bound: Option<usize>| bound.map_or("any".to_owned(), |n| n.to_string());
            let (min, max) = (bound(asked.chars_min), bound(asked.chars_max));
            let reason = format!("the output has {chars} characters, expected {min} to {max}");
            failures.push(CheckFailure::new("output-length", reason));
        }
        if let Some(similar) = &asked.similar_to {
            let found = similarity(output, &similar.text);
            if found < similar.at_least {
                let reason = format!(
                    "the output is {found:.2} similar, expected at least {}",
                    similar.at_least
                );
                failures.push(CheckFailure::new("output-similarity", reason));
            }
        }
        failures
    }

    fn planted_failures(&self, output: &str) -> Vec<CheckFailure> {
        let mut failures = Vec::new();
        let secrets = self.safety.secrets.iter().chain(&self.safety.personal);
        let texts = self.safety.injections.iter().flat_map(|injection| {
            let said = injection.must_not_say.iter();
            said.chain([&injection.text])
        });
        for planted in secrets
            .chain(texts)
            .filter(|planted| output.contains(*planted))
        {
            let reason = format!("{} came through into the output", quoted(planted));
            failures.push(CheckFailure::new("safety-output", reason));
        }
        failures
    }
}

fn explained(denial: &Denial) -> String {
    format!("{}: {denial}", denial.code())
}

fn text_failures(
    [contains, not_contains]: [&'static str; 2],
    asked: &TextAssertions,
    text: &str,
) -> Vec<CheckFailure> {
    let missing = asked.contains.iter().filter(|part| !text.contains(*part));
    let missing =
        missing.map(|part| CheckFailure::new(contains, format!("{} is missing", quoted(part))));
    let unwanted = asked
        .not_contains
        .iter()
        .filter(|part| text.contains(*part));
    let unwanted =
        unwanted.map(|part| CheckFailure::new(not_contains, format!("{} is there", quoted(part))));
    missing.chain(unwanted).collect()
}

fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(QUOTED_CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

/// The prompt without what is marked as data, and without messages that are data as a whole.
fn instructions(template: &Template, filled: &Filled) -> String {
    let mut instructions = String::new();
    for message in &filled.messages {
        let body = match message.role {
            Role::System => template.system.as_deref().unwrap_or_default(),
            Role::User => &template.user,
        };
        if !template.is_data_message(body) {
            instructions.push_str(&without_data(&message.content));
        }
        instructions.push('\n');
    }
    instructions
}

/// The text without what stands between marks.
fn without_data(text: &str) -> String {
    let mut rest = text;
    let mut kept = String::new();
    while let Some((before, opened)) = rest.split_once("BEGIN DATA ") {
        kept.push_str(before);
        let number = opened.split(' ').next().unwrap_or_default();
        let end = format!("END DATA {number}");
        match opened.split_once(&end) {
            Some((_, after)) => rest = after,
            None => {
                kept.push_str("BEGIN DATA ");
                rest = opened;
            }
        }
    }
    kept.push_str(rest);
    kept
}
