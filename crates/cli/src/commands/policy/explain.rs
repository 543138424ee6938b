//! `postern policy explain`: whether a call would be let in, and why.

use std::path::Path;

use jiff::Timestamp;
use postern_engine::ModelManifest;
use postern_governance::{
    Circumstances, DecidingRule, Denial, Identity, ModelRef, Question, RuleSet, Verdict,
};
use serde_json::json;

use super::rules;
use crate::arguments::ExplainArguments;
use crate::daemon::{manifest_of, reference};
use crate::embedded;
use crate::error::CommandError;
use crate::terminal::{Screen, Tone};

pub(crate) fn run(arguments: &ExplainArguments) -> anyhow::Result<()> {
    let rules = rules(&arguments.files)?;
    let (identity, id) = (&arguments.identity, &arguments.template);
    let Some(template) = rules.templates.get(id.as_str()) else {
        let known: Vec<_> = rules.templates.iter().map(|t| t.id.as_str()).collect();
        anyhow::bail!(
            "there is no template `{id}`; there are {}",
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
        template: id,
        model: &model,
        validation: None,
    };
    let verdict = rules.authorize(&question, &circumstances);
    let unfit = rules.permit_model(&model, template).err();
    let allowed = verdict.allowed && unfit.is_none();
    let reason = reason(&rules, identity, &verdict, unfit.as_ref());
    let mut screen = Screen::new();
    if arguments.json {
        screen.json(&json!({
            "allowed": allowed,
            "reason": reason,
            "identity": identity,
            "roles": rules.policy.roles_of(identity).collect::<Vec<_>>(),
            "template": id,
            "model": {"id": model.id, "sha256": model.sha256},
            "at": at,
            "source": circumstances.source.as_str(),
            "rules": verdict.rules,
            "failures": verdict.failures,
            "max_tokens": rules.tokens_bound(identity, template),
            "output_record": rules.output_record(template),
            "policy_sha256": rules.policy.checksum(),
        }))?;
    } else {
        let word = if allowed {
            screen.paint(Tone::Good, "allowed")
        } else {
            screen.paint(Tone::Bad, "refused")
        };
        screen.line(format_args!("{identity} -> {id}: {word}, {reason}"))?;
        if allowed {
            let kept = rules.output_record(template).as_str();
            screen.line(format_args!("  of the output, the audit log keeps: {kept}"))?;
        }
        show_rules(&mut screen, &rules, identity, &verdict)?;
    }
    if allowed {
        return Ok(());
    }
    Err(CommandError::WouldBeRefused.into())
}

fn model(manifest: Option<&Path>) -> anyhow::Result<ModelRef> {
    let manifest = match manifest {
        Some(path) => ModelManifest::read(&manifest_of(path)?)?,
        None => embedded::manifest()?,
    };
    Ok(reference(&manifest))
}

/// One sentence on what decided.
fn reason(
    rules: &RuleSet,
    identity: &Identity,
    verdict: &Verdict,
    unfit: Option<&Denial>,
) -> String {
    let names = |rules: &[DecidingRule]| {
        let names: Vec<_> = rules.iter().map(|rule| format!("`{}`", rule.id)).collect();
        names.join(", ")
    };
    if !rules.policy.knows(identity) {
        return format!("the policy does not list the identity `{identity}`");
    }
    match (verdict.allowed, &*verdict.failures, &*verdict.rules) {
        (_, [failure, ..], _) => failure.clone(),
        (true, _, rules) => match unfit {
            Some(denial) => format!("permitted by {}, but {denial}", names(rules)),
            None => format!("permitted by {}", names(rules)),
        },
        (false, _, []) => "no rule permits it, and what nothing permits is refused".to_owned(),
        (false, _, rules) => format!("forbidden by {}", names(rules)),
    }
}

/// The caller's roles, and the rules that decided, as they are written.
fn show_rules(
    screen: &mut Screen,
    rules: &RuleSet,
    identity: &Identity,
    verdict: &Verdict,
) -> anyhow::Result<()> {
    let roles = rules.policy.roles_of(identity);
    let roles: Vec<_> = roles.map(ToString::to_string).collect();
    if !roles.is_empty() {
        screen.line(format_args!("  roles: {}", roles.join(", ")))?;
    }
    for rule in &verdict.rules {
        screen.line("")?;
        let title = format!("  {} ({})", rule.id, rule.place);
        screen.line(screen.paint(Tone::Heading, title))?;
        for line in rule.text.lines() {
            screen.line(format_args!("    {line}"))?;
        }
    }
    Ok(())
}
