//! Finds special tokens in text.
//!
//! Matches are leftmost and, of those that start at one place, the longest. The search takes time
//! linear in the text, whatever the vocabulary holds.

use aho_corasick::{AhoCorasick, MatchKind};

use crate::error::{EngineError, Result};

/// A stretch of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Segment<'a> {
    /// A special token, by its id.
    Special(u32),
    /// Ordinary text between special tokens; not empty.
    Text(&'a str),
}

/// A set of special tokens to look for.
pub(super) struct SpecialScan {
    automaton: Option<AhoCorasick>,
    ids: Vec<u32>,
}

impl SpecialScan {
    /// Prepares the search for `tokens`, given as ids and texts.
    ///
    /// # Errors
    /// [`EngineError::Vocabulary`] when the tokens are too many for one automaton.
    pub(super) fn new<'a>(tokens: impl IntoIterator<Item = (u32, &'a str)>) -> Result<Self> {
        let (ids, texts): (Vec<u32>, Vec<&str>) = tokens.into_iter().unzip();
        let automaton = (!ids.is_empty())
            .then(|| {
                AhoCorasick::builder()
                    .match_kind(MatchKind::LeftmostLongest)
                    .build(&texts)
            })
            .transpose()
            .map_err(|error| EngineError::Vocabulary {
                reason: format!(
                    "its {} special tokens cannot be searched for: {error}",
                    ids.len()
                ),
            })?;
        Ok(Self { automaton, ids })
    }

    /// Splits `text` into special tokens and what lies between them.
    pub(super) fn segments<'a>(&self, text: &'a str) -> Vec<Segment<'a>> {
        let mut segments = Vec::new();
        let mut end_of_last = 0;
        for found in self
            .automaton
            .iter()
            .flat_map(|automaton| automaton.find_iter(text))
        {
            if found.start() > end_of_last {
                segments.push(Segment::Text(&text[end_of_last..found.start()]));
            }
            segments.push(Segment::Special(self.ids[found.pattern().as_usize()]));
            end_of_last = found.end();
        }
        if end_of_last < text.len() {
            segments.push(Segment::Text(&text[end_of_last..]));
        }
        segments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_leftmost_and_longest() {
        let scan = SpecialScan::new([(1, "<a>"), (2, "<a><b>"), (3, "a>")]).expect("builds");
        let found = scan.segments("x<a><b>a>y");
        assert_eq!(
            found,
            [
                Segment::Text("x"),
                Segment::Special(2),
                Segment::Special(3),
                Segment::Text("y")
            ]
        );
    }

    #[test]
    fn without_tokens_all_is_text() {
        let scan = SpecialScan::new([]).expect("builds");
        assert_eq!(scan.segments("<a>"), [Segment::Text("<a>")]);
        assert_eq!(scan.segments(""), []);
    }
}
