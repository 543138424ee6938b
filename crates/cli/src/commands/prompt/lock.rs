//! `postern prompt lock`: records templates, and changed ones only on purpose.

use std::collections::BTreeSet;

use anyhow::bail;
use jiff::Timestamp;
use postern_governance::{LOCK_FILE, LockState, PromptLock, Template};
use serde_json::json;

use super::folder::PromptFolder;
use crate::arguments::LockArguments;
use crate::error::CommandError;
use crate::terminal::Screen;

pub(crate) fn run(arguments: &LockArguments) -> anyhow::Result<()> {
    let folder = PromptFolder::read(&arguments.dir)?;
    folder.require(&arguments.renew)?;
    let templates = sound_templates(&folder)?;
    let lock = match &folder.files.lock {
        Some(text) => PromptLock::from_source(text)?,
        None => PromptLock::default(),
    };
    let of = |state: LockState| -> Vec<&str> {
        let found = templates.iter().filter(|t| lock.state(t) == state);
        found.map(|template| template.id.as_str()).collect()
    };
    let (new, changed) = (of(LockState::New), of(LockState::Changed));
    let renew: BTreeSet<_> = arguments.renew.iter().cloned().collect();
    let kept: Vec<&str> = changed
        .iter()
        .copied()
        .filter(|id| !renew.iter().any(|renewed| renewed.as_str() == *id))
        .collect();
    let is_current = new.is_empty() && changed.is_empty() && folder.files.lock.is_some();
    let today = Timestamp::now().strftime("%Y-%m-%d").to_string();
    let renewed = lock.renewed(templates.iter().copied(), &renew, &today);
    // Nothing is written while a change is undecided: half a renewal would look like a whole one.
    let is_written = !arguments.check && kept.is_empty() && !is_current;
    if is_written {
        folder.write(LOCK_FILE, &renewed.to_source())?;
    }
    let mut screen = Screen::new();
    if arguments.json {
        screen.json(&json!({
            "lock": arguments.dir.join(LOCK_FILE),
            "recorded": renewed.iter().count(),
            "new": new, "changed": changed, "renewed": arguments.renew, "written": is_written,
        }))?;
    } else if arguments.check || !is_written {
        screen.line(format_args!("{} templates recorded", lock.iter().count()))?;
    } else {
        for id in &new {
            screen.line(format_args!("recorded  {id}"))?;
        }
        for id in &changed {
            screen.line(format_args!("renewed   {id}"))?;
        }
        let path = arguments.dir.join(LOCK_FILE);
        screen.line(format_args!("wrote {}", path.display()))?;
    }
    if !kept.is_empty() {
        let message = format!(
            "changed since they were recorded: {}; give the change a new version, or renew the \
             lock on purpose with --renew and the id",
            kept.join(", ")
        );
        return Err(CommandError::ChecksFailed { message }.into());
    }
    if arguments.check && !is_current {
        let message = format!(
            "not recorded: {}; run `postern prompt lock`",
            new.join(", ")
        );
        return Err(CommandError::ChecksFailed { message }.into());
    }
    Ok(())
}

/// All templates, which must be right: nothing is recorded beside a file that does not load.
fn sound_templates(folder: &PromptFolder) -> anyhow::Result<Vec<&Template>> {
    let mut templates = Vec::new();
    for entry in &folder.entries {
        match &entry.template {
            Ok(template) => templates.push(template),
            Err(error) => bail!("{error}"),
        }
    }
    for (index, template) in templates.iter().enumerate() {
        let twin = templates[..index]
            .iter()
            .find(|other| other.id.parts() == template.id.parts());
        if let Some(twin) = twin {
            bail!("`{}` and `{}` are one id; remove one", twin.id, template.id);
        }
    }
    Ok(templates)
}
