//! `postern audit keygen`: a key for an auditor.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use postern_audit::{Identities, Recipients};

use crate::arguments::audit::KeygenArguments;
use crate::file_rights::refuse_strangers;
use crate::state_folder::{Existing, StateFolder, refuse_existing, write_private};
use crate::terminal::Screen;

const MODE_AUDITORS: u32 = 0o644;

/// Makes the key, and names it in the state folder where that was asked for.
pub(super) fn run(arguments: &KeygenArguments) -> anyhow::Result<()> {
    refuse_existing(&arguments.out)?;
    let auditor = Identities::generate();
    let public = auditor.recipients().keys().next();
    let public = public.context("a key that was made has a public half")?;
    write_private(&arguments.out, auditor.to_text().as_bytes(), Existing::Keep)?;
    if let Some(folder) = &arguments.state_dir {
        name(&StateFolder::new(folder), &public)?;
    }
    Screen::new().line(&public)?;
    Ok(())
}

/// Adds a line to the auditors of a state folder.
fn name(state: &StateFolder, public: &str) -> anyhow::Result<()> {
    state.create()?;
    let file = state.auditors();
    if file.exists() {
        refuse_strangers(&file)?;
        // A file that cannot be read would only be noticed at the next start.
        Recipients::read(&file)?;
    }
    append(&file, public).with_context(|| format!("cannot write {}", file.display()))
}

fn append(file: &Path, public: &str) -> std::io::Result<()> {
    let mut written = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(MODE_AUDITORS)
        .open(file)?;
    let whole = fs::read(file)?;
    let begin = if whole.is_empty() || whole.ends_with(b"\n") {
        ""
    } else {
        "\n"
    };
    written.write_all(format!("{begin}{public}\n").as_bytes())?;
    written.sync_all()
}
