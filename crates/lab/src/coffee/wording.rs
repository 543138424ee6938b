//! The many ways in which a visitor puts wishes into words.
//!
//! Each wish has phrases of several kinds (see [`super::phrases`]). Sentence frames combine them in the
//! order of the wishes; greetings, small talk, redaction marks, short forms, lower case and a rare typo
//! surround them. Nothing here knows a shop.

use super::{
    answer::join_and,
    phrases::{
        DEED_FRAMES, GREETINGS, LINKS, LIST_FRAMES, LIST_FRAMES_HELD_OUT, MARK_KINDS, MARKED,
        NO_WISH, PLACE_OPENINGS, PLACES, SECOND_FRAMES, SHORT_FORMS, TALK, THANKS, adjectives,
        clauses, deeds, tails, things,
    },
    town::{DISTRICTS, Wish},
};
use rand::{Rng, seq::IndexedRandom};

/// Whether a text may be built on the sentence frames that training never sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frames {
    Trained,
    HeldOut,
}

/// A visitor's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) text: String,
    /// Whether it opens with a greeting, which the answer returns.
    pub(crate) greeted: bool,
}

/// Share of messages that open with a greeting.
const GREETED: f64 = 0.3;
/// Share of messages with a sentence that says nothing about coffee.
const SMALL_TALK: f64 = 0.25;
/// Share of messages with one or two redaction marks.
const REDACTED: f64 = 0.12;
/// Share of messages wholly in lower case.
const LOWER_CASE: f64 = 0.3;
/// Share of messages that close with thanks.
const THANKED: f64 = 0.25;
/// Share of messages without their last full stop.
const UNSTOPPED: f64 = 0.25;
/// Chance of a typo in each word of at least [`TYPO_WORD_CHARS_MIN`] letters.
const TYPO: f64 = 0.01;
const TYPO_WORD_CHARS_MIN: usize = 6;
/// Share of lists that are cut into two sentences.
const CUT_LIST: f64 = 0.2;
/// Share of lists whose last wish, a district, stands behind the list, as in "cake by the river".
const TAILED: f64 = 0.6;
/// Share of messages with short forms such as "I'd".
const SHORT_FORMED: f64 = 0.25;

/// Writes a message that states the wishes in their order.
pub(crate) fn write(rng: &mut impl Rng, wishes: &[Wish], frames: Frames) -> Message {
    let greeted = rng.random_bool(GREETED);
    let mut sentences = Vec::new();
    if greeted {
        sentences.push(pick(rng, GREETINGS).to_owned());
    }
    sentences.extend(core(rng, wishes, frames));
    if rng.random_bool(SMALL_TALK) {
        let talk = pick(rng, TALK).to_owned();
        insert_after(rng, &mut sentences, usize::from(greeted), talk);
    }
    if rng.random_bool(REDACTED) {
        for number in 1..=rng.random_range(1..=2) {
            let marked = marked(rng, number);
            insert_after(rng, &mut sentences, usize::from(greeted), marked);
        }
    }
    if rng.random_bool(THANKED) {
        sentences.push(pick(rng, THANKS).to_owned());
    }
    let text = finish(rng, &sentences);
    Message { text, greeted }
}

fn pick<'a>(rng: &mut impl Rng, from: &[&'a str]) -> &'a str {
    from.choose(rng)
        .expect("the lists of wordings are not empty")
}

fn insert_after(rng: &mut impl Rng, sentences: &mut Vec<String>, first: usize, sentence: String) {
    let at = rng.random_range(first..=sentences.len());
    sentences.insert(at, sentence);
}

fn marked(rng: &mut impl Rng, number: u32) -> String {
    let kind = pick(rng, MARK_KINDS);
    pick(rng, MARKED).replace("{}", &format!("[REDACTED:{kind}:{number}]"))
}

/// The sentences that state the wishes.
fn core(rng: &mut impl Rng, wishes: &[Wish], frames: Frames) -> Vec<String> {
    if wishes.is_empty() {
        return vec![pick(rng, NO_WISH).to_owned()];
    }
    if frames == Frames::HeldOut {
        return list(rng, wishes, LIST_FRAMES_HELD_OUT);
    }
    match rng.random_range(0..10) {
        0..3 => list(rng, wishes, LIST_FRAMES),
        3..5 => tell(rng, wishes),
        5..8 => vec![describe_place(rng, wishes)],
        8 => vec![fill(rng, DEED_FRAMES, wishes, deeds)],
        _ => list_and_tell(rng, wishes),
    }
}

/// A list of things, at times with a last wish behind it, at times in two sentences.
fn list(rng: &mut impl Rng, wishes: &[Wish], frames: &[&str]) -> Vec<String> {
    let cut = if wishes.len() > 1 && rng.random_bool(CUT_LIST) {
        rng.random_range(1..wishes.len())
    } else {
        wishes.len()
    };
    let (first, second) = wishes.split_at(cut);
    if !second.is_empty() {
        let first = fill(rng, frames, first, things);
        return vec![first, fill(rng, SECOND_FRAMES, second, things)];
    }
    match first {
        [listed @ .., last]
            if !listed.is_empty() && DISTRICTS.contains(last) && rng.random_bool(TAILED) =>
        {
            let items = phrases_of(rng, listed, things);
            let items = format!("{} {}", join_list(rng, &items), pick(rng, tails(*last)));
            vec![pick(rng, frames).replace("{}", &items)]
        }
        _ => vec![fill(rng, frames, first, things)],
    }
}

/// A list of things and, in the same breath, clauses.
fn list_and_tell(rng: &mut impl Rng, wishes: &[Wish]) -> Vec<String> {
    let (listed, told) = wishes.split_at(wishes.len().div_ceil(2));
    let list = fill(rng, LIST_FRAMES, listed, things);
    if told.is_empty() {
        return vec![list];
    }
    let link = pick(rng, LINKS);
    let head = list.trim_end_matches(['.', '?']);
    let told = phrases_of(rng, told, clauses);
    vec![format!("{head}{link}{}.", join_and(&told))]
}

/// A place with its adjectives, the things it has, and what else is said of it.
fn describe_place(rng: &mut impl Rng, wishes: &[Wish]) -> String {
    let apt = wishes
        .iter()
        .take(2)
        .take_while(|&&wish| !adjectives(wish).is_empty());
    let (before, after) = wishes.split_at(rng.random_range(0..=apt.count()));
    let (with, behind) = after.split_at(rng.random_range(0..=after.len()));
    let place = pick(rng, PLACES);
    let mut text = phrases_of(rng, before, adjectives)
        .into_iter()
        .fold(String::new(), |text, adjective| text + adjective + " ")
        + place;
    if !with.is_empty() {
        let things = phrases_of(rng, with, things);
        text = format!("{text} with {}", join_and(&things));
    }
    if !behind.is_empty() {
        text = format!("{text} {}", join_and(&phrases_of(rng, behind, tails)));
    }
    let article = if text.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    };
    let opening = pick(rng, PLACE_OPENINGS);
    let stop = match opening {
        "Can you recommend" | "Do you know" | "Is there" => "?",
        _ => ".",
    };
    format!("{opening} {article} {text}{stop}")
        .trim_start()
        .to_owned()
}

/// Phrases of one kind for the wishes.
fn phrases_of(
    rng: &mut impl Rng,
    wishes: &[Wish],
    kind: fn(Wish) -> &'static [&'static str],
) -> Vec<&'static str> {
    wishes.iter().map(|&wish| pick(rng, kind(wish))).collect()
}

/// A frame filled with a list of phrases of one kind.
fn fill(
    rng: &mut impl Rng,
    frames: &[&str],
    wishes: &[Wish],
    kind: fn(Wish) -> &'static [&'static str],
) -> String {
    let items = phrases_of(rng, wishes, kind);
    pick(rng, frames).replace("{}", &join_list(rng, &items))
}

fn join_list(rng: &mut impl Rng, items: &[&str]) -> String {
    match rng.random_range(0..6) {
        0 => items.join(", "),
        1 => items.join(" and "),
        2 => items.join(" plus "),
        _ => join_and(items),
    }
}

/// Clauses about the visitor.
fn tell(rng: &mut impl Rng, wishes: &[Wish]) -> Vec<String> {
    let told = phrases_of(rng, wishes, clauses);
    match rng.random_range(0..3) {
        0 => told.iter().map(|clause| format!("{clause}.")).collect(),
        1 => vec![format!("{}.", told.join(" and "))],
        _ => vec![format!("{}.", join_and(&told))],
    }
}

/// Joins the sentences and gives them their capitals, case, typos and ending.
fn finish(rng: &mut impl Rng, sentences: &[String]) -> String {
    let mut text = capitalize(&sentences.join(" "));
    if rng.random_bool(SHORT_FORMED) {
        for (long, short) in SHORT_FORMS {
            text = text.replace(long, short);
        }
    }
    if rng.random_bool(LOWER_CASE) {
        text = lower_outside_marks(&text);
    }
    text = with_typos(rng, &text);
    if rng.random_bool(UNSTOPPED)
        && let Some(open) = text.strip_suffix('.')
    {
        text = open.to_owned();
    }
    text
}

fn capitalize(text: &str) -> String {
    let mut at_start = true;
    let mut done = String::with_capacity(text.len());
    for letter in text.chars() {
        if at_start && letter.is_alphabetic() {
            done.extend(letter.to_uppercase());
        } else {
            done.push(letter);
        }
        at_start = match letter {
            '.' | '!' | '?' => true,
            ' ' => at_start,
            _ => false,
        };
    }
    done
}

fn lower_outside_marks(text: &str) -> String {
    text.split_inclusive([' ', ']'])
        .map(|word| match word.find('[') {
            Some(_) => word.to_owned(),
            None => word.to_lowercase(),
        })
        .collect()
}

fn with_typos(rng: &mut impl Rng, text: &str) -> String {
    let words: Vec<String> = text
        .split(' ')
        .map(|word| {
            let plain =
                word.len() >= TYPO_WORD_CHARS_MIN && word.bytes().all(|b| b.is_ascii_alphabetic());
            if plain && rng.random_bool(TYPO) {
                misspell(rng, word)
            } else {
                word.to_owned()
            }
        })
        .collect();
    words.join(" ")
}

/// Swaps, drops or doubles one letter behind the first.
fn misspell(rng: &mut impl Rng, word: &str) -> String {
    let mut letters: Vec<char> = word.chars().collect();
    let at = rng.random_range(1..letters.len() - 1);
    match rng.random_range(0..3) {
        0 => letters.swap(at, at + 1),
        1 => drop(letters.remove(at)),
        _ => letters.insert(at, letters[at]),
    }
    letters.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coffee::town::WISHES;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn the_same_seed_writes_the_same_message() {
        let write_once = || {
            write(
                &mut ChaCha8Rng::seed_from_u64(7),
                &WISHES[..3],
                Frames::Trained,
            )
        };
        assert_eq!(write_once(), write_once());
    }

    #[test]
    fn redaction_marks_keep_their_exact_form() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let texts: Vec<String> = (0..400)
            .map(|_| write(&mut rng, &WISHES[..2], Frames::Trained).text)
            .collect();
        let marked: Vec<&String> = texts
            .iter()
            .filter(|text| text.contains("redacted") || text.contains('['))
            .collect();
        assert!(!marked.is_empty());
        for text in marked {
            let mark = text
                .split('[')
                .nth(1)
                .and_then(|rest| rest.split(']').next());
            let mark = mark.unwrap_or_default();
            assert!(mark.starts_with("REDACTED:"), "{text}");
            assert_eq!(mark.split(':').count(), 3, "{text}");
        }
    }
}
