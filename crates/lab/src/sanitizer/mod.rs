//! `cargo xtask eval-sanitizer`: how much of a labelled corpus is found, and how much that is found is right, beside other
//! scanners on the same files.
//!
//! A label counts as found where a finding covers at least half of it, or, for a scanner that only names lines, lies on its
//! line. A finding counts as right where it touches a label of its side. Each side's precision is over all files, harmless
//! ones too.

mod carriers;
mod corpus;
mod harmless;
mod peers;
mod sensitive;
mod values;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::ops::Range;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use corpus::{Document, Label, Side};
use postern_governance::{RuleClass, Sanitizer};

/// Least precision and recall for secrets.
const SECRETS_MIN: f64 = 0.95;

/// Measure the sanitizer on a labelled corpus, beside gitleaks, detect-secrets and presidio where these are installed
#[derive(Args)]
pub(crate) struct EvalSanitizer {
    /// Seed of the corpus
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Write the corpus to this folder and keep it
    #[arg(long, value_name = "DIR")]
    corpus: Option<PathBuf>,
    /// The command gitleaks
    #[arg(long, value_name = "PATH", default_value = "gitleaks")]
    gitleaks: PathBuf,
    /// The command detect-secrets
    #[arg(long, value_name = "PATH", default_value = "detect-secrets")]
    detect_secrets: PathBuf,
    /// A Python that can import presidio_analyzer
    #[arg(long, value_name = "PATH", default_value = "python3")]
    presidio_python: PathBuf,
    /// Show what was missed and what was found wrongly
    #[arg(long)]
    errors: bool,
}

/// Something a scanner found.
pub(crate) struct Found {
    document: usize,
    side: Side,
    /// In bytes.
    span: Range<usize>,
    /// Whether only the line is known.
    whole_line: bool,
    what: String,
}

impl EvalSanitizer {
    pub(crate) fn run(self) -> Result<()> {
        let documents = corpus::generate(self.seed);
        let temporary;
        let folder = match &self.corpus {
            Some(folder) => folder.clone(),
            None => {
                temporary = tempfile::tempdir().context("a folder for the corpus")?;
                temporary.path().to_owned()
            }
        };
        std::fs::create_dir_all(&folder)?;
        for document in &documents {
            std::fs::write(folder.join(&document.name), &document.text)?;
        }
        let mut scores = vec![("postern", score(&documents, &ours(&documents)))];
        if self.errors {
            show_errors(&documents, &ours(&documents))?;
        }
        for (name, found) in [
            (
                "gitleaks",
                peers::gitleaks(&self.gitleaks, &folder, &documents),
            ),
            (
                "detect-secrets",
                peers::detect_secrets(&self.detect_secrets, &folder, &documents),
            ),
            (
                "presidio",
                peers::presidio(&self.presidio_python, &folder, &documents),
            ),
        ] {
            match found {
                Ok(found) => scores.push((name, score(&documents, &found))),
                Err(error) => say(&format!("{name} is passed over: {error:#}"))?,
            }
        }
        print(&documents, &scores)?;
        let secrets = &scores[0].1;
        let (precision, recall) = (
            secrets.precision(Side::Secret),
            secrets.recall(Side::Secret),
        );
        ensure!(
            precision >= SECRETS_MIN && recall >= SECRETS_MIN,
            "precision {precision:.3} and recall {recall:.3} for secrets must be {SECRETS_MIN} each"
        );
        Ok(())
    }
}

fn say(line: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

fn ours(documents: &[Document]) -> Vec<Found> {
    let sanitizer = Sanitizer::builtin();
    let mut found = Vec::new();
    for (number, document) in documents.iter().enumerate() {
        for finding in sanitizer.sanitize(&document.text).findings {
            found.push(Found {
                document: number,
                side: match finding.class {
                    RuleClass::Secret => Side::Secret,
                    RuleClass::Personal => Side::Personal,
                },
                span: finding.start.byte as usize..finding.end.byte as usize,
                whole_line: false,
                what: finding.rule,
            });
        }
    }
    found
}

/// What a scanner reached.
struct Score {
    /// Labels and found labels, by class.
    classes: BTreeMap<&'static str, (usize, usize)>,
    /// Labels, found labels, findings and right findings, by side.
    sides: BTreeMap<Side, [usize; 4]>,
}

impl Score {
    fn precision(&self, side: Side) -> f64 {
        let [_, _, findings, right] = self.sides[&side];
        right as f64 / findings.max(1) as f64
    }

    fn recall(&self, side: Side) -> f64 {
        let [labels, found, ..] = self.sides[&side];
        found as f64 / labels.max(1) as f64
    }
}

fn score(documents: &[Document], found: &[Found]) -> Score {
    let mut classes: BTreeMap<&'static str, (usize, usize)> = BTreeMap::new();
    let mut sides = BTreeMap::from([(Side::Secret, [0; 4]), (Side::Personal, [0; 4])]);
    for (number, document) in documents.iter().enumerate() {
        for label in &document.labels {
            let is_found = found
                .iter()
                .any(|f| f.document == number && covers(f, label));
            let class = classes.entry(label.class).or_default();
            class.0 += 1;
            class.1 += usize::from(is_found);
            let side = sides.entry(label.side).or_default();
            side[0] += 1;
            side[1] += usize::from(is_found);
        }
    }
    for finding in found {
        let side = sides.entry(finding.side).or_default();
        side[2] += 1;
        side[3] += usize::from(is_right(documents, finding));
    }
    Score { classes, sides }
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> usize {
    a.end.min(b.end).saturating_sub(a.start.max(b.start))
}

fn covers(found: &Found, label: &Label) -> bool {
    let span = label.start..label.end;
    let common = overlap(&found.span, &span);
    found.side == label.side && (2 * common >= span.len() || found.whole_line && common > 0)
}

fn is_right(documents: &[Document], found: &Found) -> bool {
    let labels = documents[found.document].labels.iter();
    labels
        .filter(|label| label.side == found.side)
        .any(|label| overlap(&found.span, &(label.start..label.end)) > 0)
}

fn show_errors(documents: &[Document], found: &[Found]) -> Result<()> {
    for (number, document) in documents.iter().enumerate() {
        for label in &document.labels {
            if !found
                .iter()
                .any(|f| f.document == number && covers(f, label))
            {
                let line = line_of(&document.text, label.start);
                say(&format!(
                    "missed {:<22} {}  {line:?}",
                    label.class, document.name
                ))?;
            }
        }
    }
    for finding in found.iter().filter(|finding| !is_right(documents, finding)) {
        let document = &documents[finding.document];
        let line = line_of(&document.text, finding.span.start);
        say(&format!(
            "wrong  {:<22} {} {:?}  {line:?}",
            finding.what,
            document.kind,
            document.text.get(finding.span.clone())
        ))?;
    }
    Ok(())
}

fn line_of(text: &str, at: usize) -> &str {
    let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let end = text[at..].find('\n').map_or(text.len(), |end| at + end);
    &text[start..end]
}

fn print(documents: &[Document], scores: &[(&str, Score)]) -> Result<()> {
    let labels: usize = documents.iter().map(|document| document.labels.len()).sum();
    say(&format!("{} files, {labels} labels\n", documents.len()))?;
    let mut heading = format!("{:<24}{:>7}", "recall", "labels");
    for (name, _) in scores {
        heading.push_str(&format!("{name:>16}"));
    }
    say(&heading)?;
    let (_, ours) = &scores[0];
    for (class, (count, _)) in &ours.classes {
        let mut line = format!("  {class:<22}{count:>7}");
        for (_, score) in scores {
            let found = score.classes.get(class).map_or(0, |class| class.1);
            line.push_str(&format!("{:>16.3}", found as f64 / (*count).max(1) as f64));
        }
        say(&line)?;
    }
    for (side, title) in [(Side::Secret, "secrets"), (Side::Personal, "personal data")] {
        for (measure, of) in [
            ("recall", Score::recall as fn(&Score, Side) -> f64),
            ("precision", Score::precision),
        ] {
            let mut line = format!("{:<31}", format!("{title}: {measure}"));
            for (_, score) in scores {
                line.push_str(&format!("{:>16.3}", of(score, side)));
            }
            say(&line)?;
        }
    }
    Ok(())
}
