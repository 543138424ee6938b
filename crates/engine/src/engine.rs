//! The handle to the worker thread.
//!
//! Invariant: only messages cross to the worker: a job goes in, events come out. The worker owns
//! the model; no caller ever touches it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::config::EngineConfig;
use crate::constraint::{Constraint, Grammars};
use crate::error::{EngineError, Result};
use crate::intake::{Intake, Order};
use crate::job::{EncodedPrompt, EngineStats, Event, Job, ModelInfo, OutputFormat, Prompt};
use crate::model_file::VerifiedModel;
use crate::queue::{Queue, Refused};
use crate::stats::StatsCell;
use crate::worker::{Caller, Request, Worker};

const WORKER_THREAD: &str = "engine";

/// A loaded model and the thread that generates with it. Cloning gives another handle; when the last
/// one is dropped, the engine stops.
#[derive(Clone, Debug)]
pub struct Engine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    info: ModelInfo,
    intake: Arc<Intake>,
    grammars: Grammars,
    queue: Arc<Queue<Request>>,
    stats: Arc<StatsCell>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

impl Engine {
    /// Loads the model on a thread of its own and returns once it can generate.
    ///
    /// # Errors
    /// Whatever makes the configuration or the model unusable; see [`EngineError`].
    pub fn start(model: VerifiedModel, config: &EngineConfig) -> Result<Self> {
        config.check()?;
        let queue = Arc::new(Queue::new(config.queue_max));
        let stats = Arc::<StatsCell>::default();
        let (loaded, outcome) = mpsc::sync_channel(1);
        let thread = thread::Builder::new()
            .name(WORKER_THREAD.to_owned())
            .spawn({
                let (config, queue, stats) =
                    (config.clone(), Arc::clone(&queue), Arc::clone(&stats));
                move || match Worker::load(model, &config, queue, stats) {
                    Ok(worker) => {
                        let known = (worker.info().clone(), worker.intake(), worker.grammars());
                        let _starter_waits = loaded.send(Ok(known));
                        worker.run();
                    }
                    Err(error) => {
                        let _starter_waits = loaded.send(Err(error));
                    }
                }
            });
        let thread = thread.map_err(|source| EngineError::Thread {
            name: WORKER_THREAD,
            source,
        })?;
        let (info, intake, grammars) = outcome.recv().map_err(|_| EngineError::Stopped)??;
        let shared = Shared {
            info,
            intake,
            grammars,
            queue,
            stats,
            worker: Mutex::new(Some(thread)),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Facts about the loaded model.
    pub fn info(&self) -> &ModelInfo {
        &self.shared.info
    }

    /// Makes a prompt's tokens, on the caller's time, so that it delays no running generation and their
    /// number is known before anything is submitted.
    ///
    /// # Errors
    /// Whatever makes the prompt unusable. Whether it fits the context is asked when it is its turn.
    pub fn encode(&self, prompt: Prompt) -> Result<EncodedPrompt> {
        self.shared.intake.encode(prompt)
    }

    /// Hands a job to the worker. What becomes of it comes through the [`Generation`].
    ///
    /// A schema is compiled here, on the caller's time, so that it delays no running generation.
    ///
    /// # Errors
    /// [`EngineError::QueueFull`], [`EngineError::Stopped`], and what makes the schema of the output unusable; see
    /// [`Constraint::new`].
    pub fn submit(&self, job: Job) -> Result<Generation> {
        self.submit_scripted(job, None)
    }

    /// The same with tokens to take instead of choosing any.
    pub(crate) fn submit_scripted(&self, job: Job, script: Option<Vec<u32>>) -> Result<Generation> {
        let constraint = match &job.output {
            OutputFormat::Text => None,
            OutputFormat::JsonSchema(schema) => {
                Some(Constraint::new(&self.shared.grammars, schema)?)
            }
        };
        // Bounded by the job: one `Started`, at most `max_tokens` tokens, one end.
        let (events, received) = mpsc::channel();
        let cancelled = Arc::new(AtomicBool::new(false));
        let request = Request {
            order: Order {
                job,
                script,
                constraint,
            },
            caller: Caller {
                events,
                cancelled: Arc::clone(&cancelled),
                submitted: Instant::now(),
            },
        };
        match self.shared.queue.push(request) {
            Ok(()) => Ok(Generation {
                events: received,
                cancelled,
                ended: AtomicBool::new(false),
            }),
            Err(Refused::Full { queued }) => Err(EngineError::QueueFull { queued }),
            Err(Refused::Closed) => Err(EngineError::Stopped),
        }
    }

    /// How busy the engine is right now.
    pub fn stats(&self) -> EngineStats {
        self.shared.stats.read(self.shared.queue.len())
    }

    /// Whether jobs are taken. Once it is not, after [`Engine::stop`] or because the worker's thread
    /// ended in a panic, it never is again.
    pub fn is_running(&self) -> bool {
        !self.shared.queue.is_closed()
    }

    /// Stops the engine and waits for its thread: jobs that wait fail with [`EngineError::Stopped`],
    /// those that are being generated end as cancelled.
    pub fn stop(&self) {
        self.shared.stop();
    }
}

impl Shared {
    fn stop(&self) {
        self.queue.close();
        let worker = self
            .worker
            .lock()
            .expect("nothing panics while the lock is held")
            .take();
        if let Some(worker) = worker
            && worker.join().is_err()
        {
            log::error!("the engine's thread ended in a panic");
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The receiving end of one job. Dropping it cancels the job within one token.
#[derive(Debug)]
pub struct Generation {
    events: Receiver<Event>,
    cancelled: Arc<AtomicBool>,
    ended: AtomicBool,
}

/// What [`Generation::next`] found.
#[derive(Debug)]
pub enum Next {
    /// Something happened.
    Event(Event),
    /// Nothing happened while it waited.
    Nothing,
    /// The last event was given out before.
    Ended,
}

impl Generation {
    /// The next event, waiting at most `wait` for it. A worker that went away is reported as
    /// [`EngineError::Stopped`], so that there is always a last event.
    pub fn next(&self, wait: Duration) -> Next {
        if self.ended.load(Ordering::Relaxed) {
            return Next::Ended;
        }
        let event = match self.events.recv_timeout(wait) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => return Next::Nothing,
            Err(RecvTimeoutError::Disconnected) => Event::Failed(EngineError::Stopped),
        };
        if matches!(event, Event::Done(_) | Event::Failed(_)) {
            self.ended.store(true, Ordering::Relaxed);
        }
        Next::Event(event)
    }

    /// Asks the worker to end the generation; it does so within one token and still reports the end.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// A handle for whoever may want to cancel while another thread waits for events.
    pub fn canceller(&self) -> Canceller {
        Canceller {
            cancelled: Arc::clone(&self.cancelled),
        }
    }
}

/// Cancels one generation from any thread; dropping it does nothing.
#[derive(Clone, Debug)]
pub struct Canceller {
    cancelled: Arc<AtomicBool>,
}

impl Canceller {
    /// As [`Generation::cancel`].
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.cancel();
    }
}
