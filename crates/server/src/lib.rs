//! The door: mutual TLS, identity, HTTP routes; nothing but translation to and from the service.
//!
//! ```text
//! TCP -> slot -> TLS 1.3 with client certificate -> Peer identity -> HTTP/1.1 or HTTP/2
//!   -> x-request-id, panics, problems -> identity -> token -> route -> postern_service::Service
//! ```
//!
//! Invariants:
//!
//! - No byte of HTTP is read from a peer without a certificate of the configured authorities.
//! - Every wait, buffer and count has a bound, named in [`ServerConfig`].
//! - No token, variable or generated text reaches a log line or an error's text.
//! - Nothing here decides about a call; that is the service's.
//!
//! The API is described for its users in `API.md` beside this crate's manifest.

mod activity;
mod budgets;
mod config;
mod connection;
mod error;
mod generate;
mod identity;
mod listings;
mod middleware;
mod problem;
mod proofs;
mod request_body;
mod reviews;
mod routes;
mod server;
mod socket;
mod tls;

pub use config::ServerConfig;
pub use error::ServerError;
pub use problem::problem_document;
pub use server::Server;
