//! What the demo needs before it can begin: a state folder with certificates and a token.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use postern_audit::Identities;
use postern_governance::{Identity, TemplateId};
use postern_service::TokenKey;
use tempfile::TempDir;

use super::{TEMPLATE, TEMPLATE_REFUSED};
use crate::arguments::{DeploymentArguments, ServeArguments};
use crate::certificates::{self, CertificateRequest};
use crate::client::{Credentials, Endpoint};
use crate::commands::token;
use crate::configuration::Configuration;
use crate::state_folder::{Existing, StateFolder, write_private};

/// Who calls in the demo.
const IDENTITY: &str = "kiosk";

/// How long the demo's token and certificates are good for.
const TOKEN_TTL: Duration = Duration::from_secs(12 * 3600);
const CERTIFICATE_DAYS: u16 = 1;

/// A state folder in which everything is ready.
pub(super) struct Stage {
    folder: StateFolder,
    identity: Identity,
    configuration: Arc<Configuration>,
    /// Removes the folder in the end, unless the user named one.
    _temporary: Option<TempDir>,
}

impl Stage {
    /// Makes what is missing; certificates that are there and still valid are used.
    pub(super) fn set(state_dir: Option<&Path>) -> anyhow::Result<Self> {
        let (root, temporary) = match state_dir {
            Some(folder) => (std::path::absolute(folder)?, None),
            None => {
                let temporary = tempfile::Builder::new()
                    .prefix("postern-demo-")
                    .tempdir()
                    .context("cannot make a temporary folder; name one with --state-dir")?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        let folder = StateFolder::new(root);
        let identity: Identity = IDENTITY.parse()?;
        make_certificates(&folder, &identity)?;
        let auditor = auditor(&folder)?;
        let configuration = Configuration::for_daemon(&ServeArguments {
            deployment: DeploymentArguments {
                state_dir: Some(folder.root().to_owned()),
                auditors: auditor.recipients().keys().collect(),
                ..DeploymentArguments::default()
            },
            address: None,
            port: Some(0),
            tls_cert: None,
            tls_key: None,
            client_ca: None,
        })?;
        Ok(Self {
            folder,
            identity,
            configuration: Arc::new(configuration),
            _temporary: temporary,
        })
    }

    /// A fresh token, also written to the folder. It opens both templates, so that the refusal is
    /// the policy's own.
    pub(super) fn issue_token(&self) -> anyhow::Result<String> {
        let key = TokenKey::load(&self.folder.token_key())?;
        let templates = [TEMPLATE, TEMPLATE_REFUSED]
            .iter()
            .map(|id| id.parse())
            .collect::<Result<_, _>>()?;
        let templates: Vec<TemplateId> = templates;
        let token = token::make(
            &key,
            self.identity.clone(),
            templates,
            Vec::new(),
            TOKEN_TTL,
        )?;
        self.folder
            .write_token(&self.identity, &token, Existing::Replace)?;
        Ok(token)
    }

    pub(super) fn configuration(&self) -> &Arc<Configuration> {
        &self.configuration
    }

    pub(super) fn endpoint(&self, url: &str) -> anyhow::Result<Endpoint> {
        Endpoint::new(url, &self.credentials())
    }

    pub(super) fn credentials(&self) -> Credentials {
        Credentials {
            ca: self.folder.ca(),
            certificate: self.folder.client(&self.identity),
            key: self.folder.client_key(&self.identity),
        }
    }

    pub(super) fn token_header(&self) -> PathBuf {
        self.folder.token_header(&self.identity)
    }

    pub(super) fn audit_dir(&self) -> PathBuf {
        self.folder.audit()
    }

    pub(super) fn auditor_file(&self) -> PathBuf {
        self.folder.auditor()
    }

    /// Who can read the audit log.
    pub(super) fn auditor(&self) -> anyhow::Result<Identities> {
        Ok(Identities::read(&self.auditor_file())?)
    }

    pub(super) fn root(&self) -> &Path {
        self.folder.root()
    }

    pub(super) fn is_kept(&self) -> bool {
        self._temporary.is_none()
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }
}

/// The demo's own auditor, whose key is made unless it is there.
fn auditor(folder: &StateFolder) -> anyhow::Result<Identities> {
    let file = folder.auditor();
    if file.exists() {
        return Ok(Identities::read(&file)?);
    }
    let auditor = Identities::generate();
    write_private(&file, auditor.to_text().as_bytes(), Existing::Keep)?;
    Ok(auditor)
}

fn make_certificates(folder: &StateFolder, identity: &Identity) -> anyhow::Result<()> {
    if folder.ca().exists() {
        for file in [folder.ca(), folder.server(), folder.client(identity)] {
            let usable = certificates::valid_until(&file)? > Timestamp::now();
            anyhow::ensure!(
                usable,
                "{} has expired; `postern certs dev --force --dir {}` makes new certificates",
                file.display(),
                folder.root().display()
            );
        }
        return Ok(());
    }
    let made = certificates::make(&CertificateRequest {
        clients: std::slice::from_ref(identity),
        hosts: &[],
        days: CERTIFICATE_DAYS,
        now: Timestamp::now(),
    })?;
    folder.write_certificates(&made, Existing::Keep)
}
