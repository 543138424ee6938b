//! The two bodies of a template: what language they may use, and how they are rendered.
//!
//! The language is a small part of Jinja: `{{ variable }}`, `{% if %}`, `{% elif %}`,
//! `{% else %}`, `{% for x in [..] %}`, `{# comments #}`, comparisons, lists, and the filters of
//! [`FILTERS`]. Everything that could multiply memory, reach another file or call code (`set`,
//! `macro`, `include`, `~`, `*`, calls, attributes) is refused when the template is loaded.
//!
//! Invariants: substitution is a single pass. A variable's text is never parsed, so `{{ }}` or
//! `{% %}` in a variable stays text. What a tag writes is written as carefully as its most
//! untrusted variable demands ([`crate::variable`]): while a body is checked, each tag that writes
//! more than literals gets a last filter that does it. An undefined name is an error. Rendering is
//! bounded in steps ([`RENDER_FUEL_MAX`]) and bytes ([`RENDERED_BYTES_MAX`]).
//!
//! Absent: a loader, so no body can include another; escaping for any markup, functions, globals.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior, Value, filters,
};

use crate::fence::{self, MARKS_TRIED_MAX, Marks};
use crate::special_text::neutralize;
use crate::variable::Writing;

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
/// The last filter of a tag, and the variable with the number of the call's marks. No template can
/// name them: names of variables are written small, and filters are only those above.
const WRITE: &str = "WRITE";
const NUMBER: &str = "NUMBER";
/// What the last filter says when a text holds the number.
const NUMBER_TAKEN: &str = "the text holds the number of its marks";
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
    /// A text holds the number of its marks.
    NumberTaken,
    Failed(ErrorKind),
}

/// Compiled bodies of one template.
#[derive(Debug, Clone)]
pub(crate) struct Bodies {
    environment: Arc<Environment<'static>>,
}

impl Bodies {
    /// Compiles the bodies, given as (name, text), and returns the variables they use. Variables
    /// that `writings` does not hold are fenced.
    pub(crate) fn compile(
        bodies: &[(&'static str, &str)],
        writings: &BTreeMap<&str, Writing>,
    ) -> Result<(Self, BTreeSet<String>), (&'static str, BodyFault)> {
        let mut environment = environment();
        let mut variables = BTreeSet::new();
        for (name, text) in bodies {
            let checked = Checker::new(text, writings).check();
            let checked = checked.map_err(|fault| (*name, fault))?;
            environment
                .add_template_owned(*name, checked)
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

    /// Renders the bodies with every declared variable set, all with the same marks.
    pub(crate) fn render<const N: usize>(
        &self,
        names: [Option<&str>; N],
        variables: &BTreeMap<String, String>,
        marks: &Marks,
    ) -> Result<[Option<String>; N], RenderFault> {
        let mut attempt = 0;
        loop {
            let number = marks.number(attempt);
            let mut rendered = [const { None }; N];
            let mut outcome = Ok(());
            for (name, text) in names.iter().zip(&mut rendered) {
                if let Some(name) = name {
                    outcome = self
                        .render_one(name, variables, &number)
                        .map(|body| *text = Some(body));
                }
                if outcome.is_err() {
                    break;
                }
            }
            attempt += 1;
            match outcome {
                Ok(()) => return Ok(rendered),
                Err(RenderFault::NumberTaken) if attempt < MARKS_TRIED_MAX => {}
                Err(fault) => return Err(fault),
            }
        }
    }

    fn render_one(
        &self,
        name: &str,
        variables: &BTreeMap<String, String>,
        number: &str,
    ) -> Result<String, RenderFault> {
        let failed = |error: Error| match error.detail() {
            Some(NUMBER_TAKEN) => RenderFault::NumberTaken,
            _ => RenderFault::Failed(error.kind()),
        };
        let template = self.environment.get_template(name).map_err(failed)?;
        let mut output = BoundedOutput::default();
        let context: Value = variables
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .chain([(NUMBER, number)])
            .collect();
        let rendered = template.render_captured_to(context, &mut output).map(drop);
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
    environment.add_filter(WRITE, write);
    environment
}

/// Writes the value of a tag; `name` is the variable whose marks it gets, or empty.
fn write(state: &State<'_, '_>, value: Value, is_plain: bool, name: &str) -> Result<String, Error> {
    if value.is_undefined() {
        return Err(ErrorKind::UndefinedError.into());
    }
    let number = state.lookup(NUMBER).ok_or(ErrorKind::UndefinedError)?;
    let number = number.as_str().unwrap_or_default();
    let text = value.to_string();
    if text.contains(number) {
        return Err(Error::new(ErrorKind::InvalidOperation, NUMBER_TAKEN));
    }
    if !is_plain {
        return Ok(text);
    }
    let plain = neutralize(&text);
    Ok(match name {
        "" => plain.into_owned(),
        name => fence::enclose(name, number, &plain),
    })
}

fn syntax_fault(error: &Error) -> BodyFault {
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

/// Refuses everything outside of the small language, before the text is compiled, and gives each
/// tag that writes its last filter.
struct Checker<'t> {
    text: &'t str,
    writings: &'t BTreeMap<&'t str, Writing>,
    /// Loop variables with what their lists hold.
    loops: BTreeMap<&'t str, Writing>,
}

/// A checked tag.
struct Tag<'t> {
    /// What stands between opening and closing, without their dashes.
    inside: &'t str,
    trims_before: bool,
    trims_after: bool,
    /// Names of variables, in order; of a `for`, the loop variable is the first.
    names: Vec<&'t str>,
    /// What stands behind its closing.
    rest: &'t str,
}

impl<'t> Checker<'t> {
    fn new(text: &'t str, writings: &'t BTreeMap<&'t str, Writing>) -> Self {
        Self {
            text,
            writings,
            loops: BTreeMap::new(),
        }
    }

    /// The text with the last filters.
    fn check(mut self) -> Result<String, BodyFault> {
        let text = self.text;
        let mut checked = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find('{') {
            let line = line_at(text, text.len() - rest.len() + start);
            let fault = |reason: String| BodyFault { line, reason };
            checked.push_str(&rest[..start]);
            let opened = &rest[start..];
            rest = match opened.as_bytes().get(1) {
                Some(b'{') => {
                    let tag = read_tag(&opened[2..], "}}", false).map_err(fault)?;
                    checked.push_str(&self.written(&tag).map_err(fault)?);
                    tag.rest
                }
                Some(b'%') => {
                    let tag = read_tag(&opened[2..], "%}", true).map_err(fault)?;
                    self.note_loop(&tag);
                    checked.push_str(&opened[..opened.len() - tag.rest.len()]);
                    tag.rest
                }
                Some(b'#') => {
                    let end = opened
                        .find("#}")
                        .ok_or_else(|| fault("the comment `{#` is never closed".to_owned()))?;
                    checked.push_str(&opened[..end + 2]);
                    &opened[end + 2..]
                }
                _ => {
                    checked.push('{');
                    &opened[1..]
                }
            };
        }
        checked.push_str(rest);
        Ok(checked)
    }

    fn writing_of(&self, name: &str) -> Writing {
        let declared = self.writings.get(name).copied();
        let looped = self.loops.get(name).copied();
        declared.max(looped).unwrap_or(Writing::Fenced)
    }

    fn note_loop(&mut self, tag: &Tag<'t>) {
        if !tag.inside.trim_start().starts_with("for") {
            return;
        }
        if let Some((variable, list)) = tag.names.split_first() {
            let held = list.iter().map(|name| self.writing_of(name)).max();
            let held = held.unwrap_or(Writing::Verbatim);
            let known = self.loops.entry(variable).or_insert(held);
            *known = held.max(*known);
        }
    }

    /// The tag with its last filter, if it writes a variable.
    fn written(&self, tag: &Tag<'t>) -> Result<String, String> {
        let trim = |is_there: bool| if is_there { "-" } else { "" };
        let (before, after) = (trim(tag.trims_before), trim(tag.trims_after));
        let inside = tag.inside.trim();
        let mut careful = None;
        for name in &tag.names {
            let writing = self.writing_of(name);
            if careful.is_none_or(|(_, most)| writing > most) {
                careful = Some((*name, writing));
            }
        }
        let Some((name, writing)) = careful else {
            return Ok(format!("{{{{{before} {inside} {after}}}}}"));
        };
        if writing == Writing::Message && only_variable(self.text) != Some(name) {
            return Err(format!(
                "`{name}` has `fence: message`, but is not all of this message; \
                 write the message as `{{{{ {name} }}}}` alone, or remove `fence`"
            ));
        }
        let is_plain = writing > Writing::Verbatim;
        let marked = if writing == Writing::Fenced { name } else { "" };
        Ok(format!(
            "{{{{{before} ({inside})|{WRITE}({is_plain},\"{marked}\") {after}}}}}"
        ))
    }
}

/// What stands in the tag that a body is, if it is one tag; the name of a variable, if it is one.
pub(crate) fn only_variable(body: &str) -> Option<&str> {
    let inside = body.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    Some(inside.trim_matches('-').trim())
}

fn line_at(text: &str, offset: usize) -> usize {
    1 + text[..offset].matches('\n').count()
}

/// Reads and checks one tag from behind its opening.
fn read_tag<'t>(opened: &'t str, close: &str, statement: bool) -> Result<Tag<'t>, String> {
    let start = opened.strip_prefix('-').unwrap_or(opened);
    let mut rest = start;
    let mut previous = Token::Start;
    let mut filters = 0;
    let mut names = Vec::new();
    loop {
        rest = rest.trim_start();
        let dashed = rest.strip_prefix('-').and_then(|r| r.strip_prefix(close));
        if let Some(after) = dashed.or(rest.strip_prefix(close)) {
            return Ok(Tag {
                inside: &start[..start.len() - rest.len()],
                trims_before: opened.len() != start.len(),
                trims_after: dashed.is_some(),
                names,
                rest: after,
            });
        }
        let (token, after) = next_token(rest, close)?;
        check_token(&previous, &token, statement)?;
        if matches!(token, Token::Symbol('|')) {
            filters += 1;
        }
        if filters > TAG_FILTERS_MAX {
            return Err(format!("a tag may have at most {TAG_FILTERS_MAX} filters"));
        }
        if let Token::Word(word) = token {
            let is_keyword = statement && previous == Token::Start;
            let is_filter = previous == Token::Symbol('|');
            if !is_keyword && !is_filter && !OPERATOR_WORDS.contains(&word) {
                names.push(word);
            }
        }
        previous = token;
        rest = after;
    }
}

#[derive(Clone, Copy, PartialEq)]
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
