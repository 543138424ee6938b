//! `postern policy check`: whether a policy loads, and what in it looks like a mistake.

use std::collections::BTreeMap;

use jiff::Timestamp;
use postern_governance::{
    Circumstances, Identity, ModelRef, ModelRegistry, OutputRecord, Question, RuleSet, Source,
    Template,
};
use serde_json::json;

use super::rules;
use crate::arguments::PolicyCheckArguments;
use crate::error::CommandError;
use crate::terminal::{Screen, Tone};

pub(crate) fn run(arguments: &PolicyCheckArguments) -> anyhow::Result<()> {
    let rules = rules(&arguments.files)?;
    let mut warnings = rules.warnings().to_vec();
    warnings.extend(closed_templates(&rules));
    let passed = warnings.is_empty() || !arguments.strict;
    let mut screen = Screen::new();
    if arguments.json {
        screen.json(&json!({
            "passed": passed,
            "rules": rules.authorization_rules_count(),
            "templates": rules.templates.iter().count(),
            "policy_sha256": rules.policy.checksum(),
            "rules_sha256": rules.checksum(),
            "outputs": rules
                .templates
                .iter()
                .map(|template| (template.id.as_str(), rules.output_record(template)))
                .collect::<BTreeMap<_, _>>(),
            "warnings": warnings,
        }))?;
    } else {
        show(&mut screen, &rules, &warnings)?;
    }
    if passed {
        return Ok(());
    }
    let message = format!(
        "the policy has {} warnings, and --strict is on",
        warnings.len()
    );
    Err(CommandError::ChecksFailed { message }.into())
}

fn show(screen: &mut Screen, rules: &RuleSet, warnings: &[String]) -> anyhow::Result<()> {
    for warning in warnings {
        screen.line(format_args!("warning: {warning}"))?;
    }
    let summary = format!(
        "{} rules over {} templates fit the schema and name only what exists.",
        rules.authorization_rules_count(),
        rules.templates.iter().count()
    );
    screen.line(screen.paint(Tone::Good, summary))?;
    screen.line(format_args!(
        "  policy sha256    {}",
        rules.policy.checksum()
    ))?;
    screen.line(format_args!("  rule set sha256  {}", rules.checksum()))?;
    screen.line(format_args!("  outputs in log   {}", outputs(rules)))?;
    Ok(())
}

/// What the audit log keeps of which templates' outputs.
fn outputs(rules: &RuleSet) -> String {
    let keeping = |record: OutputRecord| {
        let templates = rules.templates.iter();
        let templates = templates.filter(|template| rules.output_record(template) == record);
        let names: Vec<_> = templates.map(|template| template.id.as_str()).collect();
        (!names.is_empty()).then(|| format!("{} of {}", record.as_str(), names.join(", ")))
    };
    let parts = [OutputRecord::Text, OutputRecord::Hash].map(keeping);
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    parts.join("; ")
}

/// Templates that no identity may use at present with any model that is registered, which is a mistake more often than meant.
fn closed_templates(rules: &RuleSet) -> Vec<String> {
    let models: Vec<ModelRef> = rules
        .registry()
        .into_iter()
        .flat_map(ModelRegistry::iter)
        .map(|entry| ModelRef {
            id: entry.id().to_owned(),
            sha256: entry.sha256().to_owned(),
        })
        .collect();
    let time_unix_s = Timestamp::now().as_second();
    let now = [Source::Network, Source::Local].map(|source| Circumstances {
        source,
        time_unix_s,
    });
    let permits = |identity: &Identity, template: &Template, model: &ModelRef| {
        let question = Question::Generate {
            identity,
            template: &template.id,
            model,
            validation: None,
        };
        now.iter()
            .any(|now| rules.authorize(&question, now).allowed)
    };
    let is_closed = |template: &&Template| {
        !rules.policy.identities().any(|identity| {
            let mut models = models.iter();
            models.any(|model| permits(identity, template, model))
        })
    };
    let closed = rules.templates.iter().filter(is_closed);
    closed
        .map(|template| {
            format!(
                "no rule opens the template `{}` to anybody now",
                template.id
            )
        })
        .collect()
}
