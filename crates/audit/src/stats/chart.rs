//! Charts as inline SVG: bars, columns by day, ranges of durations.
//!
//! Invariant: a chart has a title and a description for those who do not see it, its colours come
//! from the page, so that they suit light and dark, and every text in it is escaped. Absent:
//! scripts, and fonts and pictures from elsewhere.

use std::fmt::Write;

use jiff::civil::Date;

use super::figures::{count, duration};
use super::markup::escape;
use super::report::Distribution;

/// Width of every chart, in its own units; the page scales it.
const WIDTH: f64 = 720.0;
const LABEL_WIDTH: f64 = 200.0;
/// Room for the value behind the longest bar.
const VALUE_WIDTH: f64 = 110.0;
const ROW_HEIGHT: f64 = 26.0;
const BAR_HEIGHT: f64 = 16.0;
const TEXT_RISE: f64 = 4.0;
/// Most characters of a label beside a bar; more of it is in the table below.
const LABEL_CHARACTERS_MAX: usize = 24;

const PLOT_HEIGHT: f64 = 180.0;
const PLOT_TOP: f64 = 14.0;
const PLOT_LEFT: f64 = 80.0;
const PLOT_RIGHT: f64 = 12.0;
const AXIS_HEIGHT: f64 = 26.0;
/// Widest column of a day.
const COLUMN_WIDTH_MAX: f64 = 40.0;
/// Part of a day's room that its column takes.
const COLUMN_PART: f64 = 0.75;

/// What a chart is called, within its page and aloud.
pub(super) struct Caption<'a> {
    /// Unlike that of all other charts of the page; letters and `-`.
    pub(super) id: &'a str,
    pub(super) title: &'a str,
    pub(super) description: String,
}

/// One bar.
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) value: u64,
}

/// Bars from left to right, one below the other.
pub(super) fn bars(caption: &Caption<'_>, bars: &[Bar]) -> String {
    let height = ROW_HEIGHT * bars.len() as f64;
    let longest = bars.iter().map(|bar| bar.value).max().unwrap_or(0).max(1);
    let room = WIDTH - LABEL_WIDTH - VALUE_WIDTH;
    let mut svg = begin(caption, height);
    for (row, bar) in bars.iter().enumerate() {
        let top = ROW_HEIGHT * row as f64;
        let middle = top + ROW_HEIGHT / 2.0;
        let width = room * bar.value as f64 / longest as f64;
        let label = escape(&clipped(&bar.label));
        let value = count(bar.value);
        let (bar_top, text_y) = (middle - BAR_HEIGHT / 2.0, middle + TEXT_RISE);
        let (label_x, value_x) = (LABEL_WIDTH - 10.0, LABEL_WIDTH + width + 6.0);
        put(
            &mut svg,
            format_args!(
                r#"<text x="{label_x}" y="{text_y}" text-anchor="end">{label}</text><rect class="first" x="{LABEL_WIDTH}" y="{bar_top}" width="{width:.1}" height="{BAR_HEIGHT}" rx="2"/><text class="value" x="{value_x:.1}" y="{text_y}">{value}</text>"#
            ),
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// What one column shows: two parts, the first below the second.
pub(super) struct Column {
    pub(super) day: Date,
    pub(super) first: u64,
    pub(super) second: u64,
}

/// Columns of two parts by day, with the names of the parts.
pub(super) fn columns(caption: &Caption<'_>, parts: [&str; 2], columns: &[Column]) -> String {
    let sum = |column: &Column| column.first.saturating_add(column.second);
    let top = round_up(columns.iter().map(sum).max().unwrap_or(0));
    let legend_height = ROW_HEIGHT;
    let bottom = legend_height + PLOT_TOP + PLOT_HEIGHT;
    let mut svg = begin(caption, bottom + AXIS_HEIGHT);
    legend(&mut svg, parts);
    grid(&mut svg, top, bottom);
    let step = (WIDTH - PLOT_LEFT - PLOT_RIGHT) / columns.len().max(1) as f64;
    let width = (step * COLUMN_PART).min(COLUMN_WIDTH_MAX);
    let scale = PLOT_HEIGHT / top as f64;
    for (place, column) in columns.iter().enumerate() {
        let x = PLOT_LEFT + step * (place as f64 + 0.5) - width / 2.0;
        let first = column.first as f64 * scale;
        let second = column.second as f64 * scale;
        let (first_y, second_y) = (bottom - first, bottom - first - second);
        put(
            &mut svg,
            format_args!(
                r#"<rect class="first" x="{x:.1}" y="{first_y:.1}" width="{width:.1}" height="{first:.1}"/><rect class="second" x="{x:.1}" y="{second_y:.1}" width="{width:.1}" height="{second:.1}"/>"#
            ),
        );
    }
    days_axis(&mut svg, columns, step, bottom);
    svg.push_str("</svg>\n");
    svg
}

/// Durations of one kind.
pub(super) struct Range<'a> {
    pub(super) label: &'a str,
    pub(super) found: Distribution,
}

/// Median to 99th percentile of each kind on one logarithmic axis.
pub(super) fn ranges(caption: &Caption<'_>, ranges: &[Range<'_>]) -> String {
    let shortest = ranges.iter().map(|range| range.found.p50_us).min();
    let longest = ranges.iter().map(|range| range.found.p99_us).max();
    let axis = LogAxis::over(shortest.unwrap_or(1), longest.unwrap_or(1));
    let bottom = ROW_HEIGHT * (ranges.len() as f64 + 1.0);
    let mut svg = begin(caption, bottom + AXIS_HEIGHT);
    ranges_legend(&mut svg);
    axis.draw(&mut svg, bottom);
    for (row, range) in ranges.iter().enumerate() {
        let y = ROW_HEIGHT * (row as f64 + 1.5);
        let text_y = y + TEXT_RISE;
        let label_x = LABEL_WIDTH - 10.0;
        let label = escape(range.label);
        let [median, p90, p99] = [range.found.p50_us, range.found.p90_us, range.found.p99_us]
            .map(|duration_us| axis.x(duration_us));
        let (tick_top, tick_bottom) = (y - 7.0, y + 7.0);
        put(
            &mut svg,
            format_args!(
                r#"<text x="{label_x}" y="{text_y}" text-anchor="end">{label}</text><line class="range" x1="{median:.1}" y1="{y}" x2="{p99:.1}" y2="{y}"/><line class="range" x1="{p99:.1}" y1="{tick_top}" x2="{p99:.1}" y2="{tick_bottom}"/><circle class="hollow" cx="{p90:.1}" cy="{y}" r="5"/><circle class="first" cx="{median:.1}" cy="{y}" r="6"/>"#
            ),
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// An axis of durations on which each step is ten times the one before.
struct LogAxis {
    lowest: u32,
    highest: u32,
}

impl LogAxis {
    /// The axis from the power of ten below the one duration to that above the other.
    fn over(shortest_us: u64, longest_us: u64) -> Self {
        let lowest = shortest_us.max(1).ilog10();
        let above = longest_us.max(1).ilog10() + 1;
        let highest = above.max(lowest + 1);
        Self { lowest, highest }
    }

    fn x(&self, duration_us: u64) -> f64 {
        let decades = (duration_us.max(1) as f64).log10() - f64::from(self.lowest);
        LABEL_WIDTH + decades * self.decade_width()
    }

    fn decade_width(&self) -> f64 {
        (WIDTH - LABEL_WIDTH - 50.0) / f64::from(self.highest - self.lowest)
    }

    fn draw(&self, svg: &mut String, bottom: f64) {
        let text_y = bottom + 18.0;
        for power in self.lowest..=self.highest {
            let duration_us = 10_u64.saturating_pow(power);
            let x = self.x(duration_us);
            let label = axis_label(duration_us);
            put(
                svg,
                format_args!(
                    r#"<line class="grid" x1="{x:.1}" y1="{ROW_HEIGHT}" x2="{x:.1}" y2="{bottom}"/><text class="axis" x="{x:.1}" y="{text_y}" text-anchor="middle">{label}</text>"#
                ),
            );
        }
    }
}

/// A power of ten as an axis names it, without digits that say nothing.
fn axis_label(duration_us: u64) -> String {
    match duration_us {
        us if us < 1_000 => format!("{us} µs"),
        us if us < 1_000_000 => format!("{} ms", us / 1_000),
        us => format!("{} s", count(us / 1_000_000)),
    }
}

fn begin(caption: &Caption<'_>, height: f64) -> String {
    let id = caption.id;
    let title = escape(caption.title);
    let description = escape(&caption.description);
    format!(
        r#"<svg role="img" viewBox="0 0 {WIDTH} {height}" aria-labelledby="{id}-title {id}-desc"><title id="{id}-title">{title}</title><desc id="{id}-desc">{description}</desc>"#
    )
}

fn legend(svg: &mut String, parts: [&str; 2]) {
    let [first, second] = parts.map(escape);
    let second_x = PLOT_LEFT + 160.0;
    let (first_text, second_text) = (PLOT_LEFT + 18.0, second_x + 18.0);
    put(
        svg,
        format_args!(
            r#"<rect class="first" x="{PLOT_LEFT}" y="4" width="12" height="12"/><text x="{first_text}" y="14">{first}</text><rect class="second" x="{second_x}" y="4" width="12" height="12"/><text x="{second_text}" y="14">{second}</text>"#
        ),
    );
}

fn ranges_legend(svg: &mut String) {
    let [median, p90, p99] = [0.0, 110.0, 200.0].map(|right| LABEL_WIDTH + 6.0 + right);
    let (median_text, p90_text, p99_text) = (median + 14.0, p90 + 14.0, p99 + 10.0);
    put(
        svg,
        format_args!(
            r#"<circle class="first" cx="{median}" cy="10" r="6"/><text x="{median_text}" y="14">median</text><circle class="hollow" cx="{p90}" cy="10" r="5"/><text x="{p90_text}" y="14">90 %</text><line class="range" x1="{p99}" y1="3" x2="{p99}" y2="17"/><text x="{p99_text}" y="14">99 %</text>"#
        ),
    );
}

/// Lines at nothing, half and all of the scale, with their values.
fn grid(svg: &mut String, top: u64, bottom: f64) {
    let (right, text_x) = (WIDTH - PLOT_RIGHT, PLOT_LEFT - 8.0);
    for (part, value) in [(0.0, 0), (0.5, top / 2), (1.0, top)] {
        let y = bottom - PLOT_HEIGHT * part;
        let text_y = y + TEXT_RISE;
        let value = count(value);
        put(
            svg,
            format_args!(
                r#"<line class="grid" x1="{PLOT_LEFT}" y1="{y}" x2="{right}" y2="{y}"/><text class="axis" x="{text_x}" y="{text_y}" text-anchor="end">{value}</text>"#
            ),
        );
    }
}

/// Names the first and the last day, and the one in the middle where there is room.
fn days_axis(svg: &mut String, columns: &[Column], step: f64, bottom: f64) {
    let text_y = bottom + 18.0;
    let last = columns.len().saturating_sub(1);
    let mut places = vec![0, last / 2, last];
    places.dedup();
    for place in places {
        let Some(column) = columns.get(place) else {
            continue;
        };
        let middle = PLOT_LEFT + step * (place as f64 + 0.5);
        let x = middle.min(WIDTH - 40.0);
        let day = column.day;
        put(
            svg,
            format_args!(
                r#"<text class="axis" x="{x:.1}" y="{text_y}" text-anchor="middle">{day}</text>"#
            ),
        );
    }
}

/// The end of a scale that holds a value: an even number with one significant digit or two, and
/// little more than the value.
fn round_up(value: u64) -> u64 {
    let value = value.max(2);
    let unit = 10_u64.pow(value.ilog10());
    let tenths = [10, 12, 16, 20, 24, 30, 40, 50, 60, 80, 100];
    let ends = tenths.map(|tenths| unit.saturating_mul(tenths) / 10);
    let fitting = ends.into_iter().find(|&end| end >= value && end % 2 == 0);
    fitting.unwrap_or(u64::MAX)
}

/// As much of a label as has room: characters beyond ASCII may be twice as wide.
fn clipped(label: &str) -> String {
    let mut width = 0;
    let mut fits = |character: char| {
        width += if character.is_ascii() { 1 } else { 2 };
        width <= LABEL_CHARACTERS_MAX
    };
    let shown: String = label
        .chars()
        .take_while(|&character| fits(character))
        .collect();
    match shown.len() == label.len() {
        true => shown,
        false => shown + "…",
    }
}

fn put(svg: &mut String, text: std::fmt::Arguments<'_>) {
    svg.write_fmt(text).expect("a string takes every text");
}

/// Says a duration aloud for a description.
pub(super) fn spoken(found: &Distribution) -> String {
    format!(
        "median {}, 99 % within {}",
        duration(found.p50_us),
        duration(found.p99_us)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_at_even_round_numbers() {
        let cases = [
            (0, 2),
            (1, 2),
            (3, 4),
            (5, 6),
            (9, 10),
            (10, 10),
            (11, 12),
            (24, 24),
            (2_401, 3_000),
            (4_001, 5_000),
            (999_999, 1_000_000),
            (u64::MAX, u64::MAX),
        ];
        for (value, expected) in cases {
            assert_eq!(round_up(value), expected, "{value}");
        }
    }

    #[test]
    fn axes_hold_all_durations() {
        for (shortest, longest) in [
            (0, 0),
            (1, 1),
            (1_500, 2_000),
            (7, 99_000_000),
            (1, u64::MAX),
        ] {
            let axis = LogAxis::over(shortest, longest);
            for duration_us in [shortest, longest] {
                let x = axis.x(duration_us);
                assert!(
                    (LABEL_WIDTH..=WIDTH).contains(&x),
                    "{duration_us} is at {x}"
                );
            }
        }
    }
}
