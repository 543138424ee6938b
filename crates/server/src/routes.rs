//! All routes.
//!
//! Invariant: what is not listed here is answered with 404, and a listed path with another method
//! with 405. Absent on purpose: any route without a client certificate.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post, put};
use postern_service::Service;

use crate::ServerConfig;
use crate::middleware;
use crate::problem::Problem;
use crate::request_body::BodyLimits;
use crate::{budgets, generate, listings, proofs, reviews};

/// What handlers and middleware share.
#[derive(Clone)]
pub(crate) struct AppState {
    pub(crate) service: Arc<Service>,
    pub(crate) body_limits: BodyLimits,
    pub(crate) sse_keep_alive: Duration,
}

/// The whole HTTP surface over `service`.
pub(crate) fn router(service: Arc<Service>, config: &ServerConfig) -> Router {
    let state = AppState {
        service,
        body_limits: BodyLimits::new(config),
        sse_keep_alive: config.sse_keep_alive(),
    };
    // Certificate and token.
    let calls = Router::new()
        .route("/v1/generate", post(generate::generate))
        .route("/v1/audit/{index}/proof", get(proofs::inclusion))
        .route("/v1/audit/consistency", post(proofs::consistency))
        .route("/v1/budgets", get(budgets::all))
        .route("/v1/budgets/{kind}/{name}", put(budgets::set))
        .route("/v1/reload", post(listings::reload))
        .route("/v1/reviews", get(reviews::all))
        .route("/v1/reviews/{id}", get(reviews::one).put(reviews::decide))
        .route("/v1/models", get(listings::models))
        .route("/v1/templates", get(listings::templates));
    // Certificate only.
    let states = Router::new()
        .route("/healthz", get(listings::healthz))
        .route("/readyz", get(listings::readyz))
        .route("/metrics", get(listings::metrics));
    let all = middleware::require_token(calls, &state)
        .merge(states)
        .fallback(async || Problem::not_found())
        .method_not_allowed_fallback(async || Problem::method_not_allowed());
    middleware::surround(all, &state).with_state(state)
}
