//! The redaction rules over a text that is still being written.
//!
//! Each push gives back what can no longer become part of a secret. In prose that is everything
//! up to the last word; what is held back is at most [`crate::HOLD_BACK_CHARS_MAX`] characters with
//! the rules that ship, whatever the text. From the begin line of a private key on nothing is
//! emitted until its end, see [`crate::PRIVATE_KEY_BLOCK_BYTES_MAX`].
//!
//! Invariant: the pieces together are exactly what cleaning the whole text at once gives,
//! wherever it was split.

use std::fmt;

use crate::rules::RuleSet;
use crate::sanitizer::SanitizedStream;
use crate::template::Redaction;

/// The name under which findings in output are reported.
const OUTPUT: &str = "output";

/// Cleans one model output while it streams.
pub struct OutputFilter {
    stream: SanitizedStream,
}

impl fmt::Debug for OutputFilter {
    /// Without the text that is held back: it may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("OutputFilter");
        debug.field("redactions", &self.redactions());
        debug.finish_non_exhaustive()
    }
}

impl OutputFilter {
    /// A filter for one output.
    #[must_use]
    pub fn new(rules: &RuleSet) -> Self {
        Self {
            stream: rules
                .sanitizer
                .unlisted_stream(rules.policy.output_settings()),
        }
    }

    /// Takes the next piece, and gives back the text that is safe to emit now.
    #[must_use]
    pub fn push(&mut self, text: &str) -> String {
        self.stream.push(text)
    }

    /// Ends the output, and gives back the rest.
    #[must_use]
    pub fn finish(&mut self) -> String {
        self.stream.finish()
    }

    /// What was replaced so far, in byte order of the rules' names.
    #[must_use]
    pub fn redactions(&self) -> Vec<Redaction> {
        let counts = self.stream.redactions().into_iter();
        let redactions = counts.map(|found| Redaction {
            variable: OUTPUT.to_owned(),
            rule: found.rule,
            count: found.count,
        });
        redactions.collect()
    }
}
