//! `postern serve`: the daemon.

use std::io::{IsTerminal, stdin};
use std::sync::Arc;

use anyhow::Context;
use postern_server::ServerConfig;
use postern_service::Service;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::arguments::ServeArguments;
use crate::configuration::Configuration;
use crate::daemon::{Termination, bind, close_audit_log, start_service};
use crate::file_rights::refuse_strangers;
use crate::state_folder::development_hint;
use crate::terminal::Screen;

/// Serves until SIGTERM or SIGINT, then closes in order. SIGHUP reloads templates, policy and registry; but
/// at a terminal it ends the daemon as well, as it means that the terminal was closed.
pub(crate) async fn run(arguments: ServeArguments) -> anyhow::Result<()> {
    let (mut termination, reload) = if stdin().is_terminal() {
        (Termination::catch()?, None)
    } else {
        let reload = signal(SignalKind::hangup()).context("cannot catch SIGHUP")?;
        (Termination::catch_but_hangup()?, Some(reload))
    };
    let reading = tokio::task::spawn_blocking(move || Configuration::for_daemon(&arguments));
    let configuration = tokio::select! {
        biased;
        () = termination.arrived() => return Ok(()),
        configuration = reading => Arc::new(configuration??),
    };
    require_tls_files(&configuration.server)?;
    let Some(service) = start_service(&configuration, &mut termination).await? else {
        return Ok(());
    };
    let Some(server) = bind(&configuration, &service, &mut termination).await? else {
        return Ok(());
    };
    let address = server.local_addr();
    for model in service.models() {
        log::info!(
            model = model.id, sha256 = model.sha256, architecture = model.architecture,
            backend = model.backend, context_tokens = model.context_tokens; "model is served"
        );
    }
    // One line for scripts that wait for it; a closed standard output is no reason not to serve.
    let version = env!("CARGO_PKG_VERSION");
    let ready = Screen::new().line(format_args!("postern {version} ready at https://{address}"));
    if let Err(error) = ready {
        log::warn!("{error}");
    }
    let reloading =
        reload.map(|reload| tokio::spawn(reload_on_signal(reload, Arc::clone(&service))));
    let served = server.run(termination.arrived_once()).await;
    if let Some(reloading) = reloading {
        reloading.abort();
    }
    close_audit_log(&configuration, &service).await;
    Ok(served?)
}

/// Reloads templates, policy and registry at each signal, one after the other.
async fn reload_on_signal(mut reload: Signal, service: Arc<Service>) {
    while reload.recv().await.is_some() {
        let service = Arc::clone(&service);
        let read = tokio::task::spawn_blocking(move || service.reload(None));
        // What went wrong in the reading is logged and recorded there.
        if read.await.is_err() {
            log::error!(
                "a defect ended the reading of templates, policy and registry; the old ones stay in force"
            );
        }
    }
}

/// Fails when a TLS file is not there, or is anybody's to change, before a model is read or anything
/// is written.
fn require_tls_files(server: &ServerConfig) -> anyhow::Result<()> {
    for (key, path) in [
        ("tls-cert", &server.tls_cert),
        ("tls-key", &server.tls_key),
        ("client-ca", &server.client_ca),
    ] {
        let looked = std::fs::metadata(path).map(drop);
        let hint = development_hint(path);
        looked.with_context(|| {
            format!(
                "no {key} file {}; name it with --{key}{hint}",
                path.display()
            )
        })?;
        refuse_strangers(path)?;
    }
    Ok(())
}
