//! Chat templates: how a model wants a conversation written.
//!
//! A template is Jinja as the `transformers` library runs it: blocks are trimmed, Python's methods on
//! strings, lists and dictionaries work, and `raise_exception`, `strftime_now`, `tojson`, `namespace`, `break`
//! and `continue` are there.
//!
//! Invariants: contents are guarded before the template sees them, so no content becomes a special token
//! (see [`ChatPrompt`]); rendering ends after [`STEPS_MAX`] steps and [`PROMPT_BYTES_MAX`] bytes; no error
//! repeats a content.
//! Absent: a clock (the date is handed in or there is none), files, includes, and tools.

use std::fmt;
use std::io;
use std::path::Path;

use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind, context};
use serde::Serialize as _;

use crate::digest::Sha256Digest;
use crate::error::{EngineError, Result};
use crate::gguf::Metadata;
use crate::job::ChatMessage;
use crate::tokenizer::{ChatPrompt, Guard, TEXT_BYTES_MAX, Tokenizer};

/// The longest template, in bytes; published ones have up to about 20 KiB.
pub const TEMPLATE_BYTES_MAX: usize = 256 * 1024;

/// The longest rendered prompt, guards included, in bytes. A guarded content has up to three times its
/// characters, and a guard has at most four bytes.
pub const PROMPT_BYTES_MAX: usize = 9 * TEXT_BYTES_MAX;

/// Steps of the template engine for one prompt; published templates take some tens for each message.
pub const STEPS_MAX: u64 = 1_000_000;

/// The name under which the one template is kept.
const NAME: &str = "chat";

/// A compiled chat template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    sha256: Sha256Digest,
}

/// A calendar day, for templates that tell the model what day it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChatDate {
    /// Year of the Gregorian calendar.
    pub year: u16,
    /// Month, 1 to 12.
    pub month: u8,
    /// Day of the month, 1 to 31.
    pub day: u8,
}

impl ChatTemplate {
    /// The template that a GGUF file carries.
    ///
    /// # Errors
    /// [`EngineError::ChatTemplateMissing`] when it carries none, [`EngineError::ChatTemplate`] when it does
    /// not compile.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self> {
        match metadata.string_opt("tokenizer.chat_template")? {
            Some(source) => Self::from_source(source),
            None => Err(EngineError::ChatTemplateMissing),
        }
    }

    /// The template in the file at `path`.
    ///
    /// # Errors
    /// [`EngineError::Read`], and [`EngineError::ChatTemplate`] when the file is too long or does not
    /// compile.
    pub fn from_file(path: &Path) -> Result<Self> {
        let unreadable = |source| EngineError::Read {
            path: path.to_owned(),
            source,
        };
        let file = std::fs::File::open(path).map_err(unreadable)?;
        let mut source = String::new();
        let mut bounded = io::Read::take(file, TEMPLATE_BYTES_MAX as u64 + 1);
        io::Read::read_to_string(&mut bounded, &mut source).map_err(unreadable)?;
        Self::from_source(&source)
    }

    /// Compiles `source`.
    ///
    /// # Errors
    /// [`EngineError::ChatTemplate`] with the line and the reason.
    pub fn from_source(source: &str) -> Result<Self> {
        if source.len() > TEMPLATE_BYTES_MAX {
            return Err(EngineError::ChatTemplate {
                reason: format!(
                    "it is longer than the {TEMPLATE_BYTES_MAX} bytes that are allowed"
                ),
            });
        }
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(STEPS_MAX));
        environment.set_debug(false);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", tojson);
        environment.add_function("raise_exception", raise_exception);
        environment
            .add_template_owned(NAME, without_generation_blocks(source))
            .map_err(|error| EngineError::ChatTemplate {
                reason: format!(
                    "it does not compile{}: {}",
                    in_line(&error),
                    error.detail().unwrap_or("it is no Jinja template"),
                ),
            })?;
        Ok(Self {
            environment,
            source: source.to_owned(),
            sha256: Sha256Digest::of(source.as_bytes()),
        })
    }

    /// SHA-256 of the template's source.
    pub fn sha256(&self) -> Sha256Digest {
        self.sha256
    }

    /// Writes `messages` as the model wants them, ready for its answer.
    ///
    /// With `date`, the template's `strftime_now` gives that day; without, there is no such function, and
    /// templates that can do without it use their own fallback.
    ///
    /// # Errors
    /// [`EngineError::TextTooLong`] for long messages, and [`EngineError::ChatTemplate`] when the template
    /// raises an error, such as for a role it does not know, or exceeds a bound.
    pub fn render(
        &self,
        tokenizer: &Tokenizer,
        messages: &[ChatMessage],
        date: Option<ChatDate>,
    ) -> Result<ChatPrompt> {
        let bytes = messages.iter().map(|message| message.content.len()).sum();
        if bytes > TEXT_BYTES_MAX {
            return Err(EngineError::TextTooLong {
                bytes,
                bytes_max: TEXT_BYTES_MAX,
            });
        }
        let contents = messages.iter().map(|message| message.content.as_str());
        let guard = Guard::new(tokenizer, contents.chain([self.source.as_str()]))?;
        let boundaries = messages
            .iter()
            .filter(|message| !message.is_fixed())
            .count();
        let messages: Vec<Value> = messages
            .iter()
            .map(|message| {
                let content = guard.guarded(&message.content, message.fixed_bytes);
                context! { role => message.role.as_str(), content }
            })
            .collect();
        let special = tokenizer.special();
        let piece = |id: Option<u32>| id.and_then(|id| tokenizer.piece(id)).unwrap_or_default();
        let context = context! {
            messages,
            add_generation_prompt => true,
            bos_token => piece(special.bos),
            eos_token => piece(special.eos),
            unk_token => piece(special.unknown),
            pad_token => piece(special.padding),
            tools => Value::from(()),
            documents => Value::from(()),
            strftime_now => date.map_or(Value::UNDEFINED, strftime_now),
        };
        self.run(context)
            .map(|guarded| guard.prompt(guarded, boundaries))
    }

    fn run(&self, context: Value) -> Result<String> {
        let template = self
            .environment
            .get_template(NAME)
            .map_err(|error| self.failure(&error))?;
        let mut output = BoundedOutput(Vec::new());
        template
            .render_captured_to(context, &mut output)
            .map_err(|error| self.failure(&error))?;
        String::from_utf8(output.0).map_err(|error| EngineError::ChatTemplate {
            reason: error.to_string(),
        })
    }

    /// What a failed run may say: its kind and line, and what the template raised if that is a fixed text of
    /// the template, not something made of contents.
    fn failure(&self, error: &Error) -> EngineError {
        let line = in_line(error);
        let reason = match error.detail() {
            _ if error.kind() == ErrorKind::OutOfFuel => {
                format!("it takes more than the {STEPS_MAX} steps that are allowed")
            }
            _ if error.kind() == ErrorKind::WriteFailure => {
                format!("it writes more than the {PROMPT_BYTES_MAX} bytes that are allowed")
            }
            Some(detail) if self.source.contains(detail) => {
                format!("it raised an error{line}: {detail}")
            }
            _ => format!("{}{line}", error.kind()),
        };
        EngineError::ChatTemplate { reason }
    }
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ChatTemplate")
            .field("sha256", &self.sha256)
            .finish_non_exhaustive()
    }
}

fn in_line(error: &Error) -> String {
    error
        .line()
        .map(|line| format!(" in line {line}"))
        .unwrap_or_default()
}

/// Output that fails once it holds [`PROMPT_BYTES_MAX`] bytes.
struct BoundedOutput(Vec<u8>);

impl io::Write for BoundedOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > PROMPT_BYTES_MAX {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Some templates mark what the model itself said with `{% generation %}` blocks, for training. They
/// write the same as a block that is always taken.
fn without_generation_blocks(source: &str) -> String {
    let mut rest = source;
    let mut out = String::with_capacity(source.len());
    while let Some(open) = rest.find("{%") {
        let Some(length) = rest[open..].find("%}") else {
            break;
        };
        let tag = &rest[open..open + length + 2];
        let replaced = match tag.trim_matches(['{', '}', '%', '-', '+']).trim() {
            "generation" => tag.replacen("generation", "if true", 1),
            "endgeneration" => tag.replacen("endgeneration", "endif", 1),
            _ => tag.to_owned(),
        };
        out.push_str(&rest[..open]);
        out.push_str(&replaced);
        rest = &rest[open + length + 2..];
    }
    out.push_str(rest);
    out
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// JSON as Python's `json.dumps` writes it, without escaping what is not ASCII.
fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let ascii: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    if ascii == Some(true) {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            "tojson(ensure_ascii=true) is not supported",
        ));
    }
    let mut json = Vec::new();
    let written = match indent {
        Some(width) if width <= INDENT_MAX => {
            let indent = " ".repeat(width);
            let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(
                &mut json, formatter,
            ))
        }
        Some(_) => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "tojson(indent) is too large",
            ));
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(
            &mut json,
            PythonFormatter,
        )),
    };
    let unserializable = || {
        Error::new(
            ErrorKind::InvalidOperation,
            "a value cannot be written as JSON",
        )
    };
    written.map_err(|_| unserializable())?;
    String::from_utf8(json).map_err(|_| unserializable())
}

/// The widest indent of `tojson`, in spaces.
const INDENT_MAX: usize = 16;

/// Puts a space after each comma and colon, as Python does.
struct PythonFormatter;

impl serde_json::ser::Formatter for PythonFormatter {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

/// The function of that name, for one day.
fn strftime_now(date: ChatDate) -> Value {
    Value::from_function(move |format: String| -> Result<String, Error> {
        date.format(&format).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidOperation,
                "strftime_now was asked for something that is not in a date",
            )
        })
    })
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

impl ChatDate {
    /// Formats with `strftime`'s `%d %e %m %b %B %y %Y %%`; `None` for any other directive and for a month
    /// that does not exist.
    fn format(self, format: &str) -> Option<String> {
        let month = MONTHS.get(usize::from(self.month).checked_sub(1)?)?;
        let mut out = String::new();
        let mut characters = format.chars();
        while let Some(character) = characters.next() {
            if character != '%' {
                out.push(character);
                continue;
            }
            match characters.next()? {
                'd' => out.push_str(&format!("{:02}", self.day)),
                'e' => out.push_str(&format!("{:2}", self.day)),
                'm' => out.push_str(&format!("{:02}", self.month)),
                'b' => out.push_str(&month[..3]),
                'B' => out.push_str(month),
                'y' => out.push_str(&format!("{:02}", self.year % 100)),
                'Y' => out.push_str(&format!("{:04}", self.year)),
                '%' => out.push('%'),
                _ => return None,
            }
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_dates_and_nothing_else() {
        let date = ChatDate {
            year: 2026,
            month: 3,
            day: 7,
        };
        let check = |format: &str, expected: Option<&str>| {
            assert_eq!(date.format(format).as_deref(), expected, "{format}");
        };
        check("%d %b %Y", Some("07 Mar 2026"));
        check("%e. %B %y 100%%", Some(" 7. March 26 100%"));
        check("%Y-%m-%d", Some("2026-03-07"));
        check("%H:%M", None);
        check("%", None);
        assert_eq!(ChatDate { month: 13, ..date }.format("%d"), None);
    }

    #[test]
    fn generation_blocks_become_blocks_that_are_taken() {
        assert_eq!(
            without_generation_blocks("a{%- generation -%}b{% endgeneration %}{% if generation %}"),
            "a{%- if true -%}b{% endif %}{% if generation %}"
        );
    }
}
