//! The server over real TLS sockets, with a real service, engine and audit log behind it.

#![expect(clippy::unwrap_used, reason = "a test may end at the first surprise")]

mod budgets;
mod calls;
mod certificates;
mod daemon;
mod keys;
mod limits;
mod log_lines;
mod proofs;
mod refusals;
mod reviews;
mod shown;
mod shutdown;
mod strangers;
