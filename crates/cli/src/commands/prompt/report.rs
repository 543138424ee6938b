//! What was checked and what was found, for people, scripts and machines that collect reports.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use serde_json::{Value, json};

use crate::arguments::ReportArguments;
use crate::error::CommandError;
use crate::terminal::{Screen, Tone, printable};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Level {
    Warning,
    Error,
}

/// Something that is wrong.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) level: Level,
    /// Stable name of the check.
    pub(crate) check: &'static str,
    pub(crate) file: String,
    /// From 1, where it is known.
    pub(crate) line: Option<u64>,
    pub(crate) message: String,
}

/// One thing that was checked.
#[derive(Debug, Serialize)]
pub(crate) struct Case {
    /// The file, or the template.
    pub(crate) suite: String,
    pub(crate) name: String,
    pub(crate) findings: Vec<Finding>,
}

/// Everything that was checked.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The command, such as `prompt check`.
    pub(crate) command: &'static str,
    /// The folder, for the places in reports.
    pub(crate) dir: String,
    pub(crate) cases: Vec<Case>,
}

impl Report {
    fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.cases.iter().flat_map(|case| &case.findings)
    }

    fn count(&self, level: Level) -> usize {
        self.findings().filter(|found| found.level == level).count()
    }

    fn failed(&self) -> usize {
        let is_failed = |case: &&Case| case.findings.iter().any(|f| f.level == Level::Error);
        self.cases.iter().filter(is_failed).count()
    }

    /// Writes the reports that were asked for and prints the result.
    ///
    /// # Errors
    /// [`CommandError::ChecksFailed`] if there is an error, or with `strict` a warning; or a report
    /// cannot be written.
    pub(crate) fn deliver(&self, asked: &ReportArguments, strict: bool) -> anyhow::Result<()> {
        if let Some(path) = &asked.junit {
            write_report(path, &self.junit())?;
        }
        if let Some(path) = &asked.sarif {
            write_report(path, &format!("{:#}\n", self.sarif()))?;
        }
        let (errors, warnings) = (self.count(Level::Error), self.count(Level::Warning));
        let mut screen = Screen::new();
        if asked.json {
            screen.json(&json!({
                "command": self.command,
                "checked": self.cases.len(),
                "failed": self.failed(),
                "errors": errors,
                "warnings": warnings,
                "cases": self.cases,
            }))?;
        } else {
            self.print(&mut screen)?;
        }
        if errors > 0 || (strict && warnings > 0) {
            let (failed, checked) = (self.failed(), self.cases.len());
            let message =
                format!("{failed} of {checked} failed: {errors} errors, {warnings} warnings");
            return Err(CommandError::ChecksFailed { message }.into());
        }
        Ok(())
    }

    fn print(&self, screen: &mut Screen) -> anyhow::Result<()> {
        for case in &self.cases {
            let worst = case.findings.iter().map(|found| found.level);
            let mark = match worst.max_by_key(|level| *level as u8) {
                None => screen.paint(Tone::Good, "ok     "),
                Some(Level::Warning) => screen.paint(Tone::Heading, "warning"),
                Some(Level::Error) => screen.paint(Tone::Bad, "FAILED "),
            };
            screen.line(format_args!(
                "{mark}  {}  {}",
                case.suite,
                printable(&case.name)
            ))?;
            for found in &case.findings {
                let line = found
                    .line
                    .map(|line| format!(":{line}"))
                    .unwrap_or_default();
                for (index, text) in printable(&found.message).lines().enumerate() {
                    match index {
                        0 => screen.line(format_args!(
                            "         {}{line}: {}: {text}",
                            found.file, found.check
                        ))?,
                        _ => screen.line(format_args!("           {text}"))?,
                    }
                }
            }
        }
        let (checked, failed) = (self.cases.len(), self.failed());
        let warnings = self.count(Level::Warning);
        Ok(screen.line(format_args!(
            "{} ok, {failed} failed, {warnings} warnings",
            checked - failed
        ))?)
    }

    /// The report in the XML that JUnit's Ant task writes and CI services read.
    fn junit(&self) -> String {
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let (checked, failed) = (self.cases.len(), self.failed());
        xml.push_str(&format!(
            "<testsuites name=\"postern {}\" tests=\"{checked}\" failures=\"{failed}\">\n",
            self.command
        ));
        for cases in self.cases.chunk_by(|one, next| one.suite == next.suite) {
            let is_failed = |case: &&Case| case.findings.iter().any(|f| f.level == Level::Error);
            let failed = cases.iter().filter(is_failed).count();
            let suite = escaped(&cases[0].suite);
            xml.push_str(&format!(
                "  <testsuite name=\"{suite}\" tests=\"{}\" failures=\"{failed}\" errors=\"0\" skipped=\"0\">\n",
                cases.len()
            ));
            for case in cases {
                xml.push_str(&junit_case(case));
            }
            xml.push_str("  </testsuite>\n");
        }
        xml.push_str("</testsuites>\n");
        xml
    }

    /// The report in SARIF 2.1.0 (OASIS), for code scanning.
    fn sarif(&self) -> Value {
        let mut rules: Vec<&str> = self.findings().map(|found| found.check).collect();
        rules.sort_unstable();
        rules.dedup();
        let rules: Vec<Value> = rules.into_iter().map(|id| json!({ "id": id })).collect();
        let results: Vec<Value> = self
            .findings()
            .map(|found| self.sarif_result(found))
            .collect();
        json!({
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [{
                "tool": {"driver": {
                    "name": format!("postern {}", self.command),
                    "version": env!("CARGO_PKG_VERSION"),
                    "rules": rules,
                }},
                "results": results,
            }],
        })
    }

    fn sarif_result(&self, found: &Finding) -> Value {
        let uri = format!("{}/{}", self.dir.trim_end_matches('/'), found.file);
        let mut place = json!({ "artifactLocation": { "uri": uri } });
        if let Some(line) = found.line {
            place["region"] = json!({ "startLine": line });
        }
        json!({
            "ruleId": found.check,
            "level": found.level,
            "message": { "text": found.message },
            "locations": [{ "physicalLocation": place }],
        })
    }
}

fn junit_case(case: &Case) -> String {
    let mut xml = format!(
        "    <testcase classname=\"{}\" name=\"{}\"",
        escaped(&case.suite),
        escaped(&case.name)
    );
    if case.findings.is_empty() {
        xml.push_str("/>\n");
        return xml;
    }
    xml.push_str(">\n");
    let mut warnings = String::new();
    for found in &case.findings {
        let line = found
            .line
            .map(|line| format!(":{line}"))
            .unwrap_or_default();
        let text = format!("{}{line}: {}", found.file, found.message);
        match found.level {
            Level::Error => xml.push_str(&format!(
                "      <failure type=\"{}\" message=\"{}\"/>\n",
                found.check,
                escaped(&text)
            )),
            Level::Warning => warnings.push_str(&format!("{}: {}\n", found.check, escaped(&text))),
        }
    }
    if !warnings.is_empty() {
        xml.push_str(&format!("      <system-out>{warnings}</system-out>\n"));
    }
    xml.push_str("    </testcase>\n");
    xml
}

/// Text for an attribute or element; what XML 1.0 cannot hold becomes U+FFFD.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            '\t' => escaped.push_str("&#9;"),
            '\u{FFFE}' | '\u{FFFF}' => escaped.push('\u{FFFD}'),
            c if c.is_control() => escaped.push('\u{FFFD}'),
            c => escaped.push(c),
        }
    }
    escaped
}

fn write_report(path: &Path, text: &str) -> anyhow::Result<()> {
    let place = || format!("cannot write the report {}", path.display());
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        fs::create_dir_all(folder).with_context(place)?;
    }
    fs::write(path, text).with_context(place)
}
