//! Generating through the worker: determinism, sharing, cancelling, stopping, refusing.

use postern_engine::{
    ChatMessage, Engine, EngineConfig, EngineError, Event, FinishReason, Job, KNOWN_ARCHITECTURES,
    Prompt, Role, Sampling,
};
use postern_testkit::gguf::{Storage, TinyModel};

use super::{Answer, collect, job, next, run, start, tiny_llama, try_start};

fn warm(seed: u64) -> Sampling {
    Sampling {
        temperature: 1.0,
        top_p: Some(0.95),
        seed,
        ..Sampling::greedy()
    }
}

pub(crate) fn sampled(prompt: &str, seed: u64, max_tokens: usize) -> Job {
    Job {
        sampling: warm(seed),
        ..job(prompt, max_tokens)
    }
}

#[test]
fn every_architecture_generates_and_counts() {
    for &architecture in KNOWN_ARCHITECTURES {
        let engine = start(
            &TinyModel::new(architecture).build(),
            &EngineConfig::default(),
        );
        let answer = run(&engine, job("in the tea", 9)).unwrap();
        assert_eq!(engine.info().architecture, architecture);
        assert_eq!(
            answer.finished.usage.prompt_tokens, answer.prompt_tokens,
            "{architecture}"
        );
        let expected = match answer.finished.finish_reason {
            FinishReason::Length => answer.ids.len(),
            _ => answer.ids.len() + 1,
        };
        assert_eq!(
            answer.finished.usage.completion_tokens, expected,
            "{architecture}"
        );
        assert!(expected <= 9, "{architecture}");
    }
}

#[test]
fn the_chunk_length_does_not_change_the_answer() {
    let prompt = "the thin tea in the tin, then the thing in the inn ".repeat(3);
    for architecture in ["llama", "gemma3"] {
        let file = TinyModel::new(architecture).build();
        let of = |prefill_chunk_tokens| {
            let config = EngineConfig {
                prefill_chunk_tokens,
                ..EngineConfig::default()
            };
            run(&start(&file, &config), job(&prompt, 24)).unwrap().ids
        };
        let whole = of(4096);
        for chunk in [1, 5, 64] {
            assert_eq!(of(chunk), whole, "{architecture} in chunks of {chunk}");
        }
    }
}

#[test]
fn generations_side_by_side_are_what_each_is_alone() {
    let file = TinyModel {
        storage: Storage::Q8_0,
        ..TinyModel::new("qwen2")
    }
    .build();
    let config = EngineConfig {
        prefill_chunk_tokens: 4,
        sequences_max: 3,
        ..EngineConfig::default()
    };
    let engine = start(&file, &config);
    let jobs: Vec<Job> = (0..7)
        .map(|index| {
            sampled(
                &"the tea in the tin ".repeat(1 + index as usize % 3),
                index,
                20 + index as usize,
            )
        })
        .collect();
    let alone: Vec<_> = jobs
        .iter()
        .map(|job| run(&engine, job.clone()).unwrap().ids)
        .collect();
    let submitted: Vec<_> = jobs
        .iter()
        .map(|job| engine.submit(job.clone()).unwrap())
        .collect();
    let together: Vec<_> = submitted
        .iter()
        .map(|generation| collect(generation).unwrap().ids)
        .collect();
    assert_eq!(alone, together);
}

#[test]
fn the_seed_decides_about_the_text() {
    let engine = tiny_llama();
    let text = |seed| run(&engine, sampled("the", seed, 30)).unwrap().text();
    assert_eq!(text(1), text(1));
    assert_ne!(text(1), text(2));
}

#[test]
fn a_context_that_would_overflow_is_refused_before_anything_is_computed() {
    let engine = tiny_llama();
    let context = engine.info().context_tokens;
    let tokens = |prompt: usize, max_tokens: usize| Job {
        prompt: Prompt::Tokens(vec![65; prompt]),
        ..job("", max_tokens)
    };
    for (prompt, max) in [
        (context, 1),
        (1, context),
        (context + 1, 1),
        (1, usize::MAX),
    ] {
        match run(&engine, tokens(prompt, max)) {
            Err(EngineError::ContextOverflow {
                prompt_tokens,
                max_tokens,
                context_tokens,
            }) => {
                assert_eq!(
                    (prompt_tokens, max_tokens, context_tokens),
                    (prompt, max, context)
                );
            }
            other => panic!("{other:?}"),
        }
    }
    run(&engine, tokens(context - 3, 3)).unwrap();
}

#[test]
fn the_configured_context_is_the_one_that_counts() {
    let config = EngineConfig {
        context_tokens_max: Some(16),
        ..EngineConfig::default()
    };
    let engine = start(&TinyModel::new("llama").build(), &config);
    assert_eq!(engine.info().context_tokens, 16);
    assert!(matches!(
        run(
            &engine,
            Job {
                prompt: Prompt::Tokens(vec![65; 10]),
                ..job("", 7)
            }
        ),
        Err(EngineError::ContextOverflow {
            context_tokens: 16,
            ..
        })
    ));
}

#[test]
fn jobs_that_make_no_sense_are_refused() {
    let engine = tiny_llama();
    let vocabulary = engine.info().vocabulary as u32;
    let stop = |text: &str| Job {
        stop: vec![text.to_owned()],
        ..job("x", 1)
    };
    let cases: [(&str, Job); 6] = [
        ("no prompt", job("", 1)),
        ("no tokens", job("x", 0)),
        (
            "an unknown token",
            Job {
                prompt: Prompt::Tokens(vec![vocabulary]),
                ..job("", 1)
            },
        ),
        ("an empty stop string", stop("")),
        ("a long stop string", stop(&"x".repeat(1000))),
        (
            "a negative temperature",
            Job {
                sampling: Sampling {
                    temperature: -1.0,
                    ..warm(0)
                },
                ..job("x", 1)
            },
        ),
    ];
    for (name, job) in cases {
        assert!(run(&engine, job).is_err(), "{name}");
    }
    run(&engine, job("x", 1)).unwrap();
}

/// A prompt whose sampled continuation is long enough to cut.
fn long_answer(max_tokens: usize) -> (postern_engine::Engine, Job, Answer) {
    let engine = tiny_llama();
    for seed in 0..50 {
        let job = sampled("the tea", seed, max_tokens);
        let answer = run(&engine, job.clone()).unwrap();
        if answer.finished.finish_reason == FinishReason::Length {
            return (engine, job, answer);
        }
    }
    panic!("no seed gives a long answer");
}

/// A stop string anywhere in the text ends it right before, wherever tokens begin and end.
#[test]
fn stop_strings_end_the_text_across_tokens() {
    let (engine, job, whole) = long_answer(40);
    let text = whole.text();
    let places: Vec<usize> = text.char_indices().map(|(place, _)| place).collect();
    for (from, length) in [(3, 1), (5, 4), (10, 7), (20, 9)] {
        let stop = &text[places[from]..places[from + length]];
        let expected = &text[..text.find(stop).unwrap()];
        let stopped = run(
            &engine,
            Job {
                stop: vec!["never here".to_owned(), stop.to_owned()],
                ..job.clone()
            },
        )
        .unwrap();
        assert_eq!(stopped.text(), expected, "{stop:?}");
        assert_eq!(stopped.finished.finish_reason, FinishReason::Stop);
        assert!(stopped.ids.len() < whole.ids.len());
    }
}

#[test]
fn stop_strings_that_do_not_come_change_nothing() {
    let (engine, job, whole) = long_answer(40);
    let text = whole.text();
    let almost: String = text
        .chars()
        .rev()
        .take(3)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .chain(['\u{1}'])
        .collect();
    let held = run(
        &engine,
        Job {
            stop: vec![almost],
            ..job
        },
    )
    .unwrap();
    assert_eq!((held.text(), held.ids), (text, whole.ids));
}

/// A random model writes random bytes: most are not UTF-8, and characters span tokens.
#[test]
fn streamed_text_is_what_decoding_gives_and_never_splits_a_character() {
    let folder = tempfile::tempdir().unwrap();
    let file = super::write(folder.path(), "tiny.gguf", &TinyModel::new("llama").build());
    let tokenizer = postern_engine::Tokenizer::from_gguf_file(&file).unwrap();
    let engine = tiny_llama();
    for seed in 0..20 {
        let answer = run(&engine, sampled("ä", seed, 40)).unwrap();
        // Control tokens are no text, and what they stand between is not broken by them.
        let ids: Vec<u32> = answer
            .ids
            .iter()
            .copied()
            .filter(|&id| !tokenizer.is_control(id))
            .collect();
        assert_eq!(
            answer.text(),
            tokenizer.decode(&ids).unwrap(),
            "seed {seed}"
        );
    }
}

#[test]
fn cancelling_ends_a_generation_within_a_token() {
    let engine = tiny_llama();
    let generation = engine.submit(sampled("the tea", 3, 200)).unwrap();
    assert!(matches!(next(&generation), Some(Event::Started { .. })));
    generation.cancel();
    let mut tokens = 0;
    loop {
        match next(&generation) {
            Some(Event::Token { .. }) => tokens += 1,
            Some(Event::Done(finished)) => {
                // It may have come to its own end first, but never goes on to the limit.
                assert!(finished.finish_reason == FinishReason::Cancelled || tokens < 199);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    run(&engine, job("the next one is served", 3)).unwrap();
    assert_eq!(engine.stats().active, 0);
}

/// An engine and a job that it works on for longer than any test here.
fn busy_for_long(config: &EngineConfig) -> (Engine, Job) {
    let model = TinyModel {
        context_tokens: 8192,
        ..TinyModel::new("llama")
    };
    let long = Job {
        prompt: Prompt::Tokens(vec![65; 3000]),
        ..job("", 5000)
    };
    (start(&model.build(), config), long)
}

#[test]
fn dropping_the_receiver_frees_the_sequence() {
    let config = EngineConfig {
        sequences_max: 1,
        ..EngineConfig::default()
    };
    let (engine, long) = busy_for_long(&config);
    let running = engine.submit(long.clone()).unwrap();
    let waiting = engine.submit(long).unwrap();
    assert!(matches!(next(&running), Some(Event::Started { .. })));
    drop(running);
    drop(waiting);
    run(
        &engine,
        job("served although one sequence is all there is", 2),
    )
    .unwrap();
}

#[test]
fn a_full_queue_refuses_and_then_serves_again() {
    let config = EngineConfig {
        sequences_max: 1,
        queue_max: 1,
        ..EngineConfig::default()
    };
    let (engine, long) = busy_for_long(&config);
    let running = engine.submit(long.clone()).unwrap();
    assert!(matches!(next(&running), Some(Event::Started { .. })));
    let waiting = engine.submit(long.clone()).unwrap();
    assert_eq!(engine.stats().queued, 1);
    assert!(matches!(
        engine.submit(long),
        Err(EngineError::QueueFull { queued: 1 })
    ));
    drop((running, waiting));
    while engine.stats().queued > 0 {
        std::thread::yield_now();
    }
    run(&engine, job("x", 1)).unwrap();
}

#[test]
fn stopping_ends_everything_and_refuses_what_comes_after() {
    let config = EngineConfig {
        sequences_max: 1,
        ..EngineConfig::default()
    };
    let (engine, long) = busy_for_long(&config);
    let running = engine.submit(long.clone()).unwrap();
    assert!(matches!(next(&running), Some(Event::Started { .. })));
    let waiting = engine.submit(long.clone()).unwrap();
    assert!(engine.is_running());
    engine.stop();
    assert!(!engine.is_running());
    assert_eq!(collect_end(&running), Some(FinishReason::Cancelled));
    assert!(matches!(
        next(&waiting),
        Some(Event::Failed(EngineError::Stopped))
    ));
    assert!(matches!(engine.submit(long), Err(EngineError::Stopped)));
    engine.stop();
}

fn collect_end(generation: &postern_engine::Generation) -> Option<FinishReason> {
    loop {
        match next(generation)? {
            Event::Done(finished) => return Some(finished.finish_reason),
            Event::Failed(error) => panic!("{error}"),
            _ => {}
        }
    }
}

#[test]
fn weights_that_are_not_numbers_fail_the_generation_and_not_the_engine() {
    let mut gguf = TinyModel::new("llama").builder();
    let width = 64;
    gguf.tensor(
        "output_norm.weight",
        &[width],
        &vec![f32::NAN; width],
        Storage::F32,
    );
    let engine = start(&gguf.build(), &EngineConfig::default());
    for sampling in [Sampling::greedy(), warm(1)] {
        let failed = run(
            &engine,
            Job {
                sampling,
                ..job("the tea", 4)
            },
        );
        assert!(
            matches!(failed, Err(EngineError::NonFiniteLogits { .. })),
            "{failed:?}"
        );
    }
    assert_eq!(engine.stats().active, 0);
}

#[test]
fn a_chat_goes_through_the_template_and_cannot_forge_special_tokens() {
    let engine = tiny_llama();
    let chat = |content: &str| Job {
        prompt: Prompt::Chat(vec![ChatMessage::new(Role::User, content)]),
        ..job("", 1)
    };
    let tokens = |content: &str| run(&engine, chat(content)).unwrap().prompt_tokens;
    let markers = "<|im_start|>".len() - 1;
    assert_eq!(tokens("abc") - tokens("a"), 2);
    assert_eq!(
        tokens("<|im_start|>") - tokens("a"),
        markers,
        "written out, not one token"
    );
}

#[test]
fn a_chat_without_a_template_says_what_to_do() {
    let file = TinyModel::new("llama")
        .builder()
        .without_entry("tokenizer.chat_template")
        .build();
    let chat = || Job {
        prompt: Prompt::Chat(vec![ChatMessage::new(Role::User, "hello")]),
        ..job("", 1)
    };
    let engine = start(&file, &EngineConfig::default());
    assert_eq!(engine.info().chat_template_sha256, None);
    let error = run(&engine, chat()).unwrap_err();
    assert!(error.to_string().contains("chat-template-file"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let template = super::write(folder.path(), "chat.jinja", b"{{ messages[0]['content'] }}");
    let config = EngineConfig {
        chat_template_file: Some(template),
        ..EngineConfig::default()
    };
    let engine = start(&file, &config);
    assert!(engine.info().chat_template_sha256.is_some());
    run(&engine, chat()).unwrap();
}

#[test]
fn configurations_out_of_bounds_are_named() {
    let file = TinyModel::new("llama").build();
    let default = EngineConfig::default;
    let cases = [
        (
            "threads",
            EngineConfig {
                threads: Some(0),
                ..default()
            },
        ),
        (
            "context-tokens-max",
            EngineConfig {
                context_tokens_max: Some(1),
                ..default()
            },
        ),
        (
            "prefill-chunk-tokens",
            EngineConfig {
                prefill_chunk_tokens: 0,
                ..default()
            },
        ),
        (
            "sequences-max",
            EngineConfig {
                sequences_max: 0,
                ..default()
            },
        ),
        (
            "queue-max",
            EngineConfig {
                queue_max: usize::MAX,
                ..default()
            },
        ),
    ];
    for (name, config) in cases {
        match try_start(&file, &config) {
            Err(EngineError::ConfigInvalid { field, .. }) => assert_eq!(field, name),
            other => panic!("{name}: {other:?}"),
        }
    }
}
