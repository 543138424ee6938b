//! `cargo xtask ci`: every check that guards the main branch, in the order in which they fail fastest.
//!
//! Continuous integration runs this command and, where its tools are there, the kernels' part of `aarch64`. It installs
//! nothing and reads nothing but the checkout, except the vocabularies that `POSTERN_VOCAB_DIR` may name.
//!
//! Invariant: all that is compiled is compiled for the whole workspace. Cargo builds a dependency once more for each
//! choice of packages that wants other features of it, which would double the time; so what runs `postern` runs the one
//! that the tests built.

use std::{
    env,
    io::{Write, stdout},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// One check: what it is called, what runs it with which arguments, and an environment variable it needs.
struct Step {
    name: &'static str,
    program: Program,
    arguments: &'static [&'static str],
    variable: Option<(&'static str, &'static str)>,
}

#[derive(Clone, Copy)]
enum Program {
    Cargo,
    /// The binary that the tests built.
    Postern,
}

const STEPS: &[Step] = &[
    Step {
        name: "format",
        program: Program::Cargo,
        arguments: &["fmt", "--all", "--check"],
        variable: None,
    },
    Step {
        name: "clippy",
        program: Program::Cargo,
        arguments: &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "-D",
            "warnings",
        ],
        variable: None,
    },
    Step {
        name: "tests",
        program: Program::Cargo,
        arguments: &["test", "--workspace", "--locked"],
        variable: None,
    },
    Step {
        name: "prompt check",
        program: Program::Postern,
        arguments: &[
            "prompt",
            "check",
            "deploy/prompts",
            "--strict",
            "--junit",
            "target/junit/prompt-check.xml",
        ],
        variable: None,
    },
    Step {
        name: "policy check",
        program: Program::Postern,
        arguments: &[
            "policy",
            "check",
            "--policy",
            "deploy/policy/policy.yaml",
            "--prompts",
            "deploy/prompts",
            "--models",
            "deploy/policy/models.yaml",
            "--strict",
        ],
        variable: None,
    },
    // The other shipped templates are for models that a device registers itself.
    Step {
        name: "model check",
        program: Program::Postern,
        arguments: &[
            "model",
            "check",
            "deploy/policy/models.yaml",
            "--prompts",
            "deploy/prompts",
            "--template",
            "coffee.v1",
        ],
        variable: None,
    },
    Step {
        name: "prompt test",
        program: Program::Postern,
        arguments: &[
            "prompt",
            "test",
            "deploy/prompts",
            "--junit",
            "target/junit/prompt-test.xml",
        ],
        variable: None,
    },
    Step {
        name: "docs",
        program: Program::Cargo,
        arguments: &["doc", "--workspace", "--no-deps", "--locked"],
        variable: Some(("RUSTDOCFLAGS", "-D warnings")),
    },
];

/// Runs all steps and stops at the first that fails.
///
/// # Errors
/// Names the step that failed and the command that repeats it alone.
pub(crate) fn run() -> Result<()> {
    let mut times = Vec::with_capacity(STEPS.len());
    for step in STEPS {
        times.push((step.name, run_step(step)?));
    }
    for (name, time) in times {
        writeln!(stdout(), "ok: {name} ({:.0} s)", time.as_secs_f64())?;
    }
    Ok(())
}

fn run_step(step: &Step) -> Result<Duration> {
    let shown = shown_command(step);
    writeln!(stdout(), "--- {}: {shown}", step.name)?;
    let start = Instant::now();
    let status = command(step)?
        .status()
        .with_context(|| format!("could not start `{shown}`"))?;
    if !status.success() {
        bail!(
            "the step '{}' failed ({status}); repeat it alone with `{shown}`",
            step.name
        );
    }
    Ok(start.elapsed())
}

fn command(step: &Step) -> Result<Command> {
    let mut command = match step.program {
        Program::Cargo => Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into())),
        Program::Postern => {
            let this = env::current_exe().context("this program's own path is unknown")?;
            Command::new(this.with_file_name("postern"))
        }
    };
    command.args(step.arguments);
    if let Some((name, value)) = step.variable {
        command.env(name, value);
    }
    Ok(command)
}

fn shown_command(step: &Step) -> String {
    let variable = step
        .variable
        .map(|(name, value)| format!("{name}={value:?} "))
        .unwrap_or_default();
    let program = match step.program {
        Program::Cargo => "cargo",
        Program::Postern => "cargo run -p postern-cli --",
    };
    format!("{variable}{program} {}", step.arguments.join(" "))
}
