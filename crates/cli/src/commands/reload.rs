//! `postern reload`: has a running server read its rules again.

use serde_json::json;

use crate::arguments::ReviewerArguments;
use crate::client::Client;
use crate::commands::generate::remote_client;
use crate::terminal::{Screen, Tone, printable};

pub(crate) async fn run(arguments: &ReviewerArguments) -> anyhow::Result<()> {
    let state_dir = arguments.state_dir.as_deref();
    let client: Client = remote_client(
        &arguments.url,
        &arguments.credentials,
        state_dir,
        &arguments.identity,
    )?;
    let reloaded = client.post_json("/v1/reload", &json!({})).await?;
    let mut screen = Screen::new();
    if arguments.json {
        return screen.json(&reloaded);
    }
    let text = |name: &str| printable(reloaded[name].as_str().unwrap_or_default());
    let (before, now) = (text("before"), text("rules_sha256"));
    let done = if before == now {
        "The rules were read again; they are the same."
    } else {
        "The rules were read again and are in force."
    };
    screen.line(screen.paint(Tone::Good, done))?;
    screen.line(format_args!("  before  {before}"))?;
    Ok(screen.line(format_args!("  now     {now}"))?)
}
