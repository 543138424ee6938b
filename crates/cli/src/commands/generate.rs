//! `postern generate`: one governed call, remote or local.
//!
//! The local run goes through the same service as the daemon's calls: token, policy and audit log
//! included. There is no shorter way.

use std::io::{IsTerminal, stderr, stdout};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use postern_governance::{Identity, TemplateId};
use postern_service::{CallEvent, Service, Source, TokenKey};
use serde_json::json;

use crate::arguments::{CredentialArguments, GenerateArguments};
use crate::client::{Answer, Call, Client, Credentials, Endpoint};
use crate::commands::token;
use crate::configuration::Configuration;
use crate::daemon::{Termination, close_audit_log, start_service};
use crate::error::CommandError;
use crate::state_folder::StateFolder;
use crate::terminal::{Screen, Tone, printable};
use crate::variables;

/// Bytes of a token file at most.
const TOKEN_BYTES_MAX: u64 = 64 << 10;

/// How long the token of a local run is valid: enough for the one call it is made for.
const LOCAL_TOKEN_TTL: Duration = Duration::from_secs(60);

/// How long a local run waits for its last record.
pub(crate) const LOCAL_SHUTDOWN_WAIT_MAX: Duration = Duration::from_secs(10);

/// Makes the call and prints the answer.
pub(crate) async fn run(arguments: &GenerateArguments) -> anyhow::Result<()> {
    let identity = &arguments.identity;
    let call = Call {
        template: arguments.template.to_string(),
        variables: variables::read(&arguments.variables)?,
        max_tokens: arguments.max_tokens,
        temperature: arguments.temperature,
        seed: arguments.seed,
        stream: arguments.stream,
    };
    let mut output = Output {
        screen: Screen::new(),
        json: arguments.json,
    };
    let answer = match &arguments.remote.url {
        Some(url) => {
            let client = remote_client(
                url,
                &arguments.remote.credentials,
                arguments.deployment.state_dir.as_deref(),
                identity,
            )?;
            if call.stream {
                client
                    .generate_streaming(&call, &mut |text| output.text(text))
                    .await?
            } else {
                client.generate(&call).await?
            }
        }
        None => {
            refuse_unused(&arguments.remote.credentials)?;
            run_locally(arguments, &call, &mut output).await?
        }
    };
    output.answer(&answer, call.stream)
}

/// A run in this process shows nobody credentials; whoever names some meant a server.
fn refuse_unused(credentials: &CredentialArguments) -> anyhow::Result<()> {
    let named = [
        ("--ca", &credentials.ca),
        ("--cert", &credentials.cert),
        ("--key", &credentials.key),
        ("--token-file", &credentials.token_file),
    ];
    match named.iter().find(|(_, path)| path.is_some()) {
        Some((name, _)) => anyhow::bail!("{name} is for a server: name it with --url"),
        None => Ok(()),
    }
}

/// Where the answer goes.
struct Output {
    screen: Screen,
    json: bool,
}

impl Output {
    /// A piece of text of a streamed answer.
    fn text(&mut self, text: &str) -> anyhow::Result<()> {
        if self.json {
            return self
                .screen
                .json_line(&json!({ "event": "token", "text": text }));
        }
        Ok(self.screen.write(&for_output(text))?)
    }

    /// The whole answer; its text is out already if it was streamed.
    fn answer(&mut self, answer: &Answer, streamed: bool) -> anyhow::Result<()> {
        match (self.json, streamed) {
            (true, true) => {
                self.screen
                    .json_line(&json!({ "event": "done", "answer": answer.json }))?;
            }
            (true, false) => self.screen.json(&answer.json)?,
            (false, true) => self.screen.line("")?,
            (false, false) => self.screen.line(for_output(&answer.fields.text))?,
        }
        if !self.json && stderr().is_terminal() {
            let note = self.screen.paint(Tone::Quiet, summary(answer));
            std::io::Write::write_all(&mut stderr(), format!("{note}\n").as_bytes())?;
        }
        Ok(())
    }
}

/// On a terminal, text must not act; in a pipe, it must not change.
fn for_output(text: &str) -> String {
    if stdout().is_terminal() {
        printable(text)
    } else {
        text.to_owned()
    }
}

fn summary(answer: &Answer) -> String {
    let fields = &answer.fields;
    let mut parts = vec![format!("{} tokens", fields.usage.completion_tokens)];
    if let Some(ms) = fields.timings.first_token_ms {
        parts.push(format!("first after {ms:.0} ms"));
    }
    if let Some(rate) = fields.timings.tokens_per_s {
        parts.push(format!("{rate:.1} tokens/s"));
    }
    for redaction in &fields.redactions {
        parts.push(format!("{} {} redacted", redaction.count, redaction.rule));
    }
    if fields.finish_reason == "length" {
        parts.push("cut at the token limit".into());
    }
    parts.push(format!(
        "request {}, audit record #{}",
        fields.id, fields.audit.index
    ));
    parts.join(", ")
}

/// A client of the server at `url`, with the files that are named or else those of the state folder.
pub(crate) fn remote_client(
    url: &str,
    given: &CredentialArguments,
    state_dir: Option<&Path>,
    identity: &Identity,
) -> anyhow::Result<Client> {
    let state = match state_dir {
        Some(folder) => StateFolder::new(folder),
        None => StateFolder::default_location()?,
    };
    let or = |named: &Option<std::path::PathBuf>, default| named.clone().unwrap_or(default);
    let credentials = Credentials {
        ca: or(&given.ca, state.ca()),
        certificate: or(&given.cert, state.client(identity)),
        key: or(&given.key, state.client_key(identity)),
    };
    let endpoint = Endpoint::new(url, &credentials)?;
    let token_file = or(&given.token_file, state.token(identity));
    let place = || format!("cannot read the token file {}", token_file.display());
    let mut token = String::new();
    let file = std::fs::File::open(&token_file).with_context(place)?;
    let mut bounded = std::io::Read::take(file, TOKEN_BYTES_MAX);
    std::io::Read::read_to_string(&mut bounded, &mut token).with_context(place)?;
    Client::new(endpoint, token.trim())
}

async fn run_locally(
    arguments: &GenerateArguments,
    call: &Call,
    output: &mut Output,
) -> anyhow::Result<Answer> {
    let mut termination = Termination::catch()?;
    let configuration = Arc::new(Configuration::for_service(&arguments.deployment)?);
    let service = start_service(&configuration, &mut termination)
        .await?
        .ok_or(CommandError::Interrupted)?;
    let caller = LocalCaller {
        identity: &arguments.identity,
        template: &arguments.template,
        token_key: &configuration.token_key,
    };
    let mut show = |text: &str| output.text(text);
    let result = tokio::select! {
        result = call_service(&service, &caller, call, &mut show) => result,
        () = termination.arrived() => Err(CommandError::Interrupted.into()),
    };
    // Also after an error: the call's last record is still to be written.
    service.shutdown(LOCAL_SHUTDOWN_WAIT_MAX).await;
    close_audit_log(&configuration, &service).await;
    result
}

/// Who calls the service of this process, for which template.
pub(crate) struct LocalCaller<'c> {
    pub(crate) identity: &'c Identity,
    pub(crate) template: &'c TemplateId,
    pub(crate) token_key: &'c Path,
}

/// Makes one call of the service in this process; `show` gets the text of a streamed answer.
pub(crate) async fn call_service(
    service: &Arc<Service>,
    caller: &LocalCaller<'_>,
    call: &Call,
    show: &mut dyn FnMut(&str) -> anyhow::Result<()>,
) -> anyhow::Result<Answer> {
    let key = TokenKey::load(caller.token_key)?;
    let scope = vec![caller.template.clone()];
    let token = token::make(
        &key,
        caller.identity.clone(),
        scope,
        Vec::new(),
        LOCAL_TOKEN_TTL,
    )?;
    let caller = service
        .authenticate(&caller.identity.clone().into(), Some(&token))
        .await
        .map_err(CommandError::from)?;
    let request = postern_service::Call {
        template: call.template.clone(),
        variables: call.variables.clone(),
        max_tokens: call.max_tokens,
        temperature: call.temperature,
        seed: call.seed,
        stream: call.stream,
        source: Source::Local,
    };
    let mut stream = service
        .generate(caller, request)
        .await
        .map_err(CommandError::from)?;
    while let Some(event) = stream.next().await {
        match event {
            CallEvent::Token(text) if call.stream => show(&text)?,
            CallEvent::Token(_) => {}
            CallEvent::Done(answer) => return Answer::from_value(serde_json::to_value(&answer)?),
            CallEvent::Held(held) => {
                return Err(CommandError::held(serde_json::to_value(held)?).into());
            }
            CallEvent::Failed(refusal) => return Err(CommandError::from(refusal).into()),
        }
    }
    anyhow::bail!("the service ended the call without an answer; see the audit log")
}
