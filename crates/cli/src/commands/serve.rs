//! `postern serve`: the daemon.

use std::sync::Arc;

use anyhow::Context;
use postern_server::ServerConfig;

use crate::arguments::ServeArguments;
use crate::configuration::Configuration;
use crate::daemon::{Termination, bind, start_service};
use crate::file_rights::refuse_strangers;
use crate::state_folder::development_hint;
use crate::terminal::Screen;

/// Serves until SIGTERM, SIGINT or SIGHUP, then closes in order.
pub(crate) async fn run(arguments: ServeArguments) -> anyhow::Result<()> {
    let mut termination = Termination::catch()?;
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
    Ok(server.run(termination.arrived_once()).await?)
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
