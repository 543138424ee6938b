//! The path of one call, top to bottom, on one thread.
//!
//! Each step either goes on or names the [`RefusalKind`] that ends the call.
//! A call that is not admitted leaves one `Refused` record, an admitted one
//! leaves `Admitted` and one `Completed` record, and the client is told the
//! outcome only after the record of it is on disk. A panic anywhere in here
//! ends the call like any other failure.
//!
//! Absent here: async, and every retry.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_audit::{Entry, Receipt};
use postern_engine::{
    EncodedPrompt, EngineError, Event, FinishReason, Generation, Job, Next, OutputFormat, Prompt,
    Sampling,
};
use postern_governance::{
    CallRequest, Circumstances, Decision, GovernedPrompt, Identity, OutputFilter, ReviewReason,
    RuleSet, TemplateId, decide,
};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::budgets::{Demand, Hold};
use crate::call::{AnswerEnd, Call, CallEvent, CallStream, Caller};
use crate::progress::Progress;
use crate::service::{Phase, Service};
use crate::{Refusal, RefusalKind, RequestId, translate};

/// Longest wait for the engine between two looks at client, deadline and phase:
/// well below the time of a token on the devices this runs on.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Longest wait for the engine to end a cancelled generation: a prefill chunk
/// or a token on a slow device. After it the call is recorded from what came.
const CANCEL_WAIT_MAX: Duration = Duration::from_secs(5);

/// Events of a call beyond one a token: the flushed text and the last event.
const EVENTS_BEYOND_TOKENS: usize = 2;

/// Seeds that the service draws stay below this, so that every JSON reader
/// can hold the recorded number.
const SEED_BITS: u32 = 53;

/// Code of a generation that the engine ended without saying why.
const ENGINE_ENDED: &str = "engine-ended";

/// Where the first outcome of a call goes.
type Reply = oneshot::Sender<Result<CallStream, Refusal>>;

/// A call at the door.
pub(crate) struct Arrival {
    pub(crate) id: RequestId,
    pub(crate) at: Instant,
    pub(crate) caller: Caller,
    pub(crate) call: Call,
}

/// A call whose admission is on disk.
pub(crate) struct Admission {
    pub(crate) id: RequestId,
    pub(crate) arrived: Instant,
    pub(crate) identity: Identity,
    /// What admitted it, and filters its output.
    rules: Arc<RuleSet>,
    pub(crate) prompt: GovernedPrompt,
    pub(crate) seed: u64,
    /// Whether the caller reads text before the call's end.
    streamed: bool,
    pub(crate) record: Receipt,
    /// The prompt as the engine's tokens.
    encoded: EncodedPrompt,
    /// What the call may use, until it is settled.
    hold: Hold,
    /// Given back when the call is over and its last record written.
    _slot: OwnedSemaphorePermit,
}

impl Admission {
    /// Whether text goes out before the call's end: not where the caller waits for the whole, and not where it
    /// may turn out to be held.
    pub(crate) fn streams(&self) -> bool {
        self.streamed && !self.prompt.review.may_hold()
    }
}

/// How a call's output ended.
struct Ending {
    end: AnswerEnd,
    /// Why it is held; empty if it goes out.
    review: Vec<ReviewReason>,
}

impl Service {
    /// Takes one call along the path. `desk` is given back once the call is
    /// refused or admitted.
    pub(crate) fn conduct(&self, arrival: Arrival, desk: OwnedSemaphorePermit, reply: Reply) {
        let rules = self.rules();
        match unless_panicked(|| self.admit(&arrival, &rules)) {
            Ok(admission) => {
                drop(desk);
                self.serve(admission, reply);
            }
            Err(kind) => {
                let refusal = Refusal {
                    id: arrival.id,
                    kind,
                };
                let by = arrival.caller.requester();
                let template = Some(&*arrival.call.template);
                self.record_refusal(&refusal, &by, template, None, &rules);
                drop(desk);
                let _ = reply.send(Err(refusal));
            }
        }
    }

    /// Decides, takes a slot, reserves tokens and writes the admission.
    fn admit(&self, arrival: &Arrival, rules: &Arc<RuleSet>) -> Result<Admission, RefusalKind> {
        if self.phase() != Phase::Open {
            return Err(RefusalKind::ShuttingDown);
        }
        if !self.engine.is_running() {
            return Err(RefusalKind::EngineStopped);
        }
        let prompt = match decide(rules, &self.request(arrival)) {
            Decision::Allow(prompt) => prompt,
            Decision::Deny(denial) => return Err(RefusalKind::Denied(denial)),
        };
        self.check_review(&prompt.review)?;
        let slot = Arc::clone(&self.slots)
            .try_acquire_owned()
            .map_err(|_| RefusalKind::Busy)?;
        let seed = match prompt.seed {
            Some(seed) => seed,
            None => drawn_seed()?,
        };
        let encoded = self.encode(arrival.id, &prompt)?;
        let hold = self.reserve(arrival, rules, &prompt, &encoded)?;
        let entry = translate::admitted(arrival, &prompt, seed, self.engine.info(), hold.uses());
        let record = match self.append(arrival.id, &Entry::Admitted(entry)) {
            Ok(record) => record,
            Err(kind) => {
                hold.take_back();
                return Err(kind);
            }
        };
        Ok(Admission {
            id: arrival.id,
            arrived: arrival.at,
            identity: arrival.caller.identity.clone(),
            rules: Arc::clone(rules),
            prompt,
            seed,
            streamed: arrival.call.stream,
            record,
            encoded,
            hold,
            _slot: slot,
        })
    }

    fn request(&self, arrival: &Arrival) -> CallRequest {
        let Arrival { caller, call, .. } = arrival;
        let Circumstances {
            source,
            time_unix_s,
        } = self.circumstances(call.source);
        CallRequest {
            identity: caller.identity.clone(),
            scopes: caller.scopes.iter().map(TemplateId::to_string).collect(),
            template: call.template.clone(),
            variables: call.variables.clone(),
            max_tokens: call.max_tokens,
            temperature: call.temperature,
            seed: call.seed,
            model: translate::model_ref(self.engine.info()),
            source,
            time_unix_s,
        }
    }

    fn encode(&self, id: RequestId, prompt: &GovernedPrompt) -> Result<EncodedPrompt, RefusalKind> {
        let chat = Prompt::Chat(translate::messages(&prompt.messages));
        self.engine
            .encode(chat)
            .map_err(|error| failure(id, &error))
    }

    /// Reserves what the call may use at most, by all limits that hold for it.
    fn reserve(
        &self,
        arrival: &Arrival,
        rules: &RuleSet,
        prompt: &GovernedPrompt,
        encoded: &EncodedPrompt,
    ) -> Result<Hold, RefusalKind> {
        let template = rules.templates.get(&prompt.template.id);
        let template = template.expect("the rules that allowed the call have its template");
        let identity = &arrival.caller.identity;
        let applied = rules.policy.limits(identity, &template.id);
        let demand = Demand {
            id: arrival.id,
            unix_s: self.clock.now().as_second(),
            prompt_tokens: encoded.tokens() as u64,
            output_tokens: prompt.max_tokens.into(),
        };
        self.budgets.reserve(applied, &demand)
    }

    /// Generates for an admitted call and closes it.
    fn serve(&self, mut admission: Admission, reply: Reply) {
        let id = admission.id;
        let filter = OutputFilter::new(&admission.rules);
        let mut progress = Progress::new(filter, admission.arrived);
        let generation = match unless_panicked(|| self.submit(&admission)) {
            Ok(generation) => generation,
            Err(kind) => {
                // Nothing was generated, and no prompt was read; only a panic leaves that open.
                let used = (kind != RefusalKind::Internal).then_some(0);
                admission.hold.settle(used);
                let kind = self.fail(&admission, &progress, kind);
                let _ = reply.send(Err(Refusal { id, kind }));
                return;
            }
        };
        let events_max = admission.prompt.max_tokens as usize + EVENTS_BEYOND_TOKENS;
        let (events, stream) = mpsc::channel(events_max);
        // A reply that nobody takes drops the stream, which `follow` sees.
        let _ = reply.send(Ok(CallStream {
            id,
            events: stream,
            generation: generation.canceller(),
        }));
        let ending =
            unless_panicked(|| self.follow(&admission, &generation, &events, &mut progress));
        drop(generation);
        // Before the caller is told, so that its next call finds what this one left.
        admission.hold.settle(progress.tokens_used());
        let closed = ending
            .and_then(|ending| unless_panicked(|| self.conclude(&admission, &progress, &ending)));
        let last = match closed {
            Ok(last) => last,
            Err(kind) => {
                let kind = self.fail(&admission, &progress, kind);
                CallEvent::Failed(Refusal { id, kind })
            }
        };
        // The channel has room for this event; only a client that left misses it.
        let _ = events.try_send(last);
    }

    /// Closes a call whose output is whole, and gives its last event.
    fn conclude(
        &self,
        admission: &Admission,
        progress: &Progress,
        ending: &Ending,
    ) -> Result<CallEvent, RefusalKind> {
        if ending.review.is_empty() {
            let answer = self.finish(admission, progress, ending.end)?;
            return Ok(CallEvent::Done(Box::new(answer)));
        }
        let held = self.hold(admission, progress, ending.end, &ending.review)?;
        Ok(CallEvent::Held(Box::new(held)))
    }

    fn submit(&self, admission: &Admission) -> Result<Generation, RefusalKind> {
        let output = match &admission.prompt.output {
            Some(schema) => OutputFormat::JsonSchema(schema.json().clone()),
            None => OutputFormat::Text,
        };
        match self.engine.submit(job(admission, output)) {
            // What the engine cannot enforce while decoding, the check of the whole output still does.
            Err(EngineError::SchemaInvalid { reason } | EngineError::Vocabulary { reason }) => {
                log::warn!(
                    template = admission.prompt.template.id, reason;
                    "the engine cannot hold output to this schema; it is only checked afterwards"
                );
                self.engine.submit(job(admission, OutputFormat::Text))
            }
            other => other,
        }
        .map_err(|error| failure(admission.id, &error))
    }

    /// Hands the generation's text to the caller until it ends. However it
    /// ends, the engine works on it no more when this returns.
    fn follow(
        &self,
        admission: &Admission,
        generation: &Generation,
        events: &mpsc::Sender<CallEvent>,
        progress: &mut Progress,
    ) -> Result<Ending, RefusalKind> {
        let end = self.relay(admission, generation, events, progress);
        if end.is_err() {
            generation.cancel();
            take_over_counts(generation, progress);
        }
        end
    }

    fn relay(
        &self,
        admission: &Admission,
        generation: &Generation,
        events: &mpsc::Sender<CallEvent>,
        progress: &mut Progress,
    ) -> Result<Ending, RefusalKind> {
        // What may turn out to be held cannot go out before its end.
        let withheld = admission.prompt.review.may_hold();
        let pass = |text: Option<String>| hand(events, text.filter(|_| !withheld));
        loop {
            let wait = self.proceed(admission, events)?;
            match generation.next(wait) {
                Next::Event(Event::Started { prompt_tokens }) => {
                    progress.prompt_tokens = prompt_tokens;
                }
                Next::Event(Event::Token { text, .. }) => pass(progress.token(&text))?,
                Next::Event(Event::Done(finished)) => {
                    progress.finished(&finished);
                    let end = self.end(finished.finish_reason, events)?;
                    pass(progress.flush(&finished.text_tail))?;
                    let ending = judge(admission, progress, end)?;
                    if withheld && ending.review.is_empty() && !progress.text().is_empty() {
                        hand(events, Some(progress.text().to_owned()))?;
                    }
                    return Ok(ending);
                }
                Next::Event(Event::Failed(error)) => {
                    progress.is_final = true;
                    return Err(failure(admission.id, &error));
                }
                Next::Nothing => {}
                Next::Ended => return Err(RefusalKind::EngineFailed { code: ENGINE_ENDED }),
            }
        }
    }

    /// How long to wait for the engine, if the call may still go on.
    fn proceed(
        &self,
        admission: &Admission,
        events: &mpsc::Sender<CallEvent>,
    ) -> Result<Duration, RefusalKind> {
        if events.is_closed() {
            return Err(RefusalKind::ClientGone);
        }
        if self.phase() == Phase::Cut {
            return Err(RefusalKind::ShuttingDown);
        }
        let left = self
            .config
            .deadline()
            .saturating_sub(admission.arrived.elapsed());
        if left.is_zero() {
            let deadline_s = self.config.deadline_s;
            return Err(RefusalKind::DeadlineExceeded { deadline_s });
        }
        Ok(left.min(LOOK_INTERVAL))
    }

    fn end(
        &self,
        reason: FinishReason,
        events: &mpsc::Sender<CallEvent>,
    ) -> Result<AnswerEnd, RefusalKind> {
        match reason {
            FinishReason::Stop => Ok(AnswerEnd::Stop),
            FinishReason::Length => Ok(AnswerEnd::Length),
            FinishReason::Cancelled if events.is_closed() => Err(RefusalKind::ClientGone),
            // We did not cancel, so the engine did: it is being stopped.
            FinishReason::Cancelled if self.phase() != Phase::Open => {
                Err(RefusalKind::ShuttingDown)
            }
            FinishReason::Cancelled if !self.engine.is_running() => Err(RefusalKind::EngineStopped),
            FinishReason::Cancelled => Err(RefusalKind::EngineFailed { code: ENGINE_ENDED }),
        }
    }
}

fn job(admission: &Admission, output: OutputFormat) -> Job {
    Job {
        prompt: Prompt::Encoded(admission.encoded.clone()),
        sampling: Sampling {
            temperature: admission.prompt.temperature,
            seed: admission.seed,
            measures_probability: admission.prompt.review.probability_min.is_some(),
            ..Sampling::greedy()
        },
        max_tokens: admission.prompt.max_tokens as usize,
        stop: Vec::new(),
        tenant: admission.identity.to_string(),
        output,
    }
}

/// Checks the whole text as it would be handed out, however it was generated, and says whether it is held.
fn judge(
    admission: &Admission,
    progress: &mut Progress,
    end: AnswerEnd,
) -> Result<Ending, RefusalKind> {
    let schema = admission.prompt.output.as_ref();
    let mut fault = schema.and_then(|schema| schema.output_fault(progress.text()));
    progress.schema_valid = schema.map(|_| fault.is_none());
    if let (Some(reason), AnswerEnd::Length) = (&mut fault, end) {
        reason.push_str("; it was cut at max_tokens");
    }
    let plan = &admission.prompt.review;
    let review = plan.reasons(fault.as_deref(), progress.mean_probability);
    match fault {
        Some(reason) if review.is_empty() => Err(RefusalKind::OutputInvalid { reason }),
        _ => Ok(Ending { end, review }),
    }
}

/// A seed for a caller that named none.
fn drawn_seed() -> Result<u64, RefusalKind> {
    let bits = getrandom::u64().map_err(|error| {
        log::error!(error:% = error; "no random bytes for a seed");
        RefusalKind::Internal
    })?;
    Ok(bits >> (u64::BITS - SEED_BITS))
}

fn hand(events: &mpsc::Sender<CallEvent>, text: Option<String>) -> Result<(), RefusalKind> {
    let Some(text) = text else {
        return Ok(());
    };
    events
        .try_send(CallEvent::Token(text))
        .map_err(|error| match error {
            TrySendError::Closed(_) => RefusalKind::ClientGone,
            // More events than tokens were allowed: a defect, not a slow client.
            TrySendError::Full(_) => RefusalKind::Internal,
        })
}

/// Waits until the engine has let go of a cancelled generation, and takes over
/// its counts. Where it does not let go in time, they are not final.
fn take_over_counts(generation: &Generation, progress: &mut Progress) {
    let cancelled = Instant::now();
    while cancelled.elapsed() < CANCEL_WAIT_MAX {
        match generation.next(LOOK_INTERVAL) {
            Next::Event(Event::Started { prompt_tokens }) => progress.prompt_tokens = prompt_tokens,
            Next::Event(Event::Token { .. }) => progress.completion_tokens += 1,
            Next::Event(Event::Done(finished)) => return progress.finished(&finished),
            Next::Event(Event::Failed(_)) | Next::Ended => {
                progress.is_final = true;
                return;
            }
            Next::Nothing => {}
        }
    }
}

fn failure(id: RequestId, error: &EngineError) -> RefusalKind {
    let kind = match error {
        EngineError::ContextOverflow {
            prompt_tokens,
            max_tokens,
            context_tokens,
        } => {
            return RefusalKind::ContextOverflow {
                prompt_tokens: *prompt_tokens,
                max_tokens: *max_tokens,
                context_tokens: *context_tokens,
            };
        }
        EngineError::QueueFull { .. } => return RefusalKind::Busy,
        other => translate::engine_failed(other),
    };
    log::error!(request:% = id, code = kind.code(), error:% = error; "the engine failed");
    kind
}

/// Runs one part of a call; a panic in it is the kind `Internal`. What the
/// part leaves behind is only counts and text that were right at the time.
fn unless_panicked<T>(part: impl FnOnce() -> Result<T, RefusalKind>) -> Result<T, RefusalKind> {
    catch_unwind(AssertUnwindSafe(part)).unwrap_or(Err(RefusalKind::Internal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_internal_refusal() {
        let end = unless_panicked::<()>(|| panic!("a defect"));
        assert_eq!(end, Err(RefusalKind::Internal));
    }
}
