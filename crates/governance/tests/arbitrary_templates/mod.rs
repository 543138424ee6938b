//! Any text at all is a template whose promises hold, or is refused with a reason.
//!
//! Shared by the fuzz targets and by the test that replays their corpora.

use std::collections::BTreeMap;

use postern_governance::{
    RENDERED_BYTES_MAX, SOURCE_BYTES_MAX, Sanitizer, Template, TemplateSet, VARIABLES_MAX, preview,
    prompt_text,
};

/// A template that writes its variable in every way there is.
const HOSTED: &str = "\
id: fuzz.v1
description: d
author: a
intent: i
risk: low
max_tokens: 8
system: \"{% if a %}S{% endif %}\"
user: \"{{ a }}|{{ a | upper }}|{{ a | lower }}|{{ a | tojson }}|{% for x in [a] %}{{ x }}{% endfor %}\"
variables:
  a: {required: false}
";

/// Parses the bytes as a template of the format that `ending` stands for, and fills it in.
///
/// # Panics
/// Where a promise does not hold.
pub(crate) fn check_file(ending: &str, bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let file = format!("fuzz.v1.{ending}");
    let set = match TemplateSet::from_sources([(file.as_str(), text)]) {
        Ok(set) => set,
        Err(error) => {
            let message = error.to_string();
            assert!(message.starts_with(&file), "{message}");
            return;
        }
    };
    assert!(text.len() <= SOURCE_BYTES_MAX);
    let template = set.iter().next().expect("one file is one template");
    assert_eq!(template.id.as_str(), "fuzz.v1");
    assert_eq!(template.checksum.len(), 64);
    assert!(!template.author.trim().is_empty() && !template.intent.trim().is_empty());
    assert!(template.variables.len() <= VARIABLES_MAX);
    let variables = template.variables.keys();
    let variables = variables.map(|name| (name.clone(), "1".to_owned()));
    check_prompt(template, &variables.collect());
}

/// Fills a template in with the bytes as its variable.
///
/// # Panics
/// Where a promise does not hold.
pub(crate) fn check_value(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let set = TemplateSet::from_sources([("fuzz.v1.yaml", HOSTED)]).expect("a template");
    let template = set.iter().next().expect("one file is one template");
    check_prompt(template, &BTreeMap::from([("a".to_owned(), text)]));
}

fn check_prompt(template: &Template, variables: &BTreeMap<String, String>) {
    let sanitizer = Sanitizer::builtin();
    let Ok(filled) = preview(&sanitizer, template, variables) else {
        return;
    };
    let again = preview(&sanitizer, template, variables).expect("as before");
    assert_eq!(filled, again);
    for message in &filled.messages {
        assert!(message.content.len() <= RENDERED_BYTES_MAX);
        assert!(message.fixed_bytes <= message.content.len());
    }
    let prompt = prompt_text(&filled.messages);
    if template.id.as_str() == "fuzz.v1" && template.user.contains("{{ a | tojson }}") {
        check_marks(&prompt);
    }
}

/// Five times the variable, each between its marks, and none of the spellings of ChatML.
fn check_marks(prompt: &str) {
    let (_, rest) = prompt.split_once("BEGIN DATA ").expect("a mark");
    let number = &rest[..16];
    assert_eq!(prompt.matches(number).count(), 10, "{prompt}");
    assert!(!prompt.to_lowercase().contains("<|im_start|>"), "{prompt}");
}
