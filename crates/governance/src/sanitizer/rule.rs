//! One rule: what it looks for, how sure it is, and what it is called.
//!
//! A rule is asked where one of its keywords stands, or where a word begins; see
//! [`super::look`]. Absent: files, which are read in [`super::rule_file`].

use serde::{Deserialize, Serialize};

use super::assignment::Announced;
use super::checksum::Check;
use super::pattern::{ByteSet, Pattern};

/// What kind of thing a rule finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleClass {
    /// Something that opens a door: keys, tokens, passwords.
    Secret,
    /// Something that is about a person.
    Personal,
}

impl RuleClass {
    /// The name in files and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Personal => "personal",
        }
    }
}

/// One rule, ready to be asked.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) id: String,
    pub(super) description: String,
    pub(super) class: RuleClass,
    pub(super) form: Form,
    /// How sure a match is by itself, 0 to 1.
    pub(super) confidence: f32,
    /// How sure it is with a context word before it.
    pub(super) confidence_in_context: f32,
    /// How sure it is where the check fails; `None`: it is no match then.
    pub(super) confidence_unchecked: Option<f32>,
    pub(super) check: Option<Check>,
    /// Least Shannon entropy in bits a character.
    pub(super) entropy_min: f32,
    /// Lower-case parts of a value that make it a placeholder.
    pub(super) stop_words: Vec<String>,
    /// What the secret must not match.
    pub(super) allow: Vec<Pattern>,
    pub(super) has_context: bool,
    /// Whether it steps back where a rule with a form of its own finds something.
    pub(super) is_generic: bool,
    /// Whether it is asked where a word begins, and not only at its keywords.
    pub(super) at_words: Option<Words>,
}

impl Rule {
    /// Whether a word with these first two bytes could be what the rule is asked at words for.
    pub(super) fn may_begin_word(&self, first: u8, second: u8) -> bool {
        let Some(words) = &self.at_words else {
            return false;
        };
        words.first.contains(first)
            && match &self.form {
                Form::Head(head) => head.may_begin(first, second),
                Form::PaymentCard => first.is_ascii_digit() && second.is_ascii_digit(),
                Form::Iban => first.is_ascii_uppercase() && second.is_ascii_uppercase(),
                _ => true,
            }
    }
}

/// Which words a rule without keywords is asked at.
#[derive(Debug)]
pub(super) struct Words {
    /// First bytes of such a word.
    pub(super) first: ByteSet,
    /// Fewest digits in the stretch of digits and separators that begins there.
    pub(super) digits_min: usize,
    /// How many capital letters stand before two digits.
    pub(super) digits_at: Option<usize>,
    /// What follows the letters and digits of the word.
    pub(super) then: Option<ByteSet>,
}

/// What a rule looks for.
#[derive(Debug)]
pub(super) enum Form {
    /// A secret of known form, at its keyword.
    Head(Box<Head>),
    /// A pattern that may match anywhere around its keyword.
    Around {
        pattern: Pattern,
        group: usize,
    },
    /// What is assigned to a name that announces a secret.
    Assignment(Announced),
    /// Numbers with a form that no pattern tells.
    PaymentCard,
    Iban,
    /// The keyword itself, as whole words.
    Literal,
    /// A block from a begin line to an end line.
    PrivateKey(Pattern),
}

/// A secret of known form.
#[derive(Debug)]
pub(super) struct Head {
    /// What stands before the secret and is no part of it.
    pub(super) prefix: Option<Pattern>,
    /// Characters before the keyword that belong to the secret.
    pub(super) lead: Option<ByteSet>,
    /// The least that is enough to know the secret.
    pub(super) head: Pattern,
    pub(super) group: usize,
    /// What still belongs to it behind the head.
    pub(super) tail: Option<ByteSet>,
    /// What must not stand directly before it.
    pub(super) not_after: ByteSet,
    /// What must not stand directly behind it.
    pub(super) not_before: ByteSet,
}

impl Head {
    /// Whether a match at its own place could begin with these two bytes.
    fn may_begin(&self, first: u8, second: u8) -> bool {
        let opening = self.prefix.as_ref().unwrap_or(&self.head).opening();
        self.lead.is_some() || opening.admits_at(0, first) && opening.admits_at(1, second)
    }
}
