//! What is inside the binary, so that it works with no other file: a small model with its pin,
//! the prompt templates, and the policy with its rules.
//!
//! The embedded model goes through the same check against its manifest as any other.

use anyhow::Context;
use postern_engine::{ModelManifest, VerifiedModel};
use postern_governance::{ModelRef, Policy, PromptLock, TemplateSet};

const MODEL: &[u8] = include_bytes!("../../../models/coffee/coffee-q8_0.gguf");
const MODEL_MANIFEST: &str = include_str!("../../../models/coffee/manifest.json");

const POLICY_NAME: &str = "policy.yaml";
const POLICY: &str = include_str!("../../../deploy/policy/policy.yaml");

const AUTHORIZATION: [(&str, &str); 1] = [(
    "authorization.cedar",
    include_str!("../../../deploy/policy/authorization.cedar"),
)];

const LOCK: &str = include_str!("../../../deploy/prompts/prompts.lock");

const PROMPTS: [(&str, &str); 3] = [
    (
        "coffee.v1.yaml",
        include_str!("../../../deploy/prompts/coffee.v1.yaml"),
    ),
    (
        "impl-test-gen.v1.yaml",
        include_str!("../../../deploy/prompts/impl-test-gen.v1.yaml"),
    ),
    (
        "triage.v1.yaml",
        include_str!("../../../deploy/prompts/triage.v1.yaml"),
    ),
];

/// The embedded model, checked against its pin.
///
/// # Errors
/// The binary was damaged or put together wrongly.
pub(crate) fn model() -> anyhow::Result<VerifiedModel> {
    let manifest: ModelManifest =
        serde_json::from_str(MODEL_MANIFEST).context("the embedded model's manifest")?;
    VerifiedModel::from_embedded(MODEL, &manifest).context("the embedded model")
}

/// Bytes of the embedded model.
pub(crate) fn model_bytes() -> u64 {
    MODEL.len() as u64
}

/// The embedded templates.
///
/// # Errors
/// As the templates of a folder with its lock.
pub(crate) fn templates() -> anyhow::Result<TemplateSet> {
    let lock = PromptLock::from_source(LOCK).context("the embedded lock of templates")?;
    TemplateSet::from_locked_sources(PROMPTS, &lock).context("the embedded templates")
}

/// The name and the digest of the embedded model, without its weights.
///
/// # Errors
/// The binary was put together wrongly.
pub(crate) fn model_ref() -> anyhow::Result<ModelRef> {
    let manifest: ModelManifest =
        serde_json::from_str(MODEL_MANIFEST).context("the embedded model's manifest")?;
    Ok(ModelRef {
        id: manifest.id,
        sha256: manifest.sha256.to_string(),
    })
}

/// The embedded policy.
///
/// # Errors
/// As a policy file.
pub(crate) fn policy() -> anyhow::Result<Policy> {
    Policy::from_sources(POLICY_NAME, POLICY, &AUTHORIZATION).context("the embedded policy")
}
