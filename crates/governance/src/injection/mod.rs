//! Scores a text from outside: does it talk to the model instead of being data?
//!
//! Each sign that it does is a named [`Signal`] with a weight; weights add up as independent
//! doubts do. Signs are found in the text's words ([`phrases`], [`turns`]), in its markup
//! ([`markup`]), and again in what it hides: base64, hexadecimal, ROT13, reversed, spelled or
//! invisible text ([`disguise`]). Words of nine languages are known ([`lexicon`]).
//!
//! Most texts have no sign, so one pass over their words ([`line`], [`finder`]) and one over their
//! markup ([`form`]) tell where a closer look is worth it.
//!
//! Invariants: the score depends on the text alone; time is linear in it, and no more than
//! [`TEXT_BYTES_MAX`] bytes from each end are read. A signal names what was seen, and never
//! repeats the text.
//!
//! Absent: a model that judges, and any claim to be complete: the score orders texts for a
//! policy, it proves nothing.

mod beginnings;
mod disguise;
mod finder;
mod form;
mod lexicon;
mod line;
mod markup;
mod phrases;
mod turns;

use serde::{Deserialize, Serialize};

use finder::Found;
use line::Line;

pub use lexicon::LANGUAGES;

/// Most bytes that are read at each end of a text.
pub const TEXT_BYTES_MAX: usize = 128 * 1024;
/// Least score of each level above [`Level::None`].
pub const LEVEL_SCORES: [(Level, u8); 3] =
    [(Level::Low, 20), (Level::Medium, 50), (Level::High, 80)];
/// What is left of a sign in a text that talks about such texts and only quotes it.
const QUOTED_SHARE: f32 = 0.45;

/// How much a text looks like an injection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Not at all.
    None,
    /// A little: many of these are harmless.
    Low,
    /// It does; some of these are harmless.
    Medium,
    /// Several signs, or one that harmless texts do not have.
    High,
}

impl Level {
    /// The name in files and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// One sign.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Signal {
    /// Its name, such as `instruction-override`.
    pub name: &'static str,
    /// What was seen, without the text.
    pub reason: &'static str,
    /// How much it says by itself, 0 to 1.
    pub weight: f32,
}

/// What a text looks like, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Assessment {
    /// 0 to 100.
    pub score: u8,
    /// The score's level.
    pub level: Level,
    /// Every sign, the heaviest first.
    pub signals: Vec<Signal>,
}

/// Scores one text.
#[must_use]
pub fn assess(text: &str) -> Assessment {
    let (head, tail) = ends_of(text);
    let mut signals = read(head);
    if let Some(tail) = tail {
        signals.extend(read(tail));
    }
    weigh(signals)
}

fn ends_of(text: &str) -> (&str, Option<&str>) {
    if text.len() <= 2 * TEXT_BYTES_MAX {
        return (text, None);
    }
    let head = text.floor_char_boundary(TEXT_BYTES_MAX);
    let tail = text.ceil_char_boundary(text.len() - TEXT_BYTES_MAX);
    (&text[..head], Some(&text[tail..]))
}

fn read(text: &str) -> Vec<Signal> {
    let line = Line::of(text);
    let found = Found::in_line(&line);
    let mut signals = phrases::signals(&line, &found);
    if !signals.is_empty() && phrases::talks_about_injections(text, &line) {
        for signal in &mut signals {
            signal.weight *= QUOTED_SHARE;
        }
    }
    signals.extend(markup::signals(text));
    signals.extend(disguise::signals(text, &line, &found));
    signals
}

/// Joins signs: of each name the heaviest counts, and each takes its share of the doubt left.
fn weigh(mut signals: Vec<Signal>) -> Assessment {
    signals.sort_by(|a, b| b.weight.total_cmp(&a.weight).then(a.name.cmp(b.name)));
    let mut seen = std::collections::BTreeSet::new();
    signals.retain(|signal| seen.insert((signal.name, signal.reason)));
    let mut counted = std::collections::BTreeSet::new();
    let heaviest = signals.iter().filter(|signal| counted.insert(signal.name));
    let left: f32 = heaviest.map(|signal| 1.0 - signal.weight).product();
    let score = ((1.0 - left) * 100.0).round().clamp(0.0, 100.0) as u8;
    let reached = LEVEL_SCORES.iter().rev().find(|(_, least)| score >= *least);
    Assessment {
        score,
        level: reached.map_or(Level::None, |(level, _)| *level),
        signals,
    }
}
