//! `postern demo`: the whole gate at work, with nothing staged.
//!
//! The server is the one that `serve` starts, on a loopback port of its own; the calls go through
//! its HTTP API over mutual TLS, with certificates and a token made for the occasion. What is
//! shown comes from the answers and from the audit log.

mod report;
mod stage;

use anyhow::Context;
use postern_audit::{Content, Entry, Receipt};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::arguments::DemoArguments;
use crate::client::{Answer, Call, Client};
use crate::daemon::{Termination, bind, start_service};
use crate::error::CommandError;
use report::Report;
use stage::Stage;

/// A wish that the embedded model knows how to meet.
const WISHES: &str = "Hello! I am looking for a coffee shop with a quiet room and good cake, \
    and my dog comes along.";

/// The same with what no one should send; both secrets are made up, and of the right form.
const WISHES_WITH_SECRETS: &str = concat!(
    "Hello! I am looking for a coffee shop with a quiet room and good cake, ",
    "and my dog comes along. My card number is 4111 1111 1111 1111. Use my key sk-",
    "proj-Zm9yRGVtb09ubHkxMjM0NTY3ODkwYWJjZGVmZ2g."
);

/// The template that the kiosk may use, and the one that policy keeps from it.
const TEMPLATE: &str = "coffee.v1";
const TEMPLATE_REFUSED: &str = "triage.v1";
const LOG: &str = "error: the build failed";

/// One of the three calls and what came of it.
pub(super) struct Made {
    title: &'static str,
    template: &'static str,
    outcome: Outcome,
    /// What the model and the log saw instead of a variable with secrets.
    sanitized: Option<String>,
}

/// What came of a call.
pub(super) enum Outcome {
    Answered(Box<Answer>),
    /// The problem document.
    Refused(Value),
}

/// Runs the demo until its end or the first signal.
pub(crate) async fn run(arguments: &DemoArguments) -> anyhow::Result<()> {
    let mut termination = Termination::catch()?;
    let stage = Stage::set(arguments.state_dir.as_deref())?;
    let mut report = Report::new(arguments.json);
    report.opening(&stage)?;

    let service = start_service(stage.configuration(), &mut termination)
        .await?
        .ok_or(CommandError::Interrupted)?;
    let token = stage.issue_token()?;
    let server = bind(stage.configuration(), &service, &mut termination)
        .await?
        .ok_or(CommandError::Interrupted)?;
    let url = format!("https://{}", server.local_addr());
    report.serving(&url, &service.models())?;

    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(server.run(async move {
        // An error means that this function has ended early, which is as good a reason.
        let _sender_gone = stopped.await;
    }));
    let shown = tokio::select! {
        shown = show(&stage, &url, &token, &mut report) => shown,
        () = termination.arrived() => Err(CommandError::Interrupted.into()),
    };
    if shown.is_ok() && !arguments.once && !report.interrupted() {
        report.invitation(&stage, &url)?;
        termination.arrived().await;
        report.farewell()?;
    }
    // The server may only be gone already if it failed, and that is the next line's to tell.
    let _already_stopped = stop.send(());
    serving.await.context("the server's task")??;
    shown
}

/// Makes the three calls and closes with the table.
async fn show(stage: &Stage, url: &str, token: &str, report: &mut Report) -> anyhow::Result<()> {
    let client = Client::new(stage.endpoint(url)?, token)?;
    let mut calls = Vec::new();

    let title = "A visitor at the kiosk asks for coffee";
    report.asks(1, title, WISHES)?;
    let outcome = answered(
        client
            .generate_streaming(&call(TEMPLATE, "wishes", WISHES, true), &mut |text| {
                report.streamed(text)
            })
            .await,
    )?;
    report.streamed_end(&outcome)?;
    calls.push(Made {
        title: "coffee, streamed",
        template: TEMPLATE,
        outcome,
        sanitized: None,
    });

    let title = "The same wish, with a card number and an API key in it";
    report.asks(2, title, WISHES_WITH_SECRETS)?;
    let outcome = answered(
        client
            .generate(&call(TEMPLATE, "wishes", WISHES_WITH_SECRETS, false))
            .await,
    )?;
    let sanitized = sanitized_in_log(stage, &outcome)?;
    report.redacted(&outcome, sanitized.as_deref())?;
    calls.push(Made {
        title: "coffee, with secrets",
        template: TEMPLATE,
        outcome,
        sanitized,
    });

    let title = "The kiosk asks for a template that policy does not grant it";
    report.asks(3, title, &format!("{TEMPLATE_REFUSED} with log={LOG}"))?;
    let refused = call(TEMPLATE_REFUSED, "log", LOG, false);
    let outcome = answered(client.generate(&refused).await)?;
    report.refused(&outcome)?;
    calls.push(Made {
        title: "triage",
        template: TEMPLATE_REFUSED,
        outcome,
        sanitized: None,
    });

    let receipt = calls.iter().rev().find_map(Made::receipt);
    let dir = stage.audit_dir();
    let audit = match &receipt {
        Some(receipt) => postern_audit::verify_with(&dir, receipt),
        None => postern_audit::verify(&dir),
    }
    .map_err(|error| CommandError::AuditBroken {
        message: error.to_string(),
    })?;
    report.table(&calls, &audit, receipt.as_ref())
}

fn call(template: &str, variable: &str, value: &str, stream: bool) -> Call {
    Call {
        template: template.to_owned(),
        variables: [(variable.to_owned(), value.to_owned())].into(),
        max_tokens: None,
        temperature: None,
        seed: None,
        stream,
    }
}

/// A refusal by the gate is a result here; anything else that goes wrong is an error.
fn answered(result: anyhow::Result<Answer>) -> anyhow::Result<Outcome> {
    match result {
        Ok(answer) => Ok(Outcome::Answered(Box::new(answer))),
        Err(error) => match error.downcast::<CommandError>() {
            Ok(CommandError::Problem {
                refused: true,
                problem,
                ..
            }) => Ok(Outcome::Refused(problem)),
            Ok(other) => Err(other.into()),
            Err(other) => Err(other),
        },
    }
}

/// The variable as it stands in the call's audit record, which is what the model saw.
fn sanitized_in_log(stage: &Stage, outcome: &Outcome) -> anyhow::Result<Option<String>> {
    let Outcome::Answered(answer) = outcome else {
        return Ok(None);
    };
    for stored in postern_audit::read_with(&stage.audit_dir(), stage.auditor()?)? {
        if let Content::Entry(entry) = stored?.content
            && let Entry::Admitted(admitted) = entry
            && admitted.request_id == answer.fields.id
        {
            return Ok(admitted.variables.get("wishes").cloned());
        }
    }
    anyhow::bail!(
        "the audit log has no record of request {}",
        answer.fields.id
    )
}

impl Made {
    /// What an answer brought to check the log with; a refusal brings none.
    fn receipt(&self) -> Option<Receipt> {
        let Outcome::Answered(answer) = &self.outcome else {
            return None;
        };
        Some(answer.fields.audit.clone().into())
    }

    /// The call as an element of the JSON report.
    fn to_json(&self) -> Value {
        let (answer, error) = match &self.outcome {
            Outcome::Answered(answer) => (answer.json.clone(), Value::Null),
            Outcome::Refused(problem) => (json!({}), problem.clone()),
        };
        let mut call = json!({ "title": self.title, "error": error });
        for field in [
            "id",
            "text",
            "finish_reason",
            "usage",
            "timings",
            "model",
            "template",
            "audit",
        ] {
            call[field] = answer.get(field).cloned().unwrap_or(Value::Null);
        }
        call["redactions"] = answer.get("redactions").cloned().unwrap_or(json!([]));
        call["requested_template"] = json!(self.template);
        call["sanitized"] = json!(self.sanitized);
        call
    }
}
