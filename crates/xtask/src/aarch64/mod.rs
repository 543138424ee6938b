//! `cargo xtask aarch64`: the proof that the native engine is right and fast on the processor of a Raspberry Pi 5, on a
//! machine that has none.
//!
//! It cross-builds for a Cortex-A76, runs the tests under emulation, and reads the kernels' machine code. Emulated time
//! says nothing about a real processor's, so nothing here is timed; instructions are counted instead, and the cycles of
//! inner loops modelled, if LLVM's analyzer is there.
//!
//! Absent: installing anything. What is missing is named, with the commands that get it.

mod cycles;
mod disassembly;
mod instructions;
mod tools;

use std::env;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;

use cycles::Model;
use tools::Tools;

const TARGET: &str = "aarch64-unknown-linux-gnu";
/// The processor of the Raspberry Pi 5: dot products and half precision, neither `i8mm` nor SVE.
const PROCESSOR: &str = "cortex-a76";
/// The program whose machine code holds every product.
const PRODUCTS: &str = "products";
/// Cases of each property: one takes seconds here, and the machine's own run of the tests has them all.
const PROPTEST_CASES: &str = "8";
const PROPTEST_CASES_VARIABLE: &str = "PROPTEST_CASES";
/// No test program takes longer, or it hangs.
const TEST_PROGRAM_S_MAX: u32 = 900;

/// Prove the engine on the Raspberry Pi 5's processor: tests under emulation, and a look at the machine code.
#[derive(Args)]
pub(crate) struct Aarch64 {
    /// Only say whether everything that is needed is there
    #[arg(long, conflicts_with_all = ["kernels_only", "instructions"])]
    tools: bool,
    /// Leave the engine's tests out, which take a build of all that it depends on
    #[arg(long, conflicts_with = "instructions")]
    kernels_only: bool,
    /// Count instructions per multiply-accumulate, beside llama.cpp's, instead of testing
    #[arg(long)]
    instructions: bool,
    /// The sources of llama.cpp, for --instructions [default: what POSTERN_LLAMA_CPP says]; without them, the table
    /// says that it is absent
    #[arg(long, value_name = "FOLDER", requires = "instructions")]
    llama_cpp: Option<PathBuf>,
}

impl Aarch64 {
    pub(crate) fn run(self) -> Result<()> {
        let peer = self
            .llama_cpp
            .or_else(|| env::var_os("POSTERN_LLAMA_CPP").map(PathBuf::from))
            .filter(|_| self.instructions);
        let build = Build {
            tools: Tools::find(peer.is_some())?,
            folder: build_folder()?,
        };
        writeln!(stdout(), "{}", build.tools)?;
        if self.tools {
            return Ok(());
        }
        if self.instructions {
            return instructions::report(&build, peer.as_deref());
        }
        step("kernels' tests", || {
            build.cargo(&["test", "--release", "--tests", "-p", "postern-kernels"])
        })?;
        step("machine code", || {
            let listing = build.tools.disassemble(&build.products()?)?;
            disassembly::check(&listing, Model::find().as_ref(), &mut stdout().lock())
        })?;
        if !self.kernels_only {
            step("engine's tests", || {
                build.cargo(&["test", "--tests", "-p", "postern-engine"])
            })?;
        }
        Ok(())
    }
}

/// Says what begins and that it went well.
fn step(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    writeln!(stdout(), "--- aarch64: {name}")?;
    let start = Instant::now();
    work().with_context(|| format!("aarch64: the step '{name}' failed"))?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(writeln!(stdout(), "ok: aarch64: {name} ({seconds:.0} s)")?)
}

/// Another compiler's build must not throw out the usual one's: it has a folder of its own beside it.
fn build_folder() -> Result<PathBuf> {
    let program = env::current_exe().context("this program's own path is unknown")?;
    let target = program.parent().and_then(Path::parent);
    Ok(target
        .context("this program does not lie in a build folder of cargo")?
        .join("aarch64"))
}

/// Builds for the processor.
struct Build {
    tools: Tools,
    folder: PathBuf,
}

impl Build {
    /// Runs cargo for the target; what it runs, it runs under emulation.
    fn cargo(&self, arguments: &[&str]) -> Result<()> {
        // Static, because a dynamic program needs an arm64 glibc on the machine, and not each works: with that of
        // Debian 12's cross compiler (libc6-arm64-cross 2.36-8) under QEMU 7.2, any program, ten lines of C included,
        // hangs in its first `pthread_create`; with that of the architecture arm64 (libc6 2.36-9) none does.
        //
        // The names of generic functions, which the look at the machine code needs, are in symbols of version 0 only.
        let flags = format!(
            "-C target-cpu={PROCESSOR} -C target-feature=+crt-static -C symbol-mangling-version=v0"
        );
        let runner = format!(
            "timeout {TEST_PROGRAM_S_MAX} {} -cpu {PROCESSOR}",
            self.tools.emulator.display()
        );
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command
            .args(arguments)
            .args(["--locked", "--target", TARGET, "--target-dir"])
            .arg(&self.folder)
            .env("RUSTC", &self.tools.rustc)
            .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS", flags)
            .env(
                "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER",
                &self.tools.linker,
            )
            .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", runner)
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS");
        if env::var_os(PROPTEST_CASES_VARIABLE).is_none() {
            command.env(PROPTEST_CASES_VARIABLE, PROPTEST_CASES);
        }
        tools::succeed(&mut command)
    }

    /// Builds the program with all products, as a release has them.
    fn products(&self) -> Result<PathBuf> {
        self.cargo(&[
            "build",
            "--release",
            "-p",
            "postern-kernels",
            "--example",
            PRODUCTS,
        ])?;
        let program = self
            .folder
            .join(TARGET)
            .join("release/examples")
            .join(PRODUCTS);
        ensure!(
            program.is_file(),
            "cargo built no {}; does the example `{PRODUCTS}` of postern-kernels still exist?",
            program.display()
        );
        Ok(program)
    }
}
