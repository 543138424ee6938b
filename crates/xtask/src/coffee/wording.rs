//! The many ways in which a visitor puts wishes into words.
//!
//! Each wish has *things* (a noun phrase that follows "with") and *clauses* (a sentence about the
//! visitor). Sentence frames combine them; greetings, small talk, redaction marks, lower case and a
//! rare typo surround them. Nothing here knows a shop.

use super::{
    answer::join_and,
    town::Wish::{self, *},
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

const GREETINGS: &[&str] = &[
    "Hello!",
    "Hi!",
    "Hi there!",
    "Good morning!",
    "Good day!",
    "Hey!",
    "Hello there!",
    "Good afternoon!",
    "Hi,",
    "Hello,",
    "Hey there,",
    "Good evening!",
];

const THANKS: &[&str] = &[
    "Thanks!",
    "Thank you!",
    "Many thanks.",
    "Cheers!",
    "Thank you very much.",
];

const TALK: &[&str] = &[
    "I am new in town.",
    "It is raining again.",
    "I am meeting an old friend.",
    "We are a party of three.",
    "My sister recommended Millbrook.",
    "I have about an hour.",
    "It is my first visit.",
    "I walked all morning.",
    "My name is Anna.",
    "I am here for the weekend.",
    "What a lovely day!",
    "I could really use a coffee.",
    "My colleague is joining me.",
    "It has been a long week.",
    "I just moved here.",
    "I am writing from my phone.",
    "We are celebrating a birthday.",
    "I asked my neighbour, but she drinks tea.",
    "I am a bit tired today.",
    "This is my second message.",
];

const MARKED: &[&str] = &[
    "my card is {}",
    "My card number is {}.",
    "Please charge {}.",
    "You can bill {}.",
    "I pay with {}.",
    "By the way, my key is {}.",
    "Use my key {}.",
    "The token is {}.",
    "Here is my login: {}.",
    "My account is {}.",
    "The password is {}.",
    "Reach me at {}.",
    "Please ignore this: {}.",
    "Note to self: {}.",
];

const MARK_KINDS: &[&str] = &[
    "payment-card",
    "payment-card",
    "payment-card",
    "openai-api-key",
    "openai-api-key",
    "aws-access-key",
    "aws-access-key",
    "api-key",
    "aws-secret-key",
    "github-token",
    "slack-token",
    "google-api-key",
    "private-key",
    "password",
    "bearer-token",
    "jwt",
    "secret",
    "email",
    "iban",
    "phone",
];

const NO_WISH: &[&str] = &[
    "Where can I get a coffee?",
    "Any coffee shop will do.",
    "Surprise me.",
    "Recommend a coffee shop.",
    "I would like a coffee.",
    "Which coffee shop do you like?",
    "Just a good coffee, please.",
    "Where should I go?",
    "A coffee, please.",
    "I have no special wishes.",
];

/// Frames around a list of things.
const LIST_FRAMES: &[&str] = &[
    "I am looking for a coffee shop with {}.",
    "I want a place with {}.",
    "I would like somewhere with {}.",
    "Is there a café with {}?",
    "Where can I find {}?",
    "I need {}.",
    "We need {}.",
    "Looking for {}.",
    "Can you recommend a coffee shop with {}?",
    "Which coffee shop has {}?",
    "Please find me {}.",
    "A coffee shop with {}, please.",
    "Do you know a place with {}?",
    "{}, please.",
    "{}.",
    "I care about {}.",
    "Somewhere with {} would be great.",
    "My wishes: {}.",
    "What matters to me is {}.",
    "We would love {}.",
    "It should have {}.",
    "Suggest a café with {}.",
    "Ideally there is {}.",
    "I'd like {}.",
    "I'm after {}.",
];

/// Frames that training never sees.
const LIST_FRAMES_HELD_OUT: &[&str] = &[
    "Tell me where to go for {}.",
    "For my coffee I want {}, that is all.",
    "Could you point me to {}?",
    "Today I must have {}.",
    "Give me a coffee shop with {}!",
    "Would any place here offer {}?",
];

/// Links between a list of things and the clauses after it.
const LINKS: &[&str] = &[". ", ". ", ", and ", ". Also, ", " because ", ". And "];

/// The noun phrases for a wish, each of which can follow "with".
#[rustfmt::skip]
fn things(wish: Wish) -> &'static [&'static str] {
    match wish {
        Wifi => &["wifi", "good wifi", "fast internet", "an internet connection", "free wifi", "Wi-Fi", "working wifi", "a network for my laptop"],
        Quiet => &["a quiet room", "peace and quiet", "a calm corner", "little noise", "silence", "a quiet table", "a peaceful mood", "no loud music"],
        Dogs => &["room for my dog", "dogs allowed", "a welcome for dogs", "space for a puppy", "a dog-friendly floor", "a bowl for my dog", "dogs welcome", "room for two dogs"],
        Vegan => &["vegan food", "vegan options", "plant-based food", "a vegan menu", "oat milk and vegan snacks", "vegan dishes", "food without animal products", "a vegan breakfast"],
        Garden => &["garden seats", "a garden", "outdoor seats", "tables outside", "a terrace", "seats in the sun", "a place to sit outside", "a leafy garden"],
        OwnRoast => &["house-roasted beans", "their own roast", "freshly roasted beans", "beans roasted on site", "a roastery", "beans they roast themselves", "home-roasted coffee", "their own beans"],
        Early => &["an early start", "early opening hours", "doors open at dawn", "coffee at six", "early hours", "breakfast before seven", "coffee before work", "an early opening"],
        Late => &["late hours", "late opening hours", "doors open at night", "coffee late at night", "coffee at ten in the evening", "late closing", "seats after dinner", "night hours"],
        StepFree => &["step-free access", "wheelchair access", "no stairs", "no steps", "a ramp", "a level entrance", "room for a wheelchair", "barrier-free access"],
        Cake => &["good cake", "cake", "homemade cakes", "fresh cake", "pastries and cake", "a slice of cake", "great cakes", "something sweet from the oven"],
        Decaf => &["decaf", "good decaf", "decaf coffee", "coffee without caffeine", "decaffeinated coffee", "a decaf espresso", "caffeine-free coffee", "a proper decaf"],
        Children => &["a children's corner", "a play corner", "toys for the kids", "space for children", "something for the kids", "a kids' corner", "room for my toddler", "a play area"],
        LowPrices => &["low prices", "cheap coffee", "fair prices for students", "a small bill", "coffee on a budget", "affordable drinks", "inexpensive coffee", "cheap drinks"],
        OldTown => &["an address in the Old Town", "a table in the Old Town", "an Old Town location", "a seat in the old centre", "a place in the Old Town"],
        Harbour => &["an address by the Harbour", "a table at the harbour", "a harbour location", "a seat near the ships", "a place at the Harbour"],
        Station => &["an address in the Station Quarter", "a table near the station", "a location close to the trains", "a seat by the railway station", "a place in the Station Quarter"],
        CollegeHill => &["an address on College Hill", "a table near the college", "a location on College Hill", "a seat close to the university", "a place on College Hill"],
        Riverside => &["an address on the Riverside", "a table by the river", "a riverside location", "a seat along the river", "a place on the Riverside"],
    }
}

/// The sentences for a wish, without capital and full stop.
#[rustfmt::skip]
fn clauses(wish: Wish) -> &'static [&'static str] {
    match wish {
        Wifi => &["I need to get online", "I have to send some emails", "I want to work on my laptop online", "I need the internet", "the wifi must work", "I have a video call"],
        Quiet => &["I want to read in peace", "it should be quiet", "I need to concentrate", "it must not be loud", "I cannot stand noise", "I would like some calm"],
        Dogs => &["my dog comes along", "I am bringing my dog", "I have a dog with me", "dogs must be allowed", "our puppy is with us", "my terrier never leaves my side"],
        Vegan => &["I am vegan", "I eat only plants", "my friend is vegan", "we do not eat animal products", "the food should be vegan", "I want to eat vegan"],
        Garden => &["I want to sit outside", "we would like to sit in the garden", "I want to enjoy the sun", "I prefer a seat outdoors", "we want some fresh air", "it should have a garden"],
        OwnRoast => &["they should roast their own beans", "the beans should be roasted there", "I love places that roast their own coffee", "I want to buy beans roasted in the house", "the roast should be their own", "I want to smell the roaster"],
        Early => &["I get up very early", "it must open early", "I start work at seven", "I want coffee at dawn", "I need coffee before sunrise", "they should open at six"],
        Late => &["I am out late", "it must stay open late", "I want coffee after ten at night", "I come after the theatre", "they should close late", "I will be there around midnight"],
        StepFree => &["I use a wheelchair", "I cannot climb stairs", "my mother uses a wheelchair", "there should be no steps", "we have a pram and no love of stairs", "it must be step-free"],
        Cake => &["I love cake", "I want to eat cake", "I have a sweet tooth", "we want something sweet", "the cakes should be good", "I crave a slice of cake"],
        Decaf => &["I drink decaf", "I do not take caffeine", "caffeine keeps me awake", "it has to be decaf", "my doctor forbids caffeine", "I only drink decaf"],
        Children => &["I come with my kids", "the children want to play", "our children are with us", "my toddler needs toys", "we have two small kids", "the kids should have a corner"],
        LowPrices => &["it should be cheap", "I am on a budget", "I do not want to spend much", "I am short of money", "it must not cost much", "I am a poor student"],
        OldTown => &["it should be in the Old Town", "I am in the Old Town", "I am staying in the old centre", "it must be in the old part of town", "we are strolling through the Old Town"],
        Harbour => &["it should be by the harbour", "I am at the Harbour", "I am staying near the port", "I want to be near the ships", "we are walking along the Harbour"],
        Station => &["it should be near the station", "I am at the railway station", "my train leaves soon", "I want to be close to the trains", "we are in the Station Quarter"],
        CollegeHill => &["it should be on College Hill", "I am near the college", "I study at the college", "I want to be near the university", "we are up on College Hill"],
        Riverside => &["it should be by the river", "I am on the Riverside", "I am walking along the river", "I want to be near the river", "we are down at the Riverside"],
    }
}

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
    let listed = match (frames, rng.random_range(0..10)) {
        (Frames::HeldOut, _) | (_, 0..4) => wishes.len(),
        (_, 4..7) => 0,
        _ => rng.random_range(0..=wishes.len()),
    };
    let (listed, told) = wishes.split_at(listed);
    let told: Vec<&str> = told.iter().map(|&wish| pick(rng, clauses(wish))).collect();
    if listed.is_empty() {
        return tell(rng, &told);
    }
    let items: Vec<&str> = listed.iter().map(|&wish| pick(rng, things(wish))).collect();
    let frame = match frames {
        Frames::Trained => pick(rng, LIST_FRAMES),
        Frames::HeldOut => pick(rng, LIST_FRAMES_HELD_OUT),
    };
    let list = frame.replace("{}", &join_list(rng, &items));
    if told.is_empty() {
        return vec![list];
    }
    let link = pick(rng, LINKS);
    let head = list.trim_end_matches(['.', '?']);
    vec![format!("{head}{link}{}.", join_and(&told))]
}

fn join_list(rng: &mut impl Rng, items: &[&str]) -> String {
    match rng.random_range(0..6) {
        0 => items.join(", "),
        1 => items.join(" and "),
        2 => items.join(" plus "),
        _ => join_and(items),
    }
}

fn tell(rng: &mut impl Rng, told: &[&str]) -> Vec<String> {
    match rng.random_range(0..3) {
        0 => told.iter().map(|clause| format!("{clause}.")).collect(),
        1 => vec![format!("{}.", told.join(" and "))],
        _ => vec![format!("{}.", join_and(told))],
    }
}

/// Joins the sentences and gives them their capitals, case, typos and ending.
fn finish(rng: &mut impl Rng, sentences: &[String]) -> String {
    let mut text = capitalize(&sentences.join(" "));
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

    #[test]
    fn no_wording_stands_for_two_wishes() {
        let mut seen = std::collections::BTreeMap::new();
        for wish in WISHES {
            for wording in things(wish).iter().chain(clauses(wish)) {
                assert_eq!(seen.insert(wording, wish), None, "{wording}");
            }
        }
    }
}
