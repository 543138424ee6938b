//! Decides on every call, and does nothing.
//!
//! Templates, policy, redaction rules and the registry of models are loaded together as a
//! [`RuleSet`]; [`decide`] turns a [`CallRequest`] into [`Decision::Allow`] with everything that may
//! now happen, or [`Decision::Deny`] with the reason. [`OutputFilter`] applies the same redaction
//! rules to what the model writes.
//!
//! Invariant: what is not allowed by name is denied, and no text of a caller reaches a
//! [`GovernedPrompt`] unsanitized.
//!
//! Absent on purpose: clock, randomness, network, logging, and any IO but the explicit `load`
//! constructors. The same rules and the same request always give the same decision.

mod authorization;
mod body;
mod canonical;
mod decision;
mod denial;
mod error;
mod fence;
mod injection;
mod limits;
mod lock;
mod names;
mod output_filter;
mod output_record;
mod policy;
mod prompt_test;
mod redteam;
mod registry;
mod review;
mod rules;
mod sanitizer;
mod schema;
mod screening;
mod source;
mod special_text;
mod template;
mod template_file;
mod template_set;
mod variable;

pub use authorization::{
    AUTHORIZATION_RULES_MAX, AUTHORIZATION_SCHEMA, Circumstances, DecidingRule, Question, Right,
    Validation, Verdict,
};
pub use body::{BODY_BYTES_MAX, RENDER_FUEL_MAX, RENDERED_BYTES_MAX};
pub use decision::{
    CallRequest, Decision, Filled, GovernedPrompt, Message, ModelRef, Role, SCOPES_MAX, Source,
    TEMPERATURE_MAX, TemplateRef, decide, preview,
};
pub use denial::{Denial, DenialClass};
pub use error::GovernanceError;
pub use fence::FenceKey;
pub use injection::{Assessment, LANGUAGES, LEVEL_SCORES, Level, Signal, TEXT_BYTES_MAX, assess};
pub use limits::{
    Account, AccountInvalid, Adjustment, AppliedLimits, Budget, Crossing, LIMIT_MAX, LimitKey,
    Limits, Meter, Reservation, Shortfall, Span, Spending, WARN_PERCENT_DEFAULT,
};
pub use lock::{LOCK_FILE, LockRecord, LockState, PromptLock};
pub use names::{Identity, NAME_BYTES_MAX, RoleName, TemplateId, UseCase};
pub use output_filter::OutputFilter;
pub use output_record::OutputRecord;
pub use policy::{AUTHORIZATION_FILES_MAX, Action, Grant, Policy, ROLES_MAX};
pub use prompt_test::{
    CheckFailure, PromptCase, PromptTests, RECORDING_BYTES_MAX, RecordedCase, RecordedOutput,
    Recording, TESTS_MAX, prompt_text, similarity,
};
pub use redteam::{Judged, RedTeamReport, RedTeamSet};
pub use registry::{
    CARD_BYTES_MAX, LIMITATIONS_MAX, MODELS_MAX, ModelEntry, ModelRegistry, USES_MAX,
};
pub use review::{REVIEW_HOURS_DEFAULT, REVIEW_HOURS_MAX, ReviewPlan, ReviewReason};
pub use rules::RuleSet;
pub use sanitizer::{
    CONFIDENCE_MIN_DEFAULT, Finding, HOLD_BACK_CHARS_MAX, Mode, Modes, PATTERN_BYTES_MAX,
    PRIVATE_KEY_BLOCK_BYTES_MAX, PROGRAM_BYTES_MAX, Place, RULES_MAX, RedactionCount, RuleClass,
    RuleInfo, Sanitized, SanitizedStream, Sanitizer, Settings,
};
pub use schema::{OUTPUT_NESTING_MAX, Schema, TEMPLATE_SCHEMA_BYTES_MAX};
pub use source::{SOURCE_BYTES_MAX, SOURCE_NESTING_MAX, SOURCE_NODES_MAX};
pub use template::{MAX_TOKENS_LIMIT, Redaction, Risk, Template};
pub use template_set::{TEMPLATES_MAX, TemplateFolder, TemplateSet};
pub use variable::{
    DataClass, Fence, Trust, VARIABLE_BYTES_DEFAULT, VARIABLE_BYTES_LIMIT, VARIABLES_MAX,
    VariableSpec, WORD_CHARS_MAX,
};
