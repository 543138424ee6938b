//! What is counted of an account in memory: requests and tokens a minute, and running calls.

use super::bucket::{Bucket, Empty};
use super::{LimitKey, Limits, Shortfall};

/// When to come back while as many calls run as may: calls end within seconds.
pub(super) const RUNNING_RETRY_AFTER_S: u64 = 2;

/// The running minute of an account, and its running calls. The default is one that did nothing yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Meter {
    requests: Bucket,
    tokens: Bucket,
    running: u64,
}

impl Meter {
    /// Begins a call that may need `tokens`, at `now_ms` of a clock that never goes back; should it
    /// do so all the same, nothing is refilled until it has caught up.
    ///
    /// # Errors
    ///
    /// The first limit that does not allow it; nothing is counted then.
    pub fn begin(self, limits: &Limits, now_ms: u64, tokens: u64) -> Result<Self, Shortfall> {
        let begun = self.began(limits)?;
        let requests = take(
            self.requests,
            LimitKey::RequestsPerMinute,
            limits.requests_per_minute,
            now_ms,
            1,
        )?;
        let tokens = take(
            self.tokens,
            LimitKey::TokensPerMinute,
            limits.tokens_per_minute,
            now_ms,
            tokens,
        )?;
        Ok(Self {
            requests,
            tokens,
            ..begun
        })
    }

    /// Ends a call of which so many tokens were not needed. They can be taken again at once.
    #[must_use]
    pub fn end(self, tokens_left: u64) -> Self {
        Self {
            tokens: self.tokens.give_back(tokens_left),
            running: self.running.saturating_sub(1),
            ..self
        }
    }

    /// Takes a call back that was refused for another reason after [`Meter::begin`].
    #[must_use]
    pub fn take_back(self, tokens: u64) -> Self {
        Self {
            requests: self.requests.give_back(1),
            ..self.end(tokens)
        }
    }

    /// Calls that run or wait.
    #[must_use]
    pub fn running(&self) -> u64 {
        self.running
    }

    fn began(self, limits: &Limits) -> Result<Self, Shortfall> {
        if let Some(allowed) = limits.concurrent_calls
            && self.running >= allowed
        {
            return Err(Shortfall {
                limit: LimitKey::ConcurrentCalls,
                allowed,
                used: self.running,
                reserved: 0,
                asked: 1,
                retry_after_s: Some(RUNNING_RETRY_AFTER_S),
                resets_unix_s: None,
            });
        }
        Ok(Self {
            running: self.running.saturating_add(1),
            ..self
        })
    }
}

fn take(
    bucket: Bucket,
    limit: LimitKey,
    per_minute: Option<u64>,
    now_ms: u64,
    amount: u64,
) -> Result<Bucket, Shortfall> {
    let Some(allowed) = per_minute else {
        return Ok(bucket);
    };
    bucket
        .take(allowed, amount, now_ms)
        .map_err(|Empty { spent, wait_s }| Shortfall {
            used: spent,
            retry_after_s: wait_s,
            ..Shortfall::never(limit, allowed, amount)
        })
}
