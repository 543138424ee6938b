//! Runs the binary with an environment of its own and keeps what came out.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// What one run left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        match serde_json::from_str(&self.stdout) {
            Ok(json) => json,
            Err(error) => panic!("not JSON ({error}): {self:#?}"),
        }
    }

    /// Requires an exit code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }
}

/// The command with nothing of the developer's environment that could change its output.
pub(crate) fn command(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
    command
        .env_clear()
        .env("HOME", home)
        .env("COLUMNS", "100")
        .current_dir(home);
    command
}

/// Runs to the end without standard input.
pub(crate) fn postern<A: AsRef<OsStr>>(home: &Path, arguments: impl IntoIterator<Item = A>) -> Ran {
    postern_fed(home, arguments, "")
}

/// Runs to the end with `stdin` on standard input.
pub(crate) fn postern_fed<A: AsRef<OsStr>>(
    home: &Path,
    arguments: impl IntoIterator<Item = A>,
    stdin: &str,
) -> Ran {
    let mut child = command(home)
        .args(in_the_clear(arguments))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut pipe = child.stdin.take().expect("standard input is a pipe");
    // A command that does not read it may be gone already.
    let _closed_early = pipe.write_all(stdin.as_bytes());
    drop(pipe);
    let output = child.wait_with_output().expect("the binary ends");
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("UTF-8 on standard output"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8 on standard error"),
    }
}

/// The arguments, for a command that writes an audit log with the flag that lets the tests look into it, unless they say
/// themselves who can.
pub(crate) fn in_the_clear<A: AsRef<OsStr>>(
    arguments: impl IntoIterator<Item = A>,
) -> Vec<OsString> {
    let words = arguments.into_iter().map(|word| word.as_ref().to_owned());
    let mut words: Vec<OsString> = words.collect();
    let is = |place: usize, word: &str| words.get(place).is_some_and(|found| found == word);
    let writes = is(0, "serve") || is(0, "generate") || (is(0, "budget") && is(1, "set"));
    // What belongs to a server is no local run, and is refused without one.
    let others = [
        "--auditor",
        "--audit-plaintext",
        "--help",
        "--url",
        "--ca",
        "--cert",
        "--key",
        "--token-file",
    ];
    let has_other = words
        .iter()
        .any(|word| others.iter().any(|other| word == other));
    if writes && !has_other {
        words.push("--audit-plaintext".into());
    }
    words
}

/// Runs on a terminal of `columns` columns, made by `script` (util-linux), and gives what appeared there.
pub(crate) fn on_terminal(home: &Path, columns: u16, arguments: &str) -> String {
    let binary = env!("CARGO_BIN_EXE_postern");
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command"])
        .arg(format!("stty cols {columns} && '{binary}' {arguments}"))
        .arg("/dev/null")
        .env("HOME", home)
        .env("TERM", "xterm")
        .env("NO_COLOR", "1")
        .env_remove("COLUMNS")
        .current_dir(home)
        .stdin(Stdio::null())
        .output()
        .expect("script runs");
    let shown = String::from_utf8(output.stdout).expect("UTF-8 on the terminal");
    assert!(output.status.success(), "{shown}");
    shown
}

/// The default model's file as it lies in the repository.
pub(crate) fn coffee_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/coffee/coffee-q8_0.gguf")
}

/// A folder that ends with the test.
pub(crate) fn home() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}
