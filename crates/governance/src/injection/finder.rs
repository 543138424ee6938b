//! Finds in one pass over a line of words where a turn of phrase stands or a verb that may begin one, and whether
//! such could stand in it in ROT13 or in reverse.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use super::beginnings::Beginnings;
use super::disguise::HIDDEN_WEIGHT_MIN;
use super::lexicon::{plain, role, words_of};
use super::line::{Line, rot13};
use super::turns::TURNS;

/// Fewest bytes of a piece.
const PIECE_BYTES_MIN: usize = 5;
/// Most characters of a hidden turn or verb that are sought.
const HIDDEN_CHARS_MAX: usize = 8;

/// What a piece of a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Piece {
    /// A turn of phrase, as an index of [`TURNS`].
    Turn(usize),
    /// A verb that may begin a phrase.
    Verb,
    /// Either of these, or its beginning, in ROT13.
    Rot13,
    /// Either of these, or its beginning, in reverse.
    Reversed,
}

/// What stands in a line.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Turns of phrase, as indices of [`TURNS`], each once.
    pub(super) turns: Vec<usize>,
    /// Offsets of the spaces before verbs.
    pub(super) verbs: Vec<usize>,
    /// Whether something may be said in ROT13.
    pub(super) in_rot13: bool,
    /// Whether something may be said in reverse.
    pub(super) in_reverse: bool,
}

impl Found {
    pub(super) fn in_line(line: &Line) -> Self {
        let mut found = Self {
            in_rot13: line.is_disguised_hidden(),
            in_reverse: line.is_disguised_hidden(),
            ..Self::default()
        };
        PIECES.in_text(line.as_str(), |piece, at| match piece {
            Piece::Turn(turn) if found.turns.contains(&turn) => {}
            Piece::Turn(turn) => found.turns.push(turn),
            Piece::Verb => found.verbs.push(at),
            Piece::Rot13 => found.in_rot13 = true,
            Piece::Reversed => found.in_reverse = true,
        });
        found
    }
}

static PIECES: LazyLock<Beginnings<Piece>> = LazyLock::new(|| {
    let said = said_pieces();
    let hidden = hidden_pieces(&said);
    Beginnings::new(said.into_iter().chain(hidden), PIECE_BYTES_MIN)
});

fn said_pieces() -> BTreeSet<(String, Piece)> {
    let turns = TURNS
        .iter()
        .enumerate()
        .flat_map(|(turn, (_, _, _, said))| {
            let piece = move |phrase: &&str| (turn_piece(phrase), Piece::Turn(turn));
            said.iter().map(piece)
        });
    let verbs = words_of(role::OVERRIDE | role::REVEAL | role::SEND);
    let verbs = verbs.map(|verb| (format!(" {verb} "), Piece::Verb));
    turns.chain(verbs).collect()
}

/// A turn begins a word, in scripts that have spaces between them.
fn turn_piece(phrase: &str) -> String {
    let spaced = phrase.is_ascii() || phrase.contains(|c: char| ('а'..='я').contains(&c));
    let before = if spaced { " " } else { "" };
    format!("{before}{}", plain(phrase))
}

/// The beginnings of turns that count where they are hidden, and of verbs, as they are hidden.
fn hidden_pieces(said: &BTreeSet<(String, Piece)>) -> BTreeSet<(String, Piece)> {
    let counts = |piece: &Piece| match *piece {
        Piece::Turn(turn) => TURNS[turn].1 >= HIDDEN_WEIGHT_MIN,
        _ => true,
    };
    let said = said.iter().filter(|(_, piece)| counts(piece));
    let beginnings = said.map(|(text, _)| text.chars().take(HIDDEN_CHARS_MAX));
    let hidden = beginnings.flat_map(|beginning| {
        let reversed: Vec<char> = beginning.clone().collect();
        [
            (beginning.map(rot13).collect(), Piece::Rot13),
            (reversed.into_iter().rev().collect(), Piece::Reversed),
        ]
    });
    hidden.collect()
}
