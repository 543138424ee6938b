//! `/v1/reviews`: outputs that wait for a person, and the decision on them.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::{Extension, Json};
use postern_service::{Caller, RefusalKind, RequestId, ReviewDecision, ReviewReport};
use serde::{Deserialize, Serialize};

use crate::problem::Problem;
use crate::request_body::read_json;
use crate::routes::AppState;

#[derive(Serialize)]
pub(crate) struct Reviews {
    reviews: Vec<ReviewReport>,
}

/// Body of `PUT /v1/reviews/{id}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    decision: Decision,
    why: String,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Decision {
    Approve,
    Reject,
}

/// `GET /v1/reviews`: the held outputs that this caller made or may decide on.
pub(crate) async fn all(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Reviews>, Problem> {
    let reviews = state.service.reviews(&caller).await?;
    Ok(Json(Reviews { reviews }))
}

/// `GET /v1/reviews/{id}`: one of them.
pub(crate) async fn one(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<ReviewReport>, Problem> {
    let id = known(&state, &caller, id).await?;
    Ok(Json(state.service.review(&caller, id).await?))
}

/// `PUT /v1/reviews/{id}`: releases or rejects it.
pub(crate) async fn decide(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Json<ReviewReport>, Problem> {
    let id = known(&state, &caller, id).await?;
    let body: Body = match read_json(request, state.body_limits).await {
        Ok(body) => body,
        Err(fault) => {
            let kind = RefusalKind::Malformed(fault);
            let by = caller.requester();
            return Err(state.service.refuse(&by, kind).await.into());
        }
    };
    let verdict = ReviewDecision {
        approve: body.decision == Decision::Approve,
        why: body.why,
    };
    let decided = state.service.decide_review(&caller, id, verdict).await?;
    Ok(Json(decided))
}

/// The id in the path, if it has the form of one.
async fn known(
    state: &AppState,
    caller: &Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<RequestId, Problem> {
    if let Some(id) = id.ok().and_then(|Path(id)| id.parse().ok()) {
        return Ok(id);
    }
    let by = caller.requester();
    let refusal = state.service.refuse(&by, RefusalKind::ReviewUnknown);
    Err(refusal.await.into())
}
