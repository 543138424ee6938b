//! SentencePiece BPE in terms of ranked merges.
//!
//! A SentencePiece model has no list of merges: at each step it joins the two neighbours whose union
//! is the token of the highest score. Listing every way to make each token from two others, best
//! token first, gives merges that do the same. Ways to make one token are listed in the order of
//! their parts' ids, as the published fast tokenizers list them.
//!
//! Absent: byte fallback, which is done where text is cut into characters.

use super::vocabulary::{Kind, Vocabulary};

/// The character that stands for a space in tokens.
pub(super) const SPACE: char = '▁';

/// Pairs of tokens and what they merge to, the first to apply first.
pub(super) fn merges(vocabulary: &Vocabulary) -> Vec<(u32, u32, u32)> {
    let mut ranked: Vec<(f32, u32, u32, u32)> = Vec::with_capacity(2 * vocabulary.tokens.len());
    for (whole, text, _) in vocabulary.iter() {
        if !vocabulary.is_mergeable(whole) {
            continue;
        }
        let score = vocabulary.scores[whole as usize];
        for (split, _) in text.char_indices().skip(1) {
            let (left, right) = text.split_at(split);
            let ids = (vocabulary.mergeable(left), vocabulary.mergeable(right));
            if let (Some(left), Some(right)) = ids {
                ranked.push((score, left, right, whole));
            }
        }
    }
    ranked.sort_unstable_by(|a, b| {
        b.0.total_cmp(&a.0)
            .then((a.1, a.2, a.3).cmp(&(b.1, b.2, b.3)))
    });
    ranked
        .into_iter()
        .map(|(_, left, right, whole)| (left, right, whole))
        .collect()
}

/// Whether no token has a space after another character, so that text may be cut before each space
/// that follows another character without changing a single merge.
pub(super) fn spaces_only_lead(vocabulary: &Vocabulary) -> bool {
    vocabulary
        .iter()
        .filter(|(_, _, kind)| matches!(kind, Kind::Normal | Kind::Unused))
        .all(|(_, text, _)| !text.trim_start_matches(SPACE).contains(SPACE))
}

/// Cuts `text` before each space that follows another character.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let body = rest
            .find(|character| character != SPACE)
            .unwrap_or(rest.len());
        let end = rest[body..]
            .find(SPACE)
            .map_or(rest.len(), |offset| body + offset);
        let (word, after) = rest.split_at(end);
        rest = after;
        (!word.is_empty()).then_some(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_leading_spaces_and_lose_nothing() {
        let cut = |text| words(text).collect::<Vec<_>>();
        assert_eq!(cut("▁▁a▁b▁"), ["▁▁a", "▁b", "▁"]);
        assert_eq!(cut("a"), ["a"]);
        assert_eq!(cut(""), Vec::<&str>::new());
    }
}
