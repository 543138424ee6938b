//! Rule files: bounded reading; strict YAML and JSON, and TOML.
//!
//! Invariant: no more than [`SOURCE_BYTES_MAX`] bytes are ever held or parsed, and the parser
//! refuses aliases, anchors, merge keys, duplicate keys, unknown tags and deep nesting, so that
//! what a reviewer sees in the file is what is loaded.
//!
//! Absent: defaults, meaning of fields; those belong to the types that are parsed.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};
use serde_saphyr::{Error, Options};

use crate::GovernanceError;

/// Largest rule file, in bytes.
pub const SOURCE_BYTES_MAX: usize = 256 * 1024;
/// Deepest nesting of a rule file.
pub const SOURCE_NESTING_MAX: usize = 32;
/// Most YAML nodes of a rule file.
pub const SOURCE_NODES_MAX: usize = 20_000;

/// Reads a regular file, without following a link, up to the bound.
pub(crate) fn read(path: &Path, bytes_max: usize) -> Result<String, GovernanceError> {
    let unreadable = |source| GovernanceError::Read {
        path: path.to_owned(),
        source,
    };
    let entry = path.symlink_metadata().map_err(unreadable)?;
    if !entry.file_type().is_file() {
        return Err(GovernanceError::NotRegularFile {
            path: path.to_owned(),
        });
    }
    let limit = bytes_max as u64 + 1;
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(limit)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    let file_name = file_name(path);
    check_size(&file_name, bytes.len(), bytes_max)?;
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let lines = error.as_bytes()[..offset].split(|byte| *byte == b'\n');
        GovernanceError::NotUtf8 {
            file: file_name,
            line: lines.count() as u64,
            offset,
        }
    })
}

/// The last part of a path, for messages.
pub(crate) fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// Parses one YAML document of bounded size.
pub(crate) fn parse<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, GovernanceError> {
    check_size(file, text.len(), SOURCE_BYTES_MAX)?;
    serde_saphyr::from_str_with_options(text, strict()).map_err(|error| {
        let location = error.location();
        GovernanceError::Syntax {
            file: file.to_owned(),
            line: location.map_or(0, |at| at.line()),
            column: location.map_or(0, |at| at.column()),
            reason: explain(error.without_snippet()),
        }
    })
}

/// Parses a TOML document of bounded size.
pub(crate) fn parse_toml<'t, T: Deserialize<'t>>(
    file: &str,
    text: &'t str,
) -> Result<T, GovernanceError> {
    check_size(file, text.len(), SOURCE_BYTES_MAX)?;
    toml::from_str(text).map_err(|error| GovernanceError::Toml {
        file: file.to_owned(),
        line: line_at(text, error.span().map_or(0, |span| span.start)),
        reason: error.message().to_owned(),
    })
}

/// The line of a place in a text, from 1.
pub(crate) fn line_at(text: &str, offset: usize) -> u64 {
    1 + text[..text.floor_char_boundary(offset)]
        .matches('\n')
        .count() as u64
}

/// The first line, from 1, of a template's file that names a variable behind a brace; 0 if none does.
pub(crate) fn line_of_use(text: &str, variable: &str) -> u64 {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names = |line: &str| {
        let expressions = line.split('{').skip(1);
        let mut words = expressions.flat_map(|expression| expression.split(|c| !is_name(c)));
        words.any(|word| word == variable)
    };
    let line = text.lines().position(names);
    line.map_or(0, |line| line as u64 + 1)
}

/// Parses a JSON text of bounded size.
///
/// Its grammar is checked first. Then it is read as YAML, of which JSON is a part, so that keys
/// that appear twice are found at any depth, and values know their lines.
pub(crate) fn parse_json<T: DeserializeOwned>(
    file: &str,
    text: &str,
) -> Result<T, GovernanceError> {
    check_size(file, text.len(), SOURCE_BYTES_MAX)?;
    let grammar = serde_json::from_str::<serde::de::IgnoredAny>(text);
    grammar.map_err(|error| GovernanceError::Syntax {
        file: file.to_owned(),
        line: error.line() as u64,
        column: error.column() as u64,
        reason: format!("not JSON: {error}"),
    })?;
    parse(file, text)
}

/// Refuses a text over the bound.
fn check_size(file: &str, bytes: usize, bytes_max: usize) -> Result<(), GovernanceError> {
    if bytes > bytes_max {
        return Err(GovernanceError::SourceOversized {
            file: file.to_owned(),
            bytes_max,
        });
    }
    Ok(())
}

fn strict() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_aliases: 0,
            max_anchors: 0,
            max_merge_keys: 0,
            max_documents: 1,
            max_depth: SOURCE_NESTING_MAX,
            flow_nesting_limit: SOURCE_NESTING_MAX,
            max_nodes: SOURCE_NODES_MAX,
            max_events: 4 * SOURCE_NODES_MAX,
            max_total_scalar_bytes: SOURCE_BYTES_MAX,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        reject_tagged_field_names: true,
        with_snippet: false,
    }
}

/// The parser's message in the words of someone who edits the file.
fn explain(error: &Error) -> String {
    match error {
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the key `{key}` appears twice; keep one")
        }
        Error::Budget { breach, .. } => format!("{}; write it out plainly", breached(breach)),
        Error::Eof { .. } => "the file ends where more was expected; complete it".to_owned(),
        other => {
            let message = other.to_string();
            let message = message.lines().next().unwrap_or_default();
            let message = message.split(" at line ").next().unwrap_or_default();
            match message {
                "expected string scalar" => format!(
                    "{message}; text that begins with `{{`, `[`, `*` or `&` needs quotes around it"
                ),
                _ => message.to_owned(),
            }
        }
    }
}

fn breached(breach: &BudgetBreach) -> String {
    match breach {
        BudgetBreach::Anchors { .. } => "anchors (`&name`) are not allowed".to_owned(),
        BudgetBreach::Aliases { .. } => "aliases (`*name`) are not allowed".to_owned(),
        BudgetBreach::MergeKeys { .. } => "merge keys (`<<`) are not allowed".to_owned(),
        BudgetBreach::Documents { .. } => "a second document (`---`) is not allowed".to_owned(),
        BudgetBreach::Depth { .. } => {
            format!("nesting deeper than {SOURCE_NESTING_MAX} levels is not allowed")
        }
        other => format!("the file is too large for its parser ({other:?})"),
    }
}
