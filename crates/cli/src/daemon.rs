//! From a configuration to a running service and server; `serve`, `demo` and a local `generate`
//! all start here, so none of them has a path of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use postern_audit::AuditLog;
use postern_engine::{Engine, ModelManifest, VerifiedModel};
use postern_governance::{Policy, RuleSet, TemplateSet};
use postern_service::{Service, TokenKey};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::configuration::{Configuration, ModelSource};
use crate::embedded;
use crate::state_folder::create_folder;
use crate::terminal::{ByteProgress, Spinner};

/// Ending of the manifest that `model pin` writes beside a model file.
pub(crate) const MANIFEST_EXTENSION: &str = "manifest.json";

/// Exit code when a second signal cuts the orderly end short, as shells report SIGINT.
const EXIT_INTERRUPTED: i32 = 130;

/// Puts the service together. Blocks while the model is read and checked.
///
/// # Errors
/// The first part that cannot be had: rules, token key, model, engine or audit log.
pub(crate) fn start_service(configuration: &Configuration) -> anyhow::Result<Arc<Service>> {
    // What fails fast and cheaply comes first; the audit log is opened last, because its opening
    // is itself a record.
    let rules = load_rules(configuration)?;
    if let Some(folder) = configuration.token_key.parent() {
        create_folder(folder)?;
    }
    let key = TokenKey::load_or_create(&configuration.token_key)?;
    let model = load_model(&configuration.model)?;
    log::info!(model = model.id(), sha256:% = model.sha256(); "model matches its pin");
    let spinner = Spinner::new("loading the model");
    let engine = Engine::start(model, &configuration.engine)?;
    drop(spinner);
    create_folder(&configuration.audit_dir)?;
    let (audit, recovery) = AuditLog::open(&configuration.audit_dir, &configuration.audit)?;
    if recovery.torn_bytes > 0 || !recovery.interrupted.is_empty() {
        log::warn!(
            torn_bytes = recovery.torn_bytes, interrupted = recovery.interrupted.len();
            "the audit log was not closed in order; its last calls are now recorded as interrupted"
        );
    }
    Ok(Service::new(
        engine,
        rules,
        audit,
        key,
        configuration.service.clone(),
    )?)
}

fn load_rules(configuration: &Configuration) -> anyhow::Result<RuleSet> {
    let templates = match &configuration.prompts {
        Some(folder) => TemplateSet::load(folder)?,
        None => embedded::templates()?,
    };
    let policy = match &configuration.policy {
        Some(file) => Policy::load(file)?,
        None => embedded::policy()?,
    };
    Ok(RuleSet::new(templates, policy)?)
}

fn load_model(source: &ModelSource) -> anyhow::Result<VerifiedModel> {
    let ModelSource::File(path) = source else {
        return embedded::model();
    };
    let manifest = ModelManifest::read(&manifest_of(path)?)?;
    let progress = ByteProgress::new(&format!("checking {}", manifest.id));
    Ok(VerifiedModel::load(&manifest, &mut |at| {
        progress.at(at.bytes_done, at.bytes_total)
    })?)
}

/// The manifest itself, or the one beside a GGUF file. A file without a pin is not used.
fn manifest_of(path: &Path) -> anyhow::Result<PathBuf> {
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

/// SIGTERM and SIGINT, caught from the moment this value exists.
pub(crate) struct Termination {
    terminate: Signal,
    interrupt: Signal,
}

impl Termination {
    /// Begins to catch the signals.
    ///
    /// # Errors
    /// The operating system does not let us.
    pub(crate) fn catch() -> anyhow::Result<Self> {
        let catch = |kind| signal(kind).context("cannot catch the signals that end the program");
        Ok(Self {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
        })
    }

    /// Completes with the first signal.
    pub(crate) async fn arrived(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => log::info!("SIGTERM: closing"),
            _ = self.interrupt.recv() => log::info!("SIGINT: closing"),
        }
    }

    /// Completes with the first signal; a second one ends the process at once.
    pub(crate) async fn arrived_once(mut self) {
        self.arrived().await;
        tokio::spawn(async move {
            self.arrived().await;
            std::process::exit(EXIT_INTERRUPTED);
        });
    }
}
