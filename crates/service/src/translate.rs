//! One crate's words in another's: engine, governance and audit do not know
//! each other, so the service carries their plain data across.

use postern_audit as audit;
use postern_engine::{ChatMessage, EngineError, ModelInfo, Role};
use postern_governance::{self as governance, GovernedPrompt, Message, Redaction};

use crate::RefusalKind;
use crate::call::{AnswerRedaction, AnswerSource};
use crate::ledger::BudgetUse;
use crate::path::Arrival;

pub(crate) fn admitted(
    arrival: &Arrival,
    prompt: &GovernedPrompt,
    seed: u64,
    model: &ModelInfo,
    uses: &[BudgetUse],
) -> audit::Admitted {
    audit::Admitted {
        request_id: arrival.id.to_string(),
        identity: arrival.caller.identity.to_string(),
        token_id: Some(arrival.caller.token_id.to_string()),
        certificate_sha256: arrival
            .caller
            .certificate_sha256
            .clone()
            .unwrap_or_default(),
        model: audit::ModelRef {
            id: model.id.clone(),
            sha256: model.sha256.to_string(),
            tokenizer_sha256: model.tokenizer_sha256.to_string(),
            chat_template_sha256: model.chat_template_sha256.map(|digest| digest.to_string()),
        },
        template: audit::TemplateRef {
            id: prompt.template.id.clone(),
            sha256: prompt.template.sha256.clone(),
        },
        policy_sha256: prompt.policy_sha256.clone(),
        rules_sha256: prompt.rules_sha256.clone(),
        rules: prompt.rules.clone(),
        variables: prompt.variables.clone(),
        redactions: redactions(&prompt.redactions),
        injection_score: Some(prompt.validation.injection_score),
        parameters: audit::Parameters {
            max_tokens: prompt.max_tokens,
            temperature: prompt.temperature,
            seed,
            stream: arrival.call.stream,
        },
        budgets: uses.iter().map(budget_use).collect(),
    }
}

fn budget_use(budget: &BudgetUse) -> audit::BudgetUse {
    audit::BudgetUse {
        account: budget.account.to_string(),
        limit: budget.limit.as_str().to_owned(),
        allowed: budget.allowed,
        before: budget.before,
        after: budget.after,
    }
}

pub(crate) fn model_ref(model: &ModelInfo) -> governance::ModelRef {
    governance::ModelRef {
        id: model.id.clone(),
        sha256: model.sha256.to_string(),
    }
}

pub(crate) fn messages(messages: &[Message]) -> Vec<ChatMessage> {
    messages
        .iter()
        .map(|message| ChatMessage {
            role: match message.role {
                governance::Role::System => Role::System,
                governance::Role::User => Role::User,
            },
            content: message.content.clone(),
            fixed_bytes: message.fixed_bytes,
        })
        .collect()
}

pub(crate) fn redactions(redactions: &[Redaction]) -> Vec<audit::RedactionCount> {
    redactions
        .iter()
        .map(|redaction| audit::RedactionCount {
            variable: redaction.variable.clone(),
            rule: redaction.rule.clone(),
            count: redaction.count,
        })
        .collect()
}

pub(crate) fn answer_redactions(redactions: &[Redaction]) -> Vec<AnswerRedaction> {
    redactions
        .iter()
        .map(|redaction| AnswerRedaction {
            variable: redaction.variable.clone(),
            rule: redaction.rule.clone(),
            count: redaction.count,
        })
        .collect()
}

pub(crate) fn answering_model(model: &ModelInfo) -> AnswerSource {
    AnswerSource {
        id: model.id.clone(),
        sha256: model.sha256.to_string(),
    }
}

/// An engine's failure under its stable code, for records and metrics.
pub(crate) fn engine_failed(error: &EngineError) -> RefusalKind {
    let code = match error {
        EngineError::PromptEmpty => "prompt-empty",
        EngineError::ParameterInvalid { .. } => "parameter-invalid",
        EngineError::ChatTemplateMissing => "chat-template-missing",
        EngineError::ChatTemplate { .. } => "chat-template",
        EngineError::TextTooLong { .. } => "text-too-long",
        EngineError::UnknownToken { .. } => "tokenizer",
        EngineError::NonFiniteLogits { .. } => "non-finite-logits",
        EngineError::ConstraintFailed { .. } => "constraint-failed",
        EngineError::Backend { .. } => "backend",
        EngineError::Stopped => return RefusalKind::EngineStopped,
        _ => "engine-failed",
    };
    RefusalKind::EngineFailed { code }
}
