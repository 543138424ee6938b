//! The routes without a body: what there is, how the service is, and reading the rules again.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::{Extension, Json};
use postern_service::{Caller, ModelSummary, Reloaded, TemplateSummary};
use serde::Serialize;

use crate::problem::Problem;
use crate::routes::AppState;

/// The text format of Prometheus, version 0.0.4.
const METRICS_MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Serialize)]
pub(crate) struct Models {
    models: Vec<ModelSummary>,
}

#[derive(Serialize)]
pub(crate) struct Templates {
    templates: Vec<TemplateSummary>,
}

#[derive(Serialize)]
pub(crate) struct Status {
    status: &'static str,
}

/// `POST /v1/reload`: reads the rules again, for whoever may administer.
pub(crate) async fn reload(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Reloaded>, Problem> {
    Ok(Json(state.service.reload_for(&caller).await?))
}

/// `GET /v1/models`: what is loaded.
pub(crate) async fn models(State(state): State<AppState>) -> Json<Models> {
    Json(Models {
        models: state.service.models(),
    })
}

/// `GET /v1/templates`: what this caller may use.
pub(crate) async fn templates(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
) -> Json<Templates> {
    Json(Templates {
        templates: state.service.templates(&caller),
    })
}

/// `GET /healthz`: the process answers.
pub(crate) async fn healthz() -> Json<Status> {
    Json(Status { status: "alive" })
}

/// `GET /readyz`: calls can be taken.
pub(crate) async fn readyz(State(state): State<AppState>) -> Result<Json<Status>, Problem> {
    state.service.ready().map_err(Problem::not_ready)?;
    Ok(Json(Status { status: "ready" }))
}

/// `GET /metrics`: for Prometheus.
pub(crate) async fn metrics(State(state): State<AppState>) -> impl IntoResponse {
    (
        [(CONTENT_TYPE, METRICS_MEDIA_TYPE)],
        state.service.metrics_text(),
    )
}
