//! Registries of models, for tests that serve models of their own.

use std::fs;
use std::path::{Path, PathBuf};

use postern_governance::ModelRegistry;
use serde_json::Value;

/// Name of the card that every entry here has.
const CARD_NAME: &str = "test-model.md";
const CARD: &str = "# A model of a test\n\nIt says what the test made it to say.\n";

/// A registry of one model, which approves risks up to medium. `uses` are separated by commas.
///
/// # Panics
/// The registry is not what `postern-governance` accepts, so that no test could go on.
#[must_use]
pub fn registry(id: &str, sha256: &str, risk: &str, uses: &str) -> ModelRegistry {
    let source = source(id, sha256, risk, uses);
    ModelRegistry::from_sources("models.yaml", &source, [(CARD_NAME, CARD)])
        .expect("a valid registry")
}

/// Writes `models.yaml` and a card beside a manifest: its model may answer every template.
///
/// # Panics
/// The manifest cannot be read, or the files cannot be written.
pub fn write_registry(manifest: &Path) -> PathBuf {
    let pin = fs::read(manifest).expect("a manifest");
    let pin: Value = serde_json::from_slice(&pin).expect("a manifest in JSON");
    let text = |field: &str| pin[field].as_str().expect("a field of the manifest");
    let file = manifest.with_file_name("models.yaml");
    let source = source(text("id"), text("sha256"), "low", "any");
    fs::write(&file, source).expect("a registry");
    fs::write(manifest.with_file_name(CARD_NAME), CARD).expect("a card");
    file
}

fn source(id: &str, sha256: &str, risk: &str, uses: &str) -> String {
    format!(
        "version: 1\napproved_risk: medium\nmodels:\n  - id: {id}\n    version: \"1\"\n    \
         provider: a test\n    sha256: \"{sha256}\"\n    intended_uses: [{uses}]\n    \
         limitations: [Made for a test]\n    data_provenance: none\n    licence: Apache-2.0\n    \
         risk: {risk}\n    card: {CARD_NAME}\n"
    )
}
