//! Training examples and held-out wishes, both drawn from a seed.
//!
//! Invariant: a combination of two or more wishes that [`is_held_out`] is in no training example, in
//! whatever wording; every evaluation wish either is such a combination or is a single wish inside a
//! sentence frame that training never uses.

use super::{
    answer,
    town::{DISTRICTS, Shop, WISHES, Wish, WishSet, shops_meeting},
    wording::{self, Frames},
};
use rand::{
    Rng,
    seq::{IndexedRandom, SliceRandom},
};

/// The system message of the prompt template `coffee.v1`; training uses no other.
pub(crate) const SYSTEM: &str =
    "You are the coffee guide of Millbrook. Recommend one coffee shop that meets every wish.";

/// The most wishes in one message.
pub(crate) const WISHES_MAX: usize = 4;
/// One combination in this many is kept out of training.
const HELD_OUT_ONE_IN: u64 = 10;
/// Relative frequency of messages with 0, 1, 2, … wishes in training.
const TRAINING_WEIGHTS: [u32; WISHES_MAX + 1] = [2, 14, 30, 32, 22];
/// Relative frequency of messages with 0, 1, 2, … wishes in the evaluation.
const EVALUATION_WEIGHTS: [u32; WISHES_MAX + 1] = [0, 10, 35, 35, 20];
/// Share of evaluation messages with several wishes that use a held-out sentence frame too.
const HELD_OUT_FRAMES: f64 = 0.4;

/// Share of training messages with wishes that no shop meets together.
const IMPOSSIBLE: f64 = 0.12;
/// Relative frequency of impossible messages with 0, 1, 2, … wishes; every pair is possible.
const IMPOSSIBLE_WEIGHTS: [u32; WISHES_MAX + 1] = [0, 0, 0, 1, 3];

/// A message with the answer that training teaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Example {
    pub(crate) wishes: WishSet,
    pub(crate) message: String,
    pub(crate) answer: String,
}

/// A message that training never sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeldOut {
    pub(crate) wishes: WishSet,
    pub(crate) message: String,
}

/// Whether the combination is reserved for the evaluation.
pub(crate) fn is_held_out(wishes: WishSet) -> bool {
    wishes.bits().count_ones() >= 2 && mix(u64::from(wishes.bits())).is_multiple_of(HELD_OUT_ONE_IN)
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood 2014): a fixed, well mixed hash of a number.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Draws one training example.
pub(crate) fn draw_example(rng: &mut impl Rng) -> Example {
    let impossible = rng.random_bool(IMPOSSIBLE);
    let weights = if impossible {
        &IMPOSSIBLE_WEIGHTS
    } else {
        &TRAINING_WEIGHTS
    };
    let order = draw_wishes(rng, weights, |wishes| {
        is_impossible(wishes) == impossible && !is_held_out(wishes)
    });
    let wishes = WishSet::of(&order);
    let message = wording::write(rng, &order, Frames::Trained);
    let fitting: Vec<&Shop> = shops_meeting(wishes).collect();
    let shop = fitting.choose(rng).copied();
    Example {
        wishes,
        answer: answer::render(&order, shop, message.greeted),
        message: message.text,
    }
}

/// Whether no shop meets all of the wishes.
pub(crate) fn is_impossible(wishes: WishSet) -> bool {
    shops_meeting(wishes).next().is_none()
}

/// Draws one message for the evaluation.
pub(crate) fn draw_held_out(rng: &mut impl Rng) -> HeldOut {
    let order = draw_wishes(rng, &EVALUATION_WEIGHTS, |wishes| {
        let reserved = wishes.bits().count_ones() == 1 || is_held_out(wishes);
        reserved && !is_impossible(wishes)
    });
    put_held_out(rng, &order)
}

/// Draws one message whose wishes no shop meets together, for the evaluation.
pub(crate) fn draw_impossible(rng: &mut impl Rng) -> HeldOut {
    let order = draw_wishes(rng, &IMPOSSIBLE_WEIGHTS, |wishes| {
        is_held_out(wishes) && is_impossible(wishes)
    });
    put_held_out(rng, &order)
}

fn put_held_out(rng: &mut impl Rng, order: &[Wish]) -> HeldOut {
    let frames = if order.len() == 1 || rng.random_bool(HELD_OUT_FRAMES) {
        Frames::HeldOut
    } else {
        Frames::Trained
    };
    HeldOut {
        wishes: WishSet::of(order),
        message: wording::write(rng, order, frames).text,
    }
}

/// Draws wishes in random order, at most one of them a district, that `admits` accepts.
fn draw_wishes(
    rng: &mut impl Rng,
    weights: &[u32; WISHES_MAX + 1],
    admits: impl Fn(WishSet) -> bool,
) -> Vec<Wish> {
    let count = draw_count(rng, weights);
    loop {
        let mut order: Vec<Wish> = WISHES.choose_multiple(rng, count).copied().collect();
        order.shuffle(rng);
        let wishes = WishSet::of(&order);
        if names_one_district_at_most(wishes) && admits(wishes) {
            return order;
        }
    }
}

fn names_one_district_at_most(wishes: WishSet) -> bool {
    let named = |&&district: &&Wish| wishes.contains_all(WishSet::of(&[district]));
    DISTRICTS.iter().filter(named).count() <= 1
}

fn draw_count(rng: &mut impl Rng, weights: &[u32]) -> usize {
    let mut ticket = rng.random_range(0..weights.iter().sum::<u32>());
    for (count, &weight) in weights.iter().enumerate() {
        if ticket < weight {
            return count;
        }
        ticket -= weight;
    }
    unreachable!("the ticket is below the sum of the weights")
}

/// How many combinations of wishes some shop meets, and how many of them are held out.
pub(crate) fn count_combinations() -> (usize, usize) {
    let met: Vec<WishSet> = (1..1_u32 << WISHES.len())
        .filter(|bits| bits.count_ones() as usize <= WISHES_MAX)
        .map(WishSet::from_bits)
        .filter(|&wishes| !is_impossible(wishes))
        .collect();
    let held_out = met.iter().filter(|&&wishes| is_held_out(wishes)).count();
    (met.len(), held_out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use std::collections::BTreeSet;

    #[test]
    fn the_same_seed_draws_the_same_examples() {
        let draw = |seed| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            (0..50).map(|_| draw_example(&mut rng)).collect::<Vec<_>>()
        };
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }

    #[test]
    fn no_evaluation_wish_is_in_the_training() {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let trained: Vec<Example> = (0..20_000).map(|_| draw_example(&mut rng)).collect();
        let sets: BTreeSet<WishSet> = trained.iter().map(|example| example.wishes).collect();
        let texts: BTreeSet<&str> = trained
            .iter()
            .map(|example| example.message.as_str())
            .collect();
        for _ in 0..500 {
            let asked = draw_held_out(&mut rng);
            let single = asked.wishes.bits().count_ones() == 1;
            assert!(single || !sets.contains(&asked.wishes), "{}", asked.wishes);
            assert!(!texts.contains(asked.message.as_str()), "{}", asked.message);
            assert!(
                shops_meeting(asked.wishes).next().is_some(),
                "{}",
                asked.wishes
            );
        }
    }

    #[test]
    fn about_a_tenth_of_the_combinations_is_held_out() {
        let (met, held_out) = count_combinations();
        assert!(met > 1000, "{met}");
        assert!(
            (met / 20..met / 6).contains(&held_out),
            "{held_out} of {met}"
        );
    }

    #[test]
    fn every_answer_of_the_training_passes_the_check() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        for _ in 0..2_000 {
            let example = draw_example(&mut rng);
            let right = if is_impossible(example.wishes) {
                answer::declines(&example.answer)
            } else {
                answer::check(example.wishes, &example.answer).is_ok()
            };
            assert!(right, "{}: {}", example.wishes, example.answer);
        }
    }

    #[test]
    fn no_wish_set_names_two_districts() {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        for _ in 0..2_000 {
            let wishes = draw_example(&mut rng).wishes;
            let named = wishes
                .iter()
                .filter(|wish| DISTRICTS.contains(wish))
                .count();
            assert!(named <= 1, "{wishes}");
        }
    }
}
