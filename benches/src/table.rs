//! A report as a table for people.
//!
//! Invariant: what is missing is written out, in the table and below it.

use std::fmt::Write;

use crate::report::{Bound, Figure, Report};

const ABSENT: &str = "absent";

/// The report as text, one line a figure.
pub fn table(report: &Report) -> String {
    let mut text = String::new();
    write_table(report, &mut text).expect("writing to a string does not fail");
    text
}

fn write_table(report: &Report, out: &mut String) -> std::fmt::Result {
    let machine = &report.machine;
    writeln!(
        out,
        "{} ({}, {} processors), threads: {}, rounds: {}, memory reads {}",
        machine.processor,
        machine.architecture,
        machine.processors,
        report.threads,
        report.rounds,
        report.read_bytes_per_s.map_or_else(
            || "not measured".to_owned(),
            |bytes| format!("{:.1} GB/s", bytes / 1e9)
        )
    )?;
    writeln!(out, "llama.cpp: {}", report.peer)?;
    if !report.optimized {
        writeln!(
            out,
            "This build of ours is not optimized: its figures mean nothing."
        )?;
    }
    writeln!(
        out,
        "\n{:<14} {:<7} {:<22} {:>10} {:<5} {:>10} {:<13} {:>7} {:>8}",
        "model", "stored", "figure", "value", "", "against", "", "ratio", "wanted"
    )?;
    for file in &report.files {
        let mut name = (file.model.as_str(), file.quantization.as_str());
        for figure in &file.figures {
            write!(out, "{:<14} {:<7} ", name.0, name.1)?;
            write_figure(figure, out)?;
            name = ("", "");
        }
        if let Some(backend) = &file.backend {
            writeln!(out, "{:<22} computed by {backend}", "")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn write_figure(figure: &Figure, out: &mut String) -> std::fmt::Result {
    let against = figure
        .against_value
        .map_or_else(|| ABSENT.to_owned(), number);
    let ratio = figure
        .ratio
        .map_or_else(String::new, |ratio| format!("{ratio:.2}"));
    let wanted = match figure.wanted {
        None => String::new(),
        Some(Bound::AtLeast(least)) => format!(">= {least}"),
        Some(Bound::AtMost(most)) => format!("<= {most}"),
    };
    let verdict = match (figure.wanted, figure.ratio) {
        (Some(bound), Some(ratio)) if !bound.holds(ratio) => "  missed",
        _ => "",
    };
    let line = format!(
        "{:<22} {:>10} {:<5} {:>10} {:<13} {:>7} {:>8}{verdict}",
        figure.name,
        number(figure.value),
        figure.unit,
        against,
        figure.against,
        ratio,
        wanted
    );
    writeln!(out, "{}", line.trim_end())
}

/// Three or four digits that count.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 0.01 => format!("{value:.2e}"),
        size if size < 10.0 => format!("{value:.3}"),
        size if size < 1000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
