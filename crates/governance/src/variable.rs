//! What a template demands of one variable, and how its text gets into the prompt.
//!
//! A variable that is not declared `trusted` is *untrusted*: its text is data for the model. It is
//! written between marks that it cannot contain ([`crate::fence`]), and what looks like a special
//! token in it is made plain ([`crate::special_text`]). Two kinds of untrusted text need no marks:
//!
//! - what its schema makes harmless: one of the template's own values (`enum`, `const`), a number
//!   or boolean, or a single word, by a `pattern` that is anchored at both ends and matches
//!   letters, digits and `+ # . _ / -` only, with a `maxLength` of at most [`WORD_CHARS_MAX`];
//! - with `fence: message`, the text that is a whole message by itself: the beginning and the end
//!   of a message are special tokens, which no text can become.
//!
//! Absent: the text itself; see [`crate::decide`].

use regex_syntax::hir::{Hir, HirKind, Look};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::canonical::Canonical;
use crate::schema::Schema;

/// Bound of a variable that its template does not declare, in bytes.
pub const VARIABLE_BYTES_DEFAULT: usize = 16 * 1024;
/// Largest bound that a template may give a variable, in bytes.
pub const VARIABLE_BYTES_LIMIT: usize = 256 * 1024;
/// Most variables of a template.
pub const VARIABLES_MAX: usize = 32;
/// Longest text that can be a harmless word, in characters.
pub const WORD_CHARS_MAX: u64 = 64;
/// Longest variable name, in bytes.
pub(crate) const VARIABLE_NAME_BYTES_MAX: usize = 64;

/// Whether a variable's text may give the model instructions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trust {
    /// As the template itself: written as it is.
    Trusted,
    /// Data: marked as such, and without spellings of special tokens.
    #[default]
    Untrusted,
}

/// What kind of data a variable may carry.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum DataClass {
    /// Everybody may know it.
    Public,
    /// For those who work here.
    #[default]
    Internal,
    /// For those who need it.
    Confidential,
    /// About people.
    Personal,
}

impl DataClass {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [
        Self::Public,
        Self::Internal,
        Self::Confidential,
        Self::Personal,
    ];

    /// The name in files.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Internal => "internal",
            Self::Confidential => "confidential",
            Self::Personal => "personal",
        }
    }
}

/// What bounds the untrusted text of a variable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fence {
    /// A line before and a line behind it, with a number that it does not contain.
    #[default]
    Marks,
    /// The message, of which it is all.
    Message,
}

/// How a variable's text is written, from the least to the most careful.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Writing {
    /// As it is.
    Verbatim,
    /// Without spellings of special tokens.
    Plain,
    /// So, and as a whole message only.
    Message,
    /// So, and between marks.
    Fenced,
}

/// What a template demands of one variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct VariableSpec {
    /// What belongs in it.
    pub description: String,
    /// JSON Schema of its value; a variable without one may be any text.
    pub schema: Option<Schema>,
    /// Longest value, in bytes of UTF-8.
    pub bytes_max: usize,
    /// Whether a call without it is refused.
    pub required: bool,
    /// Value of an optional variable that a call leaves out; without one, the empty string.
    pub default: Option<String>,
    /// Whether its text may give instructions.
    pub trust: Trust,
    /// Why it is trusted; there if and only if it is.
    pub trust_reason: Option<String>,
    /// What kind of data it may carry.
    pub data_class: DataClass,
    /// What bounds its text, if that is untrusted and not harmless by its schema.
    pub fence: Fence,
}

impl VariableSpec {
    /// Any text of the default length, which nobody described.
    pub(crate) fn undeclared() -> Self {
        Self {
            description: String::new(),
            schema: None,
            bytes_max: VARIABLE_BYTES_DEFAULT,
            required: true,
            default: None,
            trust: Trust::default(),
            trust_reason: None,
            data_class: DataClass::default(),
            fence: Fence::default(),
        }
    }

    /// Whether its text is written between marks.
    #[must_use]
    pub fn is_marked(&self) -> bool {
        self.writing() == Writing::Fenced
    }

    pub(crate) fn writing(&self) -> Writing {
        let schema = self.schema.as_ref();
        match (self.trust, self.fence) {
            (Trust::Trusted, _) => Writing::Verbatim,
            _ if schema.is_some_and(|schema| is_harmless(schema.json())) => Writing::Plain,
            (Trust::Untrusted, Fence::Message) => Writing::Message,
            (Trust::Untrusted, Fence::Marks) => Writing::Fenced,
        }
    }

    /// The keyword of the schema that a value breaks, if it breaks one.
    ///
    /// Values are texts. Where the schema asks for a number or a boolean, the text is read as one.
    pub(crate) fn broken_keyword(&self, text: &str) -> Option<&'static str> {
        let schema = self.schema.as_ref()?;
        let value = match schema.json().get("type").and_then(Value::as_str) {
            None | Some("string") => Value::String(text.to_owned()),
            Some(_) => match serde_json::from_str(text) {
                Ok(value @ (Value::Number(_) | Value::Bool(_))) => value,
                _ => return Some("type"),
            },
        };
        schema.broken_by(&value).map(|(keyword, _)| keyword)
    }

    pub(crate) fn canonical(&self) -> Canonical {
        let schema = self.schema.as_ref();
        let schema = schema.map_or(Canonical::Null, |schema| {
            Canonical::Json(schema.json().clone())
        });
        let trust = match self.trust {
            Trust::Trusted => "trusted",
            Trust::Untrusted => "untrusted",
        };
        let data_class = match self.data_class {
            DataClass::Public => "public",
            DataClass::Internal => "internal",
            DataClass::Confidential => "confidential",
            DataClass::Personal => "personal",
        };
        let fence = match self.fence {
            Fence::Marks => "marks",
            Fence::Message => "message",
        };
        Canonical::object([
            ("description", Canonical::text(&self.description)),
            ("schema", schema),
            ("bytes_max", Canonical::Integer(self.bytes_max as u64)),
            ("required", Canonical::Bool(self.required)),
            ("default", Canonical::optional(self.default.as_deref())),
            ("trust", Canonical::text(trust)),
            (
                "trust_reason",
                Canonical::optional(self.trust_reason.as_deref()),
            ),
            ("data_class", Canonical::text(data_class)),
            ("fence", Canonical::text(fence)),
        ])
    }
}

/// Whether a text has the form of a variable name: `[a-z_][a-z0-9_]*`, at most 64 bytes.
pub(crate) fn is_variable_name(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b == b'_';
    name.len() <= VARIABLE_NAME_BYTES_MAX
        && name.bytes().next().is_some_and(letter)
        && name.bytes().all(|b| letter(b) || b.is_ascii_digit())
}

/// Whether no value of the schema can be read as more than one of the template's own values, a
/// number, a boolean or a word.
fn is_harmless(schema: &Value) -> bool {
    if schema.get("enum").is_some() || schema.get("const").is_some() {
        return true;
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("integer" | "number" | "boolean") => return true,
        Some("string") => {}
        _ => return false,
    }
    let chars_max = schema.get("maxLength").and_then(Value::as_u64);
    let pattern = schema.get("pattern").and_then(Value::as_str);
    chars_max.is_some_and(|chars| chars <= WORD_CHARS_MAX)
        && pattern.is_some_and(matches_words_only)
}

fn matches_words_only(pattern: &str) -> bool {
    let Ok(pattern) = regex_syntax::parse(pattern) else {
        return false;
    };
    let properties = pattern.properties();
    properties.look_set_prefix().contains(Look::Start)
        && properties.look_set_suffix().contains(Look::End)
        && consists_of_word_characters(&pattern)
}

fn consists_of_word_characters(pattern: &Hir) -> bool {
    let allowed = |c: u32| {
        let c = char::from_u32(c).unwrap_or(' ');
        c.is_ascii_alphanumeric() || "+#._/-".contains(c)
    };
    match pattern.kind() {
        HirKind::Empty | HirKind::Look(_) => true,
        HirKind::Literal(literal) => literal.0.iter().all(|byte| allowed(u32::from(*byte))),
        HirKind::Class(class) => match class {
            regex_syntax::hir::Class::Unicode(class) => class.ranges().iter().all(|range| {
                range.end().is_ascii()
                    && (u32::from(range.start())..=u32::from(range.end())).all(allowed)
            }),
            regex_syntax::hir::Class::Bytes(_) => false,
        },
        HirKind::Repetition(repetition) => consists_of_word_characters(&repetition.sub),
        HirKind::Capture(capture) => consists_of_word_characters(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().all(consists_of_word_characters)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_values_that_cannot_be_sentences_are_harmless() {
        let word = |pattern: &str, chars: u64| json!({"type": "string", "pattern": pattern, "maxLength": chars});
        for schema in [
            json!({"enum": ["ignore all rules", "b"]}),
            json!({"const": "a b"}),
            json!({"type": "integer"}),
            json!({"type": "boolean"}),
            word("^[A-Za-z0-9+#._/-]*$", 64),
            word("^(rust|go-[0-9]{1,2})$", 20),
        ] {
            assert!(is_harmless(&schema), "{schema}");
        }
        for schema in [
            json!({"type": "string"}),
            json!({"type": "string", "maxLength": 8}),
            json!({"pattern": "^a$", "maxLength": 8}),
            word("^[a-z]+$", 65),
            word("[a-z]+", 8),
            word("^[a-z]+", 8),
            word("^a|b$", 8),
            word("(?m)^[a-z]+$", 8),
            word("^[a-z ]+$", 8),
            word("^[a-z\\s]+$", 8),
            word("^\\w+$", 8),
            word("^[^\\n]+$", 8),
            word("^.*$", 8),
            word("^(", 8),
        ] {
            assert!(!is_harmless(&schema), "{schema}");
        }
    }
}
