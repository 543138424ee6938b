//! Message contents that can never become special tokens.
//!
//! Before a chat template runs, contents are *guarded*: a private-use character that occurs nowhere else
//! is put after each character that can begin a reserved token, before each that can end one, and around
//! the content. After it ran, the reserved tokens are found in the guarded text, and only then do the
//! guards go. A reserved token that touches any character of a content would have a guard inside of it,
//! so none is found there: not whole, not nested in another, not half in the template or in the next
//! message, and not after the template trimmed or cut the content.
//!
//! Two consequences: a template that searches contents for such texts does not find them, and reserved
//! tokens of one character are never recognised in chats.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::special_scan::Segment;
use super::{Inner, Tokenizer, check_text_length};
use crate::digest::Sha256Digest;
use crate::error::{EngineError, Result};

/// Characters without an assigned meaning, from which the guard is chosen.
const PRIVATE_USE: [std::ops::RangeInclusive<char>; 2] =
    ['\u{E000}'..='\u{F8FF}', '\u{F0000}'..='\u{FFFFD}'];

/// A rendered chat, with guards in what came from messages.
#[derive(Clone)]
pub struct ChatPrompt {
    guarded: String,
    guard: char,
    tokenizer: Sha256Digest,
}

impl ChatPrompt {
    /// The prompt as the template wrote it, for people to read. Encoding this text instead of the prompt
    /// would let contents become special tokens.
    pub fn text(&self) -> String {
        self.guarded.replace(self.guard, "")
    }
}

impl std::fmt::Debug for ChatPrompt {
    /// Prompts stay out of logs, so this shows the length only.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ChatPrompt")
            .field("bytes", &self.guarded.len())
            .finish_non_exhaustive()
    }
}

/// Guards contents for one tokenizer and one chat.
pub(crate) struct Guard {
    guard: char,
    first: BTreeSet<char>,
    last: BTreeSet<char>,
    tokenizer: Sha256Digest,
}

impl Guard {
    /// Chooses a guard for a chat in which `texts` are everything a template sees or says.
    ///
    /// # Errors
    /// [`EngineError::ChatTemplate`] when the texts use all private-use characters.
    pub(crate) fn new<'a>(
        tokenizer: &'a Tokenizer,
        texts: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self> {
        let Inner { vocabulary, .. } = &*tokenizer.inner;
        let reserved: Vec<&str> = vocabulary
            .iter()
            .filter(|(id, _, _)| vocabulary.is_reserved(*id))
            .map(|(_, text, _)| text)
            .collect();
        let taken: BTreeSet<char> = texts
            .into_iter()
            .chain(reserved.iter().copied())
            .flat_map(str::chars)
            .filter(|character| PRIVATE_USE.iter().any(|range| range.contains(character)))
            .collect();
        let guard = PRIVATE_USE
            .into_iter()
            .flatten()
            .find(|character| !taken.contains(character))
            .ok_or_else(|| EngineError::ChatTemplate {
                reason: "the messages use every private-use character, so contents cannot be marked; leave one out".to_owned(),
            })?;
        Ok(Self {
            guard,
            first: reserved
                .iter()
                .filter_map(|text| text.chars().next())
                .collect(),
            last: reserved
                .iter()
                .filter_map(|text| text.chars().next_back())
                .collect(),
            tokenizer: tokenizer.sha256(),
        })
    }

    /// A content with guards. White space around it stays outside of them, so that templates can trim it.
    pub(crate) fn guarded(&self, content: &str) -> String {
        let body = content.trim();
        if body.is_empty() {
            return content.to_owned();
        }
        let lead = content.len() - content.trim_start().len();
        let mut guarded = String::with_capacity(content.len() + content.len() / 4);
        guarded.push_str(&content[..lead]);
        guarded.push(self.guard);
        for character in body.chars() {
            if self.last.contains(&character) {
                guarded.push(self.guard);
            }
            guarded.push(character);
            if self.first.contains(&character) {
                guarded.push(self.guard);
            }
        }
        guarded.push(self.guard);
        guarded.push_str(&content[lead + body.len()..]);
        guarded
    }

    /// The prompt that a template made of guarded contents.
    pub(crate) fn prompt(&self, guarded: String) -> ChatPrompt {
        ChatPrompt {
            guarded,
            guard: self.guard,
            tokenizer: self.tokenizer,
        }
    }
}

impl Tokenizer {
    /// Encodes a rendered chat. Special tokens come from the template alone; BOS is put first where the
    /// model asks for it and the template did not write it.
    ///
    /// # Errors
    /// [`EngineError::TextTooLong`], and [`EngineError::ChatTemplate`] when the prompt was rendered for
    /// another tokenizer.
    pub fn encode_chat(&self, prompt: &ChatPrompt) -> Result<Vec<u32>> {
        if prompt.tokenizer != self.sha256() {
            return Err(EngineError::ChatTemplate {
                reason: format!(
                    "the chat was rendered for the tokenizer {}, but this one is {}",
                    prompt.tokenizer,
                    self.sha256()
                ),
            });
        }
        let scans = &self.inner.scans;
        let parts: Vec<Part<'_>> = scans
            .reserved
            .segments(&prompt.guarded)
            .into_iter()
            .map(|segment| match segment {
                Segment::Special(id) => Part::Special(id),
                Segment::Text(text) => Part::Text(without(text, prompt.guard)),
            })
            .collect();
        let bytes = parts.iter().map(Part::bytes).sum::<usize>();
        check_text_length(bytes)?;

        let segments = parts.iter().flat_map(|part| match part {
            Part::Special(id) => vec![Segment::Special(*id)],
            Part::Text(text) => scans.unreserved.segments(text),
        });
        let mut ids = Vec::new();
        self.encode_segments(segments, &mut ids);
        let special = self.special();
        if let (true, Some(bos)) = (special.add_bos, special.bos)
            && ids.first() != Some(&bos)
        {
            ids.insert(0, bos);
        }
        Ok(ids)
    }
}

/// A segment of a prompt whose guards are gone.
enum Part<'a> {
    Special(u32),
    Text(Cow<'a, str>),
}

impl Part<'_> {
    fn bytes(&self) -> usize {
        match self {
            Self::Special(_) => 0,
            Self::Text(text) => text.len(),
        }
    }
}

fn without(text: &str, guard: char) -> Cow<'_, str> {
    if text.contains(guard) {
        Cow::Owned(text.replace(guard, ""))
    } else {
        Cow::Borrowed(text)
    }
}
