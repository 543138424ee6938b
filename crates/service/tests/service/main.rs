//! The path of a call through its public interface, with real parts: a real
//! engine and model, real rules, a real audit log on disk.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;
mod budgets;
mod children;
mod disk;
mod endings;
mod house;
mod key_files;
mod killed;
mod logs;
mod metrics;
mod outputs;
mod refusals;
mod reviews;
mod rules;
mod strangers;
mod tokens;
mod vocabularies;
