//! Other scanners on the same files, each by its own command and with its own defaults.

use std::ops::Range;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Found;
use super::corpus::{Document, Side};

/// Runs presidio's recognizers that are patterns, without a language model, and prints their results.
const PRESIDIO: &str = r#"
import json, sys, inspect, pathlib, logging
logging.disable(logging.CRITICAL)
from presidio_analyzer import PatternRecognizer, predefined_recognizers as known
recognizers = []
for name, kind in inspect.getmembers(known, inspect.isclass):
    if issubclass(kind, PatternRecognizer) and kind is not PatternRecognizer:
        try:
            recognizers.append(kind())
        except Exception:
            pass
for path in sys.argv[2:]:
    text = (pathlib.Path(sys.argv[1]) / path).read_text(encoding="utf-8")
    for recognizer in recognizers:
        if getattr(recognizer, "supported_language", "en") != "en":
            continue
        for found in recognizer.analyze(text, recognizer.supported_entities) or []:
            if found.score >= 0.5:
                print(json.dumps([path, found.entity_type, found.start, found.end]))
"#;

pub(super) fn gitleaks(
    command: &Path,
    folder: &Path,
    documents: &[Document],
) -> Result<Vec<Found>> {
    let report = tempfile::NamedTempFile::new()?;
    let output = Command::new(command)
        .args([
            "detect",
            "--no-git",
            "--exit-code",
            "0",
            "--report-format",
            "json",
            "--source",
        ])
        .arg(folder)
        .arg("--report-path")
        .arg(report.path())
        .output()
        .with_context(|| format!("{} does not run", command.display()))?;
    if !output.status.success() {
        bail!("it failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let found: Vec<Value> = serde_json::from_slice(&std::fs::read(report.path())?)?;
    let mut all = Vec::new();
    for entry in found {
        let Some(document) = by_name(documents, &entry["File"]) else {
            continue;
        };
        let text = &documents[document].text;
        let secret = entry["Secret"].as_str().unwrap_or_default();
        let line = line(text, entry["StartLine"].as_u64().unwrap_or(1).max(1));
        let place = text.get(line.start..).and_then(|rest| rest.find(secret));
        let start = place.map_or(line.start, |place| line.start + place);
        all.push(Found {
            document,
            side: Side::Secret,
            span: start..start + secret.len().max(1),
            whole_line: false,
            what: entry["RuleID"].as_str().unwrap_or_default().to_owned(),
        });
    }
    Ok(all)
}

pub(super) fn detect_secrets(
    command: &Path,
    folder: &Path,
    documents: &[Document],
) -> Result<Vec<Found>> {
    let output = Command::new(command)
        .args(["scan", "--all-files", "."])
        .current_dir(folder)
        .output()
        .with_context(|| format!("{} does not run", command.display()))?;
    if !output.status.success() {
        bail!("it failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let mut all = Vec::new();
    for (file, entries) in report["results"].as_object().into_iter().flatten() {
        let Some(document) = by_name(documents, &Value::from(file.as_str())) else {
            continue;
        };
        for entry in entries.as_array().into_iter().flatten() {
            all.push(Found {
                document,
                side: Side::Secret,
                span: line(
                    &documents[document].text,
                    entry["line_number"].as_u64().unwrap_or(1),
                ),
                whole_line: true,
                what: entry["type"].as_str().unwrap_or_default().to_owned(),
            });
        }
    }
    // Several detectors often name one line.
    all.sort_by_key(|found| (found.document, found.span.start));
    all.dedup_by_key(|found| (found.document, found.span.start));
    Ok(all)
}

pub(super) fn presidio(python: &Path, folder: &Path, documents: &[Document]) -> Result<Vec<Found>> {
    let output = Command::new(python)
        .args(["-c", PRESIDIO])
        .arg(folder)
        .args(documents.iter().map(|document| &document.name))
        .output()
        .with_context(|| format!("{} does not run", python.display()))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("it failed: {}", error.lines().last().unwrap_or_default());
    }
    let mut all = Vec::new();
    for entry in String::from_utf8_lossy(&output.stdout).lines() {
        let entry: Value = serde_json::from_str(entry)?;
        let Some(document) = by_name(documents, &entry[0]) else {
            continue;
        };
        let text = &documents[document].text;
        let byte = |place: &Value| {
            let characters = place.as_u64().unwrap_or(0) as usize;
            text.char_indices()
                .nth(characters)
                .map_or(text.len(), |(byte, _)| byte)
        };
        all.push(Found {
            document,
            side: Side::Personal,
            span: byte(&entry[2])..byte(&entry[3]),
            whole_line: false,
            what: entry[1].as_str().unwrap_or_default().to_owned(),
        });
    }
    Ok(all)
}

fn by_name(documents: &[Document], name: &Value) -> Option<usize> {
    let name = Path::new(name.as_str()?).file_name()?.to_str()?;
    documents.iter().position(|document| document.name == name)
}

/// The bytes of a line, from 1.
fn line(text: &str, number: u64) -> Range<usize> {
    let start = text
        .split_inclusive('\n')
        .take(number as usize - 1)
        .map(str::len)
        .sum();
    let length = text[start..].find('\n').unwrap_or(text.len() - start);
    start..start + length
}
