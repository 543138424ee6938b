//! `postern policy explain`: whether a call would be let in, and why.

use std::path::Path;

use jiff::Timestamp;
use postern_engine::ModelManifest;
use postern_governance::{Circumstances, DecidingRule, ModelRef, Question, RuleSet, Verdict};
use serde_json::json;

use super::rules;
use crate::arguments::ExplainArguments;
use crate::embedded;
use crate::error::CommandError;
use crate::terminal::{Screen, Tone};

pub(crate) fn run(arguments: &ExplainArguments) -> anyhow::Result<()> {
    let rules = rules(&arguments.files)?;
    let ExplainArguments {
        identity, template, ..
    } = arguments;
    let Some(found) = rules.templates.get(template.as_str()) else {
        let known: Vec<_> = rules.templates.iter().map(|t| t.id.as_str()).collect();
        anyhow::bail!(
            "there is no template `{template}`; there are {}",
            known.join(", ")
        );
    };
    let at = arguments.at.unwrap_or_else(Timestamp::now);
    let circumstances = Circumstances {
        source: arguments.source.into(),
        time_unix_s: at.as_second(),
    };
    let model = model(arguments.model.as_deref())?;
    let question = Question::Generate {
        identity,
        template: &found.id,
        model: &model,
        validation: None,
    };
    let verdict = rules.authorize(&question, &circumstances);
    let reason = reason(&rules, arguments, &verdict);
    let mut screen = Screen::new();
    if arguments.json {
        screen.json(&json!({
            "allowed": verdict.allowed,
            "reason": reason,
            "identity": identity,
            "roles": rules.policy.roles_of(identity).collect::<Vec<_>>(),
            "template": template,
            "at": at,
            "source": circumstances.source.as_str(),
            "rules": verdict.rules,
            "failures": verdict.failures,
            "max_tokens": rules.tokens_bound(identity, found),
            "policy_sha256": rules.policy.checksum(),
        }))?;
    } else {
        show(&mut screen, &rules, arguments, &verdict, &reason)?;
    }
    if verdict.allowed {
        return Ok(());
    }
    Err(CommandError::WouldBeRefused.into())
}

fn model(manifest: Option<&Path>) -> anyhow::Result<ModelRef> {
    let Some(manifest) = manifest else {
        return embedded::model_ref();
    };
    let manifest = ModelManifest::read(manifest)?;
    Ok(ModelRef {
        id: manifest.id,
        sha256: manifest.sha256.to_string(),
    })
}

/// One sentence on what decided.
fn reason(rules: &RuleSet, arguments: &ExplainArguments, verdict: &Verdict) -> String {
    let identity = &arguments.identity;
    let names = |rules: &[DecidingRule]| {
        let names: Vec<_> = rules.iter().map(|rule| format!("`{}`", rule.id)).collect();
        names.join(", ")
    };
    if !rules.policy.knows(identity) {
        return format!("the policy does not list the identity `{identity}`");
    }
    match (verdict.allowed, &*verdict.failures, &*verdict.rules) {
        (_, [failure, ..], _) => failure.clone(),
        (true, _, rules) => format!("permitted by {}", names(rules)),
        (false, _, []) => "no rule permits it, and what nothing permits is refused".to_owned(),
        (false, _, rules) => format!("forbidden by {}", names(rules)),
    }
}

fn show(
    screen: &mut Screen,
    rules: &RuleSet,
    arguments: &ExplainArguments,
    verdict: &Verdict,
    reason: &str,
) -> anyhow::Result<()> {
    let ExplainArguments {
        identity, template, ..
    } = arguments;
    let (tone, word) = if verdict.allowed {
        (Tone::Good, "allowed")
    } else {
        (Tone::Bad, "refused")
    };
    let word = screen.paint(tone, word);
    screen.line(format_args!("{identity} -> {template}: {word}, {reason}"))?;
    let roles: Vec<_> = rules
        .policy
        .roles_of(identity)
        .map(ToString::to_string)
        .collect();
    if !roles.is_empty() {
        screen.line(format_args!("  roles: {}", roles.join(", ")))?;
    }
    for rule in &verdict.rules {
        screen.line("")?;
        screen.line(screen.paint(Tone::Heading, format!("  {} ({})", rule.id, rule.place)))?;
        for line in rule.text.lines() {
            screen.line(format_args!("    {line}"))?;
        }
    }
    Ok(())
}
