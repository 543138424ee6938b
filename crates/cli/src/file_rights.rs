//! Whether strangers could change what the daemon goes by: configuration, policy, templates, pins,
//! keys and authorities.
//!
//! Invariant: what passes can be changed or replaced by its owner, a group, or root, but not by
//! every user of the machine. Absent: rights to read, which the readers of keys judge; folders
//! farther up; any change of a mode.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, ensure};
use rustix::process::geteuid;

const MODE_OTHERS_WRITE: u32 = 0o002;
/// In a folder with this bit, only a file's owner may remove or replace it.
const MODE_STICKY: u32 = 0o1000;

/// Fails where every user could change the file or folder at `path`, or put another in its place.
/// What does not exist passes: whoever opens it tells that better.
pub(crate) fn refuse_strangers(path: &Path) -> anyhow::Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => path,
    };
    // Of a link, its own owner counts for the folder that it is in.
    let (Ok(named), Ok(there), Ok(around)) = (
        fs::symlink_metadata(path),
        fs::metadata(path),
        fs::metadata(folder),
    ) else {
        return Ok(());
    };
    let shown = path.display();
    ensure!(
        there.mode() & MODE_OTHERS_WRITE == 0,
        "{shown} is not used, since every user of this machine may change it (mode {:04o}); check \
         what is in it, then run `chmod o-w {shown}`",
        there.mode() & 0o7777
    );
    if around.mode() & MODE_OTHERS_WRITE != 0 {
        refuse_replaceable(path, &named, folder, &around)?;
    }
    Ok(())
}

/// As [`refuse_strangers`], of a folder and of each thing in it.
pub(crate) fn refuse_strangers_within(folder: &Path) -> anyhow::Result<()> {
    refuse_strangers(folder)?;
    let place = || format!("cannot list {}", folder.display());
    for item in fs::read_dir(folder).with_context(place)? {
        refuse_strangers(&item.with_context(place)?.path())?;
    }
    Ok(())
}

/// Fails unless a thing in a folder that every user may write to stays what it is: the folder is
/// sticky, as /tmp is, and the thing is this user's own, or root's.
fn refuse_replaceable(
    path: &Path,
    named: &Metadata,
    folder: &Path,
    around: &Metadata,
) -> anyhow::Result<()> {
    let (shown, folder) = (path.display(), folder.display());
    ensure!(
        around.mode() & MODE_STICKY != 0,
        "{shown} is not used, since every user of this machine may replace it (mode {:04o} of \
         {folder}); check what it is, then run `chmod o-w {folder}`",
        around.mode() & 0o7777
    );
    let owner = named.uid();
    ensure!(
        owner == 0 || owner == geteuid().as_raw(),
        "{shown} is not used, since it belongs to user {owner}, and every user of this machine may \
         put files into {folder}; check what it is, then move it to a folder of your own"
    );
    Ok(())
}
