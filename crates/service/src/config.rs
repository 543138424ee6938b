//! Section `[service]` of the configuration.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ServiceError;

/// Most calls that may be configured to run or wait at once; each holds one
/// blocking thread.
pub const CALLS_MAX_LIMIT: usize = 256;

/// Longest deadline of a call that may be configured, in seconds.
pub const DEADLINE_S_LIMIT: u64 = 3600;

/// Bounds of the service, section `[service]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ServiceConfig {
    /// Most calls admitted at once, running and queued in the engine together;
    /// one more is refused as busy. From 1 to [`CALLS_MAX_LIMIT`].
    pub calls_max: usize,
    /// Seconds that a call may take from its arrival to its last token,
    /// waiting included. From 1 to [`DEADLINE_S_LIMIT`].
    pub deadline_s: u64,
}

impl Default for ServiceConfig {
    fn default() -> Self {
        Self {
            calls_max: 32,
            deadline_s: 120,
        }
    }
}

impl ServiceConfig {
    /// Checks every bound.
    ///
    /// # Errors
    ///
    /// [`ServiceError::ConfigOutOfRange`] names the first field outside its bounds.
    pub fn check(&self) -> Result<(), ServiceError> {
        within("calls-max", self.calls_max as u64, CALLS_MAX_LIMIT as u64)?;
        within("deadline-s", self.deadline_s, DEADLINE_S_LIMIT)
    }

    pub(crate) fn deadline(&self) -> Duration {
        Duration::from_secs(self.deadline_s)
    }
}

fn within(field: &'static str, found: u64, max: u64) -> Result<(), ServiceError> {
    let min = 1;
    if (min..=max).contains(&found) {
        return Ok(());
    }
    Err(ServiceError::ConfigOutOfRange {
        field,
        found,
        min,
        max,
    })
}
