//! A whole daemon on a free loopback port, in a temporary folder.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use postern_audit::{AuditConfig, AuditLog, Completed, Entry, Refused};
use postern_engine::{Engine, EngineConfig, ModelManifest, VerifiedModel};
use postern_governance::{Policy, RuleSet, TemplateSet};
use postern_server::{Server, ServerConfig, ServerError};
use postern_service::{Clock, Ledger, Service, ServiceConfig, TokenClaims, TokenKey, issue};
use postern_testkit::Pki;
use postern_testkit::chain;
use postern_testkit::client::Client;
use postern_testkit::rules::{LONG_CONTEXT, short_and_long};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// What the default model answers; no byte may occur twice.
pub(crate) const SAYING: &str = "Moka buns";
/// Longest time that a test waits for something that must happen.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// What a test may choose.
pub(crate) struct Plan {
    pub(crate) model: Vec<u8>,
    pub(crate) rules: RuleSet,
    pub(crate) server: ServerConfig,
    pub(crate) service: ServiceConfig,
}

impl Plan {
    /// A model that says [`SAYING`].
    pub(crate) fn short() -> Self {
        Self {
            model: chain::saying(SAYING, 256),
            rules: short_and_long(),
            server: ServerConfig::default(),
            service: ServiceConfig::default(),
        }
    }

    /// A model that never ends by itself.
    pub(crate) fn endless() -> Self {
        Self {
            model: chain::endless(LONG_CONTEXT),
            ..Self::short()
        }
    }

    /// The model and the rules that ship.
    pub(crate) fn coffee() -> Self {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let deploy = repository.join("deploy");
        let templates = TemplateSet::load(&deploy.join("prompts")).unwrap();
        let policy = Policy::load(&deploy.join("policy/policy.yaml")).unwrap();
        Self {
            model: std::fs::read(repository.join("models/coffee/coffee-q8_0.gguf")).unwrap(),
            rules: RuleSet::new(templates, policy).unwrap(),
            ..Self::short()
        }
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut ServerConfig)) -> Self {
        change(&mut self.server);
        self
    }

    pub(crate) async fn start(self) -> Daemon {
        let folder = TempDir::new().unwrap();
        let pki = Pki::new();
        let key = TokenKey::generate().unwrap();
        let audit_dir = folder.path().join("audit");
        std::fs::create_dir(&audit_dir).unwrap();
        let (audit, _) = AuditLog::open(&audit_dir, &in_the_clear()).unwrap();
        let engine = start_engine(folder.path(), &self.model);
        let (ledger, _) = Ledger::open(&folder.path().join("ledger.redb")).unwrap();
        let service = Service::with_ledger(
            engine.clone(),
            self.rules,
            audit,
            ledger,
            key.clone(),
            self.service,
            Clock::system(),
        )
        .unwrap();
        let config = with_keys(self.server, &pki);
        let server = Server::bind(&config, Arc::clone(&service)).await.unwrap();
        let address = server.local_addr();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Daemon {
            address,
            pki,
            key,
            service,
            engine,
            audit_dir,
            stop,
            task,
            _folder: folder,
        }
    }
}

/// The configuration with the files of `pki` and a free port.
pub(crate) fn with_keys(config: ServerConfig, pki: &Pki) -> ServerConfig {
    ServerConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        tls_cert: pki.server().certificate.clone(),
        tls_key: pki.server().key.clone(),
        client_ca: pki.ca().to_owned(),
        ..config
    }
}

pub(crate) struct Daemon {
    pub(crate) address: SocketAddr,
    pub(crate) pki: Pki,
    pub(crate) key: TokenKey,
    pub(crate) service: Arc<Service>,
    pub(crate) engine: Engine,
    pub(crate) audit_dir: PathBuf,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), ServerError>>,
    _folder: TempDir,
}

impl Daemon {
    /// A client with a good certificate.
    pub(crate) fn client(&self, identity: &str) -> Client {
        let credentials = self.pki.client(identity);
        Client::new(self.address, self.pki.ca(), Some(&credentials))
    }

    /// A token of this daemon, valid now.
    pub(crate) fn token(&self, identity: &str, templates: &[&str]) -> String {
        token(&self.key, identity, templates, Timestamp::now())
    }

    /// Asks the daemon to stop, without waiting for it.
    pub(crate) fn begin_stop(self) -> Stopping {
        self.stop.send(()).unwrap();
        Stopping {
            audit_dir: self.audit_dir,
            task: self.task,
            _folder: self._folder,
        }
    }

    /// Stops the daemon and gives what the audit log says, verified.
    pub(crate) async fn stop(self) -> Vec<Entry> {
        self.begin_stop().wait().await
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        entries(&self.audit_dir)
    }

    /// Waits until a call has its last record.
    pub(crate) async fn wait_for_completed(&self) -> Completed {
        let waiting = async {
            loop {
                if let Some(completed) = completed(&self.entries()).pop() {
                    return completed;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(WAIT_MAX, waiting).await.unwrap()
    }
}

/// A daemon that was told to stop.
pub(crate) struct Stopping {
    audit_dir: PathBuf,
    task: JoinHandle<Result<(), ServerError>>,
    _folder: TempDir,
}

impl Stopping {
    /// Waits for the end and gives what the audit log says, verified.
    pub(crate) async fn wait(self) -> Vec<Entry> {
        self.task.await.unwrap().unwrap();
        let verified = postern_audit::verify(&self.audit_dir).unwrap();
        assert_eq!(verified.open_calls, [], "calls without a last record");
        entries(&self.audit_dir)
    }
}

fn entries(audit_dir: &Path) -> Vec<Entry> {
    let stored = postern_audit::read(audit_dir).unwrap();
    stored
        .map(|stored| stored.unwrap().content.into_entry().unwrap())
        .collect()
}

pub(crate) fn completed(entries: &[Entry]) -> Vec<Completed> {
    let completed = entries.iter().filter_map(|entry| match entry {
        Entry::Completed(completed) => Some(completed.clone()),
        _ => None,
    });
    completed.collect()
}

pub(crate) fn refused(entries: &[Entry]) -> Vec<Refused> {
    let refused = entries.iter().filter_map(|entry| match entry {
        Entry::Refused(refused) => Some(refused.clone()),
        _ => None,
    });
    refused.collect()
}

/// A token for an hour from `not_before`.
pub(crate) fn token(
    key: &TokenKey,
    identity: &str,
    templates: &[&str],
    not_before: Timestamp,
) -> String {
    let templates = templates.iter().map(|id| id.parse().unwrap()).collect();
    let ttl = SignedDuration::from_hours(1);
    let claims = TokenClaims::new(identity.parse().unwrap(), templates, not_before, ttl).unwrap();
    issue(key, &claims)
}

fn start_engine(folder: &Path, model: &[u8]) -> Engine {
    let file = folder.join("model.gguf");
    std::fs::write(&file, model).unwrap();
    let manifest = ModelManifest::pin(&file, "test-model").unwrap();
    let model = VerifiedModel::load(&manifest, &mut |_| {}).unwrap();
    let config = EngineConfig {
        threads: Some(1),
        ..EngineConfig::default()
    };
    Engine::start(model, &config).unwrap()
}

/// A log that tests can look into.
fn in_the_clear() -> AuditConfig {
    AuditConfig {
        plaintext: true,
        ..AuditConfig::default()
    }
}
