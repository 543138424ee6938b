//! The configuration file: TOML, one section a crate, joined with flags and defaults.
//!
//! Order of precedence: flag, file, default. Paths in the file are relative to the file's own
//! folder, paths in flags to the working directory. A key or section that nothing knows is an
//! error that names the known ones: a misspelt limit must not become no limit.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use postern_audit::{AuditConfig, AuditError, Recipients};
use postern_engine::{EngineConfig, EngineError};
use postern_governance::RuleSet;
use postern_server::{ServerConfig, ServerError};
use postern_service::{ServiceConfig, ServiceError};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use crate::arguments::{DeploymentArguments, ServeArguments};
use crate::file_rights::refuse_strangers;
use crate::known_keys::known_keys;
use crate::state_folder::StateFolder;
use crate::witness::WitnessConfig;

/// Bytes of a configuration file at most.
const FILE_BYTES_MAX: u64 = 1 << 20;

const SECTIONS: [&str; 6] = [
    "model",
    "engine",
    "governance",
    "audit",
    "service",
    "server",
];

/// Everything a daemon, or a local run, is made from. Every bound in it was checked.
#[derive(Debug)]
pub(crate) struct Configuration {
    pub(crate) model: ModelSource,
    /// Rules that a command made itself, instead of those of the files.
    pub(crate) rules: Option<RuleSet>,
    pub(crate) engine: EngineConfig,
    /// Folder of templates; the embedded ones when absent.
    pub(crate) prompts: Option<PathBuf>,
    /// Policy file; the embedded one when absent.
    pub(crate) policy: Option<PathBuf>,
    /// Redaction rules besides those that ship.
    pub(crate) sanitizer_rules: Option<PathBuf>,
    /// Registry of models; the embedded one when absent.
    pub(crate) models: Option<PathBuf>,
    pub(crate) audit_dir: PathBuf,
    pub(crate) audit: AuditConfig,
    /// Where checkpoints of the audit log are kept besides.
    pub(crate) witness: WitnessConfig,
    pub(crate) token_key: PathBuf,
    /// File of what budgets of days and months have left.
    pub(crate) ledger: PathBuf,
    pub(crate) service: ServiceConfig,
    pub(crate) server: ServerConfig,
}

/// Which model is served.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ModelSource {
    /// The one inside this binary.
    Embedded,
    /// A manifest, or a GGUF file with its manifest beside it.
    File(PathBuf),
}

impl Configuration {
    /// What `serve` runs with.
    ///
    /// # Errors
    /// The file cannot be read, holds something unknown, or a value breaks its bounds.
    pub(crate) fn for_daemon(arguments: &ServeArguments) -> anyhow::Result<Self> {
        let mut configuration = Self::for_service(&arguments.deployment)?;
        let server = &mut configuration.server;
        if let Some(address) = arguments.address {
            server.listen.set_ip(address);
        }
        if let Some(port) = arguments.port {
            server.listen.set_port(port);
        }
        for (place, flag) in [
            (&mut server.tls_cert, &arguments.tls_cert),
            (&mut server.tls_key, &arguments.tls_key),
            (&mut server.client_ca, &arguments.client_ca),
        ] {
            if let Some(path) = flag {
                place.clone_from(path);
            }
        }
        Ok(configuration)
    }

    /// What a local run needs; its server section is the file's or the default.
    ///
    /// # Errors
    /// As [`Self::for_daemon`].
    pub(crate) fn for_service(arguments: &DeploymentArguments) -> anyhow::Result<Self> {
        let state = match &arguments.state_dir {
            Some(folder) => StateFolder::new(folder),
            None => StateFolder::default_location()?,
        };
        let mut configuration = match &arguments.config {
            Some(path) => {
                refuse_strangers(path)?;
                let text = read_bounded(path)?;
                let folder = path.parent().unwrap_or(Path::new(""));
                Document {
                    name: path.display().to_string(),
                    folder,
                    text: &text,
                }
                .read(&state)?
            }
            None => Document {
                name: String::new(),
                folder: Path::new(""),
                text: "",
            }
            .read(&state)?,
        };
        configuration.override_with(arguments);
        configuration.take_auditors_of(&state)?;
        Ok(configuration)
    }

    /// Where nothing else says who can read the audit log: those that the state folder names.
    fn take_auditors_of(&mut self, state: &StateFolder) -> anyhow::Result<()> {
        let file = state.auditors();
        if self.audit.plaintext || !self.audit.recipients.is_empty() || !file.exists() {
            return Ok(());
        }
        refuse_strangers(&file)?;
        self.audit.recipients = Recipients::read(&file)?.keys().collect();
        Ok(())
    }

    fn override_with(&mut self, arguments: &DeploymentArguments) {
        if let Some(model) = &arguments.model {
            self.model = ModelSource::File(model.clone());
        }
        if arguments.prompts.is_some() {
            self.prompts.clone_from(&arguments.prompts);
        }
        if arguments.policy.is_some() {
            self.policy.clone_from(&arguments.policy);
        }
        if arguments.models.is_some() {
            self.models.clone_from(&arguments.models);
        }
        if let Some(folder) = &arguments.audit_dir {
            self.audit_dir.clone_from(folder);
        }
        if arguments.audit_plaintext || !arguments.auditors.is_empty() {
            self.audit.plaintext = arguments.audit_plaintext;
            self.audit.recipients.clone_from(&arguments.auditors);
        }
        if let Some(key) = &arguments.token_key {
            self.token_key.clone_from(key);
        }
    }
}

/// A configuration file's text and where it is from.
struct Document<'a> {
    name: String,
    folder: &'a Path,
    text: &'a str,
}

impl<'a> Document<'a> {
    fn read(&self, state: &StateFolder) -> anyhow::Result<Configuration> {
        let table = DeTable::parse(self.text).map_err(|error| self.located(&error))?;
        let mut sections = self.sections(table.into_inner())?;
        let mut take = |name| self.section(name, &mut sections);
        let model = take("model").into_model()?;
        let engine = take("engine").into_engine()?;
        let [prompts, policy, sanitizer_rules, models] = take("governance").into_rules()?;
        let (audit_dir, witness, audit) = take("audit").into_audit()?;
        let (token_key, ledger, service) = take("service").into_service()?;
        let server = take("server").into_server(state)?;
        Ok(Configuration {
            model,
            rules: None,
            engine,
            prompts,
            policy,
            sanitizer_rules,
            models,
            audit_dir: audit_dir.unwrap_or_else(|| state.audit()),
            audit,
            witness,
            token_key: token_key.unwrap_or_else(|| state.token_key()),
            ledger: ledger.unwrap_or_else(|| state.ledger()),
            service,
            server,
        })
    }

    fn section<'d>(
        &'d self,
        name: &'static str,
        sections: &mut BTreeMap<String, DeTable<'a>>,
    ) -> Section<'d, 'a> {
        let values = sections.remove(name).unwrap_or_default();
        Section {
            document: self,
            name,
            values,
        }
    }

    /// The tables of the file by name; anything else in it is an error.
    fn sections(&self, table: DeTable<'a>) -> anyhow::Result<BTreeMap<String, DeTable<'a>>> {
        let mut sections = BTreeMap::new();
        for (key, value) in table {
            let (place, name) = (self.at(key.span()), key.get_ref());
            if !SECTIONS.contains(&name.as_ref()) {
                bail!(
                    "{place}: unknown section [{name}]; the sections are {}",
                    list(&SECTIONS)
                );
            }
            let DeValue::Table(section) = value.into_inner() else {
                bail!("{place}: `{name}` must be a section; write [{name}] on a line of its own");
            };
            self.refuse_empty(name, &section)?;
            sections.insert(name.to_string(), section);
        }
        Ok(sections)
    }

    /// Fails on an empty text. Most are paths, and an empty one, joined to the folder of the file,
    /// would be that folder.
    fn refuse_empty(&self, section: &str, values: &DeTable<'a>) -> anyhow::Result<()> {
        for (key, value) in values {
            if value.get_ref().as_str() == Some("") {
                let (place, key) = (self.at(value.span()), key.get_ref());
                bail!(
                    "{place}: `{key}` in [{section}] is empty; name something, or remove the line"
                );
            }
        }
        Ok(())
    }

    fn located(&self, error: &toml::de::Error) -> anyhow::Error {
        anyhow!(
            "{}: {}",
            self.at(error.span().unwrap_or(0..0)),
            error.message()
        )
    }

    /// `file:line:column` of a span, counted from 1.
    fn at(&self, span: Range<usize>) -> String {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        let column = before[line_start..].chars().count() + 1;
        format!("{}:{line}:{column}", self.name)
    }
}

/// One section, on its way to being a checked configuration.
struct Section<'d, 'a> {
    document: &'d Document<'a>,
    name: &'static str,
    values: DeTable<'a>,
}

impl Section<'_, '_> {
    fn into_model(mut self) -> anyhow::Result<ModelSource> {
        let manifest = self.take_path("manifest")?;
        self.refuse_unknown(&["manifest"])?;
        Ok(manifest.map_or(ModelSource::Embedded, ModelSource::File))
    }

    fn into_engine(self) -> anyhow::Result<EngineConfig> {
        let mut config: EngineConfig = self.parse(&[])?;
        self.check(config.check(), |error| match error {
            EngineError::ConfigInvalid { field, .. } => Some(field),
            _ => None,
        })?;
        let beside = |path| self.document.folder.join(path);
        config.chat_template_file = config.chat_template_file.map(beside);
        Ok(config)
    }

    /// The folder of templates, the policy file, the file of redaction rules and the registry of models.
    fn into_rules(mut self) -> anyhow::Result<[Option<PathBuf>; 4]> {
        let keys = ["prompts", "policy", "sanitizer-rules", "models"];
        let mut paths = [const { None }; 4];
        for (path, key) in paths.iter_mut().zip(keys) {
            *path = self.take_path(key)?;
        }
        self.refuse_unknown(&keys)?;
        Ok(paths)
    }

    fn into_audit(mut self) -> anyhow::Result<(Option<PathBuf>, WitnessConfig, AuditConfig)> {
        let dir = self.take_path("dir")?;
        let witness = self.take_witness()?;
        let mut config: AuditConfig = self.parse(&["dir", "witness"])?;
        // Whether content is sealed, flags may still say.
        self.check(config.check(), |error| match error {
            AuditError::Config { field, .. } => Some(field),
            AuditError::Origin { .. } => Some("origin"),
            _ => None,
        })?;
        let beside = |path| self.document.folder.join(path);
        config.signing_key = config.signing_key.map(beside);
        Ok((dir, witness, config))
    }

    /// The token key, the ledger, and the rest.
    fn into_service(mut self) -> anyhow::Result<(Option<PathBuf>, Option<PathBuf>, ServiceConfig)> {
        let token_key = self.take_path("token-key")?;
        let ledger = self.take_path("ledger")?;
        let config: ServiceConfig = self.parse(&["token-key", "ledger"])?;
        self.check(config.check(), |error| match error {
            ServiceError::ConfigOutOfRange { field, .. } => Some(field),
            _ => None,
        })?;
        Ok((token_key, ledger, config))
    }

    fn into_server(self, state: &StateFolder) -> anyhow::Result<ServerConfig> {
        let mut config: ServerConfig = self.parse(&[])?;
        self.check(config.check(), |error| match error {
            ServerError::ConfigOutOfRange { field, .. } => Some(field),
            _ => None,
        })?;
        for (key, path, default) in [
            ("tls-cert", &mut config.tls_cert, state.server()),
            ("tls-key", &mut config.tls_key, state.server_key()),
            ("client-ca", &mut config.client_ca, state.ca()),
        ] {
            let named = self.values.contains_key(key);
            *path = if named {
                self.document.folder.join(&*path)
            } else {
                default
            };
        }
        Ok(config)
    }

    /// Takes a path that belongs to this crate out of the section.
    fn take_path(&mut self, key: &str) -> anyhow::Result<Option<PathBuf>> {
        let Some(value) = self.values.remove(key) else {
            return Ok(None);
        };
        let Some(path) = value.get_ref().as_str() else {
            let place = self.document.at(value.span());
            bail!("{place}: `{key}` must be a path in quotes");
        };
        Ok(Some(self.document.folder.join(path)))
    }

    fn take_witness(&mut self) -> anyhow::Result<WitnessConfig> {
        let Some(value) = self.values.remove("witness") else {
            return Ok(WitnessConfig::default());
        };
        let config = WitnessConfig::deserialize(ValueDeserializer::from(value))
            .map_err(|error| self.document.located(&error))
            .context("section [audit.witness]")?;
        Ok(config.beside(self.document.folder))
    }

    /// The section as another crate's configuration; `own` are the keys that were taken before.
    fn parse<T: DeserializeOwned>(&self, own: &[&'static str]) -> anyhow::Result<T> {
        let known: Vec<_> = own.iter().chain(known_keys::<T>()).copied().collect();
        self.refuse_unknown(&known)?;
        let value = Spanned::new(0..0, DeValue::Table(self.values.clone()));
        T::deserialize(ValueDeserializer::from(value))
            .map_err(|error| self.document.located(&error))
            .with_context(|| format!("section [{}]", self.name))
    }

    fn refuse_unknown(&self, known: &[&str]) -> anyhow::Result<()> {
        for key in self.values.keys() {
            if !known.contains(&key.get_ref().as_ref()) {
                let place = self.document.at(key.span());
                let (name, known) = (self.name, list(known));
                bail!(
                    "{place}: unknown key `{}` in [{name}]; the keys are {known}",
                    key.get_ref()
                );
            }
        }
        Ok(())
    }

    /// Adds file and line to the result of a crate's own check.
    fn check<E: std::error::Error + Send + Sync + 'static>(
        &self,
        result: Result<(), E>,
        field_of: impl Fn(&E) -> Option<&'static str>,
    ) -> anyhow::Result<()> {
        let Err(error) = result else { return Ok(()) };
        let span = field_of(&error)
            .and_then(|field| self.values.get_key_value(field))
            .map(|(key, _)| key.span());
        Err(match span {
            Some(span) => anyhow::Error::new(error).context(self.document.at(span)),
            None => error.into(),
        })
    }
}

fn list(names: &[&str]) -> String {
    names.join(", ")
}

fn read_bounded(path: &Path) -> anyhow::Result<String> {
    let place = || format!("cannot read the configuration {}", path.display());
    let mut text = String::new();
    let file = File::open(path).with_context(place)?;
    file.take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .with_context(place)?;
    anyhow::ensure!(
        text.len() as u64 <= FILE_BYTES_MAX,
        "{} has more than {FILE_BYTES_MAX} bytes; is it a configuration file?",
        path.display()
    );
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../../deploy/config/postern.toml");

    fn read(text: &str) -> Configuration {
        let document = Document {
            name: "postern.toml".into(),
            folder: Path::new("/etc"),
            text,
        };
        document
            .read(&StateFolder::new("/state"))
            .expect("a good configuration")
    }

    #[test]
    fn the_example_says_the_defaults() {
        let (example, empty) = (read(EXAMPLE), read(""));
        assert_eq!(format!("{example:#?}"), format!("{empty:#?}"));
    }

    #[test]
    fn the_example_shows_every_key() {
        let own: [&[&str]; 2] = [
            &[
                "manifest",
                "prompts",
                "policy",
                "sanitizer-rules",
                "models",
                "dir",
                "witness",
                "token-key",
                "ledger",
            ],
            &SECTIONS,
        ];
        let crates = [
            known_keys::<EngineConfig>(),
            known_keys::<AuditConfig>(),
            known_keys::<ServiceConfig>(),
            known_keys::<ServerConfig>(),
        ];
        for key in own.iter().chain(&crates).copied().flatten() {
            let shown = [
                format!("\n{key} = "),
                format!("\n# {key} = "),
                format!("\n[{key}]"),
                format!("\n[audit.{key}]"),
            ];
            assert!(
                shown.iter().any(|form| EXAMPLE.contains(form)),
                "`{key}` is not shown"
            );
        }
    }

    #[test]
    fn what_is_off_in_the_example_works_when_switched_on() {
        let mut switched_on = String::new();
        for line in EXAMPLE.lines() {
            let assignment = line.strip_prefix("# ").filter(|rest| {
                let key = rest.split(" = ").next().unwrap_or_default();
                rest.contains(" = ") && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
            });
            switched_on.push_str(assignment.unwrap_or(line));
            switched_on.push('\n');
        }
        let on = read(&switched_on);
        assert_eq!(on.engine.threads, Some(4));
        assert_eq!(on.engine.chat_template_file, Some("/etc/chat.jinja".into()));
        assert_eq!(on.server.tls_cert, Path::new("/etc/postern/tls/server.pem"));
        assert_eq!(on.policy, Some("/etc/postern/policy.yaml".into()));
        assert_ne!(on.model, ModelSource::Embedded);
    }
}
