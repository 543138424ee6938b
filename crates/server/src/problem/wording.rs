//! The fixed texts that callers are told.
//!
//! Invariant: no match has a wildcard arm, so that a new way to refuse a call cannot be forgotten.

use axum::http::StatusCode;
use postern_service::{
    AuthenticationError, Denial, LimitKey, RefusalKind, RequestFault, Shortfall,
};

/// The fixed part: status, code, title, detail.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wording(
    pub(super) StatusCode,
    pub(super) &'static str,
    pub(super) &'static str,
    pub(super) &'static str,
);

pub(super) fn wording(kind: &RefusalKind) -> Wording {
    match kind {
        RefusalKind::Unauthenticated(error) => authentication_wording(error),
        RefusalKind::Malformed(fault) => fault_wording(*fault),
        RefusalKind::Denied(denial) => denial_wording(denial),
        RefusalKind::Busy => Wording(
            StatusCode::TOO_MANY_REQUESTS,
            "busy",
            "Too many calls",
            "As many calls are running and waiting as may; try again after the time in Retry-After.",
        ),
        RefusalKind::OverLimit { shortfall, .. } => limit_wording(shortfall),
        RefusalKind::RightMissing { .. } => Wording(
            StatusCode::FORBIDDEN,
            "right-missing",
            "The right for this is missing",
            "This needs a token with the named right, and a rule of the policy that gives it to the identity.",
        ),
        RefusalKind::BudgetUnknown => Wording(
            StatusCode::NOT_FOUND,
            "budget-unknown",
            "No such budget",
            "The policy gives this account no tokens a day or month; GET /v1/budgets lists the accounts.",
        ),
        RefusalKind::BudgetUnavailable => Wording(
            StatusCode::SERVICE_UNAVAILABLE,
            "budget-unavailable",
            "The ledger of budgets cannot be written",
            "What is left of the budgets cannot be read or written, so no call that has one is answered; the operator must make room or repair the disk, and start the service again.",
        ),
        RefusalKind::ReloadFailed { .. } => Wording(
            StatusCode::UNPROCESSABLE_ENTITY,
            "reload-failed",
            "The rules were not reloaded",
            "Something is wrong with the templates, the policy or the registry; reason says what and where. The old ones stay in force.",
        ),
        RefusalKind::ReviewUnknown => Wording(
            StatusCode::NOT_FOUND,
            "review-unknown",
            "No such held output",
            "There is no held output of this id that you made or may decide on; GET /v1/reviews lists those there are.",
        ),
        RefusalKind::ReviewOwn => Wording(
            StatusCode::FORBIDDEN,
            "review-own",
            "The call is your own",
            "Nobody decides on the output of a call of their own; somebody else has to.",
        ),
        RefusalKind::ReviewClosed { .. } => Wording(
            StatusCode::CONFLICT,
            "review-closed",
            "It is decided already",
            "The held output is not pending any more; review_status says where it stands.",
        ),
        RefusalKind::ReviewWhy => Wording(
            StatusCode::UNPROCESSABLE_ENTITY,
            "review-why",
            "A decision needs a reason",
            "Say why, in 1 to 1000 bytes; it is recorded with the decision.",
        ),
        RefusalKind::ReviewUnavailable => Wording(
            StatusCode::SERVICE_UNAVAILABLE,
            "review-unavailable",
            "No output can be held",
            "The policy may want a person to look at the output, and no output can be kept for that; the operator must give the service a ledger, or repair it.",
        ),
        RefusalKind::ReviewQueueFull => Wording(
            StatusCode::SERVICE_UNAVAILABLE,
            "review-queue-full",
            "Too many outputs are held",
            "As many held outputs are kept as may be, so this one was thrown away; they make room when they are rejected or expire.",
        ),
        RefusalKind::ProofUnknown => Wording(
            StatusCode::NOT_FOUND,
            "proof-unknown",
            "No such record of yours",
            "A proof is given for a record of a call of your own, with the ticket that its answer has in audit.",
        ),
        RefusalKind::CheckpointForeign => Wording(
            StatusCode::UNPROCESSABLE_ENTITY,
            "checkpoint-foreign",
            "Not a checkpoint of this log",
            "What was sent is not a checkpoint that this device signed for its audit log; send the note as it was, with its last line.",
        ),
        RefusalKind::ContextOverflow { .. } => Wording(
            StatusCode::UNPROCESSABLE_ENTITY,
            "context-overflow",
            "Prompt and answer exceed the context",
            "Prompt and answer do not fit into the model's context together; send shorter variables or a smaller max_tokens.",
        ),
        RefusalKind::DeadlineExceeded { .. } => Wording(
            StatusCode::GATEWAY_TIMEOUT,
            "deadline-exceeded",
            "The call took too long",
            "The call was not done within its deadline and was cut; ask for fewer tokens or try again when less is running.",
        ),
        RefusalKind::ShuttingDown => Wording(
            StatusCode::SERVICE_UNAVAILABLE,
            "shutting-down",
            "Shutting down",
            "The service is shutting down; try again after the time in Retry-After.",
        ),
        RefusalKind::AuditUnavailable => Wording(
            StatusCode::SERVICE_UNAVAILABLE,
            "audit-unavailable",
            "The audit log cannot be written",
            "No audit record could be written, so there is no answer; the operator must make room or repair the disk.",
        ),
        RefusalKind::ClientGone => Wording(
            StatusCode::BAD_REQUEST,
            "client-gone",
            "The client went away",
            "The client went away before the call was done.",
        ),
        RefusalKind::EngineStopped => Wording(
            StatusCode::SERVICE_UNAVAILABLE,
            "engine-stopped",
            "The engine has stopped",
            "No model runs any more, and none will until the service is started again.",
        ),
        RefusalKind::EngineFailed { .. } => Wording(
            StatusCode::INTERNAL_SERVER_ERROR,
            "engine-failed",
            "The engine failed",
            "The model could not answer this call; the cause is in the service's log, under the id in instance.",
        ),
        RefusalKind::OutputInvalid { .. } => Wording(
            StatusCode::BAD_GATEWAY,
            "output-invalid",
            "The output does not keep to its schema",
            "What the model wrote is not the JSON that the template asks for; do not use it. A larger max_tokens or a better model may help.",
        ),
        RefusalKind::Internal => Wording(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Internal fault",
            "A defect ended this request; the cause is in the service's log, under the id in instance.",
        ),
    }
}

/// One text for every fault of a token, so that probing teaches nothing. A handshake that failed has no answer.
fn authentication_wording(error: &AuthenticationError) -> Wording {
    match error {
        AuthenticationError::CertificateIdentity => Wording(
            StatusCode::FORBIDDEN,
            "certificate-identity",
            "The certificate names no identity",
            "The client certificate must hold exactly one URI of the form postern://identity/NAME.",
        ),
        AuthenticationError::Handshake { .. }
        | AuthenticationError::TokenMissing
        | AuthenticationError::TokenMalformed
        | AuthenticationError::TokenSignature
        | AuthenticationError::TokenNotYetValid
        | AuthenticationError::TokenExpired
        | AuthenticationError::TokenOfOtherIdentity => Wording(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            "A valid token is needed",
            "Send Authorization: Bearer with a token that is valid now and names the identity of the client certificate.",
        ),
    }
}

fn fault_wording(fault: RequestFault) -> Wording {
    match fault {
        RequestFault::BodyTooLarge => Wording(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body-too-large",
            "The body is too large",
            "The request's body is longer than this server takes; send shorter variables.",
        ),
        RequestFault::BodyTimeout => Wording(
            StatusCode::REQUEST_TIMEOUT,
            "body-timeout",
            "The body came too slowly",
            "The request's body did not arrive in time.",
        ),
        RequestFault::BodyIncomplete => Wording(
            StatusCode::BAD_REQUEST,
            "body-incomplete",
            "The body broke off",
            "The request's body ended before its announced length.",
        ),
        RequestFault::ContentType => Wording(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "content-type",
            "The body must be JSON",
            "Send Content-Type: application/json, in UTF-8.",
        ),
        RequestFault::Json { .. } => Wording(
            StatusCode::BAD_REQUEST,
            "body-malformed",
            "The body is not what this route takes",
            "The body must be one JSON object in UTF-8 with the fields that the API description names for this route, and no others; it is wrong at the given line and column.",
        ),
    }
}

/// By what helps. A call that is larger than the whole limit is no case of 429: later it is still too large.
fn limit_wording(shortfall: &Shortfall) -> Wording {
    let status = StatusCode::TOO_MANY_REQUESTS;
    if shortfall.retry_after_s.is_none() {
        return Wording(
            StatusCode::UNPROCESSABLE_ENTITY,
            "call-over-limit",
            "The call is larger than its limit",
            "The call asks for more than the named limit allows altogether, so it can never pass; send shorter variables or a smaller max_tokens.",
        );
    }
    match shortfall.limit {
        LimitKey::RequestsPerMinute | LimitKey::TokensPerMinute => Wording(
            status,
            "rate-limited",
            "Too many calls or tokens in a minute",
            "The named limit has too little left of this minute; try again after the time in Retry-After.",
        ),
        LimitKey::ConcurrentCalls => Wording(
            status,
            "too-many-calls",
            "Too many calls at once",
            "As many calls of the named account are running and waiting as may; try again after the time in Retry-After.",
        ),
        LimitKey::TokensPerDay | LimitKey::TokensPerMonth | LimitKey::PromptTokens => Wording(
            status,
            "budget-exhausted",
            "The budget is used up",
            "The named budget has too little left for this call; try again after the time in Retry-After, or with a smaller max_tokens.",
        ),
    }
}

fn denial_wording(denial: &Denial) -> Wording {
    match denial {
        Denial::UnknownIdentity { .. } => Wording(
            StatusCode::FORBIDDEN,
            "unknown-identity",
            "The policy does not know this identity",
            "The policy allows nothing to this identity; the operator must add it.",
        ),
        Denial::TemplateUnknown { .. } => Wording(
            StatusCode::NOT_FOUND,
            "template-unknown",
            "No such template",
            "There is no template of this id; GET /v1/templates lists those you may use.",
        ),
        Denial::TokenScope { .. } => Wording(
            StatusCode::FORBIDDEN,
            "token-scope",
            "The token does not allow this template",
            "The token was not issued for this template; use one that was.",
        ),
        Denial::TemplateNotAllowed { .. } => Wording(
            StatusCode::FORBIDDEN,
            "template-not-allowed",
            "The policy does not allow this template",
            "The policy does not let this identity use this template.",
        ),
        Denial::ForbiddenByRule { .. } => Wording(
            StatusCode::FORBIDDEN,
            "forbidden-by-rule",
            "A rule of the policy forbids it",
            "A rule of the policy forbids this identity to use this template now; the operator can say which, by the request id.",
        ),
        Denial::RuleFailed { .. } => Wording(
            StatusCode::FORBIDDEN,
            "rule-failed",
            "A rule of the policy cannot be evaluated",
            "The policy has a rule that fails for this call, so nothing is allowed; the operator must mend it.",
        ),
        Denial::ModelUnregistered { .. } => Wording(
            StatusCode::FORBIDDEN,
            "model-unregistered",
            "The model is not registered",
            "The registry of models does not know the model that would answer; the operator must register it.",
        ),
        Denial::ModelMismatch { .. } => Wording(
            StatusCode::FORBIDDEN,
            "model-mismatch",
            "The model is not the registered one",
            "The registry of models has the model that would answer with another SHA-256; the operator must restore its file or register it.",
        ),
        Denial::ModelRisk { .. } => Wording(
            StatusCode::FORBIDDEN,
            "model-risk",
            "The model's risk is not approved",
            "The risk of the model that would answer is above the highest that is approved; the operator must serve another model.",
        ),
        Denial::ModelUse { .. } => Wording(
            StatusCode::FORBIDDEN,
            "model-use",
            "The model is not meant for this template",
            "The registry of models has the model that would answer for other uses than this template's; GET /v1/templates lists those you may use.",
        ),
        Denial::VariableMissing { .. } => Wording(
            StatusCode::UNPROCESSABLE_ENTITY,
            "variable-missing",
            "A variable is missing",
            "The template needs the named variable; send it in variables.",
        ),
        Denial::VariableUnknown { .. } => Wording(
            StatusCode::UNPROCESSABLE_ENTITY,
            "variable-unknown",
            "Unknown variable",
            "The template has no variable of this name; remove it from variables.",
        ),
        Denial::VariableOversized { .. } => Wording(
            StatusCode::UNPROCESSABLE_ENTITY,
            "variable-oversized",
            "A variable is too long",
            "The named variable has more bytes than the template allows; shorten it.",
        ),
        Denial::VariableControlCharacter { .. } => Wording(
            StatusCode::UNPROCESSABLE_ENTITY,
            "variable-control-character",
            "A variable holds a control character",
            "The named variable may hold no control character but tab, line feed and carriage return.",
        ),
        Denial::SensitiveContent { .. } => Wording(
            StatusCode::UNPROCESSABLE_ENTITY,
            "sensitive-content",
            "A variable holds sensitive data",
            "The named variable holds a secret or personal data that the policy lets nobody send; take it out.",
        ),
        Denial::InvisibleCharacters { .. } => Wording(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invisible-characters",
            "A variable holds invisible characters",
            "The named variable holds characters that nobody sees; send it without them.",
        ),
        Denial::InjectionRefused { .. } => Wording(
            StatusCode::FORBIDDEN,
            "injection-refused",
            "A variable looks like instructions to the model",
            "The named variable looks like instructions to the model, and the policy refuses that.",
        ),
        Denial::VariableSchema { .. } => Wording(
            StatusCode::UNPROCESSABLE_ENTITY,
            "variable-schema",
            "A variable breaks its schema",
            "The named variable does not keep to the JSON Schema that the template gives it; GET /v1/templates shows it.",
        ),
        Denial::ParameterOutOfRange { .. } => Wording(
            StatusCode::UNPROCESSABLE_ENTITY,
            "parameter-out-of-range",
            "A parameter is out of range",
            "The named field must lie between minimum and maximum.",
        ),
        Denial::PromptOversized { .. } => Wording(
            StatusCode::UNPROCESSABLE_ENTITY,
            "prompt-oversized",
            "The prompt is too long",
            "The template filled in with these variables is too long; shorten them.",
        ),
        Denial::RenderFailed { .. } => Wording(
            StatusCode::UNPROCESSABLE_ENTITY,
            "render-failed",
            "The template cannot be filled in",
            "The template cannot be filled in with these variables.",
        ),
    }
}
