//! `postern model check`: a registry, its cards, and which model covers which template.
//!
//! The judgement is the registry's own, the same that a start and every call ask for.

use std::collections::BTreeSet;

use anyhow::Context;
use postern_engine::ModelManifest;
use postern_governance::{ModelEntry, ModelRef, ModelRegistry, Template, TemplateSet, UseCase};
use serde_json::{Value, json};

use crate::arguments::ModelCheckArguments;
use crate::daemon::{manifest_of, reference};
use crate::embedded;
use crate::error::CommandError;
use crate::terminal::{Screen, Tone, printable};

/// What was found.
struct Checked<'r> {
    registry: &'r ModelRegistry,
    models: Vec<CheckedModel<'r>>,
    templates: Vec<CheckedTemplate<'r>>,
    /// The model that was named, and why it may not serve, if it may not.
    named: Option<(ModelRef, Option<String>)>,
}

struct CheckedModel<'r> {
    entry: &'r ModelEntry,
    approved: bool,
    /// Ids of the templates that it may answer.
    templates: Vec<&'r str>,
}

struct CheckedTemplate<'r> {
    template: &'r Template,
    /// Ids of the models that may answer it.
    models: BTreeSet<&'r str>,
}

/// Checks a registry against templates.
pub(crate) fn run(arguments: &ModelCheckArguments) -> anyhow::Result<()> {
    let registry = match &arguments.registry {
        Some(file) => ModelRegistry::load(file)?,
        None => embedded::registry()?,
    };
    let templates = match &arguments.prompts {
        Some(folder) => TemplateSet::load(folder)?,
        None => embedded::templates()?,
    };
    let named = match &arguments.model {
        Some(path) => Some(reference(&ModelManifest::read(&manifest_of(path)?)?)),
        None => None,
    };
    let chosen = chosen(&templates, arguments)?;
    let checked = check(&registry, &templates, &chosen, named);
    let mut screen = Screen::new();
    if arguments.json {
        screen.json(&checked.to_json())?;
    } else {
        checked.show(&mut screen)?;
    }
    match checked.failure() {
        Some(message) => Err(CommandError::ChecksFailed { message }.into()),
        None => Ok(()),
    }
}

/// The templates that were asked for; all of them if none was named.
fn chosen<'t>(
    templates: &'t TemplateSet,
    arguments: &ModelCheckArguments,
) -> anyhow::Result<Vec<&'t Template>> {
    if arguments.templates.is_empty() {
        return Ok(templates.iter().collect());
    }
    let known = || {
        let ids: Vec<&str> = templates
            .iter()
            .map(|template| template.id.as_str())
            .collect();
        ids.join(", ")
    };
    let asked = arguments.templates.iter();
    asked
        .map(|id| {
            let found = templates.get(id.as_str());
            found.with_context(|| format!("there is no template `{id}`; there are {}", known()))
        })
        .collect()
}

fn check<'r>(
    registry: &'r ModelRegistry,
    templates: &TemplateSet,
    chosen: &[&'r Template],
    named: Option<ModelRef>,
) -> Checked<'r> {
    let is_meant = |entry: &&ModelEntry| {
        named
            .as_ref()
            .is_none_or(|model| model.id == entry.id() && model.sha256 == entry.sha256())
    };
    let models: Vec<CheckedModel<'r>> = registry
        .iter()
        .filter(is_meant)
        .map(|entry| CheckedModel {
            entry,
            approved: registry.approves(entry),
            templates: covered(registry, entry, chosen),
        })
        .collect();
    let templates_checked = chosen.iter().map(|template| {
        let id = template.id.as_str();
        let covering = models.iter().filter(|model| model.templates.contains(&id));
        CheckedTemplate {
            template,
            models: covering.map(|model| model.entry.id()).collect(),
        }
    });
    let templates_checked = templates_checked.collect();
    let named = named.map(|model| {
        let refused = registry.require(&model, templates).err();
        (model, refused.map(|error| error.to_string()))
    });
    Checked {
        registry,
        models,
        templates: templates_checked,
        named,
    }
}

fn covered<'r>(
    registry: &ModelRegistry,
    entry: &ModelEntry,
    templates: &[&'r Template],
) -> Vec<&'r str> {
    let model = ModelRef {
        id: entry.id().to_owned(),
        sha256: entry.sha256().to_owned(),
    };
    let permitted = |template: &&&Template| registry.permit(&model, template).is_ok();
    let templates = templates.iter().filter(permitted);
    templates.map(|template| template.id.as_str()).collect()
}

impl Checked<'_> {
    fn refused(&self) -> Option<&str> {
        let (_, refused) = self.named.as_ref()?;
        refused.as_deref()
    }

    /// What did not pass, in one sentence.
    fn failure(&self) -> Option<String> {
        if let Some(reason) = self.refused() {
            return Some(reason.to_owned());
        }
        let above = self.models.iter().filter(|model| !model.approved).count();
        let without = self
            .templates
            .iter()
            .filter(|t| t.models.is_empty())
            .count();
        let approved = self.registry.approved_risk().as_str();
        let mut parts = Vec::new();
        if above > 0 {
            let all = self.models.len();
            parts.push(format!(
                "{above} of {all} models have a risk above {approved}, so they are refused"
            ));
        }
        if without > 0 {
            let all = self.templates.len();
            parts.push(format!(
                "{without} of {all} templates are covered by no model, so calls to them are refused"
            ));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    fn show(&self, screen: &mut Screen) -> anyhow::Result<()> {
        let heading = format!(
            "{}: risks up to {} are approved",
            self.registry.file(),
            self.registry.approved_risk().as_str()
        );
        screen.line(screen.paint(Tone::Heading, printable(&heading)))?;
        let ids = self.models.iter().map(|model| model.entry.id());
        let ids = ids.chain(self.templates.iter().map(|t| t.template.id.as_str()));
        let width = ids.map(str::len).max().unwrap_or_default();
        for CheckedModel {
            entry, approved, ..
        } in &self.models
        {
            let uses: Vec<&str> = entry.intended_uses().iter().map(UseCase::as_str).collect();
            let line = format!(
                "{:width$}  version {}, {} risk, for {}",
                entry.id(),
                printable(entry.version()),
                entry.risk().as_str(),
                uses.join(", ")
            );
            screen.line(format_args!("{} {line}", verdict(screen, *approved)))?;
        }
        for CheckedTemplate { template, models } in &self.templates {
            let covering: Vec<&str> = models.iter().copied().collect();
            let covering = match covering.as_slice() {
                [] => "no model".to_owned(),
                ids => ids.join(", "),
            };
            let use_case = template.use_case.as_ref().map_or("any", UseCase::as_str);
            let id = template.id.as_str();
            let mark = verdict(screen, !models.is_empty());
            screen.line(format_args!("{mark} {id:width$}  {use_case}: {covering}"))?;
        }
        Ok(())
    }

    fn to_json(&self) -> Value {
        let models = self.models.iter().map(|model| {
            let mut json = json!(model.entry);
            json["approved"] = json!(model.approved);
            json["templates"] = json!(model.templates);
            json
        });
        let templates = self.templates.iter().map(|checked| {
            json!({
                "id": checked.template.id,
                "use_case": checked.template.use_case,
                "models": checked.models,
            })
        });
        let mut json = json!({
            "passed": self.failure().is_none(),
            "registry": self.registry.file(),
            "sha256": self.registry.checksum(),
            "approved_risk": self.registry.approved_risk(),
            "models": models.collect::<Value>(),
            "templates": templates.collect::<Value>(),
        });
        if let Some((model, refused)) = &self.named {
            json["model"] = json!({ "id": model.id, "sha256": model.sha256, "refused": refused });
        }
        json
    }
}

fn verdict(screen: &Screen, passed: bool) -> String {
    match passed {
        true => screen.paint(Tone::Good, "ok    "),
        false => screen.paint(Tone::Bad, "FAILED"),
    }
}
