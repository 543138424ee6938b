//! The thread that owns the model and serves all generations.
//!
//! It goes round: take in waiting jobs while there is room, compute one batch, tell what came of it. A batch holds the
//! latest token of every generation that runs, and a part of a prompt beside them, as large as lets the others flow. So
//! each pass over the weights serves everybody, and a cancelled job ends within one pass.
//!
//! A job enters once the KV cache has room for all that it may become; the first in the queue waits for that, and those
//! behind it wait, too, so that none is overtaken for ever.
//!
//! Invariant: every job that entered gets exactly one last event, unless its receiver is gone.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;
use std::time::Instant;

use crate::active::{Active, Outcome, Pushed, milliseconds, send};
use crate::backend::{self, Backend, Batch, Opening, SequenceId};
use crate::chat_template::ChatTemplate;
use crate::config::EngineConfig;
use crate::constraint::Grammars;
use crate::error::{EngineError, Result};
use crate::gguf::Gguf;
use crate::intake::{Intake, Order, Prepared};
use crate::job::{EngineStats, Event, FinishReason, Finished, ModelInfo, Timings, Usage};
use crate::lookup::{GUESS_TOKENS_MAX, Payoff, PromptLookup};
use crate::model_file::VerifiedModel;
use crate::queue::Queue;
use crate::stats::StatsCell;
use crate::tokenizer::Tokenizer;

/// Prompt tokens that a pass takes in at least, however many generate beside it, so that no prompt starves.
const BUSY_PROMPT_TOKENS_MIN: usize = 4;

/// A job on its way to the worker.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) order: Order,
    pub(crate) caller: Caller,
}

/// Whoever waits for the answer.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) events: Sender<Event>,
    pub(crate) cancelled: Arc<AtomicBool>,
    pub(crate) submitted: Instant,
}

/// The model and everything that is being generated with it.
pub(crate) struct Worker {
    info: ModelInfo,
    backend: Box<dyn Backend>,
    intake: Arc<Intake>,
    config: EngineConfig,
    queue: Arc<Queue<Request>>,
    stats: EngineStats,
    published: Arc<StatsCell>,
    /// The first of the queue, prepared, while it waits for room.
    next: Option<Waiting>,
    active: Vec<Active>,
    batch: Batch,
    /// What each part of the batch is.
    plan: Vec<Pushed>,
    logits: Vec<f32>,
    payoff: Payoff,
}

/// A generation that can begin once there is room.
struct Waiting {
    prepared: Prepared,
    caller: Caller,
    started: Instant,
}

impl Worker {
    /// Loads the model. An error about what is in the file names the file.
    pub(crate) fn load(
        model: VerifiedModel,
        config: &EngineConfig,
        queue: Arc<Queue<Request>>,
        stats: Arc<StatsCell>,
    ) -> Result<Self> {
        let given_chat_template = match &config.chat_template_file {
            Some(path) => Some(ChatTemplate::from_file(path)?),
            None => None,
        };
        let path = model.path().map(Path::to_owned);
        Self::assemble(model, config, given_chat_template, queue, stats)
            .map_err(|error| error.of_model(path.as_deref()))
    }

    fn assemble(
        mut model: VerifiedModel,
        config: &EngineConfig,
        given_chat_template: Option<ChatTemplate>,
        queue: Arc<Queue<Request>>,
        stats: Arc<StatsCell>,
    ) -> Result<Self> {
        let length = model.bytes();
        let gguf = Gguf::read(model.reader(), length)?;
        backend::choose(&gguf, config.backend)?;
        let metadata = gguf.metadata();
        let tokenizer = Tokenizer::from_metadata(metadata)?;
        let chat_template = match given_chat_template {
            Some(given) => Some(given),
            None => own_chat_template(&gguf)?,
        };
        let (id, sha256) = (model.id().to_owned(), model.sha256());
        let architecture = metadata.string("general.architecture")?.to_owned();
        let backend = backend::load(model, &gguf, config)?;
        if backend.vocabulary() < tokenizer.len() {
            return Err(EngineError::Vocabulary {
                reason: format!(
                    "it has {} tokens, but the embeddings only {}",
                    tokenizer.len(),
                    backend.vocabulary()
                ),
            });
        }
        let info = ModelInfo {
            id,
            sha256,
            architecture,
            backend: backend.name(),
            context_tokens: backend.context_tokens(),
            vocabulary: tokenizer.len(),
            tokenizer_sha256: tokenizer.sha256(),
            chat_template_sha256: chat_template.as_ref().map(ChatTemplate::sha256),
        };
        let mut worker = Self {
            info,
            intake: Arc::new(Intake {
                tokenizer,
                chat_template,
                context_tokens: backend.context_tokens(),
            }),
            backend,
            config: config.clone(),
            queue,
            stats: EngineStats::default(),
            published: stats,
            next: None,
            active: Vec::with_capacity(config.sequences_max),
            batch: Batch::default(),
            plan: Vec::with_capacity(config.sequences_max),
            logits: Vec::new(),
            payoff: Payoff::default(),
        };
        worker.report();
        Ok(worker)
    }

    pub(crate) fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// What turns prompts into tokens.
    pub(crate) fn intake(&self) -> Arc<Intake> {
        Arc::clone(&self.intake)
    }

    /// Grammars over the model's vocabulary.
    pub(crate) fn grammars(&self) -> Grammars {
        Grammars::new(self.intake.tokenizer.clone())
    }

    /// Serves until the queue is closed.
    pub(crate) fn run(mut self) {
        while !self.queue.is_closed() {
            if self.active.is_empty() && self.next.is_none() {
                self.queue.wait();
            }
            self.drop_cancelled();
            self.admit();
            self.plan_batch();
            self.compute();
            self.report();
        }
        for index in (0..self.active.len()).rev() {
            self.finish(index, FinishReason::Cancelled);
        }
    }

    /// Ends what nobody wants any more, waiting or active.
    fn drop_cancelled(&mut self) {
        let queued = self.queue.take_if(|request| request.caller.has_cancelled());
        let next = self.next.take_if(|next| next.caller.has_cancelled());
        let next = next.map(|next| next.caller);
        for caller in queued.into_iter().map(|request| request.caller).chain(next) {
            caller.end_unstarted();
        }
        for index in (0..self.active.len()).rev() {
            if self.active[index].is_cancelled() {
                self.finish(index, FinishReason::Cancelled);
            }
        }
    }

    /// Takes in waiting jobs, in their order, while there is room.
    fn admit(&mut self) {
        while self.active.len() < self.config.sequences_max {
            let Some(next) = self.next.take().or_else(|| self.prepare_next()) else {
                return;
            };
            let Prepared {
                state,
                shared_tokens,
                tenant,
            } = &next.prepared;
            let tokens_max = state.prompt_tokens() + state.tokens_left();
            let opening = Opening {
                prompt: state.prompt(),
                shared_tokens: *shared_tokens,
                tenant,
                tokens_max,
            };
            let Some(place) = self.backend.open(&opening) else {
                self.next = Some(next);
                return;
            };
            let lookup = (self.config.prompt_lookup && self.backend.rows_are_independent())
                .then(|| PromptLookup::new(tokens_max));
            self.stats.work.prompt_tokens += state.prompt_tokens() as u64;
            self.stats.work.cached_prompt_tokens += place.1 as u64;
            let active = Active::start(
                next.caller,
                next.prepared.state,
                place,
                lookup,
                next.started,
            );
            self.active.push(active);
        }
    }

    /// The next job of the queue that makes sense; those that do not are told so.
    fn prepare_next(&self) -> Option<Waiting> {
        loop {
            let Request { order, caller } = self.queue.try_pop()?;
            let started = Instant::now();
            match self.intake.prepare(order) {
                Ok(prepared) => {
                    return Some(Waiting {
                        prepared,
                        caller,
                        started,
                    });
                }
                Err(error) => send(&caller.events, Event::Failed(error)),
            }
        }
    }

    /// Fills the batch: the latest tokens of all that are generated, then prompts.
    fn plan_batch(&mut self) {
        self.batch.clear();
        self.plan.clear();
        let (whole_chunk, free) = (
            self.config.prefill_chunk_tokens,
            self.backend.rows_are_independent(),
        );
        let is_running = |active: &&mut Active| !active.is_prefilling();
        let running = self.active.iter_mut().filter(is_running).count();
        let prefills = running < self.active.len();
        let busy_chunk = self.config.prefill_chunk_tokens_busy.min(whole_chunk);
        let chunk = match running > 0 && prefills && free {
            true => busy_chunk
                .saturating_sub(running)
                .max(BUSY_PROMPT_TOKENS_MIN.min(busy_chunk)),
            false => whole_chunk,
        };
        let mut guesses_left = match !prefills && running > 0 && self.payoff.allows(running) {
            true => (GUESS_TOKENS_MAX + 1).saturating_sub(running),
            false => 0,
        };
        // One token each has room beside the chunk. Where rows depend on the batch, everybody has a chunk of his own.
        let mut left = chunk;
        for active in self.active.iter_mut().filter(is_running) {
            let guess_max = guesses_left.min(GUESS_TOKENS_MAX).min(left);
            let pushed = active.push(&mut self.batch, 1 + left, guess_max);
            if free {
                left = left.saturating_sub(pushed.tokens + pushed.guessed - 1);
            }
            guesses_left -= pushed.guessed;
            self.plan.push(pushed);
        }
        if prefills && left > 0 {
            self.plan_prompts(left);
        }
    }

    /// Adds chunks of the prompts that have waited longest, `left` tokens in all; they wait longest again afterwards.
    fn plan_prompts(&mut self, mut left: usize) {
        for _ in 0..self.active.len() {
            let Some(index) = self.active.iter().position(|active| {
                active.is_prefilling()
                    && self
                        .plan
                        .iter()
                        .all(|pushed| pushed.sequence != active.sequence)
            }) else {
                return;
            };
            let mut active = self.active.remove(index);
            let pushed = active.push(&mut self.batch, left, 0);
            self.active.push(active);
            left -= pushed.tokens;
            self.plan.push(pushed);
            // Where rows depend on the batch, chunks begin at multiples of the chunk length whatever else is going
            // on, so that the same prompt is always computed in the same steps.
            if left == 0 || !self.backend.rows_are_independent() {
                return;
            }
        }
    }

    /// Computes the batch and lets every generation of it go on.
    fn compute(&mut self) {
        if self.plan.is_empty() {
            return;
        }
        let begun = Instant::now();
        let mut logits = std::mem::take(&mut self.logits);
        let plan = std::mem::take(&mut self.plan);
        match self.backend.forward(&self.batch, &mut logits) {
            Ok(()) => self.advance(&plan, &mut logits, begun),
            Err(error) => self.fail_all(&plan, &error),
        }
        self.plan = plan;
        self.logits = logits;
    }

    fn advance(&mut self, plan: &[Pushed], logits: &mut [f32], begun: Instant) {
        let took = begun.elapsed();
        let vocabulary = self.backend.vocabulary();
        let mut rest = logits;
        let (mut right, mut generated) = (0, 0);
        for pushed in plan.iter().filter(|pushed| pushed.logits > 0) {
            let (rows, after) = rest.split_at_mut(pushed.logits * vocabulary);
            rest = after;
            let Some(index) = self.place(pushed.sequence) else {
                continue;
            };
            let (outcome, tokens) = self.active[index].advance(rows, vocabulary);
            generated += tokens;
            match outcome {
                Outcome::GoesOn {
                    keeps,
                    right: guesses,
                } => {
                    right += guesses;
                    if guesses < pushed.guessed {
                        self.backend.truncate(pushed.sequence, keeps);
                    }
                }
                Outcome::Ended(reason) => self.finish(index, reason),
                Outcome::Failed(error) => self.fail(index, error),
            }
        }
        let guessed = plan.iter().map(|pushed| pushed.guessed).sum::<usize>();
        if self.batch.tokens.len() == plan.len() + guessed {
            self.payoff.measure(guessed > 0, generated, took);
        }
        let work = &mut self.stats.work;
        work.passes += 1;
        work.sequences += plan.len() as u64;
        work.completion_tokens += generated as u64;
        work.guessed_tokens += guessed as u64;
        work.right_guesses += right as u64;
    }

    fn fail_all(&mut self, plan: &[Pushed], error: &EngineError) {
        for pushed in plan {
            if let Some(index) = self.place(pushed.sequence) {
                let error = EngineError::Backend {
                    backend: self.backend.name(),
                    doing: "computing",
                    reason: error.to_string(),
                };
                self.fail(index, error);
            }
        }
    }

    fn place(&self, sequence: SequenceId) -> Option<usize> {
        self.active
            .iter()
            .position(|active| active.sequence == sequence)
    }

    fn finish(&mut self, index: usize, finish_reason: FinishReason) {
        self.remove(index).finish(finish_reason);
    }

    fn fail(&mut self, index: usize, error: EngineError) {
        self.remove(index).fail(error);
    }

    /// Frees the sequence before its receiver hears of the end.
    fn remove(&mut self, index: usize) -> Active {
        let active = self.active.remove(index);
        self.backend.close(active.sequence);
        self.report();
        active
    }

    fn report(&mut self) {
        self.stats.active = self.active.len();
        self.stats.cache = self.backend.cache();
        self.published.publish(&self.stats);
    }
}

/// However the worker ends, a panic included: nothing enters any more, and nobody waits for it.
impl Drop for Worker {
    fn drop(&mut self) {
        self.queue.close();
        let next = self.next.take().map(|next| next.caller);
        let queued = std::iter::from_fn(|| self.queue.try_pop());
        for caller in next.into_iter().chain(queued.map(|request| request.caller)) {
            send(&caller.events, Event::Failed(EngineError::Stopped));
        }
        self.stats.active = 0;
        self.published.publish(&self.stats);
    }
}

impl Caller {
    fn has_cancelled(&self) -> bool {
        self.cancelled.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Ends a job as cancelled that was never started.
    fn end_unstarted(self) {
        let finished = Finished {
            finish_reason: FinishReason::Cancelled,
            text_tail: String::new(),
            usage: Usage::default(),
            timings: Timings {
                queued_ms: milliseconds(self.submitted.elapsed()),
                ..Timings::default()
            },
            mean_probability: None,
        };
        send(&self.events, Event::Done(finished));
    }
}

/// The chat template that the file brings, if any.
fn own_chat_template(gguf: &Gguf) -> Result<Option<ChatTemplate>> {
    match ChatTemplate::from_metadata(gguf.metadata()) {
        Err(EngineError::ChatTemplateMissing) => Ok(None),
        other => other.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::mpsc;

    use postern_testkit::gguf::TinyModel;

    use super::*;
    use crate::job::{Job, OutputFormat, Prompt, Sampling};
    use crate::manifest::ModelManifest;
    use crate::queue::Refused;

    fn request() -> (Request, mpsc::Receiver<Event>) {
        let (events, received) = mpsc::channel();
        let job = Job {
            prompt: Prompt::Tokens(vec![65]),
            sampling: Sampling::greedy(),
            max_tokens: 1,
            stop: Vec::new(),
            tenant: String::new(),
            output: OutputFormat::Text,
        };
        let request = Request {
            order: Order {
                job,
                script: None,
                constraint: None,
            },
            caller: Caller {
                events,
                cancelled: Arc::default(),
                submitted: Instant::now(),
            },
        };
        (request, received)
    }

    #[test]
    fn a_worker_that_panics_closes_the_queue_and_fails_what_waits() {
        let folder = tempfile::tempdir().expect("a folder for the model");
        let file = folder.path().join("model.gguf");
        std::fs::write(&file, TinyModel::new("llama").build()).expect("room for the model");
        let manifest = ModelManifest::pin(&file, "tiny").expect("a model file");
        let model = VerifiedModel::load(&manifest, &mut |_| {}).expect("the file was just pinned");
        let queue = Arc::new(Queue::new(2));
        let stats = Arc::<StatsCell>::default();
        let worker = Worker::load(
            model,
            &EngineConfig::default(),
            Arc::clone(&queue),
            Arc::clone(&stats),
        )
        .expect("a sound model");
        let (waiting, received) = request();
        queue.push(waiting).expect("room in the queue");
        stats.publish(&EngineStats {
            active: 1,
            ..EngineStats::default()
        });
        let ended = catch_unwind(AssertUnwindSafe(move || {
            let _worker = worker;
            panic!("a defect that this test makes on purpose");
        }));
        assert!(ended.is_err());
        assert!(matches!(
            received.recv(),
            Ok(Event::Failed(EngineError::Stopped))
        ));
        assert_eq!(queue.push(request().0), Err(Refused::Closed));
        assert_eq!(stats.read(0).active, 0);
    }
}
