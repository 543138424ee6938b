//! What is inside the binary, so that it works with no other file: a small model with its pin,
//! the prompt templates, the policy with its rules and the registry of models.
//!
//! The embedded model goes through the same check against its manifest as any other.

use anyhow::Context;
use postern_engine::{ModelManifest, VerifiedModel};
use postern_governance::{ModelRegistry, Policy, PromptLock, TemplateSet};

const MODEL: &[u8] = include_bytes!("../../../models/coffee/coffee-q8_0.gguf");
const MODEL_MANIFEST: &str = include_str!("../../../models/coffee/manifest.json");

const POLICY_NAME: &str = "policy.yaml";
const POLICY: &str = include_str!("../../../deploy/policy/policy.yaml");

const AUTHORIZATION: [(&str, &str); 1] = [(
    "authorization.cedar",
    include_str!("../../../deploy/policy/authorization.cedar"),
)];

/// As messages call it: nobody finds a file of this name.
const REGISTRY_NAME: &str = "the embedded models.yaml";
const REGISTRY: &str = include_str!("../../../deploy/policy/models.yaml");
const CARDS: [(&str, &str); 1] = [(
    "coffee-1.md",
    include_str!("../../../deploy/policy/coffee-1.md"),
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

/// The pin of the embedded model.
///
/// # Errors
/// The binary was put together wrongly.
pub(crate) fn manifest() -> anyhow::Result<ModelManifest> {
    serde_json::from_str(MODEL_MANIFEST).context("the embedded model's manifest")
}

/// The embedded model, checked against its pin.
///
/// # Errors
/// The binary was damaged or put together wrongly.
pub(crate) fn model(manifest: &ModelManifest) -> anyhow::Result<VerifiedModel> {
    VerifiedModel::from_embedded(MODEL, manifest).context("the embedded model")
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

/// The embedded policy.
///
/// # Errors
/// As a policy file.
pub(crate) fn policy() -> anyhow::Result<Policy> {
    Policy::from_sources(POLICY_NAME, POLICY, &AUTHORIZATION).context("the embedded policy")
}

/// The embedded registry of models, which holds the embedded model alone.
///
/// # Errors
/// As a registry file.
pub(crate) fn registry() -> anyhow::Result<ModelRegistry> {
    ModelRegistry::from_sources(REGISTRY_NAME, REGISTRY, CARDS).context("the embedded registry")
}
