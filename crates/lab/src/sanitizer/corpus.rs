//! A labelled corpus of our own making: code, diffs, configuration, logs and prose, some with made-up secrets and personal
//! data, some with what only looks like them.
//!
//! Everything is drawn from a seed, so no secret stands in the repository, and none opens anything.

use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use super::{carriers, harmless, sensitive};

/// How often each kind of value is planted.
const PLANTED_EACH: usize = 24;
/// How many texts without anything are made of each kind.
const HARMLESS_EACH: usize = 24;

/// Which side of the sanitizer a label belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Secret,
    Personal,
}

/// A value that has to be found.
#[derive(Clone, Debug)]
pub(super) struct Label {
    pub(super) class: &'static str,
    pub(super) side: Side,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// One file of the corpus.
pub(super) struct Document {
    pub(super) name: String,
    pub(super) text: String,
    pub(super) labels: Vec<Label>,
    /// What it is, for those without labels.
    pub(super) kind: &'static str,
}

/// The corpus of a seed.
pub(super) fn generate(seed: u64) -> Vec<Document> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut documents = Vec::new();
    for (class, side, slot, make) in sensitive::KINDS {
        for number in 0..PLANTED_EACH {
            let value = make(&mut random);
            let carriers = carriers::for_slot(*slot);
            let carrier = carriers
                .choose(&mut random)
                .copied()
                .unwrap_or(&carriers::PLAIN);
            let own = sensitive::OWN_LINES.iter().find(|(of, _)| of == class);
            let own = own.and_then(|(_, lines)| lines.choose(&mut random).copied());
            let planting = Planting {
                class,
                side: *side,
                line: own.unwrap_or(carrier.line),
                carrier,
                number,
            };
            documents.push(planted(&mut random, &value, &planting));
        }
    }
    for (kind, extension, make) in harmless::HARMLESS {
        for number in 0..HARMLESS_EACH {
            let lines: Vec<String> = (0..4).map(|_| make(&mut random)).collect();
            documents.push(Document {
                name: format!("harmless-{kind}-{number}.{extension}"),
                text: format!("{}\n", lines.join("\n")),
                labels: Vec::new(),
                kind,
            });
        }
    }
    documents
}

/// Where a value goes.
struct Planting<'a> {
    class: &'static str,
    side: Side,
    line: &'a str,
    carrier: &'a carriers::Carrier,
    number: usize,
}

/// A value in its line, among harmless lines of the same kind.
fn planted(random: &mut ChaCha8Rng, value: &str, planting: &Planting<'_>) -> Document {
    let Planting {
        class,
        side,
        carrier,
        ..
    } = *planting;
    let name = carriers::NAMES.choose(random).copied().unwrap_or("key");
    let line = planting.line.replace("{name}", name);
    // `{{` and `}}` are braces of the line itself.
    let (before, after) = line.split_once("{}").unwrap_or((&line, ""));
    let mut text = String::new();
    add_filler(random, carrier, &mut text);
    text.push_str(&before.replace("{{", "{"));
    let start = text.len();
    text.push_str(value);
    let end = text.len();
    text.push_str(&after.replace("}}", "}"));
    text.push('\n');
    add_filler(random, carrier, &mut text);
    Document {
        name: format!("{class}-{}.{}", planting.number, carrier.extension),
        text,
        labels: vec![Label {
            class,
            side,
            start,
            end,
        }],
        kind: class,
    }
}

fn add_filler(random: &mut ChaCha8Rng, carrier: &carriers::Carrier, text: &mut String) {
    for _ in 0..random.random_range(0..4) {
        text.push_str(carrier.filler.choose(random).copied().unwrap_or(""));
        text.push('\n');
    }
}
