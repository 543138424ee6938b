//! What people see: colour, wrapped text, progress.
//!
//! Colour and progress appear on a terminal only; piped output is plain and complete. Writing
//! reports its errors, so that a closed pipe ends the command instead of a panic.

use std::env;
use std::fmt::Display;
use std::io::{self, IsTerminal, Stdout, Write};
use std::ops::RangeInclusive;
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Effects, Style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::error::CommandError;

/// Columns that our own text fills where no terminal says how many there are.
const COLUMNS_DEFAULT: usize = 88;

/// Columns that our own text fills on a terminal: narrower ones cut words apart, and in longer lines
/// the eye gets lost.
const COLUMNS_BOUNDS: RangeInclusive<usize> = 40..=100;

/// Standard output, with colour where it belongs.
pub(crate) struct Screen {
    out: Stdout,
    colour: bool,
    columns: usize,
}

/// What a piece of text means, apart from how it looks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tone {
    Heading,
    Quiet,
    Good,
    Bad,
    Speech,
}

impl Screen {
    /// Standard output as it is connected now.
    pub(crate) fn new() -> Self {
        let out = io::stdout();
        let colour = out.is_terminal() && colour_wanted();
        let columns = columns_of(&out);
        Self {
            out,
            colour,
            columns,
        }
    }

    /// Columns that our own text fills at most.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// `text` in the look of `tone`.
    pub(crate) fn paint(&self, tone: Tone, text: impl Display) -> String {
        if !self.colour {
            return text.to_string();
        }
        let style = tone.style();
        format!("{style}{text}{style:#}")
    }

    /// Writes one line.
    pub(crate) fn line(&mut self, text: impl Display) -> Result<(), CommandError> {
        Ok(writeln!(self.out, "{text}")?)
    }

    /// Writes `text` as it stands and shows it at once.
    pub(crate) fn write(&mut self, text: &str) -> Result<(), CommandError> {
        self.out.write_all(text.as_bytes())?;
        Ok(self.out.flush()?)
    }

    /// Writes a value as one line of JSON, or over several lines for people.
    pub(crate) fn json(&mut self, value: &impl serde::Serialize) -> anyhow::Result<()> {
        let text = if self.out.is_terminal() {
            serde_json::to_string_pretty(value)?
        } else {
            serde_json::to_string(value)?
        };
        Ok(self.line(text)?)
    }

    /// Writes a value as exactly one line of JSON.
    pub(crate) fn json_line(&mut self, value: &impl serde::Serialize) -> anyhow::Result<()> {
        Ok(self.line(serde_json::to_string(value)?)?)
    }
}

impl Tone {
    fn style(self) -> Style {
        match self {
            Self::Heading => Style::new().effects(Effects::BOLD),
            Self::Quiet => Style::new().effects(Effects::DIMMED),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Bad => AnsiColor::Red.on_default().effects(Effects::BOLD),
            Self::Speech => AnsiColor::Cyan.on_default(),
        }
    }
}

/// The width of the terminal, within bounds; the default where there is none, or none that knows it.
fn columns_of(out: &Stdout) -> usize {
    if !out.is_terminal() {
        return COLUMNS_DEFAULT;
    }
    match rustix::termios::tcgetwinsize(out) {
        Ok(size) if size.ws_col > 0 => {
            usize::from(size.ws_col).clamp(*COLUMNS_BOUNDS.start(), *COLUMNS_BOUNDS.end())
        }
        _ => COLUMNS_DEFAULT,
    }
}

fn colour_wanted() -> bool {
    let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = env::var_os("TERM").is_some_and(|value| value == "dumb");
    !refused && !dumb
}

/// Breaks a text that arrives in pieces into lines of at most `columns` columns, each indented. A word
/// is held back until it is complete, and nothing else is.
pub(crate) struct Wrapper {
    indent: usize,
    columns: usize,
    column: usize,
    word: String,
    space_due: bool,
}

impl Wrapper {
    /// A wrapper whose lines begin with `indent` spaces.
    pub(crate) fn new(indent: usize, columns: usize) -> Self {
        Self {
            indent,
            columns,
            column: 0,
            word: String::new(),
            space_due: false,
        }
    }

    /// What can be shown once `text` has arrived.
    pub(crate) fn push(&mut self, text: &str) -> String {
        let mut ready = String::new();
        for character in text.chars() {
            match character {
                '\n' => {
                    self.flush_word(&mut ready);
                    ready.push('\n');
                    (self.column, self.space_due) = (0, false);
                }
                _ if character.is_whitespace() => {
                    self.flush_word(&mut ready);
                    self.space_due = self.column > 0;
                }
                // A model could print escape sequences; a terminal must not obey them.
                _ if character.is_control() => self.word.push('\u{fffd}'),
                _ => self.word.push(character),
            }
        }
        ready
    }

    /// The rest, and the end of the last line.
    pub(crate) fn finish(&mut self) -> String {
        let mut ready = String::new();
        self.flush_word(&mut ready);
        ready.push('\n');
        (self.column, self.space_due) = (0, false);
        ready
    }

    fn flush_word(&mut self, ready: &mut String) {
        if self.word.is_empty() {
            return;
        }
        let width = self.word.chars().count();
        if self.column > 0 && self.column + usize::from(self.space_due) + width > self.columns {
            ready.push('\n');
            (self.column, self.space_due) = (0, false);
        }
        if self.column == 0 {
            ready.extend(std::iter::repeat_n(' ', self.indent));
            self.column = self.indent;
        } else if self.space_due {
            ready.push(' ');
            self.column += 1;
        }
        ready.push_str(&self.word);
        self.column += width;
        self.space_due = false;
        self.word.clear();
    }
}

/// `text` on one line, with everything that a terminal would obey made visible.
pub(crate) fn on_one_line(text: &str) -> String {
    printable(text).replace(['\n', '\t'], " ")
}

/// `text` with everything that a terminal would obey, but line ends and tabs, made visible: control characters, and those
/// that turn the direction in which text runs.
pub(crate) fn printable(text: &str) -> String {
    let turns = |c: char| {
        let marks = ['\u{200e}', '\u{200f}', '\u{061c}'];
        matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') || marks.contains(&c)
    };
    let visible = |c: char| {
        if (c.is_control() && c != '\n' && c != '\t') || turns(c) {
            '\u{fffd}'
        } else {
            c
        }
    };
    text.chars().map(visible).collect()
}

/// `text` wrapped as a whole, without a last line end.
pub(crate) fn wrap(text: &str, indent: usize, columns: usize) -> String {
    let mut wrapper = Wrapper::new(indent, columns);
    let mut wrapped = wrapper.push(text);
    wrapped.push_str(&wrapper.finish());
    wrapped.trim_end_matches('\n').to_owned()
}

/// A progress bar over bytes on standard error; invisible unless that is a terminal, and until it is
/// known how many bytes there are.
pub(crate) struct ByteProgress {
    bar: ProgressBar,
}

impl ByteProgress {
    /// A bar that says what is going on, e.g. `checking coffee-q8_0.gguf`.
    pub(crate) fn new(what: &str) -> Self {
        // `with_message` draws nothing, as `set_message` would: a bar of 0 B.
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10))
            .with_message(what.to_owned());
        let template = "{msg}  [{bar:30}] {binary_bytes} of {binary_total_bytes}  {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { bar }
    }

    /// Shows how far it is.
    pub(crate) fn at(&self, bytes_done: u64, bytes_total: u64) {
        self.bar.update(|state| {
            state.set_len(bytes_total);
            state.set_pos(bytes_done);
        });
    }
}

impl Drop for ByteProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A spinner on standard error for a step of unknown length; invisible unless that is a terminal.
pub(crate) struct Spinner {
    bar: ProgressBar,
}

impl Spinner {
    /// A spinner that says what is going on.
    pub(crate) fn new(what: &str) -> Self {
        let bar = ProgressBar::new_spinner();
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar }
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A number of bytes for people: `5.4 MB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = UNITS[0];
    for larger in &UNITS[1..] {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        unit = larger;
    }
    format!("{value:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_in_pieces_wraps_like_the_whole() {
        let text = "Recommend one coffee shop that meets every wish, and say in one sentence why \
            it is the right one for today.\nSecond paragraph.";
        for columns in [40, COLUMNS_DEFAULT] {
            let whole = wrap(text, 3, columns);
            assert!(
                whole.lines().all(|line| line.chars().count() <= columns),
                "{whole}"
            );
            assert!(whole.lines().all(|line| line.starts_with("   ")), "{whole}");
            for size in 1..7 {
                let mut wrapper = Wrapper::new(3, columns);
                let characters: Vec<char> = text.chars().collect();
                let mut pieces = String::new();
                for piece in characters.chunks(size) {
                    pieces.push_str(&wrapper.push(&piece.iter().collect::<String>()));
                }
                pieces.push_str(&wrapper.finish());
                assert_eq!(pieces.trim_end_matches('\n'), whole, "pieces of {size}");
            }
        }
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert!(
            !wrap("red \u{1b}[31m alert \u{7}", 0, COLUMNS_DEFAULT).contains(['\u{1b}', '\u{7}'])
        );
    }

    #[test]
    fn byte_counts_read_well() {
        #[track_caller]
        fn check(count: u64, expected: &str) {
            assert_eq!(bytes(count), expected);
        }
        check(0, "0 B");
        check(999, "999 B");
        check(5_400_000, "5.4 MB");
        check(1_500, "1.5 kB");
        check(u64::MAX, "18446744.1 TB");
    }
}
