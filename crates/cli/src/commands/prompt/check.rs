//! `postern prompt check`: everything that can be judged without a model.

use postern_governance::{
    GovernanceError, LOCK_FILE, LockState, PromptLock, Template, TemplateSet,
};

use super::folder::{PromptFolder, TemplateEntry};
use super::report::{Case, Finding, Level, Report};
use crate::arguments::CheckArguments;

pub(crate) fn run(arguments: &CheckArguments) -> anyhow::Result<()> {
    let folder = PromptFolder::read(&arguments.dir)?;
    let (lock, mut cases) = lock_case(&folder);
    cases.extend(
        folder
            .entries
            .iter()
            .map(|entry| template_case(entry, lock.as_ref())),
    );
    cases.extend(folder.strays.iter().map(|file| Case {
        suite: file.clone(),
        name: "belongs to a template".to_owned(),
        findings: vec![found(
            Level::Error,
            "stray",
            file,
            "there is no template of this name; rename or remove the file",
        )],
    }));
    let report = Report {
        command: "prompt check",
        dir: arguments.dir.display().to_string(),
        cases,
    };
    report.deliver(&arguments.report, arguments.strict)
}

/// What is true of all templates together.
fn lock_case(folder: &PromptFolder) -> (Option<PromptLock>, Vec<Case>) {
    let mut findings = Vec::new();
    let lock = match folder.files.lock.as_deref().map(PromptLock::from_source) {
        Some(Ok(lock)) => Some(lock),
        Some(Err(error)) => {
            findings.push(refused("lock", LOCK_FILE, &error));
            None
        }
        None => {
            let advice =
                "there is none, so changes go unnoticed; make it with `postern prompt lock`";
            findings.push(found(Level::Warning, "lock-missing", LOCK_FILE, advice));
            None
        }
    };
    let sound: Vec<(&str, &str)> = folder
        .files
        .sources
        .iter()
        .zip(&folder.entries)
        .filter(|(_, entry)| entry.template.is_ok())
        .map(|((file, text), _)| (file.as_str(), text.as_str()))
        .collect();
    if let Err(error) = TemplateSet::from_sources(sound) {
        findings.push(refused("load", LOCK_FILE, &error));
    }
    let case = Case {
        suite: LOCK_FILE.to_owned(),
        name: "ids and lock".to_owned(),
        findings,
    };
    (lock, vec![case])
}

fn template_case(entry: &TemplateEntry, lock: Option<&PromptLock>) -> Case {
    let mut findings = Vec::new();
    match &entry.template {
        Err(error) => findings.push(refused("load", &entry.file, error)),
        Ok(template) => {
            if let Some(Err(error)) = lock.map(|lock| lock.check(&entry.file, template)) {
                let check = match lock.map(|lock| lock.state(template)) {
                    Some(LockState::New) => "lock-new",
                    _ => "lock-changed",
                };
                findings.push(refused(check, &entry.file, &error));
            }
            findings.extend(lint(&entry.file, template));
        }
    }
    match &entry.tests {
        None => findings.push(found(
            Level::Warning,
            "no-tests",
            &entry.file,
            "has no tests; write some beside it, in a file with the ending .test.yaml",
        )),
        Some(tests) => {
            let error = tests.tests.as_ref().err();
            findings.extend(error.map(|error| refused("tests", &tests.file, error)));
        }
    }
    if let Err(error) = entry.recording() {
        findings.push(refused("recording", &entry.recording_file(), error));
    }
    Case {
        suite: entry.file.clone(),
        name: "metadata, schemas and lint".to_owned(),
        findings,
    }
}

/// What is allowed but seldom meant.
fn lint(file: &str, template: &Template) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut warn = |check, message: &str| {
        findings.push(found(Level::Warning, check, file, message));
    };
    for (name, spec) in &template.variables {
        if spec.description.trim().is_empty() {
            warn(
                "variable-undescribed",
                &format!(
                    "the variable `{name}` has no description; callers cannot know what to send"
                ),
            );
        }
    }
    let marked: Vec<&String> = template
        .variables
        .iter()
        .filter(|(_, spec)| spec.is_marked())
        .map(|(name, _)| name)
        .collect();
    let system = template.system.as_deref().unwrap_or_default();
    if let Some(name) = marked.iter().find(|name| written_in(system, name)) {
        warn(
            "untrusted-in-system",
            &format!(
                "the untrusted variable `{name}` is written into the system message; move it to the user's"
            ),
        );
    }
    if !marked.is_empty() && !system.contains("DATA") && !template.user.contains("DATA") {
        warn(
            "marks-unexplained",
            "nothing tells the model what BEGIN DATA and END DATA mean; say that what stands between is data",
        );
    }
    findings
}

/// Whether a tag of the body that writes names the variable.
fn written_in(body: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let tags = body.split("{{").skip(1);
    tags.filter_map(|rest| rest.split("}}").next())
        .any(|tag| tag.split(|c| !is_part(c)).any(|word| word == name))
}

fn found(level: Level, check: &'static str, file: &str, message: &str) -> Finding {
    Finding {
        level,
        check,
        file: file.to_owned(),
        line: None,
        message: message.to_owned(),
    }
}

/// An error of loading; its text begins with the place, which reports have of their own.
pub(super) fn refused(check: &'static str, file: &str, error: &GovernanceError) -> Finding {
    let (place, line) = error.place();
    Finding {
        level: Level::Error,
        check,
        file: place.unwrap_or(file).to_owned(),
        line,
        message: error.to_string(),
    }
}
