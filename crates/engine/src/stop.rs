//! Stop strings over a stream of text.
//!
//! Invariant: text is given out only once it is certain that no stop string begins in it; what is
//! held back is shorter than the longest stop string.

use crate::error::{EngineError, Result};
use crate::job::{STOP_STRING_BYTES_MAX, STOP_STRINGS_MAX};

/// Looks for stop strings in text that comes in pieces.
#[derive(Debug)]
pub(crate) struct StopStrings {
    strings: Vec<String>,
    held: String,
}

/// What a piece of text led to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Released {
    /// Text that is certain.
    pub(crate) text: String,
    /// Whether a stop string was reached; it and what follows are gone.
    pub(crate) stopped: bool,
}

impl StopStrings {
    /// # Errors
    /// [`EngineError::ParameterInvalid`] for too many, empty or too long strings.
    pub(crate) fn new(strings: Vec<String>) -> Result<Self> {
        let invalid = |found: String, expected: String| {
            Err(EngineError::ParameterInvalid {
                parameter: "stop",
                found,
                expected,
            })
        };
        if strings.len() > STOP_STRINGS_MAX {
            return invalid(
                format!("{} strings", strings.len()),
                format!("at most {STOP_STRINGS_MAX}"),
            );
        }
        if let Some(odd) = strings
            .iter()
            .find(|text| text.is_empty() || text.len() > STOP_STRING_BYTES_MAX)
        {
            return invalid(
                format!("a string of {} bytes", odd.len()),
                format!("strings of 1 to {STOP_STRING_BYTES_MAX} bytes"),
            );
        }
        Ok(Self {
            strings,
            held: String::new(),
        })
    }

    /// Takes the next piece of text.
    pub(crate) fn push(&mut self, text: String) -> Released {
        if self.strings.is_empty() {
            return Released {
                text,
                stopped: false,
            };
        }
        self.held.push_str(&text);
        let first = self
            .strings
            .iter()
            .filter_map(|stop| self.held.find(stop.as_str()))
            .min();
        if let Some(start) = first {
            self.held.truncate(start);
            return Released {
                text: std::mem::take(&mut self.held),
                stopped: true,
            };
        }
        let certain = self.held.len() - self.uncertain_bytes();
        let held = self.held.split_off(certain);
        Released {
            text: std::mem::replace(&mut self.held, held),
            stopped: false,
        }
    }

    /// Ends the stream: what was held back is text after all.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Length of the longest end of the held text that begins a stop string.
    fn uncertain_bytes(&self) -> usize {
        self.strings
            .iter()
            .map(|stop| overlap(&self.held, stop))
            .max()
            .unwrap_or(0)
    }
}

/// Length of the longest proper beginning of `stop` that `text` ends with.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len() - 1);
    (1..=longest)
        .rev()
        .find(|&length| stop.is_char_boundary(length) && text.ends_with(&stop[..length]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pushes pieces and gives what came out of each, then the tail.
    fn run(stop: &[&str], pieces: &[&str]) -> (Vec<String>, String, bool) {
        let mut strings =
            StopStrings::new(stop.iter().map(|&text| text.to_owned()).collect()).unwrap();
        let mut texts = Vec::new();
        for &piece in pieces {
            let released = strings.push(piece.to_owned());
            texts.push(released.text);
            if released.stopped {
                return (texts, String::new(), true);
            }
        }
        (texts, strings.finish(), false)
    }

    struct Case {
        stop: &'static [&'static str],
        pieces: &'static [&'static str],
        texts: &'static [&'static str],
        tail: &'static str,
        stopped: bool,
    }

    #[rustfmt::skip]
    const CASES: &[Case] = &[
        Case { stop: &[], pieces: &["a", "b"], texts: &["a", "b"], tail: "", stopped: false },
        Case { stop: &["END"], pieces: &["aE", "N", "Dz"], texts: &["a", "", ""], tail: "", stopped: true },
        Case { stop: &["END"], pieces: &["aE", "N", "x"], texts: &["a", "", "ENx"], tail: "", stopped: false },
        Case { stop: &["END"], pieces: &["aE", "N"], texts: &["a", ""], tail: "EN", stopped: false },
        Case { stop: &["aab"], pieces: &["aa", "ab"], texts: &["", "a"], tail: "", stopped: true },
        Case { stop: &["xy", "bc"], pieces: &["ab", "cxy"], texts: &["a", ""], tail: "", stopped: true },
        Case { stop: &["für"], pieces: &["f", "ü", "x"], texts: &["", "", "füx"], tail: "", stopped: false },
    ];

    #[test]
    fn stop_strings_are_found_across_pieces() {
        for case in CASES {
            let (texts, tail, stopped) = run(case.stop, case.pieces);
            let found = (
                texts.iter().map(String::as_str).collect::<Vec<_>>(),
                tail.as_str(),
                stopped,
            );
            assert_eq!(
                found,
                (case.texts.to_vec(), case.tail, case.stopped),
                "{:?} in {:?}",
                case.stop,
                case.pieces
            );
        }
    }

    #[test]
    fn stop_strings_have_bounds() {
        for strings in [
            vec![String::new()],
            vec!["x".repeat(257)],
            vec!["x".to_owned(); 17],
        ] {
            assert!(matches!(
                StopStrings::new(strings),
                Err(EngineError::ParameterInvalid {
                    parameter: "stop",
                    ..
                })
            ));
        }
    }
}
