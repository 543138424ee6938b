//! `postern model`: `pin`, `inspect` and `tokenize` here, `register` and `check` in their own files.

pub(crate) mod check;
pub(crate) mod register;

use std::io::{Read, Write, stderr, stdin};
use std::path::Path;

use anyhow::Context;
use postern_engine::{EngineError, ModelManifest, ModelReport, Tokenizer};
use serde_json::json;

use crate::daemon::MANIFEST_EXTENSION;
use crate::state_folder::{Existing, refuse_existing};
use crate::terminal::{Screen, Spinner, Tone, bytes, printable, wrap};

/// Bytes of standard input that `tokenize` takes at most.
const TEXT_BYTES_MAX: u64 = 64 << 20;

/// Writes the manifest of a model file that the engine can read.
pub(crate) fn pin(
    file: &Path,
    id: Option<&str>,
    out: Option<&Path>,
    existing: Existing,
) -> anyhow::Result<()> {
    let out = out.map_or_else(|| file.with_extension(MANIFEST_EXTENSION), Path::to_owned);
    if existing == Existing::Keep {
        refuse_existing(&out)?;
    }
    let id = match id {
        Some(id) => id.to_owned(),
        None => id_of(file)?,
    };
    let report = report_of_weights(file)?;
    let spinner = Spinner::new(&format!("hashing {}", file.display()));
    let manifest = ModelManifest::pin(file, &id)?;
    drop(spinner);
    manifest.write(&out)?;
    let mut screen = Screen::new();
    screen.line(format_args!("Pinned {} as {id}:", file.display()))?;
    screen.line(format_args!("  sha256    {}", manifest.sha256))?;
    screen.line(format_args!(
        "  size      {} ({} bytes)",
        bytes(manifest.bytes),
        manifest.bytes
    ))?;
    screen.line(format_args!("  manifest  {}", out.display()))?;
    if let Some(reason) = &report.unsupported {
        return warn(&format!(
            "{} is pinned, but this version cannot serve it: {}",
            file.display(),
            printable(reason)
        ));
    }
    screen.line("")?;
    screen.line(screen.paint(Tone::Heading, "Next:"))?;
    let manifest = out.display();
    screen.line(format_args!(
        "  postern model register {manifest} > models.yaml    # and fill it in"
    ))?;
    Ok(screen.line(format_args!(
        "  postern serve --model {manifest} --models models.yaml"
    ))?)
}

/// What is in `file`.
///
/// # Errors
/// The engine cannot read its head, a tensor does not lie within it, or it has none.
fn report_of_weights(file: &Path) -> anyhow::Result<ModelReport> {
    let report = postern_engine::inspect(file)?;
    if report.tensors.is_empty() {
        let reason = EngineError::TensorsAbsent;
        anyhow::bail!("{}: {reason}; it is not pinned", file.display());
    }
    Ok(report)
}

/// Something that is no error, on standard error.
fn warn(text: &str) -> anyhow::Result<()> {
    Ok(writeln!(stderr(), "postern: warning: {text}")?)
}

/// The file's stem, in the characters that an id may have.
fn id_of(file: &Path) -> anyhow::Result<String> {
    let stem = file
        .file_stem()
        .and_then(|stem| stem.to_str())
        .with_context(|| format!("{} has no name to make an id of; give --id", file.display()))?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    Ok(stem
        .chars()
        .map(|c| if allowed(c) { c } else { '-' })
        .collect())
}

/// Shows what a model file holds.
pub(crate) fn inspect(file: &Path, as_json: bool) -> anyhow::Result<()> {
    let report = postern_engine::inspect(file)?;
    let mut screen = Screen::new();
    if as_json {
        return screen.json(&report);
    }
    show_head(&mut screen, file, &report)?;
    show_quantizations(&mut screen, &report)?;
    show_tensors(&mut screen, &report)
}

fn show_head(screen: &mut Screen, file: &Path, report: &ModelReport) -> anyhow::Result<()> {
    screen.line(screen.paint(Tone::Heading, file.display()))?;
    let mut row = |name: &str, value: &str| screen.line(format_args!("  {name:<15} {value}"));
    if let Some(name) = &report.name {
        row("name", &name.escape_debug().to_string())?;
    }
    for (title, said) in [
        ("version", &report.version),
        ("provider", &report.provider),
        ("licence", &report.license),
    ] {
        if let Some(said) = said {
            row(title, &said.escape_debug().to_string())?;
        }
    }
    row(
        "architecture",
        &report.architecture.escape_debug().to_string(),
    )?;
    row("parameters", &grouped(report.parameters))?;
    row("weights", &bytes(report.bytes))?;
    if let Some(tokens) = report.context_length {
        row("context", &format!("{} tokens", grouped(tokens)))?;
    }
    let vocabulary = &report.vocabulary;
    let kind = vocabulary.kind.as_deref().unwrap_or("unnamed");
    let pre = vocabulary
        .pre
        .as_deref()
        .map(|pre| format!(", {pre}"))
        .unwrap_or_default();
    let kind = format!("{kind}{pre}").escape_debug().to_string();
    row(
        "vocabulary",
        &format!("{} tokens ({kind})", grouped(vocabulary.size as u64)),
    )?;
    for (role, token) in &vocabulary.special {
        let text = token.text.as_deref().unwrap_or("out of the vocabulary");
        row(
            &format!("  {role}"),
            &format!("{} {}", token.id, text.escape_debug()),
        )?;
    }
    row(
        "chat template",
        if report.chat_template { "yes" } else { "no" },
    )?;
    row("gguf version", &report.gguf_version.to_string())?;
    match (report.backend, &report.unsupported) {
        (Some(backend), _) => row("backend", backend)?,
        (None, Some(reason)) => {
            let verdict = screen.paint(Tone::Bad, "cannot be served");
            screen.line(format_args!(
                "  {verdict}:\n{}",
                wrap(reason, 4, screen.columns())
            ))?;
        }
        (None, None) => {}
    }
    screen.line("")?;
    screen.line(screen.paint(Tone::Heading, "Shape"))?;
    for (name, value) in &report.shape {
        screen.line(format_args!(
            "  {:<40} {value:>12}",
            name.escape_debug().to_string()
        ))?;
    }
    Ok(())
}

fn show_quantizations(screen: &mut Screen, report: &ModelReport) -> anyhow::Result<()> {
    screen.line("")?;
    screen.line(screen.paint(Tone::Heading, "Quantizations"))?;
    for entry in &report.by_quantization {
        let (name, tensors, size) = (&entry.quantization, entry.tensors, bytes(entry.bytes));
        screen.line(format_args!("  {name:<10} {tensors:>6} tensors {size:>12}"))?;
    }
    Ok(())
}

fn show_tensors(screen: &mut Screen, report: &ModelReport) -> anyhow::Result<()> {
    screen.line("")?;
    screen.line(screen.paint(Tone::Heading, "Tensors"))?;
    for tensor in &report.tensors {
        let shape = tensor
            .shape
            .iter()
            .map(u64::to_string)
            .collect::<Vec<_>>()
            .join(" x ");
        screen.line(format_args!(
            "  {:<36} {:<10} {shape:>18} {:>12}",
            tensor.name.escape_debug().to_string(),
            tensor.quantization,
            bytes(tensor.bytes)
        ))?;
    }
    Ok(())
}

/// `1234567` as `1 234 567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

/// Shows how a model's vocabulary splits a text.
pub(crate) fn tokenize(
    file: &Path,
    text: &str,
    as_json: bool,
    special: bool,
) -> anyhow::Result<()> {
    let text = if text == "-" {
        read_stdin()?
    } else {
        text.to_owned()
    };
    let tokenizer = Tokenizer::from_gguf_file(file)?;
    let mut ids = tokenizer.encode(&text, special)?;
    if special {
        tokenizer.enclose(&mut ids);
    }
    let pieces: Vec<&str> = ids
        .iter()
        .map(|&id| tokenizer.piece(id).unwrap_or(""))
        .collect();
    let mut screen = Screen::new();
    if as_json {
        return screen.json(&json!({ "ids": ids, "pieces": pieces }));
    }
    for (id, piece) in ids.iter().zip(pieces) {
        screen.line(format_args!("{id:>8}  {}", piece.escape_debug()))?;
    }
    Ok(())
}

fn read_stdin() -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    stdin()
        .take(TEXT_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .context("standard input")?;
    anyhow::ensure!(
        bytes.len() as u64 <= TEXT_BYTES_MAX,
        "standard input has more than {TEXT_BYTES_MAX} bytes; tokenize it in parts"
    );
    String::from_utf8(bytes).context("standard input is not UTF-8")
}
