//! A report as plain text, for a terminal.
//!
//! Invariant: no name can move the cursor or colour the text. Absent: colours, and the width of the
//! terminal.

use super::figures::{count, duration, name, share, time};
use super::report::{Count, Counts, Distribution, Stats, Usages};

/// Most rows of one table; the rest is in the JSON.
const ROWS_MAX: usize = 20;
/// Most days that are listed, the newest.
const DAYS_SHOWN_MAX: usize = 31;

impl Stats {
    /// The report as tables in plain text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = summary(self);
        text.push_str(&outcomes(self));
        text.push_str(&usages("Templates", &self.templates));
        text.push_str(&usages("Identities", &self.identities));
        text.push_str(&usages("Models", &self.models));
        text.push_str(&counts("Refusals", &self.refusals));
        text.push_str(&counts("Failures", &self.failures));
        text.push_str(&counts("Redactions", &self.redactions));
        text.push_str(&counts("Reasons for holding", &self.held_reasons));
        text.push_str(&latency(self));
        text.push_str(&days(self));
        text
    }
}

fn summary(stats: &Stats) -> String {
    let totals = &stats.totals;
    let reviews = &stats.reviews;
    let mut lines = Vec::new();
    let mut line = |label: &str, text: String| lines.push(format!("{label:<12}{text}\n"));
    match (stats.first_time, stats.last_time) {
        (Some(first), Some(last)) => line("Period", format!("{} to {}", time(first), time(last))),
        _ => line("Period", "no records".to_owned()),
    }
    line(
        "Records",
        format!(
            "{}, {} starts, {} administrative actions",
            count(stats.records),
            count(totals.openings),
            count(totals.administrative_actions)
        ),
    );
    if let Some(unread) = stats.unread.sentence() {
        line("Unread", unread);
    }
    line(
        "Calls",
        format!(
            "{} admitted, {} without an end; {} refused ({})",
            count(totals.calls),
            count(totals.open_calls),
            count(totals.refusals),
            share(
                totals.refusals,
                totals.calls.saturating_add(totals.refusals)
            )
        ),
    );
    line(
        "Tokens",
        format!(
            "{} read, {} generated",
            count(totals.prompt_tokens),
            count(totals.completion_tokens)
        ),
    );
    line("Redactions", count(totals.redactions));
    line(
        "Reviews",
        format!(
            "{} held, {} approved, {} rejected, {} without a decision",
            count(reviews.held),
            count(reviews.approved),
            count(reviews.rejected),
            count(reviews.pending)
        ),
    );
    lines.concat()
}

fn outcomes(stats: &Stats) -> String {
    let ended: u64 = stats.outcomes.iter().map(|outcome| outcome.count).sum();
    let seen = stats.outcomes.iter().filter(|outcome| outcome.count > 0);
    let rows = seen.map(|outcome| {
        vec![
            name(&outcome.name),
            count(outcome.count),
            share(outcome.count, ended),
        ]
    });
    table(&["Ends of calls", "calls", "share"], rows.collect())
}

fn usages(title: &str, usages: &Usages) -> String {
    let shown = usages.rows.iter().take(ROWS_MAX);
    let mut rows: Vec<Vec<String>> = shown
        .map(|row| {
            let figures = &row.figures;
            vec![
                name(&row.name),
                count(figures.calls),
                count(figures.refusals),
                count(figures.prompt_tokens),
                count(figures.completion_tokens),
            ]
        })
        .collect();
    let rest = usages.rest_after(ROWS_MAX);
    if rest != Default::default() {
        rows.push(vec![
            "(other)".to_owned(),
            count(rest.calls),
            count(rest.refusals),
            count(rest.prompt_tokens),
            count(rest.completion_tokens),
        ]);
    }
    let header = [title, "calls", "refusals", "tokens read", "generated"];
    table(&header, rows)
}

fn counts(title: &str, counts: &Counts) -> String {
    let shown = counts.rows.iter().take(ROWS_MAX);
    let mut rows: Vec<Vec<String>> = shown
        .map(|Count { name: of, count: n }| vec![name(of), count(*n)])
        .collect();
    let rest = counts.rest_after(ROWS_MAX);
    if rest > 0 {
        rows.push(vec!["(other)".to_owned(), count(rest)]);
    }
    table(&[title, "count"], rows)
}

fn latency(stats: &Stats) -> String {
    let latency = &stats.latency;
    let measured = [
        ("until begun", latency.queued),
        ("until the first token", latency.first_token),
        ("until the end", latency.total),
        ("until a review's decision", stats.reviews.time_to_decision),
    ];
    let rows = measured
        .iter()
        .filter_map(|(label, found)| found.map(|found| distribution_row(label, &found)));
    let header = [
        "Times", "count", "mean", "median", "90 %", "95 %", "99 %", "longest",
    ];
    table(&header, rows.collect())
}

fn distribution_row(label: &str, found: &Distribution) -> Vec<String> {
    vec![
        label.to_owned(),
        count(found.count),
        duration(found.mean_us),
        duration(found.p50_us),
        duration(found.p90_us),
        duration(found.p95_us),
        duration(found.p99_us),
        duration(found.max_us),
    ]
}

fn days(stats: &Stats) -> String {
    let skipped = stats.days.len().saturating_sub(DAYS_SHOWN_MAX);
    let rows = stats.days[skipped..].iter().map(|day| {
        let figures = &day.figures;
        vec![
            day.day.to_string(),
            count(figures.calls),
            count(figures.refusals),
            count(figures.held),
            count(figures.redactions),
            count(figures.prompt_tokens),
            count(figures.completion_tokens),
        ]
    });
    let header = [
        "Days (UTC)",
        "calls",
        "refusals",
        "held",
        "redactions",
        "tokens read",
        "generated",
    ];
    table(&header, rows.collect())
}

/// Rows under a header, the first column to the left and numbers to the right; nothing without rows.
fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let header: Vec<String> = header.iter().map(|&title| title.to_owned()).collect();
    let width = |column: usize| {
        let cells = rows.iter().chain([&header]).map(|row| &row[column]);
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut text = "\n".to_owned();
    for row in [&header].into_iter().chain(&rows) {
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            match column {
                0 => text.push_str(&format!("{cell:<width$}")),
                _ => text.push_str(&format!("  {cell:>width$}")),
            }
        }
        text.push('\n');
    }
    text
}
