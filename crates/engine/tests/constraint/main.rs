//! Output held to JSON Schemas: through the engine with tiny models, and token by token over vocabularies.

#[path = "../made_vocabulary/mod.rs"]
mod made_vocabulary;

mod generated;
mod hostile;
mod schemas;
mod walked;

use serde_json::Value;

/// Why `text` is not what `schema` asks for, if so.
fn fault(schema: &Value, text: &str) -> Option<String> {
    let validator = jsonschema::validator_for(schema).expect("a valid schema");
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => return Some(format!("{text:?} is no JSON: {error}")),
    };
    let error = validator.validate(&value).err()?;
    Some(format!("{text:?} does not validate: {error}"))
}
