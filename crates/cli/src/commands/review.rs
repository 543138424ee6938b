//! `postern review`: outputs that wait for a person.
//!
//! Only over the API of a running server: its certificate check says who decides.

use anyhow::Context;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::arguments::{DecideArguments, ReviewCommand, ReviewerArguments};
use crate::client::Client;
use crate::commands::generate::remote_client;
use crate::terminal::{Screen, Tone, on_one_line, printable, wrap};

const ANSWER_LACKS: &str = "the server's answer lacks what every review has";
/// Columns by which texts are indented.
const INDENT: usize = 4;

pub(crate) async fn run(command: ReviewCommand) -> anyhow::Result<()> {
    match command {
        ReviewCommand::List(reviewer) => list(&reviewer).await,
        ReviewCommand::Show { id, reviewer } => show(&id, &reviewer).await,
        ReviewCommand::Approve(arguments) => decide("approve", &arguments).await,
        ReviewCommand::Reject(arguments) => decide("reject", &arguments).await,
    }
}

/// A review, as far as it is shown. A field that a later server adds does no harm.
#[derive(Deserialize)]
struct Shown {
    id: String,
    status: String,
    author: String,
    template: String,
    reasons: Vec<Reason>,
    held: String,
    expires: String,
    decision: Option<Decided>,
    variables: Option<std::collections::BTreeMap<String, String>>,
    answer: Option<Text>,
}

#[derive(Deserialize)]
struct Reason {
    detail: String,
}

#[derive(Deserialize)]
struct Decided {
    by: String,
    approved: bool,
    why: String,
    at: String,
}

#[derive(Deserialize)]
struct Text {
    text: String,
}

async fn list(reviewer: &ReviewerArguments) -> anyhow::Result<()> {
    let answer = client(reviewer)?.get("/v1/reviews").await?;
    let mut screen = Screen::new();
    if reviewer.json {
        return screen.json(&answer);
    }
    let reviews: Vec<Shown> = Deserialize::deserialize(&answer["reviews"]).context(ANSWER_LACKS)?;
    if reviews.is_empty() {
        screen.line("nothing is held")?;
    }
    for review in &reviews {
        head(&mut screen, review)?;
    }
    Ok(())
}

async fn show(id: &str, reviewer: &ReviewerArguments) -> anyhow::Result<()> {
    let review = client(reviewer)?.get(&path(id)?).await?;
    tell(&review, reviewer.json)
}

async fn decide(decision: &str, arguments: &DecideArguments) -> anyhow::Result<()> {
    let body = json!({ "decision": decision, "why": arguments.why });
    let client = client(&arguments.reviewer)?;
    let review = client.put(&path(&arguments.id)?, &body).await?;
    tell(&review, arguments.reviewer.json)
}

fn client(reviewer: &ReviewerArguments) -> anyhow::Result<Client> {
    let state_dir = reviewer.state_dir.as_deref();
    remote_client(
        &reviewer.url,
        &reviewer.credentials,
        state_dir,
        &reviewer.identity,
    )
}

/// The route of a review.
fn path(id: &str) -> anyhow::Result<String> {
    let plain = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    anyhow::ensure!(plain, "`{}` is no id of a call", printable(id));
    Ok(format!("/v1/reviews/{id}"))
}

fn tell(review: &Value, as_json: bool) -> anyhow::Result<()> {
    let mut screen = Screen::new();
    if as_json {
        return screen.json(review);
    }
    let review = Shown::deserialize(review).context(ANSWER_LACKS)?;
    head(&mut screen, &review)?;
    for (name, value) in review.variables.iter().flatten() {
        text(&mut screen, &format!("variable {name}"), value)?;
    }
    if let Some(answer) = &review.answer {
        text(&mut screen, "answer", &answer.text)?;
    }
    Ok(())
}

fn head(screen: &mut Screen, review: &Shown) -> anyhow::Result<()> {
    let tone = match review.status.as_str() {
        "approved" => Tone::Good,
        "rejected" => Tone::Bad,
        _ => Tone::Heading,
    };
    let status = screen.paint(tone, printable(&review.status));
    screen.line(format_args!(
        "{}  {status}  {} for {}, held {}, until {}",
        printable(&review.id),
        printable(&review.template),
        printable(&review.author),
        printable(&review.held),
        printable(&review.expires)
    ))?;
    for reason in &review.reasons {
        screen.line(format_args!("  because {}", printable(&reason.detail)))?;
    }
    if let Some(decided) = &review.decision {
        let verb = if decided.approved {
            "approved"
        } else {
            "rejected"
        };
        screen.line(format_args!(
            "  {verb} by {} at {}: {}",
            printable(&decided.by),
            printable(&decided.at),
            on_one_line(&decided.why)
        ))?;
    }
    Ok(())
}

fn text(screen: &mut Screen, title: &str, text: &str) -> anyhow::Result<()> {
    screen.line(screen.paint(Tone::Heading, format!("  {}", printable(title))))?;
    let columns = screen.columns();
    screen.line(wrap(&printable(text), INDENT, columns))?;
    Ok(())
}
