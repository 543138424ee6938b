//! What a record says: the content of the log, apart from how it is stored.
//!
//! Invariant: an entry that passed [`Entry::check`] has bounded strings, well-formed digests and
//! finite numbers, so it is written and read back unchanged. Absent: secrets. A token appears by
//! its id only, and inputs appear as the sanitizer left them; both are the caller's duty.

mod check;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::chain::hex;
use crate::kind::Class;
use crate::refused_more::RefusedMore;

pub(crate) use check::{check_count, check_name, invalid};

/// Longest request id, in bytes.
pub const REQUEST_ID_BYTES_MAX: usize = 64;
/// Longest name (identity, template, model, variable, rule, code), in bytes.
pub const NAME_BYTES_MAX: usize = 256;
/// Longest free text about a refusal, in bytes.
pub const DETAIL_BYTES_MAX: usize = 4096;
/// Most variables in one admitted call.
pub const VARIABLES_MAX: usize = 256;
/// Most budgets in one admitted call.
pub const BUDGETS_MAX: usize = 64;
/// Most rules that permitted one call.
pub const RULES_MAX: usize = 1024;
/// Most reasons for which one answer is held.
pub const REASONS_MAX: usize = 16;
/// Most redaction counts in one record.
pub const REDACTIONS_MAX: usize = 1024;
/// Longest text of an output that is kept, in bytes.
pub const OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// The content of one record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Entry {
    /// The log was opened by a daemon. Written by the log itself, first in each such segment.
    Opened {
        /// Version of this crate.
        version: String,
        /// What recovery cut from the end of the segment before, if anything.
        cut: Option<Cut>,
    },
    /// A call was admitted; written before anything is generated for it.
    Admitted(Admitted),
    /// A call was refused before it was admitted.
    Refused(Refused),
    /// More was refused in some time than had records of its own.
    RefusedMore(RefusedMore),
    /// An admitted call came to its end.
    Completed(Completed),
    /// A person changed something that decides about calls, or saw a held output, or a model was loaded; written before.
    Administered(Administered),
    /// An admitted call had no end when the log was opened again. Written by the log itself.
    Interrupted {
        /// The call. Stored empty, because a log cannot read what it wrote; a reader that has read
        /// the `Admitted` record fills it in.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        request_id: String,
        /// Index of its `Admitted` record.
        admitted_index: u64,
    },
    /// The content of one class in one finished segment is destroyed. Written by the log itself,
    /// before it is done.
    Expired(Expired),
}

/// Content that is destroyed, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expired {
    /// Number of the segment.
    pub segment: u32,
    /// What of it is destroyed.
    pub class: Class,
    /// Why, as a stable kebab-case code: `age`, `bytes` or `disk-full`.
    pub reason: String,
}

/// The remains of a write that power loss or a kill broke off, as recovery removed them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// Number of the segment that was cut.
    pub segment: u32,
    /// Its length in bytes after the cut.
    pub offset: u64,
    /// How many bytes were removed.
    pub bytes: u64,
    /// SHA-256 of the removed bytes, lower-case hex.
    pub sha256: String,
}

/// An admitted call: what was asked, by whom, of what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admitted {
    /// Unique among the calls in flight.
    pub request_id: String,
    /// Identity of the caller.
    pub identity: String,
    /// Id of the bearer token, never the token.
    pub token_id: Option<String>,
    /// SHA-256 of the caller's certificate (its DER), lower-case hex; empty where there was none or it is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub certificate_sha256: String,
    /// The model that is going to answer.
    pub model: ModelRef,
    /// The template that makes the prompt.
    pub template: TemplateRef,
    /// Checksum of the policy that allowed the call, lower-case hex.
    pub policy_sha256: String,
    /// Checksum of all that was in force: templates, policy, redaction rules and registry, lower-case hex; empty
    /// where it is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rules_sha256: String,
    /// The rules that permitted the call, by id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// The sanitized variables, by name.
    pub variables: BTreeMap<String, String>,
    /// What the sanitizer removed from the variables.
    pub redactions: Vec<RedactionCount>,
    /// The highest score of an untrusted variable as an attempt to give the model instructions, 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub injection_score: Option<u8>,
    /// The parameters of the generation.
    pub parameters: Parameters,
    /// What was reserved for it, of each budget that it has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<BudgetUse>,
}

/// What one call reserved of one budget, in tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetUse {
    /// Whose.
    pub account: String,
    /// Which of its limits.
    pub limit: String,
    /// What it allowed, grants included.
    pub allowed: u64,
    /// What was used and reserved before the call.
    pub before: u64,
    /// The same with what was reserved for the call.
    pub after: u64,
}

/// A model, named so that it can be found again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRef {
    /// Id in its manifest.
    pub id: String,
    /// SHA-256 of the model file, lower-case hex.
    pub sha256: String,
    /// SHA-256 of its tokenizer, lower-case hex.
    pub tokenizer_sha256: String,
    /// SHA-256 of its chat template, lower-case hex, if it has one.
    pub chat_template_sha256: Option<String>,
}

/// A template and its checksum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateRef {
    /// Id, ending in its version.
    pub id: String,
    /// SHA-256 of its canonical bytes, lower-case hex.
    pub sha256: String,
}

/// How often one rule redacted something in one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedactionCount {
    /// The variable, or `output` for what the model said.
    pub variable: String,
    /// Id of the rule.
    pub rule: String,
    /// Number of redactions.
    pub count: u64,
}

/// The parameters that, with model and prompt, determine the output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Most tokens to generate.
    pub max_tokens: u32,
    /// Sampling temperature; 0 is greedy.
    #[serde(serialize_with = "shortest_f32")]
    pub temperature: f32,
    /// The seed in effect, chosen by the caller or by the daemon.
    pub seed: u64,
    /// Whether the answer is streamed.
    pub stream: bool,
}

/// A call that was turned away before it was admitted, or somebody who did not prove who they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// Id of the request.
    pub request_id: String,
    /// Identity of the caller, where it is known.
    pub identity: Option<String>,
    /// Id of the bearer token, if one came that the daemon had signed; never the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
    /// Checksum of the caller's certificate, as in [`Admitted::certificate_sha256`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub certificate_sha256: String,
    /// The template that was asked for, as the caller named it (see [`Refused::clipped`]).
    pub template: Option<String>,
    /// The request id of the call whose held output was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Why, as a stable kebab-case code.
    pub code: String,
    /// Why, for a person. Never a variable's content.
    pub detail: String,
    /// Checksum of the rules in force, as in [`Admitted::rules_sha256`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rules_sha256: String,
}

impl Refused {
    /// Cuts what an outsider may have made too long (identity, template, detail) to its bound, at
    /// a character, so that an absurd request still leaves its record.
    #[must_use]
    pub fn clipped(mut self) -> Self {
        for name in [&mut self.identity, &mut self.template]
            .into_iter()
            .flatten()
        {
            clip(name, NAME_BYTES_MAX);
        }
        clip(&mut self.detail, DETAIL_BYTES_MAX);
        self
    }
}

/// The end of an admitted call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Completed {
    /// The call.
    pub request_id: String,
    /// Index of its `Admitted` record, from that record's receipt.
    pub admitted_index: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// SHA-256 of the text that left the daemon, lower-case hex.
    pub output_sha256: String,
    /// That text or its beginning, where it is kept and not only hashed; at most
    /// [`OUTPUT_BYTES_MAX`] bytes (see [`Completed::clipped`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Tokens read and generated.
    pub usage: Usage,
    /// What the output filter removed.
    pub output_redactions: Vec<RedactionCount>,
    /// Whether the whole output fitted the template's schema; none where the template has none, or the output did
    /// not come to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_valid: Option<bool>,
    /// Mean probability of the generated tokens, 0 to 1, where it was measured.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "shortest_f32_if_any"
    )]
    pub mean_probability: Option<f32>,
    /// How long it took.
    pub timings: Timings,
}

impl Completed {
    /// Cuts the output's text to its bound, at a character, so that a long one still leaves its
    /// record.
    #[must_use]
    pub fn clipped(mut self) -> Self {
        if let Some(output) = &mut self.output {
            clip(output, OUTPUT_BYTES_MAX);
        }
        self
    }

    /// Whether the text that is kept is all of the output: then its SHA-256 is the output's.
    #[must_use]
    pub fn keeps_whole_output(&self) -> bool {
        let output = self.output.as_ref();
        output.is_some_and(|output| hex(&Sha256::digest(output)) == self.output_sha256)
    }
}

/// What a person did, a change or a look at a held output, or a model that was loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Administered {
    /// Who did it; `None` for somebody at the device, whom its own rights let in.
    pub identity: Option<String>,
    /// What was done, as a stable kebab-case code.
    pub action: String,
    /// What was changed or looked at.
    pub subject: String,
    /// From what to what, or why, for a person.
    pub detail: String,
    /// Checksum of the rules in force, as in [`Admitted::rules_sha256`]; empty where no rules were loaded.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rules_sha256: String,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Outcome {
    /// The model ended its answer.
    Completed,
    /// The answer reached `max_tokens`.
    Length,
    /// The caller went away or withdrew the call.
    Cancelled,
    /// The deadline passed.
    Deadline,
    /// The output filter ended it.
    Filtered,
    /// The answer is whole, and kept until somebody has looked at it.
    Held {
        /// Why, as stable kebab-case codes.
        reasons: Vec<String>,
    },
    /// Something failed.
    Failed {
        /// What, as a stable kebab-case code.
        code: String,
    },
}

/// Tokens of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens that were generated.
    pub completion_tokens: u64,
}

/// Durations of one call, in whole microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timings {
    /// From admission until the engine began with it.
    pub queued_us: u64,
    /// From admission until the first token, if one came.
    pub first_token_us: Option<u64>,
    /// From admission until the end.
    pub total_us: u64,
}

fn clip(text: &mut String, bytes_max: usize) {
    text.truncate(text.floor_char_boundary(bytes_max));
}

/// Writes 0.7 as `0.7`, not as the nearest binary fraction with all its digits.
fn shortest_f32<S: Serializer>(number: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(shortest(*number))
}

fn shortest_f32_if_any<S: Serializer>(
    number: &Option<f32>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    number.map(shortest).serialize(serializer)
}

/// The number that is written with the fewest digits which still mean this one.
pub(crate) fn shortest(number: f32) -> f64 {
    let decimal = number.to_string();
    decimal
        .parse()
        .expect("the decimal form of a float is a number")
}
