//! What the demo shows: text for people as it happens, or one JSON object in the end.

use anyhow::Context;
use postern_audit::{Receipt, Verified};
use postern_service::ModelSummary;
use serde_json::{Value, json};

use super::stage::Stage;
use super::{Made, Outcome, TEMPLATE};
use crate::client::{Answer, Redaction};
use crate::commands::audit::verdict;
use crate::embedded;
use crate::terminal::{Screen, Tone, Wrapper, bytes, wrap};

/// Columns before what is said and asked.
const INDENT: usize = 5;

/// Short, so that the line to paste stays on one line.
const WISHES_TO_PASTE: &str = "I want a quiet room and good cake.";

/// The demo's voice.
pub(super) struct Report {
    screen: Screen,
    json: bool,
    wrapper: Wrapper,
    url: String,
    closed: bool,
}

impl Report {
    pub(super) fn new(json: bool) -> Self {
        let screen = Screen::new();
        let wrapper = Wrapper::new(INDENT, screen.columns());
        Self {
            screen,
            json,
            wrapper,
            url: String::new(),
            closed: false,
        }
    }

    /// Whether the demo ended before its table.
    pub(super) fn interrupted(&self) -> bool {
        !self.closed
    }

    pub(super) fn opening(&mut self, stage: &Stage) -> anyhow::Result<()> {
        let title = concat!("postern ", env!("CARGO_PKG_VERSION"), " demo");
        let fate = if stage.is_kept() {
            "kept"
        } else {
            "removed in the end"
        };
        self.lines([
            self.screen.paint(Tone::Heading, title),
            String::new(),
            format!("  state   {} ({fate})", stage.root().display()),
            format!(
                "  keys    a CA of its own, a certificate and a token for `{}`",
                stage.identity()
            ),
        ])
    }

    pub(super) fn serving(&mut self, url: &str, models: &[ModelSummary]) -> anyhow::Result<()> {
        url.clone_into(&mut self.url);
        let size = bytes(embedded::model_bytes());
        let mut lines: Vec<_> = models
            .iter()
            .map(|model| {
                format!(
                    "  model   {}, embedded, {size}, SHA-256 matches its pin",
                    model.id
                )
            })
            .collect();
        lines.push(format!(
            "  server  {url}, TLS 1.3, client certificate and token required"
        ));
        self.lines(lines)
    }

    pub(super) fn asks(&mut self, number: u8, title: &str, what: &str) -> anyhow::Result<()> {
        let heading = self
            .screen
            .paint(Tone::Heading, format_args!("{number}. {title}"));
        let asked = self.screen.paint(Tone::Quiet, self.quotation(what));
        self.lines([String::new(), heading, String::new(), asked, String::new()])
    }

    pub(super) fn streamed(&mut self, text: &str) -> anyhow::Result<()> {
        let ready = self.wrapper.push(text);
        self.speech(&ready)
    }

    pub(super) fn streamed_end(&mut self, outcome: &Outcome) -> anyhow::Result<()> {
        let rest = self.wrapper.finish();
        self.speech(&rest)?;
        match outcome {
            Outcome::Answered(answer) => self.cost(answer),
            Outcome::Refused(problem) => self.unexpected(problem),
        }
    }

    pub(super) fn redacted(
        &mut self,
        outcome: &Outcome,
        sanitized: Option<&str>,
    ) -> anyhow::Result<()> {
        let answer = match outcome {
            Outcome::Answered(answer) => answer,
            Outcome::Refused(problem) => return self.unexpected(problem),
        };
        let found: Vec<_> = answer.fields.redactions.iter().map(counted).collect();
        let found = if found.is_empty() {
            "nothing".into()
        } else {
            found.join(", ")
        };
        self.lines([format!(
            "     {} {found}",
            self.screen.paint(Tone::Good, "Redacted:")
        )])?;
        if let Some(seen) = sanitized {
            self.lines([
                "     The model and the audit log saw:".to_owned(),
                String::new(),
                self.screen.paint(Tone::Quiet, self.quotation(seen)),
            ])?;
        }
        let said = self
            .screen
            .paint(Tone::Speech, self.wrapped(&answer.fields.text, INDENT));
        self.lines([String::new(), said])?;
        self.cost(answer)
    }

    pub(super) fn refused(&mut self, outcome: &Outcome) -> anyhow::Result<()> {
        let problem = match outcome {
            Outcome::Refused(problem) => problem,
            Outcome::Answered(_) => anyhow::bail!("policy should have refused this call"),
        };
        let (status, code) = (&problem["status"], code(problem));
        let verdict = self
            .screen
            .paint(Tone::Bad, format_args!("Refused: {status} {code}"));
        let detail = problem["detail"].as_str().unwrap_or_default();
        self.lines([format!("     {verdict}"), self.wrapped(detail, INDENT)])
    }

    /// The closing table, or the whole report as JSON.
    pub(super) fn table(
        &mut self,
        calls: &[Made],
        audit: &Verified,
        receipt: Option<&Receipt>,
    ) -> anyhow::Result<()> {
        self.closed = true;
        if self.json {
            return self.screen.json(&json!({
                "url": self.url,
                "calls": calls.iter().map(Made::to_json).collect::<Vec<_>>(),
                "audit_verified": true,
                "audit": {
                    "records": audit.records,
                    "head": audit.head,
                    "receipt_index": receipt.map(|receipt| receipt.index),
                },
            }));
        }
        let rule = self
            .screen
            .paint(Tone::Quiet, "-".repeat(self.screen.columns()));
        self.lines([String::new(), rule])?;
        let mut answers = calls.iter().filter_map(|call| match &call.outcome {
            Outcome::Answered(answer) => Some(&answer.fields),
            Outcome::Refused(_) => None,
        });
        if let Some(fields) = answers.next_back() {
            for (name, pinned) in [("model", &fields.model), ("template", &fields.template)] {
                let sha256 = &pinned.sha256;
                self.lines([
                    format!("{name:<9} {}", pinned.id),
                    format!("{:<9} sha256 {sha256}", ""),
                ])?;
            }
        }
        let heading = format!(
            "{:<26} {:>9} {:>10} {:>13} {:>12} {:>12}",
            "call", "tokens in", "tokens out", "first token", "speed", "audit record"
        );
        self.lines([String::new(), self.screen.paint(Tone::Heading, heading)])?;
        for (at, call) in calls.iter().enumerate() {
            self.lines([row(at + 1, call)])?;
        }
        let verdict = self.screen.paint(Tone::Good, verdict(receipt));
        let (records, head) = (audit.records, &audit.head);
        self.lines([
            String::new(),
            format!("audit     {records} records, {verdict}"),
            format!("          head   {head}"),
        ])
    }

    /// The lines to paste.
    pub(super) fn invitation(&mut self, stage: &Stage, url: &str) -> anyhow::Result<()> {
        let credentials = stage.credentials();
        let curl = format!(
            "curl -sS --cacert {} \\\n  --cert {} \\\n  --key {} \\\n  -H @{} \\\n",
            quoted(&credentials.ca),
            quoted(&credentials.certificate),
            quoted(&credentials.key),
            quoted(&stage.token_header()),
        );
        let body = |stream: bool| {
            let mut body =
                json!({ "template": TEMPLATE, "variables": { "wishes": WISHES_TO_PASTE } });
            if stream {
                body["stream"] = json!(true);
            }
            format!(
                "  -H 'Content-Type: application/json' \\\n  -d '{body}' \\\n  {url}/v1/generate"
            )
        };
        let postern = std::env::current_exe().context("the program cannot find itself")?;
        let streaming = curl.replacen("curl -sS", "curl -sSN", 1);
        self.lines([
            String::new(),
            self.screen.paint(
                Tone::Heading,
                format_args!("Serving on {url} until Ctrl-C."),
            ),
            "From another terminal, one answer as JSON:".to_owned(),
            String::new(),
            format!("{curl}{}", body(false)),
            String::new(),
            "The same, streamed:".to_owned(),
            String::new(),
            format!("{streaming}{}", body(true)),
            String::new(),
            "What the kiosk may use, and what was recorded:".to_owned(),
            String::new(),
            format!("{curl}  {url}/v1/templates"),
            String::new(),
            format!(
                "{} audit show {} --identity-file {}",
                quoted(&postern),
                quoted(&stage.audit_dir()),
                quoted(&stage.auditor_file())
            ),
            String::new(),
        ])
    }

    pub(super) fn farewell(&mut self) -> anyhow::Result<()> {
        self.lines([String::new(), "Closed.".to_owned()])
    }

    fn cost(&mut self, answer: &Answer) -> anyhow::Result<()> {
        let fields = &answer.fields;
        let tokens = fields.usage.completion_tokens;
        let cost = format!(
            "{tokens} tokens, first after {}, {}",
            milliseconds(fields.timings.first_token_ms),
            speed(fields.timings.tokens_per_s)
        );
        self.lines([
            String::new(),
            format!("     {}", self.screen.paint(Tone::Quiet, cost)),
        ])
    }

    fn unexpected(&mut self, problem: &Value) -> anyhow::Result<()> {
        anyhow::bail!(
            "the demo's own call was refused: {} ({})",
            problem["title"],
            code(problem)
        )
    }

    /// Somebody's words, set off by a mark in front of the first line.
    fn quotation(&self, text: &str) -> String {
        let wrapped = self.wrapped(text, INDENT + 2);
        format!("{:INDENT$}> {}", "", wrapped.trim_start())
    }

    fn wrapped(&self, text: &str, indent: usize) -> String {
        wrap(text, indent, self.screen.columns())
    }

    fn speech(&mut self, text: &str) -> anyhow::Result<()> {
        if self.json || text.is_empty() {
            return Ok(());
        }
        let painted = self.screen.paint(Tone::Speech, text);
        Ok(self.screen.write(&painted)?)
    }

    fn lines(&mut self, lines: impl IntoIterator<Item = String>) -> anyhow::Result<()> {
        if self.json {
            return Ok(());
        }
        for line in lines {
            self.screen.line(line)?;
        }
        Ok(())
    }
}

fn row(number: usize, call: &Made) -> String {
    let title = format!("{number} {}", call.title);
    match &call.outcome {
        Outcome::Answered(answer) => {
            let fields = &answer.fields;
            format!(
                "{title:<26} {:>9} {:>10} {:>13} {:>12} {:>12}",
                fields.usage.prompt_tokens,
                fields.usage.completion_tokens,
                milliseconds(fields.timings.first_token_ms),
                speed(fields.timings.tokens_per_s),
                format!("#{}", fields.audit.index),
            )
        }
        Outcome::Refused(problem) => format!("{title:<26} refused: {}", code(problem)),
    }
}

fn counted(redaction: &Redaction) -> String {
    format!("{} {}", redaction.count, redaction.rule)
}

fn code(problem: &Value) -> &str {
    let kind = problem["type"].as_str().unwrap_or_default();
    kind.rsplit(':').next().unwrap_or(kind)
}

fn milliseconds(ms: Option<f64>) -> String {
    ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0} ms"))
}

fn speed(tokens_per_s: Option<f64>) -> String {
    tokens_per_s.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0} tokens/s"))
}

/// A path as a shell reads it back.
fn quoted(path: &std::path::Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@".contains(c);
    if text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
