//! `postern prompt test`: the tests beside templates, against what was recorded or a live model.

use postern_governance::{
    CheckFailure, PromptCase, RecordedCase, RecordedOutput, Recording, Sanitizer, Template,
    prompt_text,
};

use super::check::refused;
use super::diff::changed_lines;
use super::folder::{PromptFolder, Sound, TestEntry};
use super::live::LiveModel;
use super::report::{Case, Finding, Level, Report};
use crate::arguments::TestArguments;
use crate::error::CommandError;

pub(crate) async fn run(arguments: &TestArguments) -> anyhow::Result<()> {
    let folder = PromptFolder::read(&arguments.dir)?;
    folder.require(&arguments.templates)?;
    let mut live = LiveModel::start(&arguments.live, &folder).await?;
    let tested = test_all(arguments, &folder, live.as_mut()).await;
    if let Some(live) = live {
        live.stop().await;
    }
    let report = Report {
        command: "prompt test",
        dir: arguments.dir.display().to_string(),
        cases: tested?,
    };
    report.deliver(&arguments.report, false)
}

async fn test_all(
    arguments: &TestArguments,
    folder: &PromptFolder,
    mut live: Option<&mut LiveModel>,
) -> anyhow::Result<Vec<Case>> {
    let mut cases = Vec::new();
    for entry in &folder.entries {
        if let Err(error) = &entry.template {
            // With --template, all that were asked for are right; others are not looked at.
            if arguments.templates.is_empty() {
                cases.push(unusable(&entry.file, refused("load", &entry.file, error)));
            }
        }
    }
    for sound in folder.sound() {
        let id = &sound.template.id;
        let is_asked = arguments.templates.is_empty() || arguments.templates.contains(id);
        if let Some(tests) = sound.entry.tests.as_ref().filter(|_| is_asked) {
            let mut suite = Suite::open(arguments, &sound, tests);
            suite.run(tests, live.as_deref_mut()).await?;
            if arguments.record && suite.can_record {
                folder.write(&sound.entry.recording_file(), &suite.found.to_source())?;
            }
            cases.extend(suite.cases);
        }
    }
    Ok(cases)
}

fn unusable(suite: &str, finding: Finding) -> Case {
    Case {
        suite: suite.to_owned(),
        name: "loads".to_owned(),
        findings: vec![finding],
    }
}

/// The tests of one template.
struct Suite<'s> {
    template: &'s Template,
    file: &'s str,
    record: bool,
    recorded: Option<&'s Recording>,
    /// What a recording of this run holds.
    found: Recording,
    can_record: bool,
    cases: Vec<Case>,
}

impl<'s> Suite<'s> {
    fn open(arguments: &TestArguments, sound: &Sound<'s>, tests: &'s TestEntry) -> Self {
        let mut cases = Vec::new();
        let recorded = match sound.entry.recording() {
            Ok(recorded) => recorded,
            // One that is to be renewed need not be right.
            Err(_) if arguments.record => None,
            Err(error) => {
                let file = sound.entry.recording_file();
                cases.push(unusable(&tests.file, refused("recording", &file, error)));
                None
            }
        };
        Self {
            template: sound.template,
            file: &tests.file,
            record: arguments.record,
            recorded,
            found: Recording::of(sound.template.id.clone()),
            can_record: tests.tests.is_ok(),
            cases,
        }
    }

    async fn run(
        &mut self,
        tests: &TestEntry,
        mut live: Option<&mut LiveModel>,
    ) -> anyhow::Result<()> {
        let tests = match &tests.tests {
            Ok(tests) => tests,
            Err(error) => {
                let finding = refused("tests", self.file, error);
                self.cases.push(unusable(self.file, finding));
                return Ok(());
            }
        };
        for case in tests.iter() {
            let failures = self.test(case, live.as_deref_mut()).await?;
            let findings = failures.into_iter().map(|(check, message)| Finding {
                level: Level::Error,
                check,
                file: self.file.to_owned(),
                line: Some(case.line),
                message,
            });
            self.cases.push(Case {
                suite: self.file.to_owned(),
                name: case.name.clone(),
                findings: findings.collect(),
            });
        }
        Ok(())
    }

    async fn test(
        &mut self,
        case: &PromptCase,
        live: Option<&mut LiveModel>,
    ) -> anyhow::Result<Vec<(&'static str, String)>> {
        let filled = match case.fill(self.template, &Sanitizer::builtin()) {
            Ok(Some(filled)) => filled,
            Ok(None) => return Ok(Vec::new()),
            Err(failure) => return Ok(told([failure])),
        };
        let prompt = prompt_text(&filled.messages);
        let mut failures = told(case.judge_prompt(self.template, &filled));
        let recorded = self.recorded.and_then(|all| all.cases.get(&case.name));
        if !self.record {
            failures.extend(compare(recorded, &prompt));
        }
        let mut kept = RecordedCase::of(&prompt);
        kept.output = match live {
            None => recorded
                .and_then(|recorded| recorded.output.clone())
                .filter(|output| output.answers(&prompt)),
            Some(live) => match live.answer(self.template, case).await {
                Ok(output) => Some(RecordedOutput::of(
                    &prompt,
                    &output.text,
                    &output.model,
                    &output.model_sha256,
                )),
                Err(error) if is_interrupted(&error) => return Err(error),
                Err(error) => {
                    failures.push(("live", crate::error::message(&error)));
                    None
                }
            },
        };
        match &kept.output {
            Some(output) => failures.extend(told(case.judge_output(self.template, &output.text()))),
            None if case.judges_output() && !failures.iter().any(|(check, _)| *check == "live") => {
                let advice = "no output to this prompt is recorded; run with --live --record";
                failures.push(("output-missing", advice.to_owned()));
            }
            None => {}
        }
        self.found.cases.insert(case.name.clone(), kept);
        Ok(failures)
    }
}

fn is_interrupted(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref::<CommandError>(),
        Some(CommandError::Interrupted)
    )
}

fn told(failures: impl IntoIterator<Item = CheckFailure>) -> Vec<(&'static str, String)> {
    let failures = failures.into_iter();
    failures
        .map(|failure| (failure.check, failure.reason))
        .collect()
}

/// Whether the prompt is the recorded one.
fn compare(recorded: Option<&RecordedCase>, prompt: &str) -> Option<(&'static str, String)> {
    let Some(recorded) = recorded else {
        let advice = "no prompt is recorded; look at it with `postern prompt render`, then run with --record";
        return Some(("snapshot-missing", advice.to_owned()));
    };
    let before = recorded.prompt();
    (before != prompt).then(|| {
        let lines = changed_lines(&before, prompt);
        let message = format!("the prompt is not the recorded one; --record renews it\n{lines}");
        ("snapshot", message)
    })
}
