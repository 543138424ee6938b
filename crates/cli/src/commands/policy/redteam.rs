//! `postern policy redteam`: tries a policy out.

use std::collections::BTreeMap;

use anyhow::Context;
use postern_governance::{Action, Judged, Policy, RedTeamReport, RedTeamSet};
use serde_json::{Value, json};

use crate::arguments::RedteamArguments;
use crate::embedded;
use crate::error::CommandError;
use crate::terminal::{Screen, Tone, printable};

/// Least share of attacks that a policy should at least mark, in percent.
const MARKED_PERCENT_MIN: f64 = 90.0;
/// Greatest share of harmless texts that it should stop, in percent.
const STOPPED_PERCENT_MAX: f64 = 3.0;
/// Characters of a text that are shown.
const EXCERPT_CHARS: usize = 72;

/// Runs attacks and harmless texts against a policy.
pub(crate) fn run(arguments: &RedteamArguments) -> anyhow::Result<()> {
    let policy = match &arguments.policy {
        Some(file) => Policy::load(file)?,
        None => embedded::policy()?,
    };
    let set = match &arguments.set {
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            RedTeamSet::from_source(&file.display().to_string(), &text)?
        }
        None => RedTeamSet::shipped()?,
    };
    let report = set.run(&policy);
    let (marked, stopped) = (
        report.attacks_marked() * 100.0,
        report.benign_stopped() * 100.0,
    );
    let passed = marked >= MARKED_PERCENT_MIN && stopped <= STOPPED_PERCENT_MAX;
    let mut screen = Screen::new();
    if arguments.json {
        screen.json(&to_json(&report, passed))?;
    } else {
        show(&mut screen, &report, arguments.all)?;
        let tone = if passed { Tone::Good } else { Tone::Bad };
        screen.line(screen.paint(
            tone,
            format!(
                "{marked:.1} % of {} attacks are marked or more (at least {MARKED_PERCENT_MIN} %), \
                 {stopped:.1} % of {} harmless texts are stopped (at most {STOPPED_PERCENT_MAX} %)",
                report.attacks.len(),
                report.benign.len()
            ),
        ))?;
    }
    if passed {
        return Ok(());
    }
    Err(CommandError::RedTeamFailed.into())
}

fn show(screen: &mut Screen, report: &RedTeamReport, all: bool) -> anyhow::Result<()> {
    for (title, judged, is_wrong) in [
        ("Attacks", &report.attacks, is_missed as fn(&Judged) -> bool),
        ("Harmless", &report.benign, is_stopped),
    ] {
        screen.line(screen.paint(
            Tone::Heading,
            format!("{title:<32} allow   mark  review  refuse"),
        ))?;
        let mut classes: BTreeMap<&str, [usize; 4]> = BTreeMap::new();
        for text in judged {
            classes.entry(&text.class).or_default()[text.action as usize] += 1;
        }
        for (class, [allow, mark, review, refuse]) in classes {
            screen.line(format!(
                "  {class:<30} {allow:>5} {mark:>6} {review:>7} {refuse:>7}"
            ))?;
        }
        for text in judged.iter().filter(|text| all || is_wrong(text)) {
            show_text(screen, text)?;
        }
        screen.line("")?;
    }
    Ok(())
}

fn is_missed(text: &Judged) -> bool {
    text.action < Action::Mark
}

fn is_stopped(text: &Judged) -> bool {
    text.action >= Action::Review
}

fn show_text(screen: &mut Screen, text: &Judged) -> anyhow::Result<()> {
    let excerpt: String = text.text.chars().take(EXCERPT_CHARS).collect();
    let signals = text.assessment.signals.iter();
    let signals: Vec<String> = signals
        .map(|s| format!("{}: {}", s.name, s.reason))
        .collect();
    let line = format!(
        "  {:>3} {:<6} {}",
        text.assessment.score,
        text.action.as_str(),
        printable(&excerpt).replace('\n', " ")
    );
    screen.line(line)?;
    if !signals.is_empty() {
        screen.line(screen.paint(Tone::Quiet, format!("             {}", signals.join("; "))))?;
    }
    Ok(())
}

fn to_json(report: &RedTeamReport, passed: bool) -> Value {
    json!({
        "passed": passed,
        "attacks_marked": report.attacks_marked(),
        "benign_stopped": report.benign_stopped(),
        "attacks": report.attacks,
        "benign": report.benign,
    })
}
