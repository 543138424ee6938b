//! The fictional town of Millbrook: its districts, its twenty coffee shops and what each offers.
//!
//! Invariant: a wish is answered from this table and from nothing else, so a checker can judge every
//! answer. No real place, person or business is described here.

use std::fmt;

/// One requirement that a visitor can state. The discriminant is the wish's bit in a [`WishSet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Wish {
    Wifi,
    Quiet,
    Dogs,
    Vegan,
    Garden,
    OwnRoast,
    Early,
    Late,
    StepFree,
    Cake,
    Decaf,
    Children,
    LowPrices,
    OldTown,
    Harbour,
    Station,
    CollegeHill,
    Riverside,
}

use Wish::{
    Cake, Children, CollegeHill, Decaf, Dogs, Early, Garden, Harbour, Late, LowPrices, OldTown,
    OwnRoast, Quiet, Riverside, Station, StepFree, Vegan, Wifi,
};

/// All wishes in the order of their bits.
pub(crate) const WISHES: [Wish; 18] = [
    Wifi,
    Quiet,
    Dogs,
    Vegan,
    Garden,
    OwnRoast,
    Early,
    Late,
    StepFree,
    Cake,
    Decaf,
    Children,
    LowPrices,
    OldTown,
    Harbour,
    Station,
    CollegeHill,
    Riverside,
];

/// The wishes that name a district; a shop lies in exactly one.
pub(crate) const DISTRICTS: [Wish; 5] = [OldTown, Harbour, Station, CollegeHill, Riverside];

impl Wish {
    /// The canonical words in which an answer restates the wish, after "You want".
    pub(crate) fn restated(self) -> &'static str {
        match self {
            Wifi => "wifi",
            Quiet => "a quiet room",
            Dogs => "a place for dogs",
            Vegan => "vegan food",
            Garden => "garden seats",
            OwnRoast => "house-roasted beans",
            Early => "an early start",
            Late => "late hours",
            StepFree => "step-free access",
            Cake => "good cake",
            Decaf => "decaf",
            Children => "a children's corner",
            LowPrices => "low prices",
            OldTown => "the Old Town",
            Harbour => "the Harbour",
            Station => "the Station Quarter",
            CollegeHill => "College Hill",
            Riverside => "the Riverside",
        }
    }

    /// The reason with which an answer says that a shop meets the wish, after "it".
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Wifi => "has fast wifi",
            Quiet => "keeps a quiet room",
            Dogs => "welcomes dogs",
            Vegan => "serves vegan food",
            Garden => "has garden seats",
            OwnRoast => "roasts its own beans",
            Early => "opens at six",
            Late => "stays open until eleven",
            StepFree => "is step-free throughout",
            Cake => "bakes good cake",
            Decaf => "pours fine decaf",
            Children => "has a children's corner",
            LowPrices => "keeps prices low",
            OldTown => "lies in the Old Town",
            Harbour => "lies by the Harbour",
            Station => "lies in the Station Quarter",
            CollegeHill => "lies on College Hill",
            Riverside => "lies on the Riverside",
        }
    }
}

/// A set of wishes, or the set of wishes that a shop meets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WishSet(u32);

impl WishSet {
    /// The set of the given wishes.
    pub(crate) const fn of(wishes: &[Wish]) -> Self {
        let mut bits = 0;
        let mut at = 0;
        while at < wishes.len() {
            bits |= 1 << wishes[at] as u32;
            at += 1;
        }
        Self(bits)
    }

    /// The set with these bits; bits beyond the last wish must be zero.
    pub(crate) const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The bits of the set, one a wish.
    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    /// Whether every wish of `other` is in this set.
    pub(crate) const fn contains_all(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The wishes of the set in the order of their bits.
    pub(crate) fn iter(self) -> impl Iterator<Item = Wish> {
        WISHES
            .into_iter()
            .filter(move |&wish| self.contains_all(Self::of(&[wish])))
    }
}

impl fmt::Display for WishSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, wish) in self.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{}", wish.restated())?;
        }
        Ok(())
    }
}

/// One coffee shop.
#[derive(Debug)]
pub(crate) struct Shop {
    pub(crate) name: &'static str,
    /// Where it is, as it follows the name in an answer.
    pub(crate) street: &'static str,
    pub(crate) meets: WishSet,
    /// A sentence that closes a recommendation of this shop.
    pub(crate) remark: &'static str,
}

const fn shop(
    name: &'static str,
    street: &'static str,
    meets: &[Wish],
    remark: &'static str,
) -> Shop {
    Shop {
        name,
        street,
        meets: WishSet::of(meets),
        remark,
    }
}

/// Every coffee shop of the town.
#[rustfmt::skip]
pub(crate) const SHOPS: [Shop; 20] = [
    shop("Copper Kettle", "on Weir Street", &[OldTown, Wifi, Quiet, Dogs, Cake, Decaf, Early, StepFree],
        "Ask for the corner bench."),
    shop("Blue Heron", "on Ferry Lane", &[Riverside, Wifi, Vegan, Garden, Dogs, Late, StepFree, Cake],
        "The plum tart goes first."),
    shop("Juniper House", "on Abbey Row", &[OldTown, Quiet, Vegan, OwnRoast, Decaf, Garden, Late, LowPrices],
        "Mind the sleepy cat."),
    shop("Saffron Room", "on Tide Street", &[Harbour, Wifi, Cake, Late, Children, Vegan, Decaf, OwnRoast],
        "Try the saffron bun."),
    shop("Lantern", "on Signal Road", &[Station, Early, Late, Wifi, LowPrices, StepFree, Quiet, Dogs],
        "Sit beneath the old lamps."),
    shop("Paper Boat", "on Anchor Quay", &[Harbour, Children, Garden, LowPrices, StepFree, Cake, Dogs, Early],
        "Napkins fold into boats here."),
    shop("Marlow's", "on Porter Street", &[Station, OwnRoast, Early, Decaf, Cake, Vegan, StepFree, Wifi],
        "The morning roll is warm at seven."),
    shop("Tin Whistle", "on Fiddler Alley", &[OldTown, Late, Dogs, OwnRoast, Children, LowPrices, Wifi, Vegan],
        "There is music on Fridays."),
    shop("Foxglove", "on Gate Hill", &[CollegeHill, Garden, Quiet, Vegan, StepFree, Children, Cake, Early],
        "The roses are in bloom."),
    shop("Northlight", "on Scholar Street", &[CollegeHill, Wifi, Quiet, Late, LowPrices, Decaf, OwnRoast, StepFree],
        "Every table has a lamp."),
    shop("Brass Anchor", "on Harbour Steps", &[Harbour, Early, OwnRoast, Dogs, Quiet, LowPrices, Wifi, Garden],
        "Watch the boats come in."),
    shop("Velvet Hour", "on Bell Street", &[OldTown, Cake, Late, Quiet, StepFree, Children, Decaf, Vegan],
        "The armchairs are worth the walk."),
    shop("Orchard", "on Willow Walk", &[Riverside, Garden, Children, Dogs, Vegan, Decaf, Early, LowPrices],
        "Apples are free in autumn."),
    shop("Cobbler's Rest", "on Last Lane", &[OldTown, Early, Garden, Wifi, Cake, LowPrices, OwnRoast, Children],
        "The scones sell out by noon."),
    shop("Inkwell", "on Library Court", &[CollegeHill, Wifi, Vegan, Cake, Early, Dogs, Garden, OwnRoast],
        "Borrow a book from the wall."),
    shop("Wren's Nest", "on Mill Path", &[Riverside, Quiet, Children, StepFree, Wifi, Cake, OwnRoast, Decaf],
        "Look for the green door."),
    shop("Driftwood", "on Lighthouse Way", &[Harbour, Late, Vegan, Dogs, StepFree, Quiet, Garden, Decaf],
        "The window seat faces the sea."),
    shop("Quicksilver", "on Platform Street", &[Station, Late, Garden, OwnRoast, Children, StepFree, Dogs, Cake],
        "They draw swans in the foam."),
    shop("Maple Yard", "on Cooper Close", &[Station, Quiet, LowPrices, Vegan, Cake, Garden, Children, Decaf],
        "The maple latte is their pride."),
    shop("Sparrow", "on Bridge Street", &[Riverside, OwnRoast, Early, Late, LowPrices, Quiet, Vegan, Wifi],
        "The espresso is the best in town."),
];

/// The shops that meet every one of the wishes.
pub(crate) fn shops_meeting(wishes: WishSet) -> impl Iterator<Item = &'static Shop> {
    SHOPS
        .iter()
        .filter(move |shop| shop.meets.contains_all(wishes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shop_lies_in_one_district_and_has_a_name_of_its_own() {
        for shop in &SHOPS {
            let districts = DISTRICTS
                .iter()
                .filter(|&&district| shop.meets.contains_all(WishSet::of(&[district])));
            assert_eq!(districts.count(), 1, "{}", shop.name);
            let namesakes = SHOPS.iter().filter(|other| other.name.contains(shop.name));
            assert_eq!(namesakes.count(), 1, "{}", shop.name);
        }
    }

    #[test]
    fn the_bit_of_each_wish_is_its_place_in_the_list() {
        for (at, wish) in WISHES.into_iter().enumerate() {
            assert_eq!(WishSet::of(&[wish]).bits(), 1 << at, "{wish:?}");
        }
    }

    #[test]
    fn every_single_wish_is_met_by_several_shops() {
        for wish in WISHES {
            let count = shops_meeting(WishSet::of(&[wish])).count();
            assert!(count >= 3, "{wish:?} is met by {count} shops");
        }
    }

    #[test]
    fn the_model_card_shows_the_shops_as_they_are() -> std::io::Result<()> {
        let card = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/coffee/README.md");
        let card = std::fs::read_to_string(card)?;
        for Shop {
            name,
            street,
            meets,
            ..
        } in &SHOPS
        {
            let row = format!("| {name} | {street} | {meets} |");
            assert!(card.contains(&row), "the card lacks {row}");
        }
        Ok(())
    }
}
