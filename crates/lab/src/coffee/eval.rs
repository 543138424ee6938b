//! The share of held-out wishes that a model file answers rightly.
//!
//! The file runs in the engine that serves it, greedily, behind its own chat template. The checker is
//! strict, see [`super::answer`]. The seed is fixed, so that every model meets the same wishes.

use super::{
    answer::{self, Miss},
    corpus::{self, HeldOut, SYSTEM},
};
use anyhow::{Result, bail};
use postern_engine::{
    ChatMessage, Engine, EngineConfig, Event, Job, ModelManifest, Next, OutputFormat, Prompt, Role,
    Sampling, VerifiedModel,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::{collections::BTreeMap, path::Path, time::Duration};

/// Seed of the held-out wishes; training draws from another.
const SEED: u64 = 0xc0ffee;
/// Seed of the wishes that no shop meets.
const IMPOSSIBLE_SEED: u64 = SEED + 1;
/// Longest answer, in tokens; as in the prompt template.
const ANSWER_TOKENS_MAX: usize = 96;
/// How long one token may take before the model counts as hung.
const TOKEN_WAIT: Duration = Duration::from_secs(60);

/// The first `count` held-out wishes.
pub(crate) fn held_out(count: usize) -> Vec<HeldOut> {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    (0..count)
        .map(|_| corpus::draw_held_out(&mut rng))
        .collect()
}

/// The first `count` held-out wishes that no shop meets.
fn impossible(count: usize) -> Vec<HeldOut> {
    let mut rng = ChaCha8Rng::seed_from_u64(IMPOSSIBLE_SEED);
    (0..count)
        .map(|_| corpus::draw_impossible(&mut rng))
        .collect()
}

/// Right answers among those asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) right: usize,
    pub(crate) asked: usize,
}

impl Share {
    fn count(&mut self, right: bool) {
        self.right += usize::from(right);
        self.asked += 1;
    }

    /// The share of right answers in percent.
    pub(crate) fn percentage(self) -> f64 {
        100.0 * self.right as f64 / self.asked.max(1) as f64
    }
}

/// One answer of the model.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) asked: HeldOut,
    pub(crate) answer: String,
    /// Why it does not count, if it does not.
    pub(crate) miss: Option<Miss>,
}

/// How a model did.
#[derive(Debug, Default)]
pub(crate) struct Score {
    /// Over all wishes that some shop meets.
    pub(crate) whole: Share,
    /// The same by number of wishes in the message.
    pub(crate) by_wishes: BTreeMap<u32, Share>,
    pub(crate) answered: Vec<Answered>,
    /// How often the model says that no shop fits where that is so; not part of `whole`.
    pub(crate) declined: Share,
}

/// Asks the model `count` wishes that can be met, and a fifth as many that cannot.
///
/// # Errors
/// When the model cannot be loaded or a generation fails.
pub(crate) fn run(file: &Path, count: usize) -> Result<Score> {
    let guide = Guide::start(file)?;
    let mut score = Score::default();
    for asked in held_out(count) {
        let answer = guide.answer(&asked.message)?;
        let miss = answer::check(asked.wishes, &answer).err();
        let by_wishes = score.by_wishes.entry(asked.wishes.bits().count_ones());
        by_wishes.or_default().count(miss.is_none());
        score.whole.count(miss.is_none());
        score.answered.push(Answered {
            asked,
            answer,
            miss,
        });
    }
    for asked in impossible(count / 5) {
        let answer = guide.answer(&asked.message)?;
        score.declined.count(answer::declines(&answer));
    }
    Ok(score)
}

/// A model that answers visitors.
struct Guide {
    engine: Engine,
}

impl Guide {
    fn start(file: &Path) -> Result<Self> {
        let manifest = ModelManifest::pin(file, "evaluated")?;
        let model = VerifiedModel::load(&manifest, &mut |_| ())?;
        // More threads would not help: one pass of this model is shorter than their synchronization.
        let config = EngineConfig {
            threads: Some(1),
            ..EngineConfig::default()
        };
        let engine = Engine::start(model, &config)?;
        Ok(Self { engine })
    }

    fn answer(&self, message: &str) -> Result<String> {
        let say = ChatMessage::new;
        let generation = self.engine.submit(Job {
            prompt: Prompt::Chat(vec![say(Role::System, SYSTEM), say(Role::User, message)]),
            sampling: Sampling::greedy(),
            max_tokens: ANSWER_TOKENS_MAX,
            stop: Vec::new(),
            tenant: String::new(),
            output: OutputFormat::Text,
        })?;
        let mut answer = String::new();
        loop {
            match generation.next(TOKEN_WAIT) {
                Next::Event(Event::Started { .. }) => {}
                Next::Event(Event::Token { text, .. }) => answer.push_str(&text),
                Next::Event(Event::Done(finished)) => return Ok(answer + &finished.text_tail),
                Next::Event(Event::Failed(error)) => return Err(error.into()),
                Next::Nothing | Next::Ended => bail!("no token within {TOKEN_WAIT:?}"),
            }
        }
    }
}
