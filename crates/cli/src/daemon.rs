//! From a configuration to a running service and server; `serve`, `demo` and a local `generate`
//! all start here, so none of them has a path of its own.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context, bail};
use postern_audit::{AuditError, AuditLog, Recovery};
use postern_engine::{Engine, ModelManifest, VerifiedModel};
use postern_governance::{ModelRef, ModelRegistry, Policy, RuleSet, Sanitizer, TemplateSet};
use postern_server::Server;
use postern_service::{Clock, Ledger, ModelSummary, Service, TokenKey};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::configuration::{Configuration, ModelSource};
use crate::embedded;
use crate::error::Exit;
use crate::file_rights::{refuse_strangers, refuse_strangers_within};
use crate::state_folder::{Existing, create_folder, write_public};
use crate::terminal::{ByteProgress, Spinner};
use crate::witness::Witness;

/// Ending of the manifest that `model pin` writes beside a model file.
pub(crate) const MANIFEST_EXTENSION: &str = "manifest.json";

/// How long a service that no call has reached waits for its last record.
const UNUSED_SHUTDOWN_WAIT_MAX: Duration = Duration::from_secs(1);

/// How often the audit log is asked whether a checkpoint is due, and after how many times whether content expires.
const AUDIT_TEND_INTERVAL: Duration = Duration::from_secs(1);
const AUDIT_EXPIRY_TICKS: u64 = 600;
/// Longest wait for one witness at the end.
const LAST_CHECKPOINT_WAIT_MAX: Duration = Duration::from_secs(5);
/// Ending of the file with the public half of the log's key.
const PUBLIC_KEY_EXTENSION: &str = "pub";

/// Number of SIGXFSZ: a write went beyond the size that a file may have (`ulimit -f`).
const SIGXFSZ: i32 = 25;

/// What a service needs besides its ledger and its audit log.
struct Parts {
    rules: RuleSet,
    key: TokenKey,
    engine: Engine,
}

/// Puts the service together, or `None` when a signal came first.
///
/// A signal is obeyed at once, whatever file is being read: nothing was promised to anyone yet.
/// Only the opening of the audit log is waited for, since it is itself a record; if a signal comes
/// then, the log is closed in order.
///
/// # Errors
/// The first part that cannot be had: rules, token key, model, engine or audit log.
pub(crate) async fn start_service(
    configuration: &Arc<Configuration>,
    termination: &mut Termination,
) -> anyhow::Result<Option<Arc<Service>>> {
    let witnesses = configuration.witness.witnesses()?;
    let for_parts = Arc::clone(configuration);
    let preparing = tokio::task::spawn_blocking(move || prepare(&for_parts));
    let parts = tokio::select! {
        biased;
        () = termination.arrived() => return Ok(None),
        parts = preparing => parts??,
    };
    let for_log = Arc::clone(configuration);
    let service = tokio::task::spawn_blocking(move || open(&for_log, parts)).await??;
    tokio::spawn(tend_audit_log(Arc::downgrade(&service), witnesses));
    let for_reload = Arc::clone(configuration);
    service.read_rules_with(move |models| {
        load_rules_for(&for_reload, models).map_err(|error| crate::error::message(&error))
    });
    if termination.has_arrived().await {
        close_unused(&service).await;
        return Ok(None);
    }
    Ok(Some(service))
}

/// Takes the port and reads the TLS files, or `None` when a signal came first; the service is
/// closed then.
///
/// # Errors
/// Those of [`Server::bind`].
pub(crate) async fn bind(
    configuration: &Arc<Configuration>,
    service: &Arc<Service>,
    termination: &mut Termination,
) -> anyhow::Result<Option<Server>> {
    let (for_server, served) = (Arc::clone(configuration), Arc::clone(service));
    // A task of its own, because reading a file may block without end.
    let binding = tokio::spawn(async move { Server::bind(&for_server.server, served).await });
    let bound = tokio::select! {
        biased;
        () = termination.arrived() => None,
        bound = binding => Some(bound.context("the server's start")?),
    };
    match bound {
        Some(Ok(server)) => Ok(Some(server)),
        Some(Err(error)) => {
            close_unused(service).await;
            Err(error.into())
        }
        None => {
            close_unused(service).await;
            Ok(None)
        }
    }
}

/// Ends the audit log with a checkpoint over all of it, once nothing more is recorded, and has that kept elsewhere. A
/// witness that does not answer holds the end up for no longer than [`LAST_CHECKPOINT_WAIT_MAX`].
///
/// The log would do the first when it is dropped, but a task of a server may still have the service when the process ends.
pub(crate) async fn close_audit_log(configuration: &Configuration, service: &Arc<Service>) {
    let service = Arc::clone(service);
    let closing = tokio::task::spawn_blocking(move || service.last_checkpoint());
    let Ok(Some(checkpoint)) = closing.await else {
        return;
    };
    // What is wrong with a witness's address or CA was an error of the start.
    for witness in &mut configuration.witness.witnesses().unwrap_or_default() {
        let kept = tokio::time::timeout(LAST_CHECKPOINT_WAIT_MAX, witness.keep(&checkpoint)).await;
        if kept.is_err() {
            log::warn!("a witness did not answer, and so has not the last checkpoint");
        }
    }
}

/// Has the audit log looked after for as long as anybody has the service, and its checkpoints kept elsewhere.
async fn tend_audit_log(service: Weak<Service>, mut witnesses: Vec<Witness>) {
    let mut ticks = tokio::time::interval(AUDIT_TEND_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for tick in 0_u64.. {
        ticks.tick().await;
        let Some(service) = service.upgrade() else {
            return;
        };
        let expires = tick.is_multiple_of(AUDIT_EXPIRY_TICKS);
        let tending = tokio::task::spawn_blocking(move || service.tend_audit_log(expires));
        let Ok(checkpoint) = tending.await else {
            log::error!("a defect ended the care of the audit log");
            return;
        };
        for witness in &mut witnesses {
            if let Some(checkpoint) = &checkpoint {
                witness.keep(checkpoint).await;
            }
        }
    }
}

async fn close_unused(service: &Arc<Service>) {
    service.shutdown(UNUSED_SHUTDOWN_WAIT_MAX).await;
}

/// Reads and checks everything. Blocks. What fails fast and cheaply comes first.
fn prepare(configuration: &Configuration) -> anyhow::Result<Parts> {
    let rules = load_rules(configuration)?;
    let manifest = load_manifest(&configuration.model)?;
    // Before gigabytes are hashed; what is loaded then has the digest of this manifest.
    rules.require_model(&reference(&manifest))?;
    if let Some(folder) = configuration.token_key.parent() {
        create_folder(folder)?;
    }
    let key = TokenKey::load_or_create(&configuration.token_key)?;
    refuse_strangers(&configuration.token_key)?;
    let model = load_model(&configuration.model, &manifest)?;
    log::info!(model = model.id(), sha256:% = model.sha256(); "model matches its pin");
    let spinner = Spinner::new("loading the model");
    let engine = Engine::start(model, &configuration.engine)?;
    drop(spinner);
    Ok(Parts { rules, key, engine })
}

/// Opens the audit log and the ledger, and with them the service.
fn open(configuration: &Configuration, parts: Parts) -> anyhow::Result<Arc<Service>> {
    let Parts { rules, key, engine } = parts;
    let (audit, recovery) = open_audit_log(configuration)?;
    log::info!(signer = audit.signer(); "the audit log is signed with this key");
    export_signer(configuration, audit.signer())?;
    if recovery.torn_bytes > 0 || !recovery.interrupted.is_empty() {
        log::warn!(
            torn_bytes = recovery.torn_bytes, interrupted = recovery.interrupted.len();
            "the audit log was not closed in order; its last calls are now recorded as interrupted"
        );
    }
    if let Some(folder) = configuration.ledger.parent() {
        create_folder(folder)?;
    }
    let kept = std::fs::metadata(&configuration.ledger).is_ok_and(|file| file.len() > 0);
    if !kept && recovery.records > 0 {
        log::warn!(
            file:% = configuration.ledger.display();
            "the audit log has records and there is no ledger: budgets begin anew, and no output is held"
        );
    }
    let (ledger, _) = Ledger::open(&configuration.ledger)?;
    refuse_strangers(&configuration.ledger)?;
    Ok(Service::with_ledger(
        engine,
        rules,
        audit,
        ledger,
        key,
        configuration.service.clone(),
        Clock::system(),
    )?)
}

/// Writes the public half of the log's key beside the secret one, for those who verify.
fn export_signer(configuration: &Configuration, signer: &str) -> anyhow::Result<()> {
    let secret = configuration
        .audit
        .signing_key_path(&configuration.audit_dir);
    let public = secret.with_extension(PUBLIC_KEY_EXTENSION);
    let line = format!("{signer}\n");
    if std::fs::read(&public).is_ok_and(|kept| kept == line.as_bytes()) {
        return Ok(());
    }
    write_public(&public, line.as_bytes(), Existing::Replace)
}

/// Opens the audit log for writing.
pub(crate) fn open_audit_log(
    configuration: &Configuration,
) -> anyhow::Result<(AuditLog, Recovery)> {
    match AuditLog::open(&configuration.audit_dir, &configuration.audit) {
        Err(AuditError::NoRecipients) => bail!(
            "nothing says who can read the audit log: `postern audit keygen --out auditor.key --state-dir STATE` makes \
             a key for an auditor, --auditor names the public key of one; with --audit-plaintext everybody can read \
             the log who has its files"
        ),
        opened => Ok(opened?),
    }
}

/// The rules as they are now, under which the models that are loaded may go on.
fn load_rules_for(
    configuration: &Configuration,
    models: &[ModelSummary],
) -> anyhow::Result<RuleSet> {
    let rules = load_rules(configuration)?;
    for model in models {
        rules.require_model(&ModelRef {
            id: model.id.clone(),
            sha256: model.sha256.clone(),
        })?;
    }
    Ok(rules)
}

pub(crate) fn load_rules(configuration: &Configuration) -> anyhow::Result<RuleSet> {
    if let Some(rules) = &configuration.rules {
        return Ok(rules.clone());
    }
    rules_of(&RulePaths {
        prompts: configuration.prompts.as_deref(),
        policy: configuration.policy.as_deref(),
        sanitizer_rules: configuration.sanitizer_rules.as_deref(),
        models: configuration.models.as_deref(),
    })
}

/// Where the rules are; what is absent is taken from the binary.
#[derive(Debug, Default)]
pub(crate) struct RulePaths<'p> {
    /// Folder of templates.
    pub(crate) prompts: Option<&'p Path>,
    /// Policy file, beside the rules that it names.
    pub(crate) policy: Option<&'p Path>,
    /// Redaction rules.
    pub(crate) sanitizer_rules: Option<&'p Path>,
    /// Registry of models, beside its cards.
    pub(crate) models: Option<&'p Path>,
}

/// The rules of the given files.
pub(crate) fn rules_of(paths: &RulePaths<'_>) -> anyhow::Result<RuleSet> {
    let templates = match paths.prompts {
        Some(folder) => {
            let templates = TemplateSet::load(folder)?;
            refuse_strangers_within(folder)?;
            templates
        }
        None => embedded::templates()?,
    };
    let policy = match paths.policy {
        Some(file) => {
            refuse_strangers(file)?;
            let policy = Policy::load(file)?;
            for rules in policy.rule_files() {
                refuse_strangers(&file.with_file_name(rules))?;
            }
            policy
        }
        None => embedded::policy()?,
    };
    let sanitizer = match paths.sanitizer_rules {
        Some(file) => {
            refuse_strangers(file)?;
            Sanitizer::load(&[file])?
        }
        None => Sanitizer::builtin(),
    };
    let registry = match paths.models {
        Some(file) => load_registry(file)?,
        None => embedded::registry()?,
    };
    Ok(RuleSet::with_sanitizer(templates, policy, sanitizer)?.with_registry(registry))
}

fn load_registry(file: &Path) -> anyhow::Result<ModelRegistry> {
    refuse_strangers(file)?;
    let registry = ModelRegistry::load(file)?;
    for entry in registry.iter() {
        refuse_strangers(&file.with_file_name(entry.card()))?;
    }
    Ok(registry)
}

/// The pin of the model that is to be served.
fn load_manifest(source: &ModelSource) -> anyhow::Result<ModelManifest> {
    let ModelSource::File(path) = source else {
        return embedded::manifest();
    };
    let manifest = manifest_of(path)?;
    refuse_strangers(&manifest)?;
    Ok(ModelManifest::read(&manifest)?)
}

/// The model of a manifest as the rules know it.
pub(crate) fn reference(manifest: &ModelManifest) -> ModelRef {
    ModelRef {
        id: manifest.id.clone(),
        sha256: manifest.sha256.to_string(),
    }
}

fn load_model(source: &ModelSource, manifest: &ModelManifest) -> anyhow::Result<VerifiedModel> {
    if *source == ModelSource::Embedded {
        return embedded::model(manifest);
    }
    let progress = ByteProgress::new(&format!("checking {}", manifest.id));
    Ok(VerifiedModel::load(manifest, &mut |at| {
        progress.at(at.bytes_done, at.bytes_total)
    })?)
}

/// The manifest itself, or the one beside a GGUF file. A file without a pin is not used.
pub(crate) fn manifest_of(path: &Path) -> anyhow::Result<PathBuf> {
    if path
        .extension()
        .is_none_or(|extension| !extension.eq_ignore_ascii_case("gguf"))
    {
        return Ok(path.to_owned());
    }
    let manifest = path.with_extension(MANIFEST_EXTENSION);
    anyhow::ensure!(
        manifest.exists(),
        "{} is not pinned: {} does not exist; run `postern model pin {0}` first",
        path.display(),
        manifest.display()
    );
    Ok(manifest)
}

/// SIGTERM, SIGINT and SIGHUP, caught from the moment this value exists.
///
/// SIGXFSZ is caught as well and otherwise ignored: a full file is an error of the write, which
/// the audit log knows how to handle, and no reason to end without a last record.
pub(crate) struct Termination {
    terminate: Signal,
    interrupt: Signal,
    /// Absent where the caller had it ignored, as `nohup` does, and where it means something else.
    hangup: Option<Signal>,
    _file_size: Signal,
}

impl Termination {
    /// Begins to catch the signals.
    ///
    /// # Errors
    /// The operating system does not let us.
    pub(crate) fn catch() -> anyhow::Result<Self> {
        Ok(Self {
            hangup: match hangup_is_ignored() {
                true => None,
                false => Some(caught(SignalKind::hangup())?),
            },
            ..Self::catch_but_hangup()?
        })
    }

    /// As [`Termination::catch`], where SIGHUP means something else.
    ///
    /// # Errors
    /// The operating system does not let us.
    pub(crate) fn catch_but_hangup() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: caught(SignalKind::terminate())?,
            interrupt: caught(SignalKind::interrupt())?,
            hangup: None,
            _file_size: caught(SignalKind::from_raw(SIGXFSZ))?,
        })
    }

    /// Completes with the first signal.
    pub(crate) async fn arrived(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => log::info!("SIGTERM: closing"),
            _ = self.interrupt.recv() => log::info!("SIGINT: closing"),
            () = received(self.hangup.as_mut()) => log::info!("SIGHUP: closing"),
        }
    }

    /// Whether a signal has come already; it counts as taken then.
    pub(crate) async fn has_arrived(&mut self) -> bool {
        tokio::select! {
            biased;
            () = self.arrived() => true,
            () = std::future::ready(()) => false,
        }
    }

    /// Completes with the first signal; a second one ends the process at once.
    pub(crate) async fn arrived_once(mut self) {
        self.arrived().await;
        tokio::spawn(async move {
            self.arrived().await;
            std::process::exit(Exit::Interrupted as i32);
        });
    }
}

fn caught(kind: SignalKind) -> anyhow::Result<Signal> {
    signal(kind).context("cannot catch the signals that end the program")
}

/// Completes with the signal; never where it is not listened for.
async fn received(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Whether this process was started with SIGHUP ignored (Linux, proc_pid_status(5): `SigIgn`, a
/// mask in hexadecimal). Where that cannot be told, it was not.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> (SignalKind::hangup().as_raw_value() - 1) & 1 == 1)
}
