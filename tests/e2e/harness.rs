//! Starts and stops daemons, and runs the binary as a caller would.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use postern_testkit::Credentials;
use postern_testkit::client::Client;
use postern_testkit::gguf::{Storage, TinyModel};
use postern_testkit::models::write_registry;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Longest wait for anything that a process is expected to do by itself.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(60);

/// A command that runs the `postern` binary, built from this checkout in the profile of the tests.
pub(crate) fn postern() -> Command {
    Command::new(binary())
}

/// Path of the binary, which `cargo test --workspace` puts beside the folder of the test executables.
pub(crate) fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let test = std::env::current_exe().expect("this test knows its own path");
        let profile = test
            .ancestors()
            .nth(2)
            .expect("tests lie in the folder `deps` of their profile");
        let binary = profile.join("postern");
        assert!(
            binary.exists(),
            "{} does not exist; run `cargo test --workspace`, which builds it",
            binary.display()
        );
        binary
    })
}

/// A state folder with development certificates and a token for each identity of the shipped policy.
pub(crate) struct State {
    folder: TempDir,
}

impl State {
    pub(crate) fn new() -> Self {
        let state = Self {
            folder: TempDir::new().expect("a temporary folder can be made"),
        };
        succeed(postern().args(["certs", "dev", "--dir"]).arg(state.path()));
        state.issue("kiosk", &["coffee.v1"]);
        state.issue("ci-runner", &["impl-test-gen.v1", "triage.v1"]);
        state
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn audit(&self) -> PathBuf {
        self.path().join("audit")
    }

    /// Issues a token for `identity` and puts it where `generate` looks for it.
    pub(crate) fn issue(&self, identity: &str, templates: &[&str]) {
        self.issue_with(identity, templates, &[]);
    }

    /// As [`Self::issue`], with rights such as `approve`.
    pub(crate) fn issue_with(&self, identity: &str, templates: &[&str], rights: &[&str]) {
        let mut command = postern();
        command.args(["token", "issue", "--identity", identity, "--force"]);
        for right in rights {
            command.args(["--right", right]);
        }
        for template in templates {
            command.args(["--template", template]);
        }
        command.arg("--key").arg(self.path().join("token.key"));
        command
            .arg("--out")
            .arg(self.path().join(format!("tokens/{identity}.token")));
        succeed(&mut command);
    }

    /// The token of `identity`.
    pub(crate) fn token(&self, identity: &str) -> String {
        let path = self.path().join(format!("tokens/{identity}.token"));
        let token = fs::read_to_string(path).expect("a token was issued");
        token.trim().to_owned()
    }

    /// What `audit verify` prints about a log that it finds whole.
    pub(crate) fn verified(&self) -> Value {
        let output = succeed(
            postern()
                .args(["audit", "verify", "--json"])
                .arg(self.audit()),
        );
        serde_json::from_slice(&output.stdout).expect("`audit verify --json` prints JSON")
    }

    /// The entries of all records, oldest first.
    pub(crate) fn entries(&self) -> Vec<Value> {
        let output = succeed(
            postern()
                .args(["audit", "show", "--json"])
                .arg(self.audit()),
        );
        json_lines(&output.stdout)
            .into_iter()
            .map(|mut record| record["entry"].take())
            .collect()
    }

    /// The entries of one type.
    pub(crate) fn entries_of(&self, kind: &str) -> Vec<Value> {
        let mut entries = self.entries();
        entries.retain(|entry| entry["type"] == kind);
        entries
    }
}

/// A running `postern serve`; killed when dropped.
pub(crate) struct Daemon {
    process: Child,
    url: String,
    _stdout: BufReader<ChildStdout>,
}

impl Daemon {
    /// Starts a daemon on a free port with the embedded model and waits until it is ready.
    pub(crate) fn start(state: &State) -> Self {
        Self::start_with(state, &[])
    }

    /// As [`Self::start`], with more arguments.
    pub(crate) fn start_with(state: &State, arguments: &[&str]) -> Self {
        let mut command = postern();
        command.args(serve_arguments(state)).args(arguments);
        Self::spawn(command)
    }

    /// As [`Self::start`], without a word but errors, for a test that starts many.
    pub(crate) fn start_quiet(state: &State) -> Self {
        let mut command = postern();
        command
            .args(serve_arguments(state))
            .env("RUST_LOG", "error");
        Self::spawn(command)
    }

    /// From now on no file of the daemon may grow beyond `bytes_max`: to it, the disk is full there.
    pub(crate) fn limit_files(&self, bytes_max: u64) {
        let limited = Command::new("prlimit")
            .arg(format!("--pid={}", self.process.id()))
            .arg(format!("--fsize={bytes_max}"))
            .status();
        assert!(limited.expect("prlimit (util-linux) runs").success());
    }

    fn spawn(mut command: Command) -> Self {
        let mut process = command
            // Not the terminal of whoever runs the tests: SIGHUP would end the daemon there.
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the daemon can be started");
        let mut stdout = BufReader::new(process.stdout.take().expect("standard output is piped"));
        let mut ready = String::new();
        stdout
            .read_line(&mut ready)
            .expect("the daemon's output can be read");
        let Some((_, url)) = ready.trim().split_once(" ready at ") else {
            panic!("no ready line but {ready:?}, {:?}", process.wait());
        };
        Self {
            url: url.to_owned(),
            process,
            _stdout: stdout,
        }
    }

    /// A `postern generate` of `identity` against this daemon.
    pub(crate) fn generate(
        &self,
        state: &State,
        identity: &str,
        template: &str,
        variable: &str,
    ) -> Command {
        let mut command = postern();
        command.args(["generate", "--url", &self.url, "--identity", identity]);
        command.args(["--template", template, "--var", variable, "--json"]);
        command.arg("--state-dir").arg(state.path());
        command
    }

    /// A client with the certificate of `identity`, in this process.
    pub(crate) fn client(&self, state: &State, identity: &str) -> Client {
        let file = |extension: &str| state.path().join(format!("clients/{identity}.{extension}"));
        let credentials = Credentials {
            certificate: file("pem"),
            key: file("key"),
        };
        let address = self.url.strip_prefix("https://");
        let address = address.and_then(|address| address.parse().ok());
        let address = address.expect("the daemon tells its address");
        Client::new(address, &state.path().join("ca.pem"), Some(&credentials))
    }

    /// A command of `identity` that asks this daemon, such as `review list`.
    pub(crate) fn ask(&self, state: &State, identity: &str, words: &[&str]) -> Command {
        let mut command = postern();
        command.args(words);
        command.args(["--url", &self.url, "--identity", identity, "--json"]);
        command.arg("--state-dir").arg(state.path());
        command
    }

    pub(crate) fn kill(mut self) {
        self.process.kill().expect("the daemon can be killed");
        self.process.wait().expect("the daemon can be waited for");
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        let id = i32::try_from(self.process.id()).expect("a process id fits");
        let id = Pid::from_raw(id).expect("a process id is not zero");
        kill_process(id, Signal::TERM).expect("the daemon can be signalled");
    }

    /// Waits until the daemon has ended.
    pub(crate) fn wait(mut self) -> ExitStatus {
        wait_until("the daemon ends", || {
            self.process
                .try_wait()
                .expect("the daemon can be waited for")
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn serve_arguments(state: &State) -> [std::ffi::OsString; 6] {
    [
        "serve".into(),
        "--audit-plaintext".into(),
        "--port".into(),
        "0".into(),
        "--state-dir".into(),
        state.path().into(),
    ]
}

/// Arguments that serve a pinned and registered model with random weights, whose answers are long.
pub(crate) fn slow_model() -> [&'static str; 4] {
    static FILES: OnceLock<[String; 2]> = OnceLock::new();
    let [manifest, registry] = FILES.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let file = folder.join("slow.gguf");
        let manifest = folder.join("slow.manifest.json");
        let mut model = TinyModel::new("llama");
        model.layers = 3;
        model.width = 256;
        model.heads = 4;
        model.kv_heads = 2;
        model.head_width = 64;
        model.feed_forward = 512;
        model.context_tokens = 8192;
        model.storage = Storage::Q8_0;
        fs::write(&file, model.build()).expect("the model can be written");
        succeed(
            postern()
                .args(["model", "pin", "--force"])
                .arg(&file)
                .arg("--out")
                .arg(&manifest),
        );
        let registry = write_registry(&manifest);
        [manifest, registry].map(|path| {
            let path = path.into_os_string().into_string();
            path.expect("the target folder's path is UTF-8")
        })
    });
    ["--model", manifest, "--models", registry]
}

/// A streaming call that has produced its first text and is still running.
pub(crate) struct RunningCall {
    process: Child,
    stdout: BufReader<ChildStdout>,
}

impl RunningCall {
    /// Starts `generate` and waits for its first token.
    pub(crate) fn start(mut generate: Command) -> Self {
        let mut process = generate
            .arg("--stream")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the caller can be started");
        let stdout = BufReader::new(process.stdout.take().expect("standard output is piped"));
        let mut call = Self { process, stdout };
        let first = call.next_line().expect("a first token arrives");
        assert_eq!(first["event"], "token", "{first}");
        call
    }

    /// The next line of output, or nothing at its end.
    pub(crate) fn next_line(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.stdout
            .read_line(&mut line)
            .expect("the caller's output can be read");
        (!line.is_empty())
            .then(|| serde_json::from_str(&line).expect("the caller prints JSON lines"))
    }

    /// The caller is gone without a word.
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("the caller can be killed");
        self.process.wait().expect("the caller can be waited for");
    }

    /// Reads to the end; the last line and the exit code.
    pub(crate) fn finish(mut self) -> (Option<Value>, ExitStatus) {
        let mut last = None;
        while let Some(line) = self.next_line() {
            last = Some(line);
        }
        (
            last,
            self.process.wait().expect("the caller can be waited for"),
        )
    }
}

/// Runs to the end and expects success.
pub(crate) fn succeed(command: &mut Command) -> Output {
    let output = command.output().expect("the command can be started");
    assert!(
        output.status.success(),
        "{command:?} failed with {}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Polls until `found` returns something.
pub(crate) fn wait_until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(start.elapsed() < WAIT_MAX, "waited too long until {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn json_lines(bytes: &[u8]) -> Vec<Value> {
    String::from_utf8_lossy(bytes)
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .collect()
}
