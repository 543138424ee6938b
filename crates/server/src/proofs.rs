//! `/v1/audit`: proofs about the audit log, which show nothing of what its records say.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, Request, State};
use axum::{Extension, Json};
use postern_service::{Caller, ProofDocument, RefusalKind};
use serde::Deserialize;

use crate::problem::Problem;
use crate::request_body::read_json;
use crate::routes::AppState;

/// Body of `POST /v1/audit/consistency`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    checkpoint: String,
}

/// `GET /v1/audit/{index}/proof?ticket=TICKET`: that a record is in the log, for whoever made its call.
pub(crate) async fn inclusion(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    index: Result<Path<u64>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Json<ProofDocument>, Problem> {
    let service = &state.service;
    // A ticket has no character that a query would write in another way.
    let ticket = query
        .as_deref()
        .and_then(|query| query.strip_prefix("ticket="));
    let (Ok(Path(index)), Some(ticket)) = (index, ticket) else {
        let by = caller.requester();
        return Err(service.refuse(&by, RefusalKind::ProofUnknown).await.into());
    };
    let proof = service
        .inclusion_proof(&caller, index, ticket.to_owned())
        .await?;
    Ok(Json(proof))
}

/// `POST /v1/audit/consistency`: that the log goes on from an older checkpoint.
pub(crate) async fn consistency(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Json<ProofDocument>, Problem> {
    let body: Body = match read_json(request, state.body_limits).await {
        Ok(body) => body,
        Err(fault) => {
            let kind = RefusalKind::Malformed(fault);
            let by = caller.requester();
            return Err(state.service.refuse(&by, kind).await.into());
        }
    };
    Ok(Json(
        state
            .service
            .consistency_proof(&caller, body.checkpoint)
            .await?,
    ))
}
