//! Tests that run as a process of their own, because they are killed or may not write all they want.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Where a child finds its files.
const FOLDER: &str = "POSTERN_TEST_FOLDER";

/// An ignored test of this binary as a process of its own, with its files in `folder`. The signal that a full file
/// would end it with is ignored.
pub(crate) fn child(test: &str, folder: &Path) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(FOLDER, folder);
    command
}

/// Runs a child that has to pass.
pub(crate) fn passes(test: &str, folder: &Path) {
    let output = child(test, folder).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{complained}"
    );
}

/// The folder that a child was given, or nothing where a person runs ignored tests.
pub(crate) fn child_folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

/// Limits the size that files of this process can grow to, as a full disk does.
pub(crate) fn limit_file_bytes(current: u64) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    let current = Some(current);
    setrlimit(Resource::Fsize, Rlimit { current, maximum }).unwrap();
}
