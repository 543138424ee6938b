//! Checkpoints of the audit log, kept where whoever can write the log cannot: a file elsewhere, a server, the journal.
//!
//! A log whose newest records were cut off looks whole; one of these shows that they were there. Invariant: a
//! checkpoint counts as kept once the file is on its disk and the server has said so; until then it is pushed again,
//! the newest one only. Absent: any effect on calls, which do not wait for a witness.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::client::Push;
use crate::state_folder::{Existing, write_public};

/// How long a witness that failed is left alone.
const RETRY_WAIT: Duration = Duration::from_secs(30);

const CONTENT_TYPE: &str = "text/plain; charset=utf-8";

/// Section `[audit.witness]` of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct WitnessConfig {
    /// File that always holds the newest checkpoint.
    file: Option<PathBuf>,
    /// Address that each checkpoint is posted to.
    url: Option<String>,
    /// CA of that server's certificate, PEM.
    ca: Option<PathBuf>,
    /// Whether each checkpoint is a line of the log.
    journal: bool,
}

impl WitnessConfig {
    /// Takes paths as relative to `folder`.
    pub(crate) fn beside(mut self, folder: &Path) -> Self {
        for path in [&mut self.file, &mut self.ca].into_iter().flatten() {
            *path = folder.join(&*path);
        }
        self
    }

    /// All witnesses.
    ///
    /// # Errors
    /// The address is no address, or its CA cannot be read.
    pub(crate) fn witnesses(&self) -> anyhow::Result<Vec<Witness>> {
        let file = self.file.clone().map(Place::File);
        let url = self.url.as_deref();
        let server = url.map(|url| Push::new(url, self.ca.as_deref(), None));
        let server = server
            .transpose()?
            .map(|push| Place::Server(Box::new(push)));
        let journal = self.journal.then_some(Place::Journal);
        let places = [journal, file, server].into_iter().flatten();
        Ok(places.map(Witness::new).collect())
    }
}

/// One place for checkpoints.
pub(crate) struct Witness {
    place: Place,
    /// The newest checkpoint that is there.
    kept: String,
    failed: Option<Instant>,
}

enum Place {
    File(PathBuf),
    Server(Box<Push>),
    Journal,
}

impl Witness {
    fn new(place: Place) -> Self {
        Self {
            place,
            kept: String::new(),
            failed: None,
        }
    }

    /// Has a checkpoint kept, unless it is, or the last attempt failed a moment ago.
    pub(crate) async fn keep(&mut self, checkpoint: &str) {
        let waits = self.failed.is_some_and(|at| at.elapsed() < RETRY_WAIT);
        if checkpoint == self.kept || waits {
            return;
        }
        match self.place.keep(checkpoint).await {
            Ok(()) => {
                checkpoint.clone_into(&mut self.kept);
                self.failed = None;
            }
            Err(error) => {
                let error = crate::error::message(&error);
                log::warn!(error; "a witness did not keep the newest checkpoint; it is tried again");
                self.failed = Some(Instant::now());
            }
        }
    }
}

impl Place {
    async fn keep(&self, checkpoint: &str) -> anyhow::Result<()> {
        match self {
            Self::File(file) => {
                let (file, checkpoint) = (file.clone(), checkpoint.to_owned());
                let write = move || write_public(&file, checkpoint.as_bytes(), Existing::Replace);
                tokio::task::spawn_blocking(write).await?
            }
            Self::Server(push) => push.post(CONTENT_TYPE, checkpoint.into()).await,
            Self::Journal => {
                log::info!(checkpoint; "checkpoint of the audit log");
                Ok(())
            }
        }
    }
}
