//! Every answer that is not a success: RFC 9457 problem details with fixed text.
//!
//! Invariant: what a caller is told is chosen here from fixed texts, plus names that have the form
//! of a name and numbers; nothing a caller sent as content is ever repeated. The one match over
//! [`RefusalKind`] has no wildcard arm, so that a new way to refuse a call cannot be forgotten.
//! Absent on purpose: inner error texts, which belong to the log and the audit record.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use postern_service::{
    AuthenticationError, Denial, LimitKey, NotReady, Refusal, RefusalKind, RequestFault, RequestId,
    Shortfall,
};
use serde::Serialize;

/// Media type of a problem (RFC 9457, section 3).
const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");
/// Prefix of a problem's `type`; its code follows.
const TYPE_PREFIX: &str = "urn:postern:problem:";
/// Why writing a document out cannot fail.
const SERIALIZES: &str = "strings and finite numbers serialize";
/// When to come back after 429: calls end within seconds.
const BUSY_RETRY_AFTER_S: u64 = 2;
/// When to come back after 503: a restart, or room on the disk.
const UNAVAILABLE_RETRY_AFTER_S: u64 = 30;

/// The problem document that the API answers a refused call with, for callers that reach the service
/// without HTTP.
#[must_use]
pub fn problem_document(refusal: &Refusal) -> serde_json::Value {
    let problem = Problem::from(refusal.clone());
    serde_json::to_value(problem.members(refusal.id)).expect(SERIALIZES)
}

/// One refusal, ready to be told. It travels as a response extension to the outermost middleware,
/// which alone writes it out, under the request's id.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    wording: Wording,
    facts: Facts,
    /// The call's name in the audit log, where there is one.
    instance: Option<RequestId>,
}

/// The fixed part: status, code, title, detail.
#[derive(Clone, Copy, Debug)]
struct Wording(StatusCode, &'static str, &'static str, &'static str);

/// What a program may want to act on; each member is left out where it does not apply.
#[derive(Clone, Debug, Default, Serialize)]
struct Facts {
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'static str>,
    /// Of what the operator wrote, for whoever may administer.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    review_status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    variable: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_max: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    minimum: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    maximum: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_tokens: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context_tokens: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    right: Option<&'static str>,
    #[serde(flatten)]
    limit: Option<LimitFacts>,
}

/// The numbers of a limit that does not allow a call.
#[derive(Clone, Debug, Serialize)]
struct LimitFacts {
    account: String,
    limit: &'static str,
    allowed: u64,
    used: u64,
    reserved: u64,
    asked: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_s: Option<u64>,
    /// When a day or month ends, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    resets_at: Option<Timestamp>,
}

/// The document of RFC 9457, section 3.1.
#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'static str,
    instance: String,
    #[serde(flatten)]
    facts: &'a Facts,
}

impl Problem {
    pub(crate) fn not_found() -> Self {
        Self::plain(Wording(
            StatusCode::NOT_FOUND,
            "route-unknown",
            "No such route",
            "This path leads nowhere; the routes are listed in the API description.",
        ))
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::plain(Wording(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "Method not allowed",
            "This path exists, but not with this method; see the Allow header.",
        ))
    }

    /// A defect of ours outside of any call, such as a panic in a handler.
    pub(crate) fn internal() -> Self {
        Self::plain(wording(&RefusalKind::Internal))
    }

    /// Why the service should get no calls at present.
    pub(crate) fn not_ready(reason: NotReady) -> Self {
        Self::plain(match reason {
            NotReady::ShuttingDown => wording(&RefusalKind::ShuttingDown),
            NotReady::AuditUnavailable => wording(&RefusalKind::AuditUnavailable),
            NotReady::BudgetUnavailable => wording(&RefusalKind::BudgetUnavailable),
            NotReady::EngineStopped => wording(&RefusalKind::EngineStopped),
        })
    }

    fn plain(wording: Wording) -> Self {
        Self {
            wording,
            facts: Facts::default(),
            instance: None,
        }
    }

    /// Names the field of the request at fault, which must be one of the API's own names.
    pub(crate) fn about(mut self, field: Option<&'static str>) -> Self {
        self.facts.field = field.or(self.facts.field);
        self
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.wording.0
    }

    pub(crate) fn code(&self) -> &'static str {
        self.wording.1
    }

    /// The call's name, or `request` where the problem is not of a call.
    pub(crate) fn instance_or(&self, request: RequestId) -> RequestId {
        self.instance.unwrap_or(request)
    }

    /// The JSON document, under the name that [`Problem::instance_or`] gives.
    pub(crate) fn document(&self, request: RequestId) -> String {
        serde_json::to_string(&self.members(request)).expect(SERIALIZES)
    }

    fn members(&self, request: RequestId) -> Document<'_> {
        let Wording(status, code, title, detail) = self.wording;
        Document {
            r#type: format!("{TYPE_PREFIX}{code}"),
            title,
            status: status.as_u16(),
            detail,
            instance: self.instance_or(request).to_string(),
            facts: &self.facts,
        }
    }

    /// The whole response, headers included.
    pub(crate) fn render(&self, request: RequestId) -> Response {
        let mut response = (self.status(), self.document(request)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, MEDIA_TYPE);
        match self.status() {
            StatusCode::UNAUTHORIZED => {
                let challenge = HeaderValue::from_static("Bearer realm=\"postern\"");
                headers.insert(WWW_AUTHENTICATE, challenge);
            }
            StatusCode::TOO_MANY_REQUESTS => {
                let limit = self.facts.limit.as_ref();
                let retry_after_s = limit.and_then(|limit| limit.retry_after_s);
                let retry_after_s = retry_after_s.unwrap_or(BUSY_RETRY_AFTER_S);
                headers.insert(RETRY_AFTER, retry_after_s.into());
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, UNAVAILABLE_RETRY_AFTER_S.into());
            }
            _ => {}
        }
        response
    }
}

/// Without text: the outermost middleware finds the problem among the extensions and renders it.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self {
            wording: wording(&refusal.kind),
            facts: facts(&refusal.kind),
            instance: Some(refusal.id),
        }
    }
}

fn wording(kind: &RefusalKind) -> Wording {
    match kind {
        RefusalKind::Unauthenticated(error) => authentication_wording(*error),
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

/// One text for every fault of a token, so that probing teaches nothing.
fn authentication_wording(error: AuthenticationError) -> Wording {
    match error {
        AuthenticationError::CertificateIdentity => Wording(
            StatusCode::FORBIDDEN,
            "certificate-identity",
            "The certificate names no identity",
            "The client certificate must hold exactly one URI of the form postern://identity/NAME.",
        ),
        AuthenticationError::TokenMissing
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
            "The body is not a call",
            "The body must be one JSON object in UTF-8 with the fields template, variables, max_tokens, temperature, seed and stream, of which only template is required; it is wrong at the given line and column.",
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

fn facts(kind: &RefusalKind) -> Facts {
    match *kind {
        RefusalKind::Denied(ref denial) => denial_facts(denial),
        RefusalKind::Malformed(RequestFault::Json { line, column }) => Facts {
            line: Some(line),
            column: Some(column),
            ..Facts::default()
        },
        RefusalKind::ContextOverflow {
            prompt_tokens,
            max_tokens,
            context_tokens,
        } => Facts {
            prompt_tokens: Some(prompt_tokens),
            max_tokens: Some(max_tokens),
            context_tokens: Some(context_tokens),
            ..Facts::default()
        },
        RefusalKind::DeadlineExceeded { deadline_s } => Facts {
            deadline_s: Some(deadline_s),
            ..Facts::default()
        },
        RefusalKind::RightMissing { right } => Facts {
            right: Some(right.as_str()),
            ..Facts::default()
        },
        RefusalKind::ReloadFailed { ref reason } => Facts {
            reason: Some(reason.clone()),
            ..Facts::default()
        },
        RefusalKind::ReviewClosed { status } => Facts {
            review_status: Some(status.as_str()),
            ..Facts::default()
        },
        RefusalKind::OverLimit {
            ref account,
            shortfall,
        } => Facts {
            limit: Some(LimitFacts {
                account: account.to_string(),
                limit: shortfall.limit.as_str(),
                allowed: shortfall.allowed,
                used: shortfall.used,
                reserved: shortfall.reserved,
                asked: shortfall.asked,
                retry_after_s: shortfall.retry_after_s,
                resets_at: shortfall
                    .resets_unix_s
                    .and_then(|unix_s| Timestamp::from_second(unix_s).ok()),
            }),
            ..Facts::default()
        },
        _ => Facts::default(),
    }
}

fn denial_facts(denial: &Denial) -> Facts {
    let mut facts = Facts {
        field: denial.field(),
        variable: denial.variable().map(str::to_owned),
        ..Facts::default()
    };
    match *denial {
        Denial::VariableOversized {
            bytes, bytes_max, ..
        } => {
            facts.bytes = Some(bytes);
            facts.bytes_max = Some(bytes_max);
        }
        Denial::ParameterOutOfRange {
            minimum, maximum, ..
        } => {
            facts.minimum = Some(minimum);
            facts.maximum = Some(maximum);
        }
        Denial::PromptOversized { bytes_max } => facts.bytes_max = Some(bytes_max),
        _ => {}
    }
    facts
}
