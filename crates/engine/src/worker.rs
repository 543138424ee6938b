//! The thread that owns the model and serves all generations.
//!
//! It goes round: take in waiting jobs while there is room, process one chunk of one prompt, generate one
//! token for every active sequence. So a long prompt delays the others by one chunk at a
//! time, and a cancelled job ends within one token.
//!
//! Invariant: every job that entered gets exactly one last event, unless its receiver is gone.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use crate::backend::{self, Backend, DecodeStep, SequenceId};
use crate::chat_template::ChatTemplate;
use crate::config::EngineConfig;
use crate::constraint::{Constraint, Grammars};
use crate::error::{EngineError, Result};
use crate::generation::{GenerationState, Step};
use crate::gguf::Gguf;
use crate::job::{Event, FinishReason, Finished, Job, ModelInfo, Prompt, Timings, Usage};
use crate::model_file::VerifiedModel;
use crate::queue::Queue;
use crate::tokenizer::Tokenizer;

/// A job on its way to the worker.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) job: Job,
    /// What the job's output is held to, compiled.
    pub(crate) constraint: Option<Constraint>,
    pub(crate) events: Sender<Event>,
    pub(crate) cancelled: Arc<AtomicBool>,
    pub(crate) submitted: Instant,
}

/// The model and everything that is being generated with it.
pub(crate) struct Worker {
    info: ModelInfo,
    backend: Box<dyn Backend>,
    tokenizer: Tokenizer,
    chat_template: Option<ChatTemplate>,
    prefill_chunk_tokens: usize,
    sequences_max: usize,
    queue: Arc<Queue<Request>>,
    active_count: Arc<AtomicUsize>,
    active: Vec<Active>,
    steps: Vec<DecodeStep>,
    logits: Vec<Vec<f32>>,
}

/// A generation that has a sequence.
struct Active {
    sequence: SequenceId,
    state: GenerationState,
    /// Prompt tokens that the sequence holds.
    prefilled: usize,
    events: Sender<Event>,
    cancelled: Arc<AtomicBool>,
    clock: Clock,
}

/// When what happened.
struct Clock {
    submitted: Instant,
    started: Instant,
    first_token: Option<Instant>,
}

impl Worker {
    /// Loads the model. An error about what is in the file names the file.
    pub(crate) fn load(
        model: VerifiedModel,
        config: &EngineConfig,
        queue: Arc<Queue<Request>>,
        active_count: Arc<AtomicUsize>,
    ) -> Result<Self> {
        let given_chat_template = match &config.chat_template_file {
            Some(path) => Some(ChatTemplate::from_file(path)?),
            None => None,
        };
        let path = model.path().map(Path::to_owned);
        Self::assemble(model, config, given_chat_template, queue, active_count)
            .map_err(|error| error.of_model(path.as_deref()))
    }

    fn assemble(
        mut model: VerifiedModel,
        config: &EngineConfig,
        given_chat_template: Option<ChatTemplate>,
        queue: Arc<Queue<Request>>,
        active_count: Arc<AtomicUsize>,
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
        Ok(Self {
            info,
            backend,
            tokenizer,
            chat_template,
            prefill_chunk_tokens: config.prefill_chunk_tokens,
            sequences_max: config.sequences_max,
            queue,
            active_count,
            active: Vec::new(),
            steps: Vec::new(),
            logits: Vec::new(),
        })
    }

    pub(crate) fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// Grammars over the model's vocabulary.
    pub(crate) fn grammars(&self) -> Grammars {
        Grammars::new(self.tokenizer.clone())
    }

    /// Serves until the queue is closed.
    pub(crate) fn run(mut self) {
        while !self.queue.is_closed() {
            if self.active.is_empty() {
                self.queue.wait();
            }
            self.drop_cancelled();
            self.admit();
            self.prefill();
            self.decode();
            self.active_count
                .store(self.active.len(), Ordering::Relaxed);
        }
        for index in (0..self.active.len()).rev() {
            self.finish(index, FinishReason::Cancelled);
        }
    }

    /// Ends what nobody wants any more, waiting or active.
    fn drop_cancelled(&mut self) {
        let is_cancelled = |cancelled: &AtomicBool| cancelled.load(Ordering::Relaxed);
        for request in self
            .queue
            .take_if(|request| is_cancelled(&request.cancelled))
        {
            let queued = request.submitted.elapsed();
            let timings = Timings {
                queued_ms: milliseconds(queued),
                ..Timings::default()
            };
            let finished = Finished {
                finish_reason: FinishReason::Cancelled,
                text_tail: String::new(),
                usage: Usage::default(),
                timings,
            };
            send(&request.events, Event::Done(finished));
        }
        for index in (0..self.active.len()).rev() {
            if is_cancelled(&self.active[index].cancelled) {
                self.finish(index, FinishReason::Cancelled);
            }
        }
    }

    /// Takes in waiting jobs while there is room.
    fn admit(&mut self) {
        while self.active.len() < self.sequences_max {
            let Some(request) = self.queue.try_pop() else {
                return;
            };
            let started = Instant::now();
            match self.prepare(request.job, request.constraint) {
                Ok(state) => {
                    send(
                        &request.events,
                        Event::Started {
                            prompt_tokens: state.prompt_tokens(),
                        },
                    );
                    self.active.push(Active {
                        sequence: self.backend.open(),
                        state,
                        prefilled: 0,
                        events: request.events,
                        cancelled: request.cancelled,
                        clock: Clock {
                            submitted: request.submitted,
                            started,
                            first_token: None,
                        },
                    });
                }
                Err(error) => send(&request.events, Event::Failed(error)),
            }
        }
    }

    fn prepare(&self, job: Job, constraint: Option<Constraint>) -> Result<GenerationState> {
        if job.max_tokens == 0 {
            return Err(EngineError::ParameterInvalid {
                parameter: "max_tokens",
                found: "0".to_owned(),
                expected: "at least 1".to_owned(),
            });
        }
        let prompt = self.tokenize(job.prompt)?;
        if prompt.is_empty() {
            return Err(EngineError::PromptEmpty);
        }
        let context_tokens = self.info.context_tokens;
        if prompt.len().saturating_add(job.max_tokens) > context_tokens {
            return Err(EngineError::ContextOverflow {
                prompt_tokens: prompt.len(),
                max_tokens: job.max_tokens,
                context_tokens,
            });
        }
        GenerationState::new(
            self.tokenizer.clone(),
            prompt,
            job.sampling,
            job.stop,
            job.max_tokens,
            constraint,
        )
    }

    fn tokenize(&self, prompt: Prompt) -> Result<Vec<u32>> {
        match prompt {
            Prompt::Chat(messages) => {
                let template = self
                    .chat_template
                    .as_ref()
                    .ok_or(EngineError::ChatTemplateMissing)?;
                let rendered = template.render(&self.tokenizer, &messages, None)?;
                self.tokenizer.encode_chat(&rendered)
            }
            Prompt::Text(text) => {
                let mut ids = self.tokenizer.encode(&text, false)?;
                let special = self.tokenizer.special();
                if let (true, Some(bos)) = (special.add_bos, special.bos) {
                    ids.insert(0, bos);
                }
                Ok(ids)
            }
            Prompt::Tokens(ids) => {
                let vocabulary = self.tokenizer.len();
                match ids.iter().find(|&&id| id as usize >= vocabulary) {
                    Some(&id) => Err(EngineError::UnknownToken { id, vocabulary }),
                    None => Ok(ids),
                }
            }
        }
    }

    /// Processes one chunk of the prompt that has waited longest, and takes turns after it.
    fn prefill(&mut self) {
        let Some(index) = self.active.iter().position(Active::is_prefilling) else {
            return;
        };
        // Chunks begin at multiples of the chunk length whatever else is going on, so that
        // the same prompt is always computed in the same steps.
        let active = &self.active[index];
        let prompt = active.state.prompt();
        let end = prompt
            .len()
            .min(active.prefilled + self.prefill_chunk_tokens);
        let chunk = &prompt[active.prefilled..end];
        let mut logits = self.logits.pop().unwrap_or_default();
        let wanted = (end == prompt.len()).then_some(&mut logits);
        match self.backend.prefill(active.sequence, chunk, wanted) {
            Err(error) => self.fail(index, error),
            Ok(()) => {
                let mut active = self.active.remove(index);
                active.prefilled = end;
                let is_complete = !active.is_prefilling();
                self.active.push(active);
                if is_complete {
                    let last = self.active.len() - 1;
                    self.step(last, &mut logits);
                }
            }
        }
        self.logits.push(logits);
    }

    /// Generates one token for every sequence whose prompt is complete.
    fn decode(&mut self) {
        let mut steps = std::mem::take(&mut self.steps);
        let mut logits = std::mem::take(&mut self.logits);
        steps.clear();
        steps.extend(
            self.active
                .iter()
                .filter(|active| !active.is_prefilling())
                .map(|active| DecodeStep {
                    sequence: active.sequence,
                    token: active.state.last_token(),
                }),
        );
        logits.resize_with(steps.len().max(logits.len()), Vec::new);
        let outcome = self.backend.decode(&steps, &mut logits[..steps.len()]);
        let failure = outcome.err().map(|error| error.to_string());
        for (step, logits) in steps.iter().zip(&mut logits) {
            let Some(index) = self
                .active
                .iter()
                .position(|active| active.sequence == step.sequence)
            else {
                continue;
            };
            match &failure {
                None => self.step(index, logits),
                Some(reason) => {
                    let backend = self.backend.name();
                    self.fail(
                        index,
                        EngineError::Backend {
                            backend,
                            doing: "computing",
                            reason: reason.clone(),
                        },
                    );
                }
            }
        }
        self.steps = steps;
        self.logits = logits;
    }

    /// Chooses a token for one generation and tells its receiver.
    fn step(&mut self, index: usize, logits: &mut [f32]) {
        let active = &mut self.active[index];
        let outcome = active.state.step(logits);
        active.clock.first_token.get_or_insert_with(Instant::now);
        match outcome {
            Ok(Step::Token { id, text }) => {
                if active.events.send(Event::Token { id, text }).is_err() {
                    self.finish(index, FinishReason::Cancelled);
                }
            }
            Ok(Step::Last { id, text, reason }) => {
                send(&active.events, Event::Token { id, text });
                self.finish(index, reason);
            }
            Ok(Step::End) => self.finish(index, FinishReason::Stop),
            Err(error) => self.fail(index, error),
        }
    }

    fn finish(&mut self, index: usize, finish_reason: FinishReason) {
        let mut active = self.remove(index);
        let finished = Finished {
            finish_reason,
            text_tail: active.state.tail(),
            usage: Usage {
                prompt_tokens: active.state.prompt_tokens(),
                completion_tokens: active.state.completion_tokens(),
            },
            timings: active.clock.timings(Instant::now()),
        };
        send(&active.events, Event::Done(finished));
    }

    fn fail(&mut self, index: usize, error: EngineError) {
        let active = self.remove(index);
        send(&active.events, Event::Failed(error));
    }

    /// Frees the sequence before its receiver hears of the end.
    fn remove(&mut self, index: usize) -> Active {
        let active = self.active.remove(index);
        self.backend.close(active.sequence);
        self.active_count
            .store(self.active.len(), Ordering::Relaxed);
        active
    }
}

/// However the worker ends, a panic included: nothing enters any more, and nobody waits for it.
impl Drop for Worker {
    fn drop(&mut self) {
        self.queue.close();
        while let Some(request) = self.queue.try_pop() {
            send(&request.events, Event::Failed(EngineError::Stopped));
        }
        self.active_count.store(0, Ordering::Relaxed);
    }
}

impl Active {
    fn is_prefilling(&self) -> bool {
        self.prefilled < self.state.prompt_tokens()
    }
}

impl Clock {
    fn timings(&self, now: Instant) -> Timings {
        let first_token = self.first_token.unwrap_or(now);
        Timings {
            queued_ms: milliseconds(self.started - self.submitted),
            prefill_ms: milliseconds(first_token - self.started),
            decode_ms: milliseconds(now - first_token),
        }
    }
}

/// The chat template that the file brings, if any.
fn own_chat_template(gguf: &Gguf) -> Result<Option<ChatTemplate>> {
    match ChatTemplate::from_metadata(gguf.metadata()) {
        Err(EngineError::ChatTemplateMissing) => Ok(None),
        other => other.map(Some),
    }
}

/// A receiver that is gone needs no answer; its generation is ended as cancelled.
fn send(events: &Sender<Event>, event: Event) {
    let _receiver_may_be_gone = events.send(event);
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::mpsc;

    use postern_testkit::gguf::TinyModel;

    use super::*;
    use crate::job::{OutputFormat, Sampling};
    use crate::manifest::ModelManifest;
    use crate::queue::Refused;

    fn request() -> (Request, mpsc::Receiver<Event>) {
        let (events, received) = mpsc::channel();
        let job = Job {
            prompt: Prompt::Tokens(vec![65]),
            sampling: Sampling::greedy(),
            max_tokens: 1,
            stop: Vec::new(),
            output: OutputFormat::Text,
        };
        let request = Request {
            job,
            constraint: None,
            events,
            cancelled: Arc::default(),
            submitted: Instant::now(),
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
        let active = Arc::new(AtomicUsize::new(0));
        let worker = Worker::load(
            model,
            &EngineConfig::default(),
            Arc::clone(&queue),
            Arc::clone(&active),
        )
        .expect("a sound model");
        let (waiting, received) = request();
        queue.push(waiting).expect("room in the queue");
        active.store(1, Ordering::Relaxed);
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
        assert_eq!(active.load(Ordering::Relaxed), 0);
    }
}
