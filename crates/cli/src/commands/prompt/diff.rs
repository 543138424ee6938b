//! `postern prompt diff`: what a change of a template does to recorded prompts and outputs.

use postern_governance::{PromptCase, RecordedCase, Sanitizer, preview, prompt_text, similarity};
use serde::Serialize;
use serde_json::json;
use similar::TextDiff;

use super::folder::{PromptFolder, Sound};
use super::live::LiveModel;
use crate::arguments::DiffArguments;
use crate::error::CommandError;
use crate::terminal::{Screen, Tone, printable};

/// Lines around a change.
const CONTEXT_LINES: usize = 3;

/// What happened to one test.
#[derive(Serialize)]
struct Drift {
    template: String,
    test: String,
    /// A unified diff; empty where nothing changed.
    prompt: String,
    output: Option<OutputDrift>,
}

#[derive(Serialize)]
struct OutputDrift {
    /// From 0, nothing in common, to 1, alike.
    similarity: f64,
    /// A unified diff; empty where nothing changed.
    text: String,
}

impl Drift {
    fn is_change(&self) -> bool {
        let output = self.output.as_ref();
        !self.prompt.is_empty() || output.is_some_and(|output| !output.text.is_empty())
    }
}

pub(crate) async fn run(arguments: &DiffArguments) -> anyhow::Result<()> {
    let folder = PromptFolder::read(&arguments.dir)?;
    let asked: Vec<_> = arguments
        .template
        .iter()
        .chain(&arguments.to)
        .cloned()
        .collect();
    folder.require(&asked)?;
    let mut live = LiveModel::start(&arguments.live, &folder).await?;
    let compared = compare_all(arguments, &folder, live.as_mut()).await;
    if let Some(live) = live {
        live.stop().await;
    }
    let drifts = compared?;
    let changed = drifts.iter().filter(|drift| drift.is_change()).count();
    let mut screen = Screen::new();
    if arguments.json {
        screen.json(&json!({ "compared": drifts.len(), "changed": changed, "tests": drifts }))?;
    } else {
        for drift in &drifts {
            print(&mut screen, drift)?;
        }
        let compared = drifts.len();
        screen.line(format_args!(
            "{changed} of {compared} recorded tests changed"
        ))?;
    }
    if arguments.exit_code && changed > 0 {
        let message = format!("{changed} of {} recorded tests changed", drifts.len());
        return Err(CommandError::ChecksFailed { message }.into());
    }
    Ok(())
}

async fn compare_all(
    arguments: &DiffArguments,
    folder: &PromptFolder,
    mut live: Option<&mut LiveModel>,
) -> anyhow::Result<Vec<Drift>> {
    let mut drifts = Vec::new();
    for sound in folder.sound() {
        let is_asked = arguments
            .template
            .as_ref()
            .is_none_or(|id| *id == sound.template.id);
        let Some(tests) = sound.entry.tests.as_ref().filter(|_| is_asked) else {
            continue;
        };
        let (tests, recording) = match (&tests.tests, sound.entry.recording()) {
            (Ok(tests), Ok(recording)) => (tests, recording),
            (Err(error), _) | (_, Err(error)) => anyhow::bail!("{error}"),
        };
        let other = match &arguments.to {
            Some(id) => folder.find(id)?,
            None => Sound { ..sound },
        };
        for case in tests.iter().filter(|case| case.denied.is_none()) {
            let recorded = recording.and_then(|recording| recording.cases.get(&case.name));
            if let Some(recorded) = recorded {
                drifts.push(compare(case, recorded, &other, live.as_deref_mut()).await?);
            }
        }
    }
    Ok(drifts)
}

async fn compare(
    case: &PromptCase,
    recorded: &RecordedCase,
    now: &Sound<'_>,
    live: Option<&mut LiveModel>,
) -> anyhow::Result<Drift> {
    let prompt = match preview(&Sanitizer::builtin(), now.template, &case.variables) {
        Ok(filled) => prompt_text(&filled.messages),
        Err(denial) => format!("(refused: {denial})"),
    };
    let output = match live {
        Some(live) => Some(live.answer(now.template, case).await?.text),
        None => recorded_elsewhere(case, now, &prompt)?,
    };
    let before = recorded.output.as_ref().map(|output| output.text());
    Ok(Drift {
        template: now.template.id.to_string(),
        test: case.name.clone(),
        prompt: changed_lines(&recorded.prompt(), &prompt),
        output: before.zip(output).map(|(before, after)| OutputDrift {
            similarity: similarity(&before, &after),
            text: changed_lines(&before, &after),
        }),
    })
}

/// The output that is recorded for this prompt under the other template, if there is one.
fn recorded_elsewhere(
    case: &PromptCase,
    now: &Sound<'_>,
    prompt: &str,
) -> anyhow::Result<Option<String>> {
    let recording = match now.entry.recording() {
        Ok(recording) => recording,
        Err(error) => anyhow::bail!("{error}"),
    };
    let output = recording.and_then(|recording| recording.cases.get(&case.name)?.output.as_ref());
    let output = output.filter(|output| output.answers(prompt));
    Ok(output.map(|output| output.text()))
}

fn print(screen: &mut Screen, drift: &Drift) -> anyhow::Result<()> {
    let title = format!("{}  {}", drift.template, printable(&drift.test));
    if !drift.is_change() {
        return Ok(screen.line(format_args!("same     {title}"))?);
    }
    screen.line(format_args!(
        "{}  {title}",
        screen.paint(Tone::Heading, "changed")
    ))?;
    if !drift.prompt.is_empty() {
        screen.line("  prompt:")?;
        print_lines(screen, &drift.prompt)?;
    }
    if let Some(output) = &drift.output {
        screen.line(format_args!("  output: {:.2} similar", output.similarity))?;
        print_lines(screen, &output.text)?;
    }
    Ok(())
}

fn print_lines(screen: &mut Screen, lines: &str) -> anyhow::Result<()> {
    for line in lines.lines() {
        let line = printable(line);
        let line = match line.chars().next() {
            Some('+') => screen.paint(Tone::Good, &line),
            Some('-') => screen.paint(Tone::Bad, &line),
            _ => line,
        };
        screen.line(format_args!("    {line}"))?;
    }
    Ok(())
}

/// The lines that changed, as a unified diff without a head; empty where none did.
pub(super) fn changed_lines(before: &str, after: &str) -> String {
    TextDiff::from_lines(before, after)
        .unified_diff()
        .context_radius(CONTEXT_LINES)
        .missing_newline_hint(false)
        .to_string()
}
