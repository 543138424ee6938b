//! `postern certs dev`.

use std::path::Path;

use jiff::Timestamp;
use postern_governance::{Circumstances, Identity, Source, TemplateId};
use postern_service::TokenKey;

use crate::certificates::{self, CertificateRequest, ExistingCa};
use crate::daemon::{RulePaths, reference, rules_of};
use crate::embedded;
use crate::file_rights::refuse_strangers;
use crate::state_folder::{Existing, StateFolder};
use crate::terminal::{Screen, Tone};

/// Clients of a new set where none is named.
const CLIENTS: [&str; 3] = ["kiosk", "ci-runner", "operator"];

/// What `certs dev` makes.
pub(crate) struct Development<'a> {
    /// The folder to write to; that of `serve` when absent.
    pub(crate) dir: Option<&'a Path>,
    /// None for the usual ones.
    pub(crate) clients: &'a [Identity],
    pub(crate) hosts: &'a [String],
    pub(crate) days: u16,
    pub(crate) existing: Existing,
}

/// Makes a development set, or adds the named clients to the one that is there, and says what lies
/// where.
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
    let is_addition =
        !clients.is_empty() && asked.existing == Existing::Keep && folder.ca().exists();
    if is_addition {
        return add_clients(&folder, &clients, asked);
    }
    if clients.is_empty() {
        clients = CLIENTS
            .iter()
            .map(|name| name.parse())
            .collect::<Result<_, _>>()?;
    }
    make_set(&folder, &clients, asked)
}

fn make_set(
    folder: &StateFolder,
    clients: &[Identity],
    asked: &Development<'_>,
) -> anyhow::Result<()> {
    let made = certificates::make(&CertificateRequest {
        clients,
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
    show_clients(&mut screen, clients)?;
    screen.line("  token.key               signs and checks tokens")?;
    screen.line("")?;
    screen.line(screen.paint(Tone::Heading, "Next:"))?;
    screen.line(format_args!("  postern serve --state-dir {dir}"))?;
    show_token_line(&mut screen, folder, clients)
}

/// Adds clients to the set in `folder`; what is there stays as it is.
fn add_clients(
    folder: &StateFolder,
    clients: &[Identity],
    asked: &Development<'_>,
) -> anyhow::Result<()> {
    let (ca, ca_key) = (folder.ca(), folder.ca_key());
    anyhow::ensure!(
        ca_key.exists(),
        "no client can be added: {} exists, but its key {} does not; bring the key back, \
         or make a new set in another folder",
        ca.display(),
        ca_key.display()
    );
    anyhow::ensure!(
        asked.hosts.is_empty(),
        "--host is for the server's certificate, which is kept where {} exists; leave it out to add \
         clients, or give --force to make a new set",
        ca.display()
    );
    refuse_strangers(&ca)?;
    refuse_strangers(&ca_key)?;
    let authority = ExistingCa::read(&ca, &ca_key)?;
    let (made, through) = authority.make_clients(clients, asked.days, Timestamp::now())?;
    folder.write_clients(&made)?;
    TokenKey::load_or_create(&folder.token_key())?;

    let mut screen = Screen::new();
    let dir = folder.root().display();
    screen.line(format_args!(
        "Added in {dir}, signed by the CA there, valid through {through} (UTC):"
    ))?;
    screen.line("")?;
    show_clients(&mut screen, clients)?;
    screen.line("")?;
    screen.line(screen.paint(Tone::Heading, "Next:"))?;
    screen.line("  allow each of them templates in the policy, if it does not yet")?;
    show_token_line(&mut screen, folder, clients)
}

fn show_clients(screen: &mut Screen, clients: &[Identity]) -> anyhow::Result<()> {
    for identity in clients {
        let pair = format!("clients/{identity}.pem, .key");
        screen.line(format_args!("  {pair:<23} postern://identity/{identity}"))?;
    }
    Ok(())
}

fn show_token_line(
    screen: &mut Screen,
    folder: &StateFolder,
    clients: &[Identity],
) -> anyhow::Result<()> {
    let dir = folder.root().display();
    if let Some((identity, template)) = first_open(clients)? {
        screen.line(format_args!(
            "  postern token issue --identity {identity} --template {template} \\\n      \
             --key {dir}/token.key --out {dir}/tokens/{identity}.token"
        ))?;
    }
    Ok(())
}

/// The first client to which the embedded policy opens a template now, and that template.
fn first_open(clients: &[Identity]) -> anyhow::Result<Option<(&Identity, TemplateId)>> {
    let rules = rules_of(&RulePaths::default())?;
    let model = reference(&embedded::manifest()?);
    let now = Circumstances {
        source: Source::Network,
        time_unix_s: Timestamp::now().as_second(),
    };
    Ok(clients.iter().find_map(|identity| {
        let mut templates = rules.templates.iter();
        let open = templates.find(|template| rules.opens(identity, template, &model, &now))?;
        Some((identity, open.id.clone()))
    }))
}
