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
use postern_audit::{AuditConfig, AuditError};
use postern_engine::{EngineConfig, EngineError};
use postern_server::{ServerConfig, ServerError};
use postern_service::{ServiceConfig, ServiceError};
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use crate::arguments::{DeploymentArguments, ServeArguments};
use crate::known_keys::known_keys;
use crate::state_folder::StateFolder;

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
    pub(crate) engine: EngineConfig,
    /// Folder of templates; the embedded ones when absent.
    pub(crate) prompts: Option<PathBuf>,
    /// Policy file; the embedded one when absent.
    pub(crate) policy: Option<PathBuf>,
    pub(crate) audit_dir: PathBuf,
    pub(crate) audit: AuditConfig,
    pub(crate) token_key: PathBuf,
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
        Ok(configuration)
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
        if let Some(folder) = &arguments.audit_dir {
            self.audit_dir.clone_from(folder);
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
        let table = DeTable::parse(self.text)
            .map_err(|error| self.located(&error))?
            .into_inner();
        let mut sections = self.sections(table)?;
        let mut take = |name: &'static str| Section {
            document: self,
            name,
            values: sections.remove(name).unwrap_or_default(),
        };

        let mut model = take("model");
        let manifest = model.take_path("manifest")?;
        model.refuse_unknown(&["manifest"])?;

        let engine = take("engine");
        let mut engine_config: EngineConfig = engine.parse(&[])?;
        engine.check(engine_config.check(), |error| match error {
            EngineError::ConfigInvalid { field, .. } => Some(field),
            _ => None,
        })?;
        engine_config.chat_template_file = engine_config
            .chat_template_file
            .map(|path| self.folder.join(path));

        let mut governance = take("governance");
        let prompts = governance.take_path("prompts")?;
        let policy = governance.take_path("policy")?;
        governance.refuse_unknown(&["prompts", "policy"])?;

        let mut audit = take("audit");
        let audit_dir = audit.take_path("dir")?;
        let audit_config: AuditConfig = audit.parse(&["dir"])?;
        audit.check(audit_config.check(), |error| match error {
            AuditError::Config { field, .. } => Some(field),
            _ => None,
        })?;

        let mut service = take("service");
        let token_key = service.take_path("token-key")?;
        let service_config: ServiceConfig = service.parse(&["token-key"])?;
        service.check(service_config.check(), |error| match error {
            ServiceError::ConfigOutOfRange { field, .. } => Some(field),
            _ => None,
        })?;

        let server = take("server");
        let mut server_config: ServerConfig = server.parse(&[])?;
        server.check(server_config.check(), |error| match error {
            ServerError::ConfigOutOfRange { field, .. } => Some(field),
            _ => None,
        })?;
        for (key, path, default) in [
            ("tls-cert", &mut server_config.tls_cert, state.server()),
            ("tls-key", &mut server_config.tls_key, state.server_key()),
            ("client-ca", &mut server_config.client_ca, state.ca()),
        ] {
            let named = server.values.contains_key(key);
            *path = if named {
                self.folder.join(&*path)
            } else {
                default
            };
        }

        Ok(Configuration {
            model: manifest.map_or(ModelSource::Embedded, ModelSource::File),
            engine: engine_config,
            prompts,
            policy,
            audit_dir: audit_dir.unwrap_or_else(|| state.audit()),
            audit: audit_config,
            token_key: token_key.unwrap_or_else(|| state.token_key()),
            service: service_config,
            server: server_config,
        })
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
            sections.insert(name.to_string(), section);
        }
        Ok(sections)
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
