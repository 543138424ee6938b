//! `postern serve`: the daemon.

use std::sync::Arc;

use postern_server::Server;

use crate::arguments::ServeArguments;
use crate::configuration::Configuration;
use crate::daemon::{Termination, start_service};
use crate::terminal::Screen;

/// Serves until SIGTERM or SIGINT, then closes in order.
pub(crate) async fn run(arguments: &ServeArguments) -> anyhow::Result<()> {
    let mut termination = Termination::catch()?;
    let configuration = Arc::new(Configuration::for_daemon(arguments)?);
    let for_service = Arc::clone(&configuration);
    let starting = tokio::task::spawn_blocking(move || start_service(&for_service));
    let service = tokio::select! {
        started = starting => started??,
        // Nothing was promised to anyone yet, so there is nothing to close in order.
        () = termination.arrived() => return Ok(()),
    };
    let server = Server::bind(&configuration.server, Arc::clone(&service)).await?;
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
