//! `postern sanitize`: the redaction rules by themselves, as a filter in a pipeline.
//!
//! The text is read, cleaned and written in pieces, so memory does not grow with it. What is not
//! UTF-8 ends the run with its place, before anything behind it is written.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use postern_governance::{Finding, Mode, Modes, RuleClass, SanitizedStream, Sanitizer, Settings};
use serde_json::{Value, json};

use crate::arguments::{ReportFormat, SanitizeArguments};
use crate::error::CommandError;

/// Bytes that are read at once.
const PIECE_BYTES: usize = 64 * 1024;
/// Findings that a report lists at most; further ones are counted.
const FINDINGS_MAX: usize = 100_000;

/// Cleans a file or standard input.
pub(crate) fn run(arguments: &SanitizeArguments) -> anyhow::Result<()> {
    let sanitizer = load_rules(&arguments.rules)?;
    let settings = Settings {
        confidence_min: arguments.confidence_min,
        modes: Modes {
            secret: mode_of(arguments, RuleClass::Secret),
            personal: mode_of(arguments, RuleClass::Personal),
        },
    };
    let (name, input) = open(arguments.file.as_deref())?;
    let mut cleaning = Cleaning {
        stream: sanitizer.stream(settings),
        only: arguments.only.map(RuleClass::from),
        findings: Vec::new(),
        more: 0,
        text: arguments.report.is_none(),
    };
    cleaning.run(input, &name)?;
    match arguments.report {
        None => {}
        Some(ReportFormat::Json) => print(&cleaning.json(&name))?,
        Some(ReportFormat::Sarif) => print(&cleaning.sarif(&name, &sanitizer))?,
    }
    let count = cleaning.findings.len() as u64 + cleaning.more;
    if arguments.fail && count > 0 {
        return Err(CommandError::Found { count }.into());
    }
    Ok(())
}

fn mode_of(arguments: &SanitizeArguments, class: RuleClass) -> Mode {
    let meant = arguments
        .only
        .is_none_or(|only| RuleClass::from(only) == class);
    match meant && !arguments.mark {
        true => Mode::Redact,
        false => Mode::Mark,
    }
}

fn load_rules(files: &[PathBuf]) -> anyhow::Result<Sanitizer> {
    if files.is_empty() {
        return Ok(Sanitizer::builtin());
    }
    Ok(Sanitizer::load(files)?)
}

fn open(file: Option<&Path>) -> anyhow::Result<(String, Box<dyn Read>)> {
    match file {
        Some(path) if path != Path::new("-") => {
            let opened =
                File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            if opened.metadata().is_ok_and(|entry| entry.is_dir()) {
                bail!(
                    "{} is a folder; name a file, or write `-` for standard input",
                    path.display()
                );
            }
            Ok((path.display().to_string(), Box::new(opened)))
        }
        _ => Ok(("standard input".to_owned(), Box::new(io::stdin()))),
    }
}

fn print(report: &Value) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(report)?;
    text.push('\n');
    write(&text)
}

fn write(text: &str) -> anyhow::Result<()> {
    Ok(io::stdout()
        .write_all(text.as_bytes())
        .map_err(CommandError::from)?)
}

struct Cleaning {
    stream: SanitizedStream,
    only: Option<RuleClass>,
    findings: Vec<Finding>,
    more: u64,
    /// Whether the clean text is written.
    text: bool,
}

impl Cleaning {
    fn run(&mut self, mut input: Box<dyn Read>, name: &str) -> anyhow::Result<()> {
        let mut buffer = vec![0; PIECE_BYTES];
        let (mut kept, mut read_before) = (0, 0u64);
        loop {
            let read = match input.read(&mut buffer[kept..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other.with_context(|| format!("cannot read {name}"))?,
            };
            let length = kept + read;
            let valid = valid_up_to(&buffer[..length]);
            let incomplete = length - valid < 4 && read > 0;
            let text = std::str::from_utf8(&buffer[..valid]).unwrap_or_default();
            let clean = self.stream.push(text);
            self.take(&clean)?;
            if valid < length && (!incomplete || is_never_utf8(&buffer[valid..length])) {
                let rest = self.stream.finish();
                self.take(&rest)?;
                bail!(
                    "{name}: byte {} is not valid UTF-8; convert the text, for example with iconv",
                    read_before + valid as u64
                );
            }
            if read == 0 {
                let rest = self.stream.finish();
                return self.take(&rest);
            }
            buffer.copy_within(valid..length, 0);
            read_before += valid as u64;
            kept = length - valid;
        }
    }

    fn take(&mut self, clean: &str) -> anyhow::Result<()> {
        for finding in self.stream.take_findings() {
            if self.only.is_some_and(|only| only != finding.class) {
                continue;
            }
            if self.findings.len() < FINDINGS_MAX {
                self.findings.push(finding);
            } else {
                self.more += 1;
            }
        }
        if self.text { write(clean) } else { Ok(()) }
    }

    fn json(&self, name: &str) -> Value {
        json!({
            "source": name,
            "findings": self.findings,
            "findings_not_listed": self.more,
            "counts": self.stream.redactions(),
            "invisible_characters": self.stream.invisible_characters(),
        })
    }

    /// SARIF 2.1.0, OASIS standard of 27 March 2020.
    fn sarif(&self, name: &str, sanitizer: &Sanitizer) -> Value {
        let mut rules: Vec<Value> = Vec::new();
        for rule in sanitizer.rules() {
            if self.findings.iter().any(|finding| finding.rule == rule.id)
                && !rules.iter().any(|known| known["id"] == rule.id.as_str())
            {
                rules.push(json!({
                    "id": rule.id,
                    "shortDescription": { "text": rule.description },
                    "properties": { "class": rule.class },
                }));
            }
        }
        let results: Vec<Value> = self
            .findings
            .iter()
            .map(|found| result(name, found))
            .collect();
        json!({
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [{
                "tool": { "driver": {
                    "name": "postern",
                    "version": env!("CARGO_PKG_VERSION"),
                    "rules": rules,
                }},
                "columnKind": "unicodeCodePoints",
                "results": results,
            }],
        })
    }
}

fn result(name: &str, found: &Finding) -> Value {
    json!({
        "ruleId": found.rule,
        "level": match found.class { RuleClass::Secret => "error", RuleClass::Personal => "warning" },
        "message": { "text": format!("{} {} of this text", found.rule, found.number) },
        "rank": (f64::from(found.confidence) * 100.0).round(),
        "locations": [{ "physicalLocation": {
            "artifactLocation": { "uri": name },
            "region": {
                "startLine": found.start.line,
                "startColumn": found.start.column,
                "endLine": found.end.line,
                "endColumn": found.end.column,
            },
        }}],
    })
}

fn valid_up_to(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Ok(_) => bytes.len(),
        Err(error) => error.valid_up_to(),
    }
}

/// Whether no further bytes make this valid.
fn is_never_utf8(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_some())
}
