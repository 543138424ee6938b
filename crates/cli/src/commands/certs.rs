//! `postern certs dev`.

use std::path::Path;

use jiff::Timestamp;
use postern_governance::{Identity, TemplateId};
use postern_service::TokenKey;

use crate::certificates::{self, CertificateRequest};
use crate::embedded;
use crate::state_folder::{Existing, StateFolder};
use crate::terminal::{Screen, Tone};

/// What `certs dev` makes.
pub(crate) struct Development<'a> {
    /// The folder to write to; that of `serve` when absent.
    pub(crate) dir: Option<&'a Path>,
    pub(crate) clients: &'a [Identity],
    pub(crate) hosts: &'a [String],
    pub(crate) days: u16,
    pub(crate) existing: Existing,
}

/// Makes a development set and says what lies where.
pub(crate) fn dev(asked: &Development<'_>) -> anyhow::Result<()> {
    let mut clients: Vec<Identity> = Vec::new();
    for identity in asked.clients {
        if !clients.contains(identity) {
            clients.push(identity.clone());
        }
    }
    let folder = match asked.dir {
        Some(dir) => StateFolder::new(dir),
        None => StateFolder::default_location()?,
    };
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
    let dir = folder.root().display();
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
    if let Some((identity, template)) = first_grant(&clients)? {
        screen.line(format_args!(
            "  postern token issue --identity {identity} --template {template} \\\n      \
             --key {dir}/token.key --out {dir}/tokens/{identity}.token"
        ))?;
    }
    Ok(())
}

/// The first client that the embedded policy lets use a template, and that template.
fn first_grant(clients: &[Identity]) -> anyhow::Result<Option<(&Identity, TemplateId)>> {
    let (templates, policy) = (embedded::templates()?, embedded::policy()?);
    Ok(clients.iter().find_map(|identity| {
        let mut ids = templates.iter().map(|template| &template.id);
        let granted = ids.find(|id| policy.allows(identity, id))?;
        Some((identity, granted.clone()))
    }))
}
