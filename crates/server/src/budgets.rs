//! `/v1/budgets`: what accounts have left, and setting it.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::{Extension, Json};
use postern_service::{Account, Adjustment, BudgetChange, BudgetReport, Caller, RefusalKind};
use serde::{Deserialize, Serialize};

use crate::problem::Problem;
use crate::request_body::read_json;
use crate::routes::AppState;

#[derive(Serialize)]
pub(crate) struct Budgets {
    budgets: Vec<BudgetReport>,
}

/// Body of `PUT /v1/budgets/{account}`: figures of the running day and month; those that are left out stay.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Figures {
    day_used: Option<u64>,
    day_grant: Option<u64>,
    month_used: Option<u64>,
    month_grant: Option<u64>,
}

/// `GET /v1/budgets`: the accounts that this caller's calls are counted with, or all of them for
/// whoever may administer.
pub(crate) async fn all(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Budgets>, Problem> {
    let budgets = state.service.budgets(&caller).await?;
    Ok(Json(Budgets { budgets }))
}

/// `PUT /v1/budgets/{kind}/{name}`, such as `/v1/budgets/identity/kiosk`.
pub(crate) async fn set(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Result<Json<BudgetReport>, Problem> {
    let service = &state.service;
    let by = caller.requester();
    let named = path.map(|Path((kind, name))| format!("{kind}/{name}").parse::<Account>());
    let Ok(Ok(account)) = named else {
        return Err(service.refuse(&by, RefusalKind::BudgetUnknown).await.into());
    };
    let figures: Figures = match read_json(request, state.body_limits).await {
        Ok(figures) => figures,
        Err(fault) => {
            let kind = RefusalKind::Malformed(fault);
            return Err(service.refuse(&by, kind).await.into());
        }
    };
    let change = BudgetChange {
        account,
        day: Adjustment {
            used: figures.day_used,
            granted: figures.day_grant,
        },
        month: Adjustment {
            used: figures.month_used,
            granted: figures.month_grant,
        },
    };
    Ok(Json(service.set_budget(&caller, change).await?))
}
