//! The service as others hold it: the async edge over the path of a call.
//!
//! Absent here: the path itself, which is synchronous and lives in `path.rs`.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use postern_audit::{AuditError, AuditLog};
use postern_engine::Engine;
use postern_governance::{Circumstances, Denial, FenceKey, RuleSet, Source, Template};
use tokio::sync::{Semaphore, oneshot};

use crate::budgets::Budgets;
use crate::call::{Call, CallStream, Caller, ModelSummary, TemplateSummary, VariableSummary};
use crate::metrics::Metrics;
use crate::path::Arrival;
use crate::reload::RuleSource;
use crate::request_id::RequestIds;
use crate::strangers::Strangers;
use crate::token::TokenKey;
use crate::translate;
use crate::{Clock, Ledger, Refusal, RefusalKind, RequestId, ServiceConfig, ServiceError};

/// Most threads that decide on calls and write refusals at once. Callers
/// beyond them wait; the server bounds how many there are.
const DESK_THREADS_MAX: u32 = 8;

/// How long a shutdown waits, after cutting the calls, for their last records.
const CUT_WAIT_MAX: Duration = Duration::from_secs(10);

/// What the device's key is used with to derive the key of the marks around untrusted text. No
/// token is signed over these bytes: claims are JSON.
const FENCE_KEY_LABEL: &[u8] = b"postern-fence/1";

/// Everything that a call needs. Shared by reference count; all methods take
/// `&self`.
pub struct Service {
    pub(crate) engine: Engine,
    rules: RwLock<Arc<RuleSet>>,
    fence_key: FenceKey,
    pub(crate) audit: AuditLog,
    pub(crate) config: ServiceConfig,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) budgets: Arc<Budgets>,
    /// One permit an admitted call, held until its last record is written.
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) audit_failing: AtomicBool,
    /// Held by whoever decides on a held output or has the rules read again, so that each is done once.
    turn: Mutex<()>,
    pub(crate) rule_source: OnceLock<RuleSource>,
    pub(crate) tokens: TokenKey,
    pub(crate) strangers: Arc<Strangers>,
    pub(crate) clock: Clock,
    ids: RequestIds,
    desk: Arc<Semaphore>,
    phase: AtomicU8,
}

/// Where the service stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Calls are taken.
    Open = 0,
    /// No new calls; running ones finish.
    Closing = 1,
    /// Running calls are cut.
    Cut = 2,
}

/// Why the service should get no calls at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// It is shutting down.
    #[error("the service is shutting down")]
    ShuttingDown,
    /// An audit record could not be written, and no call was admitted since.
    #[error("the audit log cannot be written")]
    AuditUnavailable,
    /// The ledger of budgets could not be written; only a new process helps.
    #[error(
        "the ledger of budgets cannot be written; make room or repair the disk, and start the service again"
    )]
    BudgetUnavailable,
    /// The engine was stopped or died of a defect; only a new process helps.
    #[error("the engine has stopped; start the service again")]
    EngineStopped,
}

impl Service {
    /// Puts the parts together, and records which model is going to answer.
    ///
    /// # Errors
    ///
    /// [`ServiceError::ConfigOutOfRange`] if `config` breaks a bound,
    /// [`ServiceError::Random`] if there are no random bytes for request ids,
    /// [`ServiceError::ModelUnrecorded`] if the audit log cannot be written.
    pub fn new(
        engine: Engine,
        rules: RuleSet,
        audit: AuditLog,
        tokens: TokenKey,
        config: ServiceConfig,
    ) -> Result<Arc<Self>, ServiceError> {
        Self::with_clock(engine, rules, audit, tokens, config, Clock::system())
    }

    /// As [`Service::new`], with a ledger for budgets of days and months. Without one, calls that have such a
    /// budget are refused.
    ///
    /// # Errors
    ///
    /// As [`Service::new`].
    pub fn with_ledger(
        engine: Engine,
        rules: RuleSet,
        audit: AuditLog,
        ledger: Ledger,
        tokens: TokenKey,
        config: ServiceConfig,
        clock: Clock,
    ) -> Result<Arc<Self>, ServiceError> {
        Self::assemble(engine, rules, audit, Some(ledger), tokens, config, clock)
    }

    /// As [`Service::new`], with a clock of one's own for token validity.
    ///
    /// # Errors
    ///
    /// As [`Service::new`].
    pub fn with_clock(
        engine: Engine,
        rules: RuleSet,
        audit: AuditLog,
        tokens: TokenKey,
        config: ServiceConfig,
        clock: Clock,
    ) -> Result<Arc<Self>, ServiceError> {
        Self::assemble(engine, rules, audit, None, tokens, config, clock)
    }

    fn assemble(
        engine: Engine,
        rules: RuleSet,
        audit: AuditLog,
        ledger: Option<Ledger>,
        tokens: TokenKey,
        config: ServiceConfig,
        clock: Clock,
    ) -> Result<Arc<Self>, ServiceError> {
        config.check()?;
        let metrics = Arc::new(Metrics::new());
        let fence_key = FenceKey::new(tokens.sign(FENCE_KEY_LABEL));
        let service = Arc::new(Self {
            engine,
            rules: RwLock::new(Arc::new(rules.with_fence_key(fence_key))),
            fence_key,
            audit,
            budgets: Arc::new(Budgets::new(ledger, Arc::clone(&metrics))),
            metrics,
            slots: Arc::new(Semaphore::new(config.calls_max)),
            audit_failing: AtomicBool::new(false),
            turn: Mutex::default(),
            rule_source: OnceLock::new(),
            tokens,
            strangers: Arc::default(),
            ids: RequestIds::new(clock.clone())?,
            clock,
            desk: Arc::new(Semaphore::new(DESK_THREADS_MAX as usize)),
            phase: AtomicU8::new(Phase::Open as u8),
            config,
        });
        service.record_model()?;
        Ok(service)
    }

    /// Decides on calls that come from now on by other rules. Calls that were admitted go on under
    /// the rules that admitted them.
    pub fn replace_rules(&self, rules: RuleSet) {
        let rules = Arc::new(rules.with_fence_key(self.fence_key));
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    /// The rules in force.
    pub(crate) fn rules(&self) -> Arc<RuleSet> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a call through the whole path. Resolves once the call is admitted
    /// and queued, or refused; either is recorded by then. Dropping the future
    /// is the same as dropping the stream.
    ///
    /// # Errors
    ///
    /// The [`Refusal`], recorded unless the audit log itself fails.
    pub async fn generate(
        self: &Arc<Self>,
        caller: Caller,
        call: Call,
    ) -> Result<CallStream, Refusal> {
        let arrival = Arrival {
            id: self.ids.next(),
            at: Instant::now(),
            caller,
            call,
        };
        let id = arrival.id;
        let desk = self.desk().await;
        let (reply, outcome) = oneshot::channel();
        let service = Arc::clone(self);
        tokio::task::spawn_blocking(move || service.conduct(arrival, desk, reply));
        let lost = Refusal {
            id,
            kind: RefusalKind::Internal,
        };
        outcome.await.unwrap_or(Err(lost))
    }

    pub(crate) fn circumstances(&self, source: Source) -> Circumstances {
        Circumstances {
            source,
            time_unix_s: self.now().as_second(),
        }
    }

    /// A turn at what is done one at a time.
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The wall clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A place among the threads that decide and write refusals.
    pub(crate) async fn desk(&self) -> tokio::sync::OwnedSemaphorePermit {
        Arc::clone(&self.desk)
            .acquire_owned()
            .await
            .expect("the desk is never closed")
    }

    /// Runs blocking work of a caller at the desk, under the rules that are in force when it begins, and
    /// records a refusal.
    pub(crate) async fn at_desk<T: Send + 'static>(
        self: &Arc<Self>,
        caller: &Caller,
        work: impl FnOnce(&Self, &Caller, &RuleSet) -> Result<T, RefusalKind> + Send + 'static,
    ) -> Result<T, Refusal> {
        self.at_desk_about(caller, None, work).await
    }

    /// The same about the held output `subject`, which the record of a refusal names.
    pub(crate) async fn at_desk_about<T: Send + 'static>(
        self: &Arc<Self>,
        caller: &Caller,
        subject: Option<RequestId>,
        work: impl FnOnce(&Self, &Caller, &RuleSet) -> Result<T, RefusalKind> + Send + 'static,
    ) -> Result<T, Refusal> {
        let desk = self.desk().await;
        let (service, by) = (Arc::clone(self), caller.clone());
        let done = tokio::task::spawn_blocking(move || {
            let rules = service.rules();
            // A policy that names an identity no more gives it nothing more, its own held outputs included.
            let known = match rules.policy.knows(&by.identity) {
                true => Ok(()),
                false => {
                    let identity = by.identity.clone();
                    Err(RefusalKind::Denied(Denial::UnknownIdentity { identity }))
                }
            };
            let done = known
                .and_then(|()| work(&service, &by, &rules))
                .map_err(|kind| {
                    let id = service.ids.next();
                    let refusal = Refusal { id, kind };
                    service.record_refusal(&refusal, &by.requester(), None, subject, &rules);
                    Box::new(refusal)
                });
            drop(desk);
            done
        });
        match done.await {
            Ok(done) => done.map_err(|refusal| *refusal),
            Err(_) => Err(self
                .refuse(&caller.requester(), RefusalKind::Internal)
                .await),
        }
    }

    /// A name for a request that never becomes a call, from the same sequence
    /// as the ids of calls.
    #[must_use]
    pub fn next_request_id(&self) -> RequestId {
        self.ids.next()
    }

    /// The templates that token and policy both open to `caller` now, and that the model is meant for.
    #[must_use]
    pub fn templates(&self, caller: &Caller) -> Vec<TemplateSummary> {
        self.open_templates(caller, &self.rules())
            .map(summary)
            .collect()
    }

    pub(crate) fn open_templates<'a>(
        &self,
        caller: &'a Caller,
        rules: &'a RuleSet,
    ) -> impl Iterator<Item = &'a Template> + use<'a> {
        let model = translate::model_ref(self.engine.info());
        let now = self.circumstances(Source::Network);
        rules
            .templates
            .iter()
            .filter(|template| caller.scopes.contains(&template.id))
            .filter(move |template| rules.opens(&caller.identity, template, &model, &now))
    }

    /// The models that are loaded.
    #[must_use]
    pub fn models(&self) -> Vec<ModelSummary> {
        let info = self.engine.info();
        vec![ModelSummary {
            id: info.id.clone(),
            sha256: info.sha256.to_string(),
            architecture: info.architecture.to_string(),
            backend: info.backend.to_owned(),
            context_tokens: info.context_tokens,
        }]
    }

    /// Whether calls can be taken.
    ///
    /// # Errors
    ///
    /// The first reason why not.
    pub fn ready(&self) -> Result<(), NotReady> {
        if self.phase() != Phase::Open {
            return Err(NotReady::ShuttingDown);
        }
        if self.audit_failing.load(Ordering::Relaxed) || self.audit.is_stopped() {
            return Err(NotReady::AuditUnavailable);
        }
        if self.budgets.ledger().is_some_and(Ledger::is_failing) {
            return Err(NotReady::BudgetUnavailable);
        }
        if !self.engine.is_running() {
            return Err(NotReady::EngineStopped);
        }
        Ok(())
    }

    /// Does what the audit log has to have done from time to time: records how many failed authentications
    /// were only counted, signs a checkpoint where one is due and, with `expires`, destroys content
    /// that is kept no longer. Gives the newest checkpoint, a signed note. Blocks.
    pub fn tend_audit_log(&self, expires: bool) -> Option<String> {
        self.record_counted(self.strangers.take_due(Instant::now()));
        if expires {
            self.expire_audit_log();
        }
        checkpoint_or_log(self.audit.checkpoint_if_due())
    }

    /// The checkpoint over everything that was recorded, a signed note; to be kept elsewhere when the
    /// service has ended. Blocks.
    pub fn last_checkpoint(&self) -> Option<String> {
        checkpoint_or_log(self.audit.checkpoint())
    }

    fn expire_audit_log(&self) {
        match self.audit.expire() {
            Ok(expired) => {
                for one in expired {
                    log::info!(
                        segment = one.segment, class = one.class.name(), reason = one.reason;
                        "content of the audit log expired"
                    );
                }
            }
            Err(error) => {
                log::error!(error:% = error; "content of the audit log could not be expired");
            }
        }
    }

    /// All metrics in the Prometheus text format.
    #[must_use]
    pub fn metrics_text(&self) -> String {
        let in_flight = self.config.calls_max - self.slots.available_permits();
        self.metrics.text(&self.engine.stats(), in_flight)
    }

    /// Closes the service: new calls are refused, running ones may finish until
    /// `deadline` and are cut then. Returns when every last record is written,
    /// or at the latest ten seconds after the deadline, and stops the engine.
    pub async fn shutdown(self: &Arc<Self>, deadline: Duration) {
        self.enter(Phase::Closing);
        if tokio::time::timeout(deadline, self.idle()).await.is_err() {
            self.enter(Phase::Cut);
            if tokio::time::timeout(CUT_WAIT_MAX, self.idle())
                .await
                .is_err()
            {
                log::error!(
                    "calls were still open when the service stopped; the audit log will close them as interrupted"
                );
            }
        }
        // Stopping joins the engine's thread, and the rest waits for the disk, so none must hold up this one.
        let service = Arc::clone(self);
        let stopped = tokio::task::spawn_blocking(move || {
            service.record_counted(service.strangers.take_all());
            service.budgets.flush();
            service.engine.stop();
        });
        if stopped.await.is_err() {
            log::error!("the engine panicked while it was stopped");
        }
    }

    /// Resolves when every call that came before has its last record, and
    /// every refusal its only one. The desk is not held meanwhile, so that new
    /// calls are refused at once.
    async fn idle(&self) {
        let calls = u32::try_from(self.config.calls_max).expect("calls_max was checked");
        drop(self.desk.acquire_many(DESK_THREADS_MAX).await);
        drop(self.slots.acquire_many(calls).await);
        drop(self.desk.acquire_many(DESK_THREADS_MAX).await);
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::SeqCst) {
            0 => Phase::Open,
            1 => Phase::Closing,
            _ => Phase::Cut,
        }
    }

    fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::SeqCst);
    }
}

impl Drop for Service {
    /// Records what was counted after the shutdown, by connections that were still open, or without one.
    fn drop(&mut self) {
        self.record_counted(self.strangers.take_all());
    }
}

fn checkpoint_or_log(checkpoint: Result<String, AuditError>) -> Option<String> {
    checkpoint
        .inspect_err(|error| {
            log::error!(error:% = error; "no checkpoint of the audit log could be written");
        })
        .ok()
}

fn summary(template: &Template) -> TemplateSummary {
    let variables = template.variables.iter().map(|(name, variable)| {
        let summary = VariableSummary {
            description: variable.description.clone(),
            required: variable.required,
            default: variable.default.clone(),
            bytes_max: variable.bytes_max,
            schema: variable.schema.as_ref().map(|schema| schema.json().clone()),
        };
        (name.clone(), summary)
    });
    TemplateSummary {
        id: template.id.to_string(),
        description: template.description.clone(),
        intent: template.intent.clone(),
        risk: template.risk.as_str().to_owned(),
        sha256: template.checksum.clone(),
        max_tokens: template.max_tokens,
        variables: variables.collect(),
    }
}
