//! `postern certs dev`.

use std::path::Path;

use jiff::Timestamp;
use postern_governance::Identity;
use postern_service::TokenKey;

use crate::certificates::{self, CertificateRequest};
use crate::state_folder::{Existing, StateFolder};
use crate::terminal::{Screen, Tone};

/// What `certs dev` makes.
pub(crate) struct Development<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) clients: &'a [String],
    pub(crate) hosts: &'a [String],
    pub(crate) days: u16,
    pub(crate) existing: Existing,
}

/// Makes a development set and says what lies where.
pub(crate) fn dev(asked: &Development<'_>) -> anyhow::Result<()> {
    let mut clients: Vec<Identity> = Vec::new();
    for name in asked.clients {
        let identity = name.parse()?;
        if !clients.contains(&identity) {
            clients.push(identity);
        }
    }
    let folder = StateFolder::new(asked.dir);
    let made = certificates::make(&CertificateRequest {
        clients: &clients,
        hosts: asked.hosts,
        days: asked.days,
        now: Timestamp::now(),
    })?;
    folder.write_certificates(&made, asked.existing)?;
    // A key that exists stays, even with --force: a new one would end every token.
    TokenKey::load_or_create(&folder.token_key())?;

    let mut screen = Screen::new();
    let through = made.valid_through;
    let dir = asked.dir.display();
    screen.line(format_args!(
        "Made in {dir}, valid through {through} (UTC):"
    ))?;
    screen.line("")?;
    screen.line("  ca.pem, ca.key          the authority; whoever has ca.key can be anyone")?;
    screen.line("  server.pem, server.key  for `postern serve`")?;
    for identity in &clients {
        let pair = format!("clients/{identity}.pem, .key");
        screen.line(format_args!("  {pair:<23} postern://identity/{identity}"))?;
    }
    screen.line("  token.key               signs and checks tokens")?;
    screen.line("")?;
    screen.line(screen.paint(Tone::Heading, "Next:"))?;
    screen.line(format_args!("  postern serve --state-dir {dir}"))?;
    if let Some(identity) = clients.first() {
        screen.line(format_args!(
            "  postern token issue --identity {identity} --template coffee.v1 \\\n      \
             --key {dir}/token.key --out {dir}/tokens/{identity}.token"
        ))?;
    }
    Ok(())
}
