//! `postern token issue`.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use postern_governance::{Identity, Right, TemplateId};
use postern_service::{TokenClaims, TokenKey};

use crate::state_folder::{Existing, create_folder, write_private};
use crate::terminal::Screen;

/// What `token issue` was asked for.
pub(crate) struct Issue<'a> {
    pub(crate) identity: Identity,
    pub(crate) templates: Vec<TemplateId>,
    pub(crate) rights: Vec<Right>,
    pub(crate) ttl: Duration,
    pub(crate) key: &'a Path,
    pub(crate) out: Option<&'a Path>,
    pub(crate) existing: Existing,
}

/// Issues a token, to standard output or into a file.
pub(crate) fn issue(asked: Issue<'_>) -> anyhow::Result<()> {
    let key = TokenKey::load(asked.key)
        .context("no token is issued without its key; `postern certs dev` makes one")?;
    let token = make(
        &key,
        asked.identity,
        asked.templates,
        asked.rights,
        asked.ttl,
    )?;
    match asked.out {
        None => Ok(Screen::new().line(token)?),
        Some(path) => {
            if let Some(folder) = path
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty())
            {
                create_folder(folder)?;
            }
            write_private(path, format!("{token}\n").as_bytes(), asked.existing)
        }
    }
}

/// A token that is valid from now on.
pub(crate) fn make(
    key: &TokenKey,
    identity: Identity,
    templates: Vec<TemplateId>,
    rights: Vec<Right>,
    ttl: Duration,
) -> anyhow::Result<String> {
    let ttl = SignedDuration::try_from(ttl).context("the time to live is too long")?;
    let claims = TokenClaims::with_rights(identity, templates, rights, Timestamp::now(), ttl)?;
    Ok(postern_service::issue(key, &claims))
}
