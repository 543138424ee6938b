//! A whole service in a temporary folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use postern_audit::{AuditConfig, AuditLog, Completed, Entry, Refused, Verified};
use postern_engine::{Engine, EngineConfig, ModelManifest, VerifiedModel};
use postern_governance::{Policy, Right, RuleSet, TemplateSet};
use postern_service::{
    Answer, Call, CallEvent, CallStream, Caller, Clock, Ledger, Refusal, Requester, Service,
    ServiceConfig, Source, TokenClaims, TokenKey, issue,
};
use postern_testkit::rules::short_and_long;
pub(crate) use postern_testkit::rules::{LONG_CONTEXT, LONG_TOKENS};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// Longest time that a test waits for something that must happen.
const WAIT_MAX: Duration = Duration::from_secs(60);

pub(crate) struct House {
    pub(crate) service: Arc<Service>,
    pub(crate) engine: Engine,
    pub(crate) key: TokenKey,
    pub(crate) audit_dir: PathBuf,
    folder: TempDir,
}

/// What a test may choose.
pub(crate) struct Plan {
    pub(crate) model: Model,
    /// Instead of those that belong to the model.
    pub(crate) rules: Option<RuleSet>,
    pub(crate) has_ledger: bool,
    pub(crate) engine: EngineConfig,
    pub(crate) service: ServiceConfig,
    pub(crate) audit: AuditConfig,
    pub(crate) clock: Clock,
    pub(crate) key: TokenKey,
}

pub(crate) enum Model {
    /// The committed model, with the rules that ship.
    Coffee,
    /// A model file's bytes, with the rules of [`short_and_long`].
    Bytes(Vec<u8>),
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            model: Model::Coffee,
            rules: None,
            has_ledger: false,
            engine: EngineConfig::default(),
            service: ServiceConfig::default(),
            audit: in_the_clear(),
            clock: Clock::system(),
            key: TokenKey::generate().unwrap(),
        }
    }
}

impl Plan {
    pub(crate) fn with_model(bytes: Vec<u8>) -> Self {
        Self {
            model: Model::Bytes(bytes),
            ..Self::default()
        }
    }

    pub(crate) fn build(self) -> House {
        let folder = TempDir::new().unwrap();
        let (manifest, rules) = match self.model {
            Model::Coffee => (coffee_manifest(), shipped_rules()),
            Model::Bytes(bytes) => {
                let file = folder.path().join("model.gguf");
                std::fs::write(&file, bytes).unwrap();
                (
                    ModelManifest::pin(&file, "test-model").unwrap(),
                    short_and_long(),
                )
            }
        };
        let model = VerifiedModel::load(&manifest, &mut |_| {}).unwrap();
        let engine = Engine::start(model, &self.engine).unwrap();
        let audit_dir = folder.path().join("audit");
        std::fs::create_dir(&audit_dir).unwrap();
        let (audit, _) = AuditLog::open(&audit_dir, &self.audit).unwrap();
        let key = self.key.clone();
        let rules = self.rules.unwrap_or(rules);
        let (config, clock) = (self.service, self.clock);
        let service = if self.has_ledger {
            let (ledger, _) = Ledger::open(&ledger_in(folder.path())).unwrap();
            Service::with_ledger(
                engine.clone(),
                rules,
                audit,
                ledger,
                self.key,
                config,
                clock,
            )
        } else {
            Service::with_clock(engine.clone(), rules, audit, self.key, config, clock)
        };
        let service = service.unwrap();
        House {
            service,
            engine,
            key,
            audit_dir,
            folder,
        }
    }
}

impl House {
    /// Lets go of everything but the folder.
    pub(crate) fn close(self) -> TempDir {
        // The thread of a call lets go of the service a moment after its call is over.
        let begun = Instant::now();
        while Arc::strong_count(&self.service) > 1 {
            assert!(begun.elapsed() < WAIT_MAX, "somebody holds the service");
            std::thread::yield_now();
        }
        self.folder
    }

    pub(crate) fn ledger_path(&self) -> PathBuf {
        ledger_in(self.folder.path())
    }

    /// A caller with a valid token for `templates`.
    pub(crate) async fn caller(&self, identity: &str, templates: &[&str]) -> Caller {
        let token = issue(&self.key, &claims(identity, templates, Timestamp::now()));
        self.service
            .authenticate(&holder(identity), Some(&token))
            .await
            .unwrap()
    }

    /// A caller with a token for `templates` and `rights`.
    pub(crate) async fn caller_with(
        &self,
        identity: &str,
        templates: &[&str],
        rights: &[Right],
    ) -> Caller {
        let templates = templates.iter().map(|id| id.parse().unwrap()).collect();
        let claims = TokenClaims::with_rights(
            identity.parse().unwrap(),
            templates,
            rights.to_vec(),
            Timestamp::now(),
            SignedDuration::from_hours(1),
        );
        let token = issue(&self.key, &claims.unwrap());
        let holder = holder(identity);
        let caller = self.service.authenticate(&holder, Some(&token)).await;
        caller.unwrap()
    }

    /// Calls `template` as the operator, who may use all.
    pub(crate) async fn call(&self, call: Call) -> Result<CallStream, Refusal> {
        let caller = self.caller("operator", &[&call.template]).await;
        self.service.generate(caller, call).await
    }

    /// Calls and waits for the end.
    pub(crate) async fn ask(&self, call: Call) -> Outcome {
        match self.call(call).await {
            Ok(stream) => drain(stream).await,
            Err(refusal) => Outcome::refused(refusal),
        }
    }

    /// Every entry after the first two: the log's own, and that of the loaded model. The whole
    /// log is verified on the way.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let stored = postern_audit::read(&self.audit_dir).unwrap();
        stored
            .map(|stored| stored.unwrap().content.into_entry().unwrap())
            .skip(2)
            .collect()
    }

    pub(crate) fn verify(&self) -> Verified {
        postern_audit::verify(&self.audit_dir).unwrap()
    }

    pub(crate) fn completed(&self) -> Vec<Completed> {
        let completed = |entry| match entry {
            Entry::Completed(completed) => Some(completed),
            _ => None,
        };
        self.entries().into_iter().filter_map(completed).collect()
    }

    pub(crate) fn refused(&self) -> Vec<Refused> {
        let refused = |entry| match entry {
            Entry::Refused(refused) => Some(refused),
            _ => None,
        };
        self.entries().into_iter().filter_map(refused).collect()
    }

    /// Waits until `count` calls have their last record, and gives them.
    pub(crate) async fn wait_for_completed(&self, count: usize) -> Vec<Completed> {
        self.wait(|house| house.completed().len() >= count).await;
        self.completed()
    }

    /// Waits until a metric line stands in the metrics.
    pub(crate) async fn wait_for_metric(&self, line: &str) {
        self.wait(|house| {
            house
                .service
                .metrics_text()
                .lines()
                .any(|found| found == line)
        })
        .await;
    }

    async fn wait(&self, happened: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !happened(self) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let ended = tokio::time::timeout(WAIT_MAX, waiting).await;
        ended.unwrap_or_else(|_| panic!("never happened; the log holds {:#?}", self.entries()));
    }
}

/// Everything that came out of a call.
pub(crate) struct Outcome {
    pub(crate) tokens: Vec<String>,
    pub(crate) end: Result<Answer, Refusal>,
}

impl Outcome {
    fn refused(refusal: Refusal) -> Self {
        Self {
            tokens: Vec::new(),
            end: Err(refusal),
        }
    }

    pub(crate) fn answer(self) -> Answer {
        self.end.unwrap()
    }

    pub(crate) fn refusal(self) -> Refusal {
        match self.end {
            Ok(answer) => panic!("answered: {}", answer.text),
            Err(refusal) => refusal,
        }
    }
}

pub(crate) async fn drain(mut stream: CallStream) -> Outcome {
    let mut tokens = Vec::new();
    while let Some(event) = stream.next().await {
        let end = match event {
            CallEvent::Token(text) => {
                tokens.push(text);
                continue;
            }
            CallEvent::Done(answer) => Ok(*answer),
            CallEvent::Held(held) => panic!("held: {held:?}"),
            CallEvent::Failed(refusal) => Err(refusal),
        };
        assert!(stream.next().await.is_none(), "the end is the last event");
        return Outcome { tokens, end };
    }
    panic!("the stream ended without its last event");
}

/// The first event, which must be text.
pub(crate) async fn first_text(stream: &mut CallStream) -> String {
    match stream.next().await {
        Some(CallEvent::Token(text)) => text,
        Some(CallEvent::Done(answer)) => panic!("done with {} first", answer.text),
        Some(CallEvent::Held(held)) => panic!("held first: {held:?}"),
        Some(CallEvent::Failed(refusal)) => panic!("{refusal} first"),
        None => panic!("nothing came"),
    }
}

/// Somebody with a certificate for `identity`.
pub(crate) fn holder(identity: &str) -> Requester {
    Requester::with_certificate(Some(identity.parse().unwrap()), identity.as_bytes())
}

pub(crate) fn claims(identity: &str, templates: &[&str], not_before: Timestamp) -> TokenClaims {
    let templates = templates.iter().map(|id| id.parse().unwrap()).collect();
    let ttl = SignedDuration::from_hours(1);
    TokenClaims::new(identity.parse().unwrap(), templates, not_before, ttl).unwrap()
}

pub(crate) fn call(template: &str, variables: &[(&str, &str)]) -> Call {
    let pairs = variables.iter();
    let variables: BTreeMap<String, String> = pairs
        .map(|&(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Call {
        template: template.to_owned(),
        variables,
        max_tokens: None,
        temperature: None,
        seed: None,
        stream: true,
        source: Source::Network,
    }
}

pub(crate) fn coffee(wishes: &str) -> Call {
    call("coffee.v1", &[("wishes", wishes)])
}

/// A call that a model of [`postern_testkit::chain::endless`] works on for a long time.
pub(crate) fn long() -> Call {
    call("long.v1", &[("text", "go")])
}

/// A call of the same model that ends after a few tokens.
pub(crate) fn short() -> Call {
    call("short.v1", &[("text", "go")])
}

pub(crate) fn sha256(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn ledger_in(folder: &Path) -> PathBuf {
    folder.join("ledger.redb")
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn coffee_manifest() -> ModelManifest {
    ModelManifest::read(&repository().join("models/coffee/manifest.json")).unwrap()
}

pub(crate) fn shipped_rules() -> RuleSet {
    let deploy = repository().join("deploy");
    let templates = TemplateSet::load(&deploy.join("prompts")).unwrap();
    let policy = Policy::load(&deploy.join("policy/policy.yaml")).unwrap();
    RuleSet::new(templates, policy).unwrap()
}

/// A log that tests can look into.
pub(crate) fn in_the_clear() -> AuditConfig {
    AuditConfig {
        plaintext: true,
        ..AuditConfig::default()
    }
}
