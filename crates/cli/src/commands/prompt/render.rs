//! `postern prompt render`: the prompt that a model would get.

use anyhow::Context;
use postern_governance::{Sanitizer, preview, prompt_text};
use serde_json::json;

use super::folder::{PromptFolder, Sound};
use crate::arguments::RenderArguments;
use crate::terminal::Screen;
use crate::variables;

pub(crate) fn run(arguments: &RenderArguments) -> anyhow::Result<()> {
    let folder = PromptFolder::read(&arguments.dir)?;
    let sound = folder.find(&arguments.template)?;
    let variables = match &arguments.test {
        Some(name) => variables_of_test(&sound, name)?,
        None => variables::read(&arguments.variables)?,
    };
    let filled = preview(&Sanitizer::builtin(), sound.template, &variables)
        .map_err(|denial| anyhow::anyhow!("{denial} ({})", denial.code()))?;
    let mut screen = Screen::new();
    if arguments.json {
        let template = json!({ "id": sound.template.id, "sha256": sound.template.checksum });
        return screen.json(&json!({
            "template": template,
            "messages": filled.messages,
            "variables": filled.variables,
            "redactions": filled.redactions,
        }));
    }
    Ok(screen.line(prompt_text(&filled.messages))?)
}

fn variables_of_test(
    sound: &Sound<'_>,
    name: &str,
) -> anyhow::Result<std::collections::BTreeMap<String, String>> {
    let id = &sound.template.id;
    let tests = sound.entry.tests.as_ref();
    let tests = tests.with_context(|| format!("`{id}` has no tests"))?;
    let tests = match &tests.tests {
        Ok(tests) => tests,
        Err(error) => anyhow::bail!("{error}"),
    };
    let case = tests.iter().find(|case| case.name == name);
    let case = case.with_context(|| {
        let names: Vec<&str> = tests.iter().map(|case| case.name.as_str()).collect();
        format!("`{id}` has no test {name:?}; its tests are {names:?}")
    })?;
    Ok(case.variables.clone())
}
