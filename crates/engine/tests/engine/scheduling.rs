//! Many jobs at a time: nobody's text depends on the company, on what is in the KV cache, or on guesses.

use std::time::Instant;

use postern_engine::{ChatMessage, Engine, EngineConfig, Job, Prompt, Role, forced_generation};
use postern_testkit::gguf::{Storage, TinyModel};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::generation::sampled;
use super::{PATIENCE, collect, job, next, run, start};

fn engine(architecture: &str, config: &EngineConfig) -> Engine {
    let model = TinyModel {
        storage: Storage::Q8_0,
        context_tokens: 1024,
        ..TinyModel::new(architecture)
    };
    start(&model.build(), config)
}

/// Jobs of all kinds: long and short prompts that begin alike, greedy and sampled, of three tenants.
fn jobs() -> Vec<Job> {
    (0..24)
        .map(|index| {
            let prompt = "in the tin the tea is thin ".repeat(1 + index as usize * 5 % 9);
            let job = match index % 3 {
                0 => job(&prompt, 30),
                _ => sampled(&prompt, index, 10 + index as usize),
            };
            Job {
                tenant: format!("tenant {}", index % 3),
                ..job
            }
        })
        .collect()
}

#[test]
fn a_text_depends_on_nothing_but_its_job() {
    for architecture in ["llama", "qwen2", "qwen3", "gemma3"] {
        let alone = EngineConfig {
            sequences_max: 1,
            prefill_chunk_tokens: 64,
            prompt_lookup: false,
            ..EngineConfig::default()
        };
        // A fresh engine for each: nothing is in the cache.
        let expected: Vec<_> = jobs()
            .into_iter()
            .map(|job| run(&engine(architecture, &alone), job).unwrap().ids)
            .collect();
        for (prompt_lookup, chunk_busy) in [(true, 16), (false, 3)] {
            let config = EngineConfig {
                sequences_max: 5,
                prefill_chunk_tokens: 64,
                prefill_chunk_tokens_busy: chunk_busy,
                prompt_lookup,
                ..EngineConfig::default()
            };
            let engine = engine(architecture, &config);
            // The second time round, prompts are warm.
            for round in 0..2 {
                let mut order: Vec<usize> = (0..expected.len()).collect();
                order.rotate_left(7 * round);
                let submitted: Vec<_> = order
                    .iter()
                    .map(|&index| engine.submit(jobs()[index].clone()).unwrap())
                    .collect();
                for (index, generation) in order.into_iter().zip(&submitted) {
                    let found = collect(generation).unwrap().ids;
                    assert_eq!(
                        found, expected[index],
                        "{architecture}, job {index}, round {round}"
                    );
                }
            }
            assert_eq!(engine.stats().cache.pages_in_use, 0);
        }
    }
}

#[test]
fn a_prompt_that_was_seen_is_not_computed_again() {
    let engine = engine("llama", &EngineConfig::default());
    let cached = |tenant: &str, prompt: &str| {
        let job = Job {
            tenant: tenant.to_owned(),
            ..job(prompt, 2)
        };
        let usage = run(&engine, job).unwrap().finished.usage;
        assert!(usage.cached_prompt_tokens < usage.prompt_tokens);
        usage.cached_prompt_tokens
    };
    let prompt = "x".repeat(100);
    assert_eq!(cached("a", &prompt), 0);
    assert_eq!(cached("a", &prompt), 96);
    assert_eq!(cached("a", &format!("{}y", &prompt[..70])), 64);
    assert_eq!(cached("b", &prompt), 0, "another tenant's");
    let work = engine.stats().work;
    assert_eq!(work.cached_prompt_tokens, 160);
}

#[test]
fn the_fixed_part_of_a_message_serves_every_tenant() {
    let engine = engine("llama", &EngineConfig::default());
    let head = "Answer like a pirate. ".repeat(10);
    let cached = |tenant: &str, rest: &str, fixed_bytes: usize| {
        let message = ChatMessage {
            fixed_bytes,
            ..ChatMessage::new(Role::User, format!("{head}{rest}"))
        };
        let job = Job {
            prompt: Prompt::Chat(vec![message]),
            tenant: tenant.to_owned(),
            ..job("", 1)
        };
        run(&engine, job)
            .unwrap()
            .finished
            .usage
            .cached_prompt_tokens
    };
    assert_eq!(cached("a", "my secret", head.len()), 0);
    let shared = cached("b", "my secret", head.len());
    assert!(shared >= 192 && shared <= head.len() + 20, "{shared}");
    // What looks fixed and is the tenant's own is not found by others.
    assert_eq!(cached("c", "my secret", 0), 0);
}

#[test]
fn jobs_wait_for_room_in_the_cache_and_all_get_it() {
    let config = EngineConfig {
        sequences_max: 8,
        kv_cache_mib: 1,
        ..EngineConfig::default()
    };
    let engine = engine("llama", &config);
    let pages = engine.stats().cache.pages;
    // Tokens of a job, prompt included, in pages of 32.
    let at_once_max = pages / (900 / 32);
    assert!((1..8).contains(&at_once_max), "{pages} pages hold all");
    let submitted: Vec<_> = (0..12)
        .map(|index| {
            engine
                .submit(job(&format!("{index} is a number"), 900))
                .unwrap()
        })
        .collect();
    let mut most = 0;
    for generation in &submitted {
        while let Some(event) = next(generation) {
            most = most.max(engine.stats().active);
            assert!(
                !matches!(event, postern_engine::Event::Failed(_)),
                "{event:?}"
            );
        }
    }
    assert!((1..=at_once_max).contains(&most), "{most} at once");
    assert_eq!(engine.stats().cache.pages_in_use, 0);
}

#[test]
fn guesses_that_are_right_save_passes() {
    let passes = |prompt_lookup| {
        let config = EngineConfig {
            prompt_lookup,
            ..EngineConfig::default()
        };
        let engine = engine("qwen2", &config);
        let script: Vec<u32> = (0..200).map(|at| 20 + at % 50).collect();
        let prompt = Prompt::Tokens(script[..50].to_vec());
        let job = Job {
            prompt,
            ..job("", script.len())
        };
        let generation = forced_generation(&engine, job, script.clone()).unwrap();
        assert_eq!(collect(&generation).unwrap().ids, script);
        // Figures of the last pass are there once it is over.
        engine.stop();
        engine.stats().work
    };
    let (with, without) = (passes(true), passes(false));
    assert_eq!(without.guessed_tokens, 0);
    assert_eq!(with.completion_tokens, without.completion_tokens);
    assert!(
        with.right_guesses * 10 > with.guessed_tokens * 9,
        "{with:?}"
    );
    assert!(with.passes * 3 < without.passes, "{with:?} {without:?}");
}

#[test]
fn whoever_comes_and_goes_leaves_no_page_behind() {
    let random = &mut ChaCha8Rng::seed_from_u64(1);
    let config = EngineConfig {
        sequences_max: 6,
        queue_max: 64,
        kv_cache_mib: 1,
        ..EngineConfig::default()
    };
    let engine = engine("qwen3", &config);
    let mut open = Vec::new();
    for _ in 0..400 {
        let prompt = "a tin of tea ".repeat(random.random_range(1..40));
        let tokens = random.random_range(1..200);
        if let Ok(generation) = engine.submit(job(&prompt, tokens)) {
            open.push(generation);
        }
        while open.len() > random.random_range(1..20) {
            let generation = open.swap_remove(random.random_range(0..open.len()));
            match random.random_range(0..3) {
                0 => drop(generation),
                1 => {
                    generation.cancel();
                    while next(&generation).is_some() {}
                }
                _ => {
                    let _ = next(&generation);
                }
            }
        }
    }
    for generation in &open {
        collect(generation).unwrap();
    }
    let begun = Instant::now();
    while engine.stats().active > 0 || engine.stats().queued > 0 {
        assert!(begun.elapsed() < PATIENCE, "{:?}", engine.stats());
        std::thread::yield_now();
    }
    assert_eq!(engine.stats().cache.pages_in_use, 0);
}
