//! The phrases of the visitors: lists and tables only, no logic.
//!
//! Invariant: no phrase stands for two wishes.

use super::town::Wish::{self, *};

/// Greetings, which the answer returns.
pub(super) const GREETINGS: &[&str] = &[
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

/// Thanks at the end.
pub(super) const THANKS: &[&str] = &[
    "Thanks!",
    "Thank you!",
    "Many thanks.",
    "Cheers!",
    "Thank you very much.",
];

/// Sentences that say nothing about coffee.
pub(super) const TALK: &[&str] = &[
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

/// Sentences around a redaction mark.
pub(super) const MARKED: &[&str] = &[
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

/// The rules that a redaction mark can name; the frequent ones are listed more than once.
pub(super) const MARK_KINDS: &[&str] = &[
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
    "anthropic-api-key",
    "stripe-key",
    "password",
    "bearer-token",
    "jwt",
    "secret",
    "email",
    "iban",
    "phone",
];

/// Messages without a wish.
pub(super) const NO_WISH: &[&str] = &[
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
    "Tell me something nice.",
    "What time is it?",
    "How are you?",
    "Who are you?",
    "What can you do?",
    "What is the capital of Italy?",
    "Write a poem.",
    "How much is two and two?",
    "Is it going to rain tomorrow?",
    "Can you help me?",
    "Just coffee.",
    "Tell me about Millbrook.",
];

/// Frames around a list of things.
pub(super) const LIST_FRAMES: &[&str] = &[
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
    "I want {}.",
    "I want a café with {}.",
    "Where do I get {}?",
    "We are looking for {}.",
    "Find me a place with {}, please.",
    "I would love {}.",
    "Somewhere with {}, please.",
    "What can you recommend? I need {}.",
    "Please recommend a coffee shop with {}.",
    "Any place with {}?",
];

/// Frames for a second list behind the first.
pub(super) const SECOND_FRAMES: &[&str] = &[
    "It should also have {}.",
    "Also {}, please.",
    "{} would be nice too.",
    "And {}.",
    "I want {} as well.",
    "Plus {}.",
    "With {}, if possible.",
];

/// Frames that training never sees.
pub(super) const LIST_FRAMES_HELD_OUT: &[&str] = &[
    "Tell me where to go for {}.",
    "For my coffee I want {}, that is all.",
    "Could you point me to {}?",
    "Today I must have {}.",
    "Give me a coffee shop with {}!",
    "Would any place here offer {}?",
];

/// Links between a list of things and the clauses after it.
pub(super) const LINKS: &[&str] = &[". ", ". ", ", and ", ". Also, ", " because ", ". And "];

/// The noun phrases for a wish, each of which can follow "with".
#[rustfmt::skip]
pub(super) fn things(wish: Wish) -> &'static [&'static str] {
    match wish {
        Wifi => &["wifi", "good wifi", "fast internet", "an internet connection", "free wifi", "Wi-Fi", "working wifi", "a network for my laptop", "fast wifi", "a stable internet connection", "internet", "wireless", "fast wifi for work", "a place to plug in and get online"],
        Quiet => &["a quiet room", "peace and quiet", "a calm corner", "little noise", "silence", "a quiet table", "a peaceful mood", "no loud music", "a quiet corner", "a quiet corner to work", "a quiet place to read", "a quiet spot", "some quiet", "a calm atmosphere", "a quiet seat"],
        Dogs => &["room for my dog", "dogs allowed", "a welcome for dogs", "space for a puppy", "a dog-friendly floor", "a bowl for my dog", "dogs welcome", "room for two dogs", "a place for my dog", "dog-friendly staff", "space for my dog", "pets allowed", "a spot where dogs are welcome", "room for a big dog", "a dog-friendly place"],
        Vegan => &["vegan food", "vegan options", "plant-based food", "a vegan menu", "oat milk and vegan snacks", "vegan dishes", "food without animal products", "a vegan breakfast", "vegan cookies", "a vegan lunch", "good vegan food", "something vegan", "vegan snacks", "vegan cooking"],
        Garden => &["garden seats", "a garden", "outdoor seats", "tables outside", "a terrace", "seats in the sun", "a place to sit outside", "a leafy garden", "a nice garden", "a sunny terrace", "a seat outside", "seats in a garden", "a courtyard", "a table in the garden"],
        OwnRoast => &["house-roasted beans", "their own roast", "freshly roasted beans", "beans roasted on site", "a roastery", "beans they roast themselves", "home-roasted coffee", "their own beans", "coffee roasted in the house", "beans from their own roaster", "a house roast", "house-roasted coffee", "an in-house roastery", "beans roasted by the owner"],
        Early => &["an early start", "early opening hours", "doors open at dawn", "coffee at six", "early hours", "breakfast before seven", "coffee before work", "an early opening", "an early breakfast", "coffee early in the morning", "coffee at sunrise", "doors open before seven", "a very early coffee", "early morning hours"],
        Late => &["late hours", "late opening hours", "doors open at night", "coffee late at night", "coffee at ten in the evening", "late closing", "seats after dinner", "night hours", "coffee in the late evening", "a late closing time", "doors open past ten", "a late coffee", "opening hours until late", "coffee before midnight"],
        StepFree => &["step-free access", "wheelchair access", "no stairs", "no steps", "a ramp", "a level entrance", "room for a wheelchair", "barrier-free access", "wheelchair-friendly rooms", "access for a wheelchair", "an entrance without steps", "a step-free entrance", "good wheelchair access", "access without stairs"],
        Cake => &["good cake", "cake", "homemade cakes", "fresh cake", "pastries and cake", "a slice of cake", "great cakes", "something sweet from the oven", "a good cake", "really good cake", "chocolate cake", "a cake counter", "sweet pastries", "delicious cakes"],
        Decaf => &["decaf", "good decaf", "decaf coffee", "coffee without caffeine", "decaffeinated coffee", "a decaf espresso", "caffeine-free coffee", "a proper decaf", "a decaf", "a good decaf", "decaf on the menu", "coffee with no caffeine", "a decaf latte", "nice decaf"],
        Children => &["a children's corner", "a play corner", "toys for the kids", "space for children", "something for the kids", "a kids' corner", "room for my toddler", "a play area", "a corner for children", "a corner for the kids", "a playroom", "fun for the children", "space for kids", "a place where kids can play"],
        LowPrices => &["low prices", "cheap coffee", "fair prices for students", "a small bill", "coffee on a budget", "affordable drinks", "inexpensive coffee", "cheap drinks", "good prices", "a low price", "cheap drinks for students", "budget prices", "coffee for little money", "prices that are low"],
        OldTown => &["an address in the Old Town", "a table in the Old Town", "an Old Town location", "a seat in the old centre", "a place in the Old Town", "a spot in the Old Town", "a home in the old part of town", "a door in the Old Town", "an old-town address"],
        Harbour => &["an address by the Harbour", "a table at the harbour", "a harbour location", "a seat near the ships", "a place at the Harbour", "a spot near the harbour", "a view of the harbour", "a door by the Harbour", "a seat by the sea"],
        Station => &["an address in the Station Quarter", "a table near the station", "a location close to the trains", "a seat by the railway station", "a place in the Station Quarter", "a spot near the station", "a seat close to the station", "a door in the Station Quarter", "a short walk to the train"],
        CollegeHill => &["an address on College Hill", "a table near the college", "a location on College Hill", "a seat close to the university", "a place on College Hill", "a spot on College Hill", "a seat near the campus", "a door on College Hill", "a short walk to the college"],
        Riverside => &["an address on the Riverside", "a table by the river", "a riverside location", "a seat along the river", "a place on the Riverside", "a spot by the river", "a view of the river", "a door on the Riverside", "a seat on the riverbank"],
    }
}

/// The sentences for a wish, without capital and full stop.
#[rustfmt::skip]
pub(super) fn clauses(wish: Wish) -> &'static [&'static str] {
    match wish {
        Wifi => &["I need to get online", "I have to send some emails", "I want to work on my laptop online", "I need the internet", "the wifi must work", "I have a video call", "I need wifi", "I need fast wifi", "there must be wifi", "I work online", "I want to check my mail", "wifi is a must"],
        Quiet => &["I want to read in peace", "it should be quiet", "I need to concentrate", "it must not be loud", "I cannot stand noise", "I would like some calm", "I need quiet", "I like it quiet", "I want to work in silence", "I have to study", "it has to be calm", "I want to write undisturbed"],
        Dogs => &["my dog comes along", "I am bringing my dog", "I have a dog with me", "dogs must be allowed", "our puppy is with us", "my terrier never leaves my side", "I have my dog with me", "my dog is coming along", "the dog must be welcome", "I bring a dog", "we have two dogs", "my dog needs a place too"],
        Vegan => &["I am vegan", "I eat only plants", "my friend is vegan", "we do not eat animal products", "the food should be vegan", "I want to eat vegan", "I need vegan food", "I want vegan food", "I would like something vegan", "I do not eat meat or dairy", "my daughter is vegan", "vegan food is a must"],
        Garden => &["I want to sit outside", "we would like to sit in the garden", "I want to enjoy the sun", "I prefer a seat outdoors", "we want some fresh air", "it should have a garden", "I want a garden", "we want to sit outside", "I would like to sit in a garden", "I like to sit under trees", "we want to be outdoors", "I need a seat outside"],
        OwnRoast => &["they should roast their own beans", "the beans should be roasted there", "I love places that roast their own coffee", "I want to buy beans roasted in the house", "the roast should be their own", "I want to smell the roaster", "I want house-roasted beans", "I like freshly roasted beans", "they must roast their coffee themselves", "the coffee should be roasted on site", "I am curious about their own roast", "I would like to taste their own beans"],
        Early => &["I get up very early", "it must open early", "I start work at seven", "I want coffee at dawn", "I need coffee before sunrise", "they should open at six", "I am up before dawn", "I need an early coffee", "I come very early", "it should open early in the morning", "I want breakfast at six", "I have an early shift"],
        Late => &["I am out late", "it must stay open late", "I want coffee after ten at night", "I come after the theatre", "they should close late", "I will be there around midnight", "I want a late coffee", "I come late in the evening", "it should be open late", "we will come after ten", "I work until late at night", "I need a place that is open late"],
        StepFree => &["I use a wheelchair", "I cannot climb stairs", "my mother uses a wheelchair", "there should be no steps", "we have a pram and no love of stairs", "it must be step-free", "I come in a wheelchair", "stairs are a problem for me", "my father cannot walk up steps", "I need step-free access", "my friend is in a wheelchair", "I need an entrance without steps"],
        Cake => &["I love cake", "I want to eat cake", "I have a sweet tooth", "we want something sweet", "the cakes should be good", "I crave a slice of cake", "I want cake", "I would love some cake", "there should be cake", "I need a piece of cake", "cake is a must", "we want cake with our coffee"],
        Decaf => &["I drink decaf", "I do not take caffeine", "caffeine keeps me awake", "it has to be decaf", "my doctor forbids caffeine", "I only drink decaf", "I need decaf", "I want decaf", "I would like a decaf", "it should have decaf", "I am off caffeine", "I must avoid caffeine"],
        Children => &["I come with my kids", "the children want to play", "our children are with us", "my toddler needs toys", "we have two small kids", "the kids should have a corner", "I have children with me", "my kids are with me", "I am coming with two kids", "there should be a corner for children", "my son wants to play", "the kids need something to do"],
        LowPrices => &["it should be cheap", "I am on a budget", "I do not want to spend much", "I am short of money", "it must not cost much", "I am a poor student", "I want to pay little", "I have little money", "it must be cheap", "I need something cheap", "prices should be low", "I cannot afford much"],
        OldTown => &["it should be in the Old Town", "I am in the Old Town", "I am staying in the old centre", "it must be in the old part of town", "we are strolling through the Old Town", "I want to stay in the Old Town", "the Old Town would be best", "I live in the Old Town", "somewhere in the Old Town please"],
        Harbour => &["it should be by the harbour", "I am at the Harbour", "I am staying near the port", "I want to be near the ships", "we are walking along the Harbour", "I want to stay by the Harbour", "the Harbour would be best", "I live by the harbour", "somewhere near the harbour please"],
        Station => &["it should be near the station", "I am at the railway station", "my train leaves soon", "I want to be close to the trains", "we are in the Station Quarter", "I want to stay near the station", "the Station Quarter would be best", "I live by the station", "somewhere near the station please"],
        CollegeHill => &["it should be on College Hill", "I am near the college", "I study at the college", "I want to be near the university", "we are up on College Hill", "I want to stay on College Hill", "College Hill would be best", "I live on College Hill", "somewhere near the college please"],
        Riverside => &["it should be by the river", "I am on the Riverside", "I am walking along the river", "I want to be near the river", "we are down at the Riverside", "I want to stay on the Riverside", "the Riverside would be best", "I live by the river", "somewhere near the river please"],
    }
}

/// The beginnings of a sentence about a place, each before "a" or "an".
pub(super) const PLACE_OPENINGS: &[&str] = &[
    "I am looking for",
    "I want",
    "I need",
    "Find me",
    "Please find",
    "Can you recommend",
    "Do you know",
    "Is there",
    "We want",
    "We are looking for",
    "I would like",
    "Recommend",
    "",
    "",
];

/// The words for a place.
pub(super) const PLACES: &[&str] = &[
    "place",
    "café",
    "coffee shop",
    "cafe",
    "spot",
    "coffee house",
    "place for coffee",
];

/// Frames around what the visitor wants to do.
pub(super) const DEED_FRAMES: &[&str] = &[
    "Where can I {}?",
    "I want to {}.",
    "I would like to {}.",
    "Where can we {}?",
    "Can I {} somewhere?",
    "We want to {}.",
    "I hope to {}.",
    "Where could I {}?",
    "I need to {}.",
];

/// The adjectives for a wish that has one, each of which can stand before "place".
pub(super) fn adjectives(wish: Wish) -> &'static [&'static str] {
    match wish {
        Quiet => &["quiet", "calm", "peaceful", "silent"],
        Dogs => &["dog-friendly", "pet-friendly"],
        Vegan => &["vegan", "vegan-friendly", "plant-based"],
        StepFree => &[
            "step-free",
            "wheelchair-friendly",
            "accessible",
            "barrier-free",
        ],
        Children => &["child-friendly", "kid-friendly", "family-friendly"],
        LowPrices => &["cheap", "affordable", "inexpensive", "low-priced"],
        _ => &[],
    }
}

/// What can follow "a place" for a wish.
#[rustfmt::skip]
pub(super) fn tails(wish: Wish) -> &'static [&'static str] {
    match wish {
        Wifi => &["where I can get online", "where I can work on my laptop", "that has wifi", "where the wifi is good"],
        Quiet => &["where it is quiet", "where I can read in peace", "where I can work in peace", "that is quiet"],
        Dogs => &["where I can bring my dog", "that welcomes dogs", "where my dog is welcome", "that takes dogs"],
        Vegan => &["that serves vegan food", "where I can eat vegan food", "that is good for vegans", "that has vegan food"],
        Garden => &["where we can sit outside", "that has a garden", "where I can sit in the sun", "where the seats are outside"],
        OwnRoast => &["that roasts its own beans", "where they roast the beans", "that has its own roast", "where the coffee is roasted in the house"],
        Early => &["that opens early", "open early in the morning", "that is open at six", "where I can get coffee before seven"],
        Late => &["that is open late", "open until late", "that closes late", "open late at night"],
        StepFree => &["without stairs", "without any steps", "I can enter with a wheelchair", "that is step-free"],
        Cake => &["that has good cake", "for cake", "where the cake is good", "for coffee and cake"],
        Decaf => &["that has decaf", "for decaf", "where they pour decaf", "where I can drink decaf"],
        Children => &["where the kids can play", "that is good for children", "for my kids", "where children are happy"],
        LowPrices => &["that is cheap", "that is not expensive", "for little money", "where prices are low"],
        OldTown => &["in the Old Town", "in the old centre", "in the old part of town"],
        Harbour => &["by the harbour", "at the Harbour", "near the harbour", "close to the ships"],
        Station => &["near the station", "in the Station Quarter", "by the station", "close to the railway station"],
        CollegeHill => &["on College Hill", "near the college", "close to the university", "by the college"],
        Riverside => &["near the river", "by the river", "on the Riverside", "along the river"],
    }
}

/// What a visitor with the wish wants to do, after "I want to".
#[rustfmt::skip]
pub(super) fn deeds(wish: Wish) -> &'static [&'static str] {
    match wish {
        Wifi => &["work on my laptop", "get online", "use the wifi", "surf the internet"],
        Quiet => &["read in peace", "work in peace", "sit in silence", "read quietly"],
        Dogs => &["bring my dog", "take my dog along", "come with my dog", "bring our puppy"],
        Vegan => &["eat vegan food", "have a vegan lunch", "eat something vegan", "get vegan food"],
        Garden => &["sit outside", "sit in a garden", "enjoy the sun on a terrace", "drink my coffee outdoors"],
        OwnRoast => &["buy house-roasted beans", "taste a house roast", "get freshly roasted beans", "drink coffee that is roasted there"],
        Early => &["get coffee before seven", "have a coffee very early", "have breakfast at six", "get an early coffee"],
        Late => &["have coffee late at night", "sit until late", "get a coffee after ten", "stay late"],
        StepFree => &["get in without stairs", "come with a wheelchair", "get in with my wheelchair", "avoid all steps"],
        Cake => &["eat cake", "have a slice of cake", "eat good cake", "enjoy some cake"],
        Decaf => &["drink decaf", "get a decaf", "have a good decaf", "drink coffee without caffeine"],
        Children => &["bring my children", "let the kids play", "come with my kids", "keep my toddler happy"],
        LowPrices => &["drink cheap coffee", "pay little", "spend little money", "save money"],
        OldTown => &["stay in the Old Town", "sit in the Old Town", "have coffee in the Old Town", "meet in the old centre"],
        Harbour => &["stay by the harbour", "sit by the harbour", "have coffee at the Harbour", "look at the ships"],
        Station => &["stay near the station", "sit near the station", "have coffee in the Station Quarter", "be close to my train"],
        CollegeHill => &["stay on College Hill", "sit on College Hill", "have coffee near the college", "meet near the university"],
        Riverside => &["stay by the river", "sit by the river", "have coffee on the Riverside", "look at the river"],
    }
}

/// Short forms that a message may use throughout.
pub(super) const SHORT_FORMS: &[(&str, &str)] = &[
    ("I would ", "I'd "),
    ("we would ", "we'd "),
    ("We would ", "We'd "),
    ("I am ", "I'm "),
    ("we are ", "we're "),
    ("We are ", "We're "),
    ("do not ", "don't "),
    ("cannot ", "can't "),
    ("it is ", "it's "),
    ("It is ", "It's "),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coffee::town::WISHES;

    #[test]
    fn no_wording_stands_for_two_wishes() {
        let mut seen = std::collections::BTreeMap::new();
        for wish in WISHES {
            let phrases = [things, clauses, adjectives, tails, deeds].map(|table| table(wish));
            for &phrase in phrases.iter().copied().flatten() {
                let other = seen.insert(phrase, wish).unwrap_or(wish);
                assert_eq!(other, wish, "{phrase}");
            }
        }
    }
}
