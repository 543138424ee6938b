//! Everything that can go wrong while rules are loaded.
//!
//! Refusing a call is not an error: that is a [`crate::Denial`].

use std::path::PathBuf;

/// Why templates, a policy or a name were refused at load.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GovernanceError {
    /// The file or folder could not be read.
    #[error("{}: cannot be read: {source}; check that it exists and may be read", path.display())]
    Read {
        /// What was to be read.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: std::io::Error,
    },
    /// A rule file is a symbolic link, folder, pipe or device.
    #[error("{}: is not a regular file; put the file itself here, links are not followed", path.display())]
    NotRegularFile {
        /// The offending entry.
        path: PathBuf,
    },
    /// A rule file is larger than [`crate::SOURCE_BYTES_MAX`].
    #[error(
        "{file}: is larger than {bytes_max} bytes, the most a rule file may have; make it smaller"
    )]
    SourceOversized {
        /// File name.
        file: String,
        /// The bound, in bytes.
        bytes_max: usize,
    },
    /// A rule file is not UTF-8.
    #[error("{file}:{line}: byte {offset} of the file is not valid UTF-8; save the file as UTF-8")]
    NotUtf8 {
        /// File name.
        file: String,
        /// Line of the first bad byte, from 1.
        line: u64,
        /// Offset of the first bad byte.
        offset: usize,
    },
    /// The file does not parse, or does not have the expected fields.
    #[error("{file}:{line}:{column}: {reason}")]
    Syntax {
        /// File name.
        file: String,
        /// Line, from 1 (0 where the parser knows none).
        line: u64,
        /// Column, from 1 (0 where the parser knows none).
        column: u64,
        /// What the parser found and expected.
        reason: String,
    },
    /// The TOML does not parse, or does not have the expected keys.
    #[error("{file}:{line}: {reason}")]
    Toml {
        /// File name.
        file: String,
        /// Line, from 1.
        line: u64,
        /// What the parser found and expected.
        reason: String,
    },
    /// A redaction rule is not usable.
    #[error("{file}:{line}: rule `{rule}`: {reason}")]
    Rule {
        /// File name.
        file: String,
        /// Line of the rule, from 1.
        line: u64,
        /// Its id.
        rule: String,
        /// What is wrong and what is expected.
        reason: String,
    },
    /// A field has a value that is not allowed.
    #[error("{file}:{line}: field `{field}` {reason}")]
    Field {
        /// File name.
        file: String,
        /// Line, from 1 (0 where unknown).
        line: u64,
        /// The field, with dots for nesting.
        field: String,
        /// What is wrong and what is expected.
        reason: String,
    },
    /// The file name does not equal the id of the template in it.
    #[error(
        "{file}:{line}: holds the template `{id}`; name the file `{id}` with the ending of its format, or change the id"
    )]
    FileName {
        /// File name.
        file: String,
        /// Line of the id, from 1.
        line: u64,
        /// The id inside.
        id: String,
    },
    /// Two files hold the same template.
    #[error(
        "{file}:{line}: the id `{id}` is already taken by {first}; give one of the two a new version"
    )]
    DuplicateTemplate {
        /// The second file.
        file: String,
        /// Line of the id in it, from 1.
        line: u64,
        /// The id.
        id: String,
        /// The first file.
        first: String,
    },
    /// A template is not what the lock file says it is.
    #[error(
        "{file}:{line}: the template `{id}` is not what prompts.lock:{lock_line} records (recorded {recorded}, found {found}); \
         give the change a new version, or renew the lock on purpose with `postern prompt lock --renew {id}`"
    )]
    LockMismatch {
        /// File of the template.
        file: String,
        /// Line of its id, from 1.
        line: u64,
        /// Its id.
        id: String,
        /// Line of the record in the lock file, from 1.
        lock_line: u64,
        /// What the lock says, shortened for people.
        recorded: String,
        /// What was found, shortened for people.
        found: String,
    },
    /// A template is not in the lock file that stands beside it.
    #[error(
        "{file}:{line}: the template `{id}` is not recorded in prompts.lock; \
         review it and record it with `postern prompt lock`"
    )]
    NotLocked {
        /// File of the template.
        file: String,
        /// Line of its id, from 1.
        line: u64,
        /// Its id.
        id: String,
    },
    /// The folder holds more templates than [`crate::TEMPLATES_MAX`].
    #[error("{}: holds more than {count_max} templates; split the folder", path.display())]
    TooManyTemplates {
        /// The folder.
        path: PathBuf,
        /// The bound.
        count_max: usize,
    },
    /// The folder holds no template.
    #[error("{}: holds no template; put at least one `<id>.yaml`, `<id>.md` or `<id>.json` there", path.display())]
    NoTemplates {
        /// The folder.
        path: PathBuf,
    },
    /// A body is not a valid template.
    #[error("{file}:{line}: `{field}`, line {body_line} of the text: {reason}")]
    Body {
        /// File name.
        file: String,
        /// Line of the field in the file, from 1 (0 where unknown).
        line: u64,
        /// `system` or `user`.
        field: &'static str,
        /// Line inside the body, from 1 (0 where unknown).
        body_line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A body uses a variable that `variables` does not declare.
    #[error(
        "{file}:{line}: the variable `{variable}` is used but not declared; add it under `variables`"
    )]
    VariableUndeclared {
        /// File name.
        file: String,
        /// Line where it is used, from 1.
        line: u64,
        /// The variable.
        variable: String,
    },
    /// `variables` declares a variable that no body uses.
    #[error(
        "{file}:{line}: the variable `{variable}` is declared but not used; use it or remove it"
    )]
    VariableUnused {
        /// File name.
        file: String,
        /// Line where it is declared, from 1.
        line: u64,
        /// The variable.
        variable: String,
    },
    /// The policy names a template that is not loaded.
    #[error(
        "{file}: `{identity}` is given the template `{template}`, which does not exist; \
         add the template or remove the line"
    )]
    PolicyTemplateUnknown {
        /// The policy file.
        file: String,
        /// The identity.
        identity: String,
        /// The missing template.
        template: String,
    },
    /// The policy's bound is above the template's own.
    #[error(
        "{file}: `{identity}` is given `{template}` with max_tokens {given}, \
         but the template allows {limit}; lower the bound or remove it"
    )]
    PolicyBound {
        /// The policy file.
        file: String,
        /// The identity.
        identity: String,
        /// The template.
        template: String,
        /// What the policy says.
        given: u32,
        /// The template's `max_tokens`.
        limit: u32,
    },
    /// A file of authorization rules does not parse, or holds what no rule may be.
    #[error("{file}:{line}: {reason}")]
    Authorization {
        /// File name.
        file: String,
        /// Line, from 1 (0 where the parser knows none).
        line: u64,
        /// What the parser found and expected.
        reason: String,
    },
    /// A string is not a valid role.
    #[error(
        "not a role: {reason}; a role is 1 to 64 of a-z, 0-9, `.`, `_`, `-` \
         and begins with a letter or digit"
    )]
    InvalidRole {
        /// What is wrong.
        reason: &'static str,
    },
    /// The registry does not let a model serve.
    #[error("{}: {reason}", at(file, *line))]
    ModelRefused {
        /// The registry.
        file: String,
        /// Line of the model's entry, from 1 (0 where there is none).
        line: u64,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A string is not a valid identity.
    #[error(
        "not an identity: {reason}; an identity is 1 to 64 of a-z, 0-9, `.`, `_`, `-` \
         and begins with a letter or digit"
    )]
    InvalidIdentity {
        /// What is wrong.
        reason: &'static str,
    },
    /// A string is not a valid template id.
    #[error(
        "not a template id: {reason}; an id is a name of a-z, 0-9, `.`, `_`, `-` \
         with a version, such as `triage.v1` or `triage_v1`, at most 64 bytes"
    )]
    InvalidTemplateId {
        /// What is wrong.
        reason: &'static str,
    },
    /// A string is not a valid use case.
    #[error(
        "not a use case: {reason}; a use case is 1 to 64 of a-z and 0-9 \
         with single `-` between words, such as `test-generation`"
    )]
    InvalidUseCase {
        /// What is wrong.
        reason: &'static str,
    },
}

/// A file with a line in it, where that is known.
fn at(file: &str, line: u64) -> String {
    match line {
        0 => file.to_owned(),
        line => format!("{file}:{line}"),
    }
}

impl GovernanceError {
    /// The file that is wrong and the line in it, where they are known; lines count from 1.
    #[must_use]
    pub fn place(&self) -> (Option<&str>, Option<u64>) {
        let (file, line) = match self {
            Self::Syntax { file, line, .. }
            | Self::Field { file, line, .. }
            | Self::Authorization { file, line, .. }
            | Self::Rule { file, line, .. }
            | Self::NotUtf8 { file, line, .. }
            | Self::FileName { file, line, .. }
            | Self::DuplicateTemplate { file, line, .. }
            | Self::LockMismatch { file, line, .. }
            | Self::NotLocked { file, line, .. }
            | Self::VariableUndeclared { file, line, .. }
            | Self::VariableUnused { file, line, .. }
            | Self::ModelRefused { file, line, .. } => (file, *line),
            Self::Body {
                file,
                line,
                body_line,
                ..
            } => (file, line + *body_line as u64),
            Self::SourceOversized { file, .. }
            | Self::PolicyTemplateUnknown { file, .. }
            | Self::PolicyBound { file, .. } => (file, 0),
            _ => return (None, None),
        };
        (Some(file), Some(line).filter(|line| *line > 0))
    }
}
