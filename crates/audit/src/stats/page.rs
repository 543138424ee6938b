//! A report as one HTML page that stands by itself.
//!
//! Invariant: the page loads nothing and runs nothing (it says so to the browser, too), every chart
//! has its numbers in a table beside it, and every name is escaped. Absent: anything that would
//! need a server.

use jiff::civil::Date;

use super::chart::{Bar, Caption, Column, Range, bars, columns, ranges, spoken};
use super::figures::{count, duration, name, share, time};
use super::markup::{escape, section};
use super::report::{Counts, DayFigures, Distribution, Stats, UsageFigures, Usages};

/// How the page looks.
const STYLE: &str = include_str!("page.css");
/// Most bars of one chart.
const BARS_MAX: usize = 12;
/// Most days of one chart, the newest.
const DAYS_SHOWN_MAX: usize = 60;

impl Stats {
    /// The report as a page about the device of this name.
    #[must_use]
    pub fn to_html(&self, device: &str) -> String {
        let device = escape(&name(device));
        let sections = [
            tiles(self),
            calls_by_day(self),
            tokens_by_day(self),
            latency(self),
            outcomes(self),
            usages("templates", "Templates", "template", &self.templates),
            usages("identities", "Identities", "identity", &self.identities),
            usages("models", "Models", "model", &self.models),
            counts("refusals", "Refusals by code", "code", &self.refusals),
            counts("failures", "Failures by code", "code", &self.failures),
            counts("redactions", "Redactions by rule", "rule", &self.redactions),
            counts(
                "held",
                "Held answers by reason",
                "reason",
                &self.held_reasons,
            ),
            reviews(self),
        ]
        .concat();
        let period = escape(&period(self));
        let records = count(self.records);
        let unread = self.unread.sentence();
        let unread = unread.map_or_else(String::new, |sentence| format!(" · {sentence}"));
        format!(
            r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Audit report of {device}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<header>
<h1>Audit report of {device}</h1>
<p>{period} · {records} records{unread}</p>
</header>
{sections}</main>
</body>
</html>
"#
        )
    }
}

fn period(stats: &Stats) -> String {
    match (stats.first_time, stats.last_time) {
        (Some(first), Some(last)) => format!("{} to {}", time(first), time(last)),
        _ => "No records".to_owned(),
    }
}

/// The figures that are looked at first.
fn tiles(stats: &Stats) -> String {
    let totals = &stats.totals;
    let asked = totals.calls.saturating_add(totals.refusals);
    let total = stats.latency.total;
    let tile = |label: &str, value: String, note: String| {
        format!("<div><dt>{label}</dt><dd>{value}<small>{note}</small></dd></div>\n")
    };
    let tiles = [
        tile(
            "Calls",
            count(totals.calls),
            format!("{} without an end", count(totals.open_calls)),
        ),
        tile(
            "Refusals",
            count(totals.refusals),
            format!("{} of all requests", share(totals.refusals, asked)),
        ),
        tile(
            "Tokens",
            count(
                totals
                    .prompt_tokens
                    .saturating_add(totals.completion_tokens),
            ),
            format!("{} generated", count(totals.completion_tokens)),
        ),
        tile(
            "Duration",
            total.map_or("–".to_owned(), |found| duration(found.p50_us)),
            total.map_or("no calls".to_owned(), |found| {
                format!("median; 99 % within {}", duration(found.p99_us))
            }),
        ),
        tile(
            "Held answers",
            count(stats.reviews.held),
            format!("{} without a decision", count(stats.reviews.pending)),
        ),
        tile(
            "Redactions",
            count(totals.redactions),
            format!("by {} rules", count(stats.redactions.rows.len() as u64)),
        ),
    ];
    format!(
        "<dl class=\"tiles\" aria-label=\"Key figures\">\n{}</dl>\n",
        tiles.concat()
    )
}

fn calls_by_day(stats: &Stats) -> String {
    let days = shown_days(stats);
    let shown = days.iter().map(|(day, figures)| Column {
        day: *day,
        first: figures.calls,
        second: figures.refusals,
    });
    let chart = columns(
        &Caption {
            id: "calls",
            title: "Calls and refusals by day",
            description: describe_days(&days, "calls", |figures| figures.calls),
        },
        ["admitted", "refused"],
        &shown.collect::<Vec<_>>(),
    );
    let rows = days.iter().map(|(day, figures)| {
        vec![
            day.to_string(),
            count(figures.calls),
            count(figures.refusals),
            count(figures.held),
            count(figures.redactions),
        ]
    });
    let header = ["Day (UTC)", "Calls", "Refusals", "Held", "Redactions"];
    section("calls", "Calls by day", &chart, &header, rows.collect())
}

fn tokens_by_day(stats: &Stats) -> String {
    let days = shown_days(stats);
    let shown = days.iter().map(|(day, figures)| Column {
        day: *day,
        first: figures.prompt_tokens,
        second: figures.completion_tokens,
    });
    let chart = columns(
        &Caption {
            id: "tokens",
            title: "Tokens by day",
            description: describe_days(&days, "generated tokens", |figures| {
                figures.completion_tokens
            }),
        },
        ["read in prompts", "generated"],
        &shown.collect::<Vec<_>>(),
    );
    let rows = days.iter().map(|(day, figures)| {
        vec![
            day.to_string(),
            count(figures.prompt_tokens),
            count(figures.completion_tokens),
        ]
    });
    let header = ["Day (UTC)", "Read", "Generated"];
    section("tokens", "Tokens by day", &chart, &header, rows.collect())
}

/// The newest days, with those between them on which nothing happened.
fn shown_days(stats: &Stats) -> Vec<(Date, DayFigures)> {
    let mut days = Vec::new();
    let mut known = stats.days.iter().rev().peekable();
    let mut next = known.peek().map(|day| day.day);
    while let Some(day) = next
        && days.len() < DAYS_SHOWN_MAX
        && known.peek().is_some()
    {
        let figures = known.next_if(|known| known.day == day);
        days.push((day, figures.map(|day| day.figures).unwrap_or_default()));
        next = day.yesterday().ok();
    }
    days.reverse();
    days
}

fn describe_days(
    days: &[(Date, DayFigures)],
    what: &str,
    of: impl Fn(&DayFigures) -> u64,
) -> String {
    let most = days.iter().max_by_key(|(_, figures)| of(figures));
    match (days, most) {
        ([(first, _), ..], Some((day, figures))) => format!(
            "{} days from {first}; most {what} on {day}: {}.",
            days.len(),
            count(of(figures))
        ),
        _ => "No days.".to_owned(),
    }
}

fn latency(stats: &Stats) -> String {
    let measured = [
        ("until begun", stats.latency.queued),
        ("until the first token", stats.latency.first_token),
        ("until the end", stats.latency.total),
    ];
    let found = measured
        .iter()
        .filter_map(|&(label, found)| found.map(|found| (label, found)));
    let found: Vec<(&str, Distribution)> = found.collect();
    if found.is_empty() {
        return String::new();
    }
    let described = found
        .iter()
        .map(|(label, found)| format!("{label}: {}", spoken(found)));
    let description = described.collect::<Vec<_>>().join("; ");
    let shown = found
        .iter()
        .map(|&(label, found)| Range { label, found })
        .collect::<Vec<_>>();
    let chart = ranges(
        &Caption {
            id: "latency",
            title: "How long calls took from their admission",
            description,
        },
        &shown,
    );
    let rows = found
        .iter()
        .map(|(label, found)| distribution_row(label, found));
    section(
        "latency",
        "Latency",
        &chart,
        &DISTRIBUTION_HEADER,
        rows.collect(),
    )
}

const DISTRIBUTION_HEADER: [&str; 7] = [
    "From admission",
    "Calls",
    "Mean",
    "Median",
    "90 %",
    "99 %",
    "Longest",
];

fn distribution_row(label: &str, found: &Distribution) -> Vec<String> {
    vec![
        label.to_owned(),
        count(found.count),
        duration(found.mean_us),
        duration(found.p50_us),
        duration(found.p90_us),
        duration(found.p99_us),
        duration(found.max_us),
    ]
}

fn outcomes(stats: &Stats) -> String {
    let seen = stats.outcomes.iter().filter(|outcome| outcome.count > 0);
    let counts = Counts {
        rows: seen.cloned().collect(),
        other: 0,
    };
    self::counts("outcomes", "How calls ended", "end", &counts)
}

fn usages(id: &str, heading: &str, what: &str, usages: &Usages) -> String {
    let shown = usages.rows.iter().take(BARS_MAX);
    let mut shown: Vec<Bar> = shown.map(|row| bar(&row.name, row.figures.calls)).collect();
    let rest = usages.rest_after(BARS_MAX);
    if rest.calls > 0 {
        shown.push(bar("all others", rest.calls));
    }
    let rows = usages
        .rows
        .iter()
        .map(|row| usage_row(&row.name, &row.figures));
    let mut rows: Vec<Vec<String>> = rows.collect();
    if usages.other != UsageFigures::default() {
        rows.push(usage_row("all others", &usages.other));
    }
    let title = format!("Calls by {what}");
    let chart = bar_chart(id, &title, &shown);
    let header = [heading, "Calls", "Refusals", "Tokens read", "Generated"];
    section(id, heading, &chart, &header, rows)
}

fn usage_row(of: &str, figures: &UsageFigures) -> Vec<String> {
    vec![
        name(of),
        count(figures.calls),
        count(figures.refusals),
        count(figures.prompt_tokens),
        count(figures.completion_tokens),
    ]
}

fn counts(id: &str, heading: &str, what: &str, counts: &Counts) -> String {
    let shown = counts.rows.iter().take(BARS_MAX);
    let mut shown: Vec<Bar> = shown.map(|row| bar(&row.name, row.count)).collect();
    let rest = counts.rest_after(BARS_MAX);
    if rest > 0 {
        shown.push(bar("all others", rest));
    }
    let all = counts.rest_after(0);
    let row = |of: &str, number: u64| vec![name(of), count(number), share(number, all)];
    let rows = counts
        .rows
        .iter()
        .map(|found| row(&found.name, found.count));
    let mut rows: Vec<Vec<String>> = rows.collect();
    if counts.other > 0 {
        rows.push(row("all others", counts.other));
    }
    let chart = bar_chart(id, heading, &shown);
    let first = capitalized(what);
    section(id, heading, &chart, &[&first, "Count", "Share"], rows)
}

fn bar(of: &str, value: u64) -> Bar {
    let label = name(of);
    Bar { label, value }
}

fn bar_chart(id: &str, title: &str, shown: &[Bar]) -> String {
    let first = shown.first();
    let description = first.map_or_else(String::new, |bar| {
        let (bars, most) = (shown.len(), count(bar.value));
        format!("{bars} bars; the first is {} with {most}.", bar.label)
    });
    let caption = Caption {
        id,
        title,
        description,
    };
    bars(&caption, shown)
}

fn reviews(stats: &Stats) -> String {
    let figures = &stats.reviews;
    if figures.held == 0 && figures.approved == 0 && figures.rejected == 0 {
        return String::new();
    }
    let shown = [
        bar("held", figures.held),
        bar("approved", figures.approved),
        bar("rejected", figures.rejected),
        bar("without a decision", figures.pending),
    ];
    let chart = bar_chart("reviews", "Held answers and decisions on them", &shown);
    let header = ["Reviews", "Count"];
    let rows = shown
        .iter()
        .map(|bar| vec![bar.label.clone(), count(bar.value)]);
    let mut body = chart;
    if let Some(found) = &figures.time_to_decision {
        body.push_str(&format!(
            "<p>From holding an answer to the decision on it: {}, longest {}.</p>\n",
            escape(&spoken(found)),
            duration(found.max_us)
        ));
    }
    section("reviews", "Reviews", &body, &header, rows.collect())
}

fn capitalized(word: &str) -> String {
    let mut characters = word.chars();
    match characters.next() {
        Some(first) => first.to_uppercase().chain(characters).collect(),
        None => String::new(),
    }
}
