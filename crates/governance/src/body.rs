//! The two bodies of a template: what language they may use, and how they are rendered.
//!
//! The language is a small part of Jinja: `{{ variable }}`, `{% if %}`, `{% elif %}`,
//! `{% else %}`, `{% for x in [..] %}`, `{# comments #}`, comparisons, lists, and the filters of
//! [`FILTERS`]. Everything that could multiply memory, reach another file or call code (`set`,
//! `macro`, `include`, `~`, `*`, calls, attributes) is refused when the template is loaded.
//!
//! Invariant: substitution is a single pass. A variable's text is written out as it is and is
//! never parsed, so `{{ }}` or `{% %}` in a variable stays text. An undefined name is an error.
//! Rendering is bounded in steps ([`RENDER_FUEL_MAX`]) and bytes ([`RENDERED_BYTES_MAX`]).
//!
//! Absent: a loader, escaping for any markup, functions, globals.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, filters};

/// Longest body of a template, in bytes.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Longest rendered body, in bytes.
pub const RENDERED_BYTES_MAX: usize = 1024 * 1024;
/// Most template instructions that one rendering may execute.
pub const RENDER_FUEL_MAX: u64 = 20_000;
/// Most filters in one tag: `tojson` doubles backslashes, so a long chain of it would explode.
const TAG_FILTERS_MAX: usize = 2;
/// Deepest recursion while rendering.
const RENDER_RECURSION_MAX: usize = 64;

const FILTERS: [&str; 5] = ["trim", "upper", "lower", "length", "tojson"];
const STATEMENTS: [&str; 6] = ["if", "elif", "else", "endif", "for", "endfor"];
const OPERATOR_WORDS: [&str; 8] = ["and", "or", "not", "in", "if", "else", "true", "false"];

/// What is wrong with a body, and where in it.
pub(crate) struct BodyFault {
    /// From 1; 0 where unknown.
    pub(crate) line: usize,
    pub(crate) reason: String,
}

/// Why a body was not rendered.
pub(crate) enum RenderFault {
    Oversized,
    Failed(ErrorKind),
}

/// Compiled bodies of one template.
#[derive(Debug, Clone)]
pub(crate) struct Bodies {
    environment: Arc<Environment<'static>>,
}

impl Bodies {
    /// Compiles the bodies, given as (name, text), and returns the variables they use.
    pub(crate) fn compile(
        bodies: &[(&'static str, &str)],
    ) -> Result<(Self, BTreeSet<String>), (&'static str, BodyFault)> {
        let mut environment = environment();
        let mut variables = BTreeSet::new();
        for (name, text) in bodies {
            check_language(text).map_err(|fault| (*name, fault))?;
            environment
                .add_template_owned(*name, (*text).to_owned())
                .map_err(|error| (*name, syntax_fault(&error)))?;
            let compiled = environment
                .get_template(name)
                .map_err(|error| (*name, syntax_fault(&error)))?;
            variables.extend(compiled.undeclared_variables(false));
        }
        let bodies = Self {
            environment: Arc::new(environment),
        };
        Ok((bodies, variables))
    }

    /// Renders one body with every declared variable set.
    pub(crate) fn render(
        &self,
        name: &str,
        variables: &BTreeMap<String, String>,
    ) -> Result<String, RenderFault> {
        let failed = |error: minijinja::Error| RenderFault::Failed(error.kind());
        let template = self.environment.get_template(name).map_err(failed)?;
        let mut output = BoundedOutput::default();
        let rendered = template
            .render_captured_to(variables, &mut output)
            .map(drop);
        if output.overflowed {
            return Err(RenderFault::Oversized);
        }
        rendered.map_err(failed)?;
        String::from_utf8(output.bytes).map_err(|_| RenderFault::Failed(ErrorKind::WriteFailure))
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(RENDER_FUEL_MAX));
    environment.set_recursion_limit(RENDER_RECURSION_MAX);
    environment.add_filter("trim", filters::trim);
    environment.add_filter("upper", filters::upper);
    environment.add_filter("lower", filters::lower);
    environment.add_filter("length", filters::length);
    environment.add_filter("tojson", filters::tojson);
    environment
}

fn syntax_fault(error: &minijinja::Error) -> BodyFault {
    let detail = error.detail().unwrap_or("it does not parse");
    BodyFault {
        line: error.line().unwrap_or(0),
        reason: format!("{}: {detail}", error.kind()),
    }
}

/// Collects output up to the bound; past it every write fails.
#[derive(Default)]
struct BoundedOutput {
    bytes: Vec<u8>,
    overflowed: bool,
}

impl io::Write for BoundedOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > RENDERED_BYTES_MAX {
            self.overflowed = true;
            return Err(io::Error::other("the rendered text is too large"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Refuses everything outside of the small language, before the text is compiled.
fn check_language(text: &str) -> Result<(), BodyFault> {
    let mut rest = text;
    while let Some(start) = rest.find('{') {
        let line = line_at(text, text.len() - rest.len() + start);
        let fault = |reason: String| BodyFault { line, reason };
        let tag = &rest[start..];
        rest = match tag.as_bytes().get(1) {
            Some(b'{') => check_tag(&tag[2..], "}}", false).map_err(fault)?,
            Some(b'%') => check_tag(&tag[2..], "%}", true).map_err(fault)?,
            Some(b'#') => match tag.find("#}") {
                Some(end) => &tag[end + 2..],
                None => return Err(fault("the comment `{#` is never closed".to_owned())),
            },
            _ => &tag[1..],
        };
    }
    Ok(())
}

fn line_at(text: &str, offset: usize) -> usize {
    1 + text[..offset].matches('\n').count()
}

/// Checks one tag from behind its opening, and returns the text behind its closing.
fn check_tag<'t>(tag: &'t str, close: &str, statement: bool) -> Result<&'t str, String> {
    let mut rest = tag.strip_prefix('-').unwrap_or(tag);
    let mut previous = Token::Start;
    let mut filters = 0;
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix(close) {
            return Ok(after);
        }
        if let Some(after) = rest.strip_prefix('-').and_then(|r| r.strip_prefix(close)) {
            return Ok(after);
        }
        let (token, after) = next_token(rest, close)?;
        check_token(&previous, &token, statement)?;
        if matches!(token, Token::Symbol('|')) {
            filters += 1;
        }
        if filters > TAG_FILTERS_MAX {
            return Err(format!("a tag may have at most {TAG_FILTERS_MAX} filters"));
        }
        previous = token;
        rest = after;
    }
}

#[derive(PartialEq)]
enum Token<'t> {
    Start,
    Word(&'t str),
    Literal,
    Symbol(char),
}

fn next_token<'t>(rest: &'t str, close: &str) -> Result<(Token<'t>, &'t str), String> {
    let unclosed = || format!("the tag is never closed by `{close}`");
    let first = rest.chars().next().ok_or_else(unclosed)?;
    if first == '"' || first == '\'' {
        let end = string_end(rest, first).ok_or("a string in a tag is never closed")?;
        return Ok((Token::Literal, &rest[end..]));
    }
    if first.is_ascii_alphanumeric() || first == '_' {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
        let token = match first.is_ascii_digit() {
            true => Token::Literal,
            false => Token::Word(&rest[..end]),
        };
        return Ok((token, &rest[end..]));
    }
    if "()[],=!<>|".contains(first) {
        return Ok((Token::Symbol(first), &rest[first.len_utf8()..]));
    }
    Err(format!(
        "`{}` is not allowed in a tag; a variable is written `{{{{ name }}}}`",
        first.escape_debug()
    ))
}

/// The offset behind the closing quote.
fn string_end(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (offset, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return Some(offset + 1);
        }
    }
    None
}

fn check_token(previous: &Token<'_>, token: &Token<'_>, statement: bool) -> Result<(), String> {
    match (previous, token) {
        (Token::Start, Token::Word(word)) if statement && !STATEMENTS.contains(word) => {
            Err(format!(
                "`{{% {word} %}}` is not allowed; use one of {}",
                STATEMENTS.join(", ")
            ))
        }
        (Token::Symbol('|'), Token::Word(word)) if !FILTERS.contains(word) => Err(format!(
            "there is no filter `{word}`; use one of {}",
            FILTERS.join(", ")
        )),
        (_, Token::Word("is")) => Err("tests with `is` are not allowed".to_owned()),
        (Token::Word(word), Token::Symbol('(' | '[')) if !OPERATOR_WORDS.contains(word) => Err(
            format!("`{word}` is called or indexed; a tag may only name variables"),
        ),
        (Token::Literal | Token::Symbol(')' | ']'), Token::Symbol('(' | '[')) => {
            Err("a value is called or indexed; a tag may only name variables".to_owned())
        }
        _ => Ok(()),
    }
}
