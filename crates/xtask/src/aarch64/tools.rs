//! The programs that the chore needs and cargo does not bring: a cross compiler, an emulator, a disassembler.
//!
//! Invariant: whatever is missing is named at once, all of it, each with a command that gets it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::{PROCESSOR, TARGET};

/// Where the programs are.
pub(super) struct Tools {
    /// A compiler that has the target's standard library.
    pub(super) rustc: PathBuf,
    pub(super) linker: PathBuf,
    pub(super) objdump: PathBuf,
    pub(super) emulator: PathBuf,
}

pub(super) const LINKER: &str = "aarch64-linux-gnu-gcc";
/// Only for llama.cpp.
pub(super) const CXX: &str = "aarch64-linux-gnu-g++";
pub(super) const CMAKE: &str = "cmake";
const OBJDUMP: &str = "aarch64-linux-gnu-objdump";
const EMULATORS: [&str; 2] = ["qemu-aarch64-static", "qemu-aarch64"];
/// The compilers that are tried: the one that cargo would take, then the system's.
const COMPILERS: [&str; 2] = ["rustc", "/usr/bin/rustc"];

/// Ways to get what is missing.
const GET_RUST: &str = "the standard library of Rust for aarch64-unknown-linux-gnu:
      rustup target add aarch64-unknown-linux-gnu
    or, on Debian 12:
      dpkg --add-architecture arm64 && apt-get update
      apt-get install rustc-web libstd-rust-web-dev:arm64";
const GET_LINKER: &str = "aarch64-linux-gnu-gcc, a C compiler for aarch64; on Debian and Ubuntu:
      apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross";
const GET_OBJDUMP: &str = "aarch64-linux-gnu-objdump; on Debian and Ubuntu:
      apt-get install binutils-aarch64-linux-gnu";
const GET_EMULATOR: &str = "qemu-aarch64-static, or qemu-aarch64; on Debian and Ubuntu:
      apt-get install qemu-user-static";
const GET_CXX: &str =
    "aarch64-linux-gnu-g++, a C++ compiler for aarch64, to build llama.cpp; on Debian and Ubuntu:
      apt-get install g++-aarch64-linux-gnu";
const GET_CMAKE: &str = "cmake, to build llama.cpp; on Debian and Ubuntu:
      apt-get install cmake";

impl Tools {
    /// Finds all, and for llama.cpp those that build it.
    pub(super) fn find(for_peer: bool) -> Result<Self> {
        let mut missing = Vec::new();
        let mut found = |program: Option<PathBuf>, get: &'static str| {
            program.unwrap_or_else(|| {
                missing.push(get);
                PathBuf::new()
            })
        };
        let tools = Self {
            rustc: found(COMPILERS.into_iter().find_map(with_target), GET_RUST),
            linker: found(runs(LINKER), GET_LINKER),
            objdump: found(runs(OBJDUMP), GET_OBJDUMP),
            emulator: found(EMULATORS.into_iter().find_map(runs), GET_EMULATOR),
        };
        if for_peer {
            found(runs(CXX), GET_CXX);
            found(runs(CMAKE), GET_CMAKE);
        }
        if !missing.is_empty() {
            bail!(
                "this chore needs what is not here:\n  - {}",
                missing.join("\n  - ")
            );
        }
        Ok(tools)
    }

    /// A program's instructions, with the functions' full names.
    pub(super) fn disassemble(&self, program: &Path) -> Result<String> {
        let output = Command::new(&self.objdump)
            .args(["--disassemble", "--demangle", "--no-show-raw-insn"])
            .arg(program)
            .output()
            .with_context(|| format!("{} cannot be started", self.objdump.display()))?;
        ensure!(
            output.status.success(),
            "{} ended with {} on {}: {}",
            self.objdump.display(),
            output.status,
            program.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        String::from_utf8(output.stdout).context("the disassembly is no UTF-8")
    }

    /// The emulator, told to write a line for every instruction that it executes to standard error.
    pub(super) fn traced(&self, program: &Path) -> Result<Command> {
        let help = Command::new(&self.emulator).arg("--help").output()?;
        // Since version 8.1 it is called by the first of these names.
        let one_by_one = ["-one-insn-per-tb", "-singlestep"]
            .into_iter()
            .find(|option| String::from_utf8_lossy(&help.stdout).contains(option))
            .with_context(|| {
                format!(
                    "{} knows no option to execute one instruction at a time",
                    self.emulator.display()
                )
            })?;
        let mut command = Command::new(&self.emulator);
        command
            .args(["-cpu", PROCESSOR, one_by_one, "-d", "exec,nochain"])
            .arg(program);
        Ok(command)
    }
}

impl fmt::Display for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "aarch64: {}, {}, {}, {} -cpu {PROCESSOR}",
            self.rustc.display(),
            self.linker.display(),
            self.objdump.display(),
            self.emulator.display()
        )
    }
}

/// The program, if it can be run.
fn runs(program: &str) -> Option<PathBuf> {
    let status = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status
        .is_ok_and(|status| status.success())
        .then(|| program.into())
}

/// The compiler, if it has the target's standard library.
fn with_target(rustc: &str) -> Option<PathBuf> {
    let output = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .ok()?;
    let folder = String::from_utf8(output.stdout).ok()?;
    let mut files = std::fs::read_dir(folder.trim())
        .ok()?
        .filter_map(Result::ok);
    files
        .any(|file| file.file_name().to_string_lossy().starts_with("libstd-"))
        .then(|| rustc.into())
}

/// Runs a command to its end.
///
/// # Errors
/// When it cannot be started or fails.
pub(super) fn succeed(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let status = command
        .status()
        .with_context(|| format!("could not start {shown}"))?;
    ensure!(status.success(), "{shown} ended with {status}");
    Ok(())
}
