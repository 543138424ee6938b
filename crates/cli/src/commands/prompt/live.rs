//! A model that answers the tests of templates, through the service like every call.
//!
//! The policy is made for the run: one identity, which may use every template of the folder; and no
//! registry of models is asked, since a model is judged by such runs before it is registered. Marks
//! are numbered as in recorded prompts, so a run with the same model and seed repeats anywhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use postern_governance::{FenceKey, Identity, Policy, PromptCase, RuleSet, Template, TemplateSet};
use postern_service::Service;
use tempfile::TempDir;

use super::folder::PromptFolder;
use crate::arguments::{DeploymentArguments, LiveArguments};
use crate::client::Call;
use crate::commands::generate::{LOCAL_SHUTDOWN_WAIT_MAX, LocalCaller, call_service};
use crate::configuration::Configuration;
use crate::daemon::{Termination, start_service};
use crate::error::CommandError;

/// Who calls in the audit log of the run.
const IDENTITY: &str = "prompt-test";

/// A running service with the templates of a folder.
pub(crate) struct LiveModel {
    service: Arc<Service>,
    identity: Identity,
    token_key: PathBuf,
    termination: Termination,
    /// Holds the audit log of a run that nobody wants to keep.
    _folder: Option<TempDir>,
}

/// What the model wrote.
pub(crate) struct LiveOutput {
    pub(crate) text: String,
    pub(crate) model: String,
    pub(crate) model_sha256: String,
}

impl LiveModel {
    /// Starts the service, if it is asked for.
    ///
    /// # Errors
    /// As for a local call; also a template of the folder that does not load.
    pub(crate) async fn start(
        asked: &LiveArguments,
        folder: &PromptFolder,
    ) -> anyhow::Result<Option<Self>> {
        if !asked.live {
            return Ok(None);
        }
        let mut termination = Termination::catch()?;
        let (state_dir, temporary) = match &asked.state_dir {
            Some(dir) => (dir.clone(), None),
            None => {
                let dir = TempDir::new()?;
                (dir.path().to_owned(), Some(dir))
            }
        };
        let mut configuration = Configuration::for_service(&DeploymentArguments {
            config: asked.config.clone(),
            state_dir: Some(state_dir.clone()),
            model: asked.model.clone(),
            audit_dir: Some(state_dir.join("audit")),
            audit_plaintext: temporary.is_some(),
            token_key: Some(state_dir.join("token.key")),
            ..DeploymentArguments::default()
        })?;
        configuration.rules = Some(rules(folder)?);
        let configuration = Arc::new(configuration);
        let service = start_service(&configuration, &mut termination)
            .await?
            .ok_or(CommandError::Interrupted)?;
        Ok(Some(Self {
            service,
            identity: IDENTITY.parse()?,
            token_key: configuration.token_key.clone(),
            termination,
            _folder: temporary,
        }))
    }

    /// Lets the model answer one test.
    ///
    /// # Errors
    /// The call was refused or failed, or a signal came.
    pub(crate) async fn answer(
        &mut self,
        template: &Template,
        case: &PromptCase,
    ) -> anyhow::Result<LiveOutput> {
        let call = Call {
            template: template.id.to_string(),
            variables: case.variables.clone(),
            max_tokens: case.max_tokens,
            temperature: None,
            seed: Some(case.seed),
            stream: false,
        };
        let caller = LocalCaller {
            identity: &self.identity,
            template: &template.id,
            token_key: Path::new(&self.token_key),
        };
        let mut unseen = |_: &str| Ok(());
        let answer = tokio::select! {
            answer = call_service(&self.service, &caller, &call, &mut unseen) => answer?,
            () = self.termination.arrived() => return Err(CommandError::Interrupted.into()),
        };
        let model = self.service.models().into_iter().next();
        let (model, model_sha256) = model.map(|model| (model.id, model.sha256)).unzip();
        Ok(LiveOutput {
            text: answer.fields.text,
            model: model.unwrap_or_default(),
            model_sha256: model_sha256.unwrap_or_default(),
        })
    }

    /// Ends the run when all records are written.
    pub(crate) async fn stop(self) {
        self.service.shutdown(LOCAL_SHUTDOWN_WAIT_MAX).await;
    }
}

fn rules(folder: &PromptFolder) -> anyhow::Result<RuleSet> {
    let sources = folder.files.sources.iter();
    let sources = sources.map(|(file, text)| (file.as_str(), text.as_str()));
    let templates = TemplateSet::from_sources(sources)?;
    let mut policy = format!("version: 1\nidentities:\n  {IDENTITY}:\n    templates:\n");
    for template in templates.iter() {
        policy.push_str(&format!("      {}: {{}}\n", template.id));
    }
    // Whether a template withstands an injection is seen when one gets as far as the model.
    policy.push_str("injection: {medium: mark, high: mark}\n");
    let policy = Policy::from_source("the policy of this run", &policy)?;
    Ok(RuleSet::new(templates, policy)?.with_fence_key(FenceKey::PUBLIC))
}
