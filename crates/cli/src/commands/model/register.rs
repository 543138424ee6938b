//! `postern model register`: the entry of a model for a registry.
//!
//! Nothing is made up: what neither manifest nor model file says is left empty, and no registry with
//! an empty field is loaded.

use std::path::Path;

use postern_engine::{ModelManifest, ModelReport};
use serde_json::Value;

use super::grouped;
use crate::daemon::manifest_of;
use crate::terminal::Screen;

/// Bytes of a text of the model file that is taken over; a registry takes no longer ones.
const TEXT_BYTES_MAX: usize = 1024;
/// Column at which the notes beside the fields begin.
const NOTE_COLUMN: usize = 30;

const HEAD: &str = "\
# Which models may answer, and what for; written by `postern model register`. Fill in what is empty
# and write each card beside this file: until then the registry is refused.

version: 1
# low, medium or high; a model whose risk is above it is refused
approved_risk: low

models:
";

/// Prints a registry with the model, or its entry alone.
pub(crate) fn run(model: &Path, entry_alone: bool) -> anyhow::Result<()> {
    let manifest = ModelManifest::read(&manifest_of(model)?)?;
    let report = postern_engine::inspect(&manifest.path)?;
    let head = if entry_alone { "" } else { HEAD };
    Ok(Screen::new().write(&format!("{head}{}", entry(&manifest, &report)))?)
}

fn entry(manifest: &ModelManifest, report: &ModelReport) -> String {
    let id = quoted(&manifest.id);
    let card = quoted(&format!("{}.md", manifest.id));
    let sha256 = quoted(&manifest.sha256.to_string());
    let said = |text: &Option<String>| quoted(usable(text));
    let empty = || quoted("");
    let none = || "[]".to_owned();
    let fields = [
        ("version", said(&report.version), "as its provider counts"),
        ("provider", said(&report.provider), "who made it"),
        ("sha256", sha256, ""),
        (
            "intended_uses",
            none(),
            "use cases of templates, such as [triage]; [any] is all",
        ),
        (
            "limitations",
            none(),
            "what it cannot do, such as [\"English only\"]",
        ),
        (
            "data_provenance",
            empty(),
            "what it was trained on, and from whom that is known",
        ),
        ("licence", said(&report.license), "SPDX identifier"),
        (
            "risk",
            empty(),
            "low, medium or high: what its worst answer may cost",
        ),
        ("card", card, "a file beside this one, for people"),
    ];
    let mut text = format!("  # The file says: {}.\n  - id: {id}\n", facts(report));
    for (field, value, note) in fields {
        let line = format!("    {field}: {value}");
        let line = match note {
            "" => line,
            note => format!("{line:NOTE_COLUMN$} # {note}"),
        };
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// What the file holds, on one line.
fn facts(report: &ModelReport) -> String {
    let name = report.name.as_deref().unwrap_or("no name");
    let stored: Vec<&str> = report
        .by_quantization
        .iter()
        .map(|entry| entry.quantization.as_str())
        .collect();
    let mut facts = format!(
        "{name}, {}, {} weights in {}",
        report.architecture,
        grouped(report.parameters),
        stored.join(" and ")
    );
    if let Some(tokens) = report.context_length {
        facts.push_str(&format!(", a context of {} tokens", grouped(tokens)));
    }
    facts.escape_debug().to_string()
}

/// The text of a model file where a registry would take it, else nothing.
fn usable(text: &Option<String>) -> &str {
    let text = text.as_deref().unwrap_or_default();
    let is_usable = text.len() <= TEXT_BYTES_MAX && !text.contains(char::is_control);
    if is_usable { text } else { "" }
}

/// A text in quotes, as YAML and JSON both have them.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
