//! Development only: what tests of several crates share.
//!
//! Invariant: no shipped crate depends on this one outside `dev-dependencies`; everything that looks
//! like a secret is made at run time. Absent on purpose: mocks of our own parts.

pub mod chain;
#[cfg(feature = "client")]
pub mod client;
pub mod gguf;
pub mod models;
pub mod pki;
pub mod rules;
pub mod vocabularies;

pub use pki::{Credentials, Pki};
