//! What callers get of one engine that serves several of them, measured in a process of its own.
//!
//! Tokens are given instead of chosen where the text must not depend on random weights; everything else is as for any
//! call. Absent: any comparison.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use postern_engine::{
    Canceller, Engine, EngineConfig, Finished, Generation, Job, ModelManifest, OutputFormat,
    Sampling, Tokenizer, forced_generation,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::bare::{bare_engine, collect, follow, job};
use crate::report::median;

/// Callers at a time; the first is what the others are held against.
pub(crate) const TOGETHER: [usize; 4] = [1, 2, 4, 8];
/// Tokens that each of them begins with, and decodes.
pub(crate) const TOGETHER_PROMPT_TOKENS: usize = 16;
pub(crate) const TOGETHER_DECODE_TOKENS: usize = 64;
/// A template's fixed part, and what a call adds.
const HEAD_TOKENS: usize = 600;
const TAIL_TOKENS: usize = 40;
const HEADS: u64 = 3;
/// Streams that run while a long prompt comes, the tokens they have by then, and those they are given in all: more than
/// passes take the prompt in, four tokens each.
const STREAMS: u64 = 3;
const STREAM_TOKENS_BEFORE: usize = 32;
const STREAM_TOKENS: usize = LONG_PROMPT_TOKENS / 4 + 4 * STREAM_TOKENS_BEFORE;
const LONG_PROMPT_TOKENS: usize = 2000;
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Calls with a schema and without, and the tokens of each.
const SCHEMA_CALLS: u64 = 3;
const SCHEMA_TOKENS: usize = 128;
/// A text of random weights may end at any token; one that ends soon is tried again with another seed.
const SCHEMA_TRIES: usize = 8;
const SEED_STEP: usize = 100;

const COPYING: [&str; 2] = [
    include_str!("texts/prompt.txt"),
    include_str!("texts/answer.txt"),
];
const NOT_COPYING: [&str; 2] = [
    include_str!("texts/question.txt"),
    include_str!("texts/prose.txt"),
];

/// A model and the threads to serve it with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CallersRequest {
    pub(crate) manifest: PathBuf,
    pub(crate) threads: usize,
}

/// What several callers get.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Callers {
    pub(crate) backend: String,
    /// Of all together, in the order of [`TOGETHER`].
    pub(crate) decode_tokens_per_s: Vec<f64>,
    /// To the first token of a head that was never seen.
    pub(crate) cold_first_token_s: f64,
    /// To the first token of a head that an earlier call began with, too.
    pub(crate) warm_first_token_s: f64,
    /// Between two tokens of a stream, in the middle.
    pub(crate) usual_gap_s: f64,
    /// The longest while a long prompt is taken in.
    pub(crate) longest_gap_s: f64,
    pub(crate) token_s: f64,
    pub(crate) token_with_schema_s: f64,
}

/// How fast given texts are decoded, with prompt lookup and without.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Texts {
    pub(crate) copying: Lookup,
    pub(crate) not_copying: Lookup,
}

/// Tokens a second.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Lookup {
    pub(crate) with: f64,
    pub(crate) without: f64,
}

/// Serves several callers.
pub(crate) fn serve_callers(request: &CallersRequest) -> Result<Callers> {
    let config = EngineConfig {
        threads: Some(request.threads),
        sequences_max: TOGETHER.into_iter().max().unwrap_or(1),
        // Random tokens repeat nothing.
        prompt_lookup: false,
        ..EngineConfig::default()
    };
    let (engine, _) = bare_engine(&ModelManifest::read(&request.manifest)?, &config)?;
    let server = Server { engine };
    server.warm_up()?;
    let decode_tokens_per_s = TOGETHER
        .iter()
        .map(|&callers| server.decode_together(callers))
        .collect::<Result<_>>()?;
    let (cold_first_token_s, warm_first_token_s) = server.first_tokens()?;
    let (usual_gap_s, longest_gap_s) = server.gaps()?;
    let (token_s, token_with_schema_s) = server.with_schema()?;
    Ok(Callers {
        backend: server.engine.info().backend.to_owned(),
        decode_tokens_per_s,
        cold_first_token_s,
        warm_first_token_s,
        usual_gap_s,
        longest_gap_s,
        token_s,
        token_with_schema_s,
    })
}

/// Decodes a text that copies much of its prompt, and one that copies nothing.
pub(crate) fn serve_texts(request: &CallersRequest) -> Result<Texts> {
    let manifest = ModelManifest::read(&request.manifest)?;
    let server = |prompt_lookup| -> Result<Server> {
        let config = EngineConfig {
            threads: Some(request.threads),
            sequences_max: 1,
            prompt_lookup,
            ..EngineConfig::default()
        };
        let (engine, _) = bare_engine(&manifest, &config)?;
        let server = Server { engine };
        server.warm_up()?;
        Ok(server)
    };
    let (with, without) = (server(true)?, server(false)?);
    let tokenizer = Tokenizer::from_gguf_file(&manifest.path)?;
    let measure = |[prompt, answer]: [&str; 2]| -> Result<Lookup> {
        let prompt = tokenizer.encode(prompt, false)?;
        let answer = tokenizer.encode(answer, false)?;
        let decode_s = |server: &Server| -> Result<f64> {
            let completion = collect(&server.forced(prompt.clone(), answer.clone())?)?;
            Ok(completion.finished.timings.decode_ms / 1e3)
        };
        // In an order that favours neither where the machine grows slower or faster.
        let first = decode_s(&with)?;
        let without_s = decode_s(&without)? + decode_s(&without)?;
        let with_s = first + decode_s(&with)?;
        let tokens = 2.0 * (answer.len() - 1) as f64;
        Ok(Lookup {
            with: tokens / with_s,
            without: tokens / without_s,
        })
    };
    Ok(Texts {
        copying: measure(COPYING)?,
        not_copying: measure(NOT_COPYING)?,
    })
}

struct Server {
    engine: Engine,
}

impl Server {
    fn warm_up(&self) -> Result<()> {
        let generation = self.forced(self.random(TOGETHER_PROMPT_TOKENS, 0), self.random(8, 1))?;
        collect(&generation).map(drop)
    }

    /// Tokens a second of all callers, from when the last has begun to when the first has ended.
    fn decode_together(&self, callers: usize) -> Result<f64> {
        let seed = |caller: usize, part: usize| (1000 * callers + 2 * caller + part) as u64;
        let generations = (0..callers)
            .map(|caller| {
                let prompt = self.random(TOGETHER_PROMPT_TOKENS, seed(caller, 0));
                // The others begin within some tokens of the first.
                let script = self.random(TOGETHER_DECODE_TOKENS + callers, seed(caller, 1));
                self.forced(prompt, script)
            })
            .collect::<Result<Vec<_>>>()?;
        let streams = watch_all(generations)?;
        let firsts = streams.iter().filter_map(|stream| stream.first());
        let lasts = streams.iter().filter_map(|stream| stream.last());
        let begin = *firsts.max().context("a first token")?;
        let end = *lasts.min().context("a last token")?;
        let tokens = streams.iter().flatten();
        let tokens = tokens.filter(|time| **time > begin && **time <= end);
        Ok(tokens.count() as f64 / (end - begin).as_secs_f64())
    }

    /// Seconds to the first token, of a new head and of one that is known: means over some heads.
    fn first_tokens(&self) -> Result<(f64, f64)> {
        let first_token_s = |head: u64, tail: u64| -> Result<f64> {
            let mut prompt = self.random(HEAD_TOKENS, 10_000 + head);
            prompt.extend(self.random(TAIL_TOKENS, 20_000 + 2 * head + tail));
            let timings = collect(&self.forced(prompt, self.random(1, 0))?)?
                .finished
                .timings;
            Ok((timings.queued_ms + timings.prefill_ms) / 1e3)
        };
        let (mut cold, mut warm) = (0.0, 0.0);
        for head in 0..HEADS {
            cold += first_token_s(head, 0)? / HEADS as f64;
            warm += first_token_s(head, 1)? / HEADS as f64;
        }
        Ok((cold, warm))
    }

    /// The usual gap between two tokens of some streams, and the longest from when a long prompt comes to its first
    /// token.
    fn gaps(&self) -> Result<(f64, f64)> {
        let streams = (0..STREAMS)
            .map(|stream| {
                let prompt = self.random(TOGETHER_PROMPT_TOKENS, 30_000 + stream);
                self.forced(prompt, self.random(STREAM_TOKENS, 31_000 + stream))
            })
            .collect::<Result<Vec<_>>>()?;
        let (streams, came, answered) = thread::scope(|scope| -> Result<_> {
            let cancellers: Vec<_> = streams.iter().map(Generation::canceller).collect();
            let watching = scope.spawn(|| watch_all(streams));
            self.wait_for_tokens(STREAMS * STREAM_TOKENS_BEFORE as u64)?;
            let came = Instant::now();
            let prompt = self.random(LONG_PROMPT_TOKENS, 32_000);
            let long = watch(&self.forced(prompt, self.random(1, 0))?)?;
            let answered = *long.first().context("a first token")?;
            cancellers.iter().for_each(Canceller::cancel);
            let streams = watching.join().expect("watching does not panic")?;
            Ok((streams, came, answered))
        })?;
        let (mut before, mut during) = (Vec::new(), Vec::new());
        for pair in streams.iter().flat_map(|stream| stream.windows(2)) {
            let gap = (pair[1] - pair[0]).as_secs_f64();
            if pair[1] <= came {
                before.push(gap);
            } else if pair[0] < answered {
                during.push(gap);
            }
        }
        ensure!(
            streams.iter().all(|stream| stream.len() < STREAM_TOKENS),
            "a stream ended before the long prompt was taken in"
        );
        Ok((median(&before), during.into_iter().fold(0.0, f64::max)))
    }

    /// Waits until the engine has generated as many tokens more.
    fn wait_for_tokens(&self, count: u64) -> Result<()> {
        let generated = || self.engine.stats().work.completion_tokens;
        let wanted = generated() + count;
        while generated() < wanted {
            ensure!(self.engine.is_running(), "the engine has stopped");
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Seconds a token without a schema and with one: the middle over some calls.
    fn with_schema(&self) -> Result<(f64, f64)> {
        let json = OutputFormat::JsonSchema(json!({
            "type": "array",
            "items": { "type": "string", "minLength": 8, "maxLength": 40 },
            "minItems": SCHEMA_TOKENS,
        }));
        let token_s = |output: &OutputFormat, first_seed: u64| -> Result<f64> {
            for seed in (first_seed..).step_by(SEED_STEP).take(SCHEMA_TRIES) {
                let generation = self.engine.submit(Job {
                    output: output.clone(),
                    sampling: Sampling {
                        temperature: 1.0,
                        seed,
                        ..Sampling::greedy()
                    },
                    ..job(self.random(TOGETHER_PROMPT_TOKENS, seed), SCHEMA_TOKENS)
                })?;
                let finished = collect(&generation)?.finished;
                if finished.usage.completion_tokens > SCHEMA_TOKENS / 2 {
                    return Ok(1.0 / decoded_per_s(&finished));
                }
            }
            bail!("the model ends each text at once; use another one");
        };
        let (mut free, mut bound) = (Vec::new(), Vec::new());
        // The first of each is not counted: a vocabulary is prepared for the first schema.
        for call in 0..=SCHEMA_CALLS {
            free.push(token_s(&OutputFormat::Text, 40_000 + call)?);
            bound.push(token_s(&json, 40_000 + call)?);
        }
        Ok((median(&free[1..]), median(&bound[1..])))
    }

    fn forced(&self, prompt: Vec<u32>, script: Vec<u32>) -> Result<Generation> {
        let job = job(prompt, script.len());
        Ok(forced_generation(&self.engine, job, script)?)
    }

    /// Tokens without a sense. They are of the first half of the vocabulary: what ends a text comes last.
    fn random(&self, tokens: usize, seed: u64) -> Vec<u32> {
        let random = &mut ChaCha8Rng::seed_from_u64(seed);
        let ids = self.engine.info().vocabulary as u32 / 2;
        (0..tokens).map(|_| random.random_range(0..ids)).collect()
    }
}

/// Tokens a second after the first.
fn decoded_per_s(finished: &Finished) -> f64 {
    (finished.usage.completion_tokens - 1) as f64 * 1e3 / finished.timings.decode_ms
}

fn watch_all(generations: Vec<Generation>) -> Result<Vec<Vec<Instant>>> {
    thread::scope(|scope| {
        let watching: Vec<_> = generations
            .into_iter()
            .map(|generation| scope.spawn(move || watch(&generation)))
            .collect();
        watching
            .into_iter()
            .map(|watching| watching.join().expect("watching does not panic"))
            .collect()
    })
}

/// When a generation had each of its tokens.
fn watch(generation: &Generation) -> Result<Vec<Instant>> {
    let mut tokens = Vec::new();
    follow(generation, &mut |_, _| tokens.push(Instant::now()))?;
    Ok(tokens)
}
