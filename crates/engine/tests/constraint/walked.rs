//! Constraints over made and published vocabularies, with tokens chosen at random among the allowed ones.

use postern_engine::{Constraint, Grammars, Tokenizer};
use postern_testkit::vocabularies::{VOCABULARIES, file, folder};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde_json::{Value, json};

use crate::made_vocabulary::{changed, entry, made, strings};
use crate::{fault, schemas};

/// More than any output of the bounded schemas has, at one token a byte.
const WALK_TOKENS_MAX: usize = 600;
const WALKS: u64 = 8;

fn vocabularies() -> Vec<(&'static str, Tokenizer)> {
    let mut all = vec![("made gpt2", made("gpt2")), ("made llama", made("llama"))];
    let folder = folder();
    let published = folder.iter().flat_map(|folder| {
        VOCABULARIES.map(|name| {
            let tokenizer = Tokenizer::from_gguf_file(&file(folder, name));
            let tokenizer = tokenizer.unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, tokenizer)
        })
    });
    all.extend(published);
    all
}

/// One of the allowed tokens.
fn choose(constraint: &mut Constraint, random: &mut ChaCha12Rng) -> u32 {
    let mask = constraint.mask().expect("something may follow");
    let place = random.next_u32() as usize % mask.count();
    mask.iter().nth(place).expect("as many as were counted")
}

/// The text of a walk to the end, and how many of its tokens were forced.
fn walk(
    tokenizer: &Tokenizer,
    grammars: &Grammars,
    schema: &Value,
    seed: u64,
) -> Result<(String, usize), String> {
    let mut constraint = Constraint::new(grammars, schema).map_err(|error| error.to_string())?;
    let mut random = ChaCha12Rng::seed_from_u64(seed);
    // As after the end of a prompt, where some vocabularies put a space before text.
    let mut stream = tokenizer.stream(None).expect("starts");
    let (mut text, mut forced) = (String::new(), 0);
    for _ in 0..WALK_TOKENS_MAX {
        if constraint.is_complete() {
            return Ok((text + &stream.finish(), forced));
        }
        let must = constraint.forced().first().copied();
        let token = choose(&mut constraint, &mut random);
        if let Some(must) = must {
            assert_eq!(must, token, "the mask of a forced token has no other");
            forced += 1;
        }
        constraint
            .commit(token)
            .map_err(|error| error.to_string())?;
        if tokenizer.special().end_of_generation.contains(&token) {
            return Ok((text + &stream.finish(), forced));
        }
        assert!(
            !tokenizer.is_reserved(token),
            "{:?}",
            tokenizer.piece(token)
        );
        text.push_str(&stream.push(token).expect("known"));
    }
    Err(format!("no end after {WALK_TOKENS_MAX} tokens: {text:?}"))
}

#[test]
fn any_choice_of_allowed_tokens_validates() {
    let mut faults = Vec::new();
    for (vocabulary, tokenizer) in vocabularies() {
        let grammars = Grammars::new(tokenizer.clone());
        for (name, schema) in schemas::bounded() {
            for seed in 0..WALKS {
                let found = match walk(&tokenizer, &grammars, &schema, seed) {
                    Ok((text, _)) => fault(&schema, &text),
                    Err(error) => Some(error),
                };
                faults.extend(found.map(|fault| format!("{vocabulary}, {name}: {fault}")));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn what_can_only_be_one_text_is_forced_as_the_tokenizer_writes_it() {
    let schema = json!({
        "type": "object",
        "properties": { "the first": { "const": "the last" }, "größe": { "const": "抹茶 ☕️" } },
        "required": ["the first", "größe"],
        "additionalProperties": false,
    });
    let text = r#"{"the first":"the last","größe":"抹茶 ☕️"}"#;
    for (vocabulary, tokenizer) in vocabularies() {
        let grammars = Grammars::new(tokenizer.clone());
        let mut constraint = Constraint::new(&grammars, &schema).expect("it is allowed");
        let forced = constraint.forced().to_vec();
        assert_eq!(
            tokenizer.decode(&forced).expect("known"),
            text,
            "{vocabulary}"
        );
        // A vocabulary may put a space before a text that stands alone, which is no part of the JSON.
        let whole = tokenizer.encode(text, false).expect("short");
        assert!(
            forced.len() <= whole.len() + 1,
            "{vocabulary}: {forced:?}, {whole:?}"
        );
        for token in forced {
            assert!(!constraint.is_complete());
            constraint.commit(token).expect("it was forced");
        }
        assert!(constraint.is_complete());
        let mask = constraint.mask().expect("the end may follow");
        let ends: Vec<u32> = mask.iter().collect();
        let expected = &tokenizer.special().end_of_generation;
        assert!(ends.iter().eq(expected), "{vocabulary}: {ends:?}");
        assert!(constraint.forced().is_empty());
    }
}

#[test]
fn an_end_is_allowed_only_where_the_text_may_end() {
    let tokenizer = made("gpt2");
    let grammars = Grammars::new(tokenizer.clone());
    let mut constraint = Constraint::new(&grammars, &json!({ "type": "integer" })).expect("fine");
    let may_end = |constraint: &mut Constraint| {
        let mask = constraint.mask().expect("something may follow");
        let ends = &tokenizer.special().end_of_generation;
        assert_eq!(mask.count(), mask.iter().count());
        ends.iter().any(|&end| mask.allows(end))
    };
    let digit = |text| tokenizer.id(text).expect("every byte is a token");
    assert!(!may_end(&mut constraint));
    constraint.commit(digit("-")).expect("it is allowed");
    assert!(!may_end(&mut constraint));
    constraint.commit(digit("4")).expect("it is allowed");
    assert!(may_end(&mut constraint) && !constraint.is_complete());
    assert!(constraint.commit(digit("x")).is_err(), "no number has an x");
}

#[test]
fn a_vocabulary_that_cannot_write_every_byte_is_refused() {
    // No text has this byte, so the tokenizer does without it.
    let tokens: Vec<String> = (0..)
        .map_while(|id| made("gpt2").piece(id).map(str::to_owned))
        .map(|token| {
            if token == "À" {
                "ÀÀ".to_owned()
            } else {
                token
            }
        })
        .collect();
    let without = changed("gpt2", [entry("tokens", strings(tokens))]);
    let grammars = Grammars::new(without.expect("a vocabulary"));
    let refused = Constraint::new(&grammars, &json!({})).map(|_| ());
    let message = refused.expect_err("no token is the byte 0xC0").to_string();
    assert!(message.contains("no token is the byte 0xc0"), "{message}");
}
