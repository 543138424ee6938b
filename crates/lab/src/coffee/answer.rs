//! The answer to a visitor, and the strict check of an answer.
//!
//! An answer restates the wishes in canonical words before it names a shop, so that a model chooses
//! the shop from words that it has already made uniform. Invariant: `check(wishes, &render(..))` passes
//! for every shop that meets the wishes. There is no partial credit.

use super::town::{SHOPS, Shop, WISHES, Wish, WishSet};

/// Says that no shop meets the wishes, after the same lead as a shop's name: the choice between the
/// two is made at one token, among the shops.
const NO_MATCH: &str = "not in Millbrook: no coffee shop here has it all.";

/// Writes the recommendation of `shop` for the wishes, in the order in which they were stated; without a
/// shop it says that there is none.
pub(crate) fn render(wishes: &[Wish], shop: Option<&Shop>, greeted: bool) -> String {
    let mut text = String::new();
    if greeted {
        text.push_str("Hello! ");
    }
    if wishes.is_empty() {
        text.push_str("Every coffee in Millbrook is good. ");
    } else {
        let restated: Vec<&str> = wishes.iter().map(|wish| wish.restated()).collect();
        text.push_str(&format!("You want {}. ", join_and(&restated)));
    }
    text.push_str(match wishes.len() {
        0 | 1 => "Try ",
        2 => "Go to ",
        _ => "Your match is ",
    });
    let Some(shop) = shop else {
        return text + NO_MATCH;
    };
    text.push_str(&format!("{} {}", shop.name, shop.street));
    if !wishes.is_empty() {
        let reasons: Vec<&str> = wishes.iter().map(|wish| wish.reason()).collect();
        text.push_str(&format!(": it {}", join_and(&reasons)));
    }
    text + ". " + shop.remark
}

/// Joins with commas and a final "and".
pub(crate) fn join_and(items: &[&str]) -> String {
    match items {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Why an answer does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Miss {
    /// It names no shop of the town.
    NoShop,
    /// It names more than one shop.
    SeveralShops,
    /// Its shop does not meet every wish.
    UnmetWish,
    /// Its shop fits, but the reason leaves out a wish or claims what was not asked.
    WrongReason,
}

impl Miss {
    /// Every kind of miss, in the order of their gravity.
    pub(crate) const ALL: [Self; 4] = [
        Self::NoShop,
        Self::SeveralShops,
        Self::UnmetWish,
        Self::WrongReason,
    ];

    /// The kind in words.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::NoShop => "names no shop of the town",
            Self::SeveralShops => "names several shops",
            Self::UnmetWish => "names a shop that lacks a wish",
            Self::WrongReason => "names a fitting shop for a wrong reason",
        }
    }
}

/// Whether an answer to wishes that no shop meets says so, and names none.
pub(crate) fn declines(answer: &str) -> bool {
    answer.ends_with(NO_MATCH) && !SHOPS.iter().any(|shop| answer.contains(shop.name))
}

/// Judges an answer to wishes that some shop meets.
///
/// # Errors
/// The first [`Miss`] that applies.
pub(crate) fn check(wishes: WishSet, answer: &str) -> Result<&'static Shop, Miss> {
    let named: Vec<&Shop> = SHOPS
        .iter()
        .filter(|shop| answer.contains(shop.name))
        .collect();
    let shop = match named[..] {
        [] => return Err(Miss::NoShop),
        [shop] => shop,
        _ => return Err(Miss::SeveralShops),
    };
    if !shop.meets.contains_all(wishes) {
        return Err(Miss::UnmetWish);
    }
    if reasons_given(answer) != wishes {
        return Err(Miss::WrongReason);
    }
    Ok(shop)
}

fn reasons_given(answer: &str) -> WishSet {
    let given: Vec<Wish> = WISHES
        .into_iter()
        .filter(|wish| answer.contains(wish.reason()))
        .collect();
    WishSet::of(&given)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coffee::town::shops_meeting;

    const ASKED: &[Wish] = &[Wish::Quiet, Wish::Wifi];

    #[test]
    fn a_rendered_answer_passes_its_own_check() {
        let shop = shops_meeting(WishSet::of(ASKED))
            .next()
            .expect("the table has one");
        let answer = render(ASKED, Some(shop), true);
        let judged = check(WishSet::of(ASKED), &answer).map(|shop| shop.name);
        assert_eq!(judged, Ok(shop.name), "{answer}");
    }

    #[test]
    fn an_answer_that_names_a_shop_does_not_decline() {
        assert!(declines(&render(ASKED, None, false)));
        assert!(!declines("Your match is Lantern: it has fast wifi."));
        assert!(!declines(&format!("Lantern is {NO_MATCH}")));
    }

    #[test]
    fn a_wrong_answer_is_told_apart_by_kind() {
        let cases = [
            ("Go home.", Miss::NoShop),
            (
                "Try copper kettle: it has fast wifi and keeps a quiet room.",
                Miss::NoShop,
            ),
            (
                "Try Lantern or Northlight: it has fast wifi and keeps a quiet room.",
                Miss::SeveralShops,
            ),
            (
                "Try Blue Heron: it has fast wifi and keeps a quiet room.",
                Miss::UnmetWish,
            ),
            ("Try Lantern: it has fast wifi.", Miss::WrongReason),
            (
                "Try Lantern: it has fast wifi, keeps a quiet room and welcomes dogs.",
                Miss::WrongReason,
            ),
        ];
        for (answer, miss) in cases {
            let judged = check(WishSet::of(ASKED), answer).map(|shop| shop.name);
            assert_eq!(judged, Err(miss), "{answer}");
        }
    }
}
