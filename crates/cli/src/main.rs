//! `postern`: the one device and client binary.
//!
//! Here are the command line, the configuration file, the environment, the terminal and the
//! signals; below this crate nobody knows of any of them. What a command does with a model or a
//! call is the other crates' work: this crate starts the one service there is and talks to it.

mod arguments;
mod certificates;
mod client;
mod commands;
mod configuration;
mod daemon;
mod embedded;
mod error;
mod file_rights;
mod known_keys;
mod logging;
mod state_folder;
mod terminal;
mod variables;
mod witness;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use arguments::{Arguments, CertsCommand, Command, ModelCommand, TokenCommand};
use clap::Parser;
use error::Exit;
use log::LevelFilter;
use postern_governance::Right;
use state_folder::Existing;
use terminal::Screen;

/// Threads that drive connections; the engine has its own.
const ASYNC_THREADS: usize = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let as_json = arguments.command.json();
    let exit = match run(arguments.command) {
        Ok(()) => Exit::Done,
        Err(error) => {
            let exit = Exit::of(&error);
            if exit != Exit::Done {
                report(&error, as_json);
            }
            exit
        }
    };
    ExitCode::from(exit as u8)
}

fn run(command: Command) -> anyhow::Result<()> {
    let level = match command {
        Command::Serve(_) => LevelFilter::Info,
        // What a command has to say, it says as its result or its error.
        _ => LevelFilter::Error,
    };
    logging::start(level).context("cannot start logging")?;
    match command {
        Command::Demo(demo) => block_on(commands::demo::run(&demo)),
        Command::Serve(serve) => block_on(commands::serve::run(*serve)),
        Command::Generate(generate) => block_on(commands::generate::run(&generate)),
        Command::Model(command) => run_model(command),
        Command::Prompt(command) => block_on(commands::prompt::run(command)),
        Command::Token(TokenCommand::Issue {
            identity,
            templates,
            rights,
            ttl,
            key,
            out,
            force,
        }) => commands::token::issue(commands::token::Issue {
            identity,
            templates,
            rights: rights.into_iter().map(Right::from).collect(),
            ttl,
            key: &key,
            out: out.as_deref(),
            existing: existing(force),
        }),
        Command::Certs(CertsCommand::Dev {
            dir,
            clients,
            hosts,
            days,
            force,
        }) => commands::certs::dev(&commands::certs::Development {
            dir: dir.as_deref(),
            clients: &clients,
            hosts: &hosts,
            days,
            existing: existing(force),
        }),
        Command::Audit(command) => block_on(commands::audit::run(command)),
        Command::Reload(reload) => block_on(commands::reload::run(&reload)),
        Command::Review(command) => block_on(commands::review::run(command)),
        Command::Budget(command) => block_on(commands::budget::run(command)),
        Command::Sanitize(sanitize) => commands::sanitize::run(&sanitize),
        Command::Policy(command) => commands::policy::run(command),
        Command::Completions(completions) => commands::completions::run(&completions),
    }
}

fn run_model(command: ModelCommand) -> anyhow::Result<()> {
    match command {
        ModelCommand::Pin {
            file,
            id,
            out,
            force,
        } => commands::model::pin(&file, id.as_deref(), out.as_deref(), existing(force)),
        ModelCommand::Register { manifest, entry } => {
            commands::model::register::run(&manifest, entry)
        }
        ModelCommand::Check(check) => commands::model::check::run(&check),
        ModelCommand::Inspect { file, json } => commands::model::inspect(&file, json),
        ModelCommand::Tokenize {
            file,
            text,
            json,
            special,
        } => commands::model::tokenize(&file, &text, json, special),
    }
}

fn existing(force: bool) -> Existing {
    if force {
        Existing::Replace
    } else {
        Existing::Keep
    }
}

fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(ASYNC_THREADS)
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let result = runtime.block_on(work);
    // After a signal, a thread may still be reading a model, or a file that never ends.
    runtime.shutdown_background();
    result
}

/// Says what went wrong: to people on standard error, to scripts as JSON on standard output.
fn report(error: &anyhow::Error, as_json: bool) {
    if as_json && error::is_reported(error) {
        return;
    }
    if as_json && Screen::new().json(&error::to_json(error)).is_ok() {
        return;
    }
    // After `^C`, and after text that was being streamed, the message begins a line of its own.
    let line_end = match Exit::of(error) {
        Exit::Interrupted => "\n",
        _ => "",
    };
    let message = error::message(error);
    // With standard error closed there is nobody left to tell; the exit code still does.
    let _nobody_left = writeln!(std::io::stderr(), "{line_end}postern: {message}");
}
