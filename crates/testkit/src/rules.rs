//! Rules for calls to the models of [`crate::chain`].

use postern_governance::{Policy, RuleSet, TemplateSet};

/// Most tokens of a call to `long.v1`: seconds of work.
pub const LONG_TOKENS: u32 = 30_000;
/// Most tokens of a call to `short.v1`.
pub const SHORT_TOKENS: u32 = 32;
/// Context that holds a call to `long.v1`.
pub const LONG_CONTEXT: usize = 32_768;
/// Longest value of the variable `text`, which both templates require.
pub const TEXT_BYTES_MAX: usize = 4096;

/// A policy file that gives `short.v1` to `kiosk` and `operator`, and `long.v1` to `operator` alone.
pub const POLICY: &str = "\
version: 1
identities:
  operator:
    templates:
      long.v1: {}
      short.v1: {}
  kiosk:
    templates:
      short.v1: {}
";

/// `short.v1` for `kiosk` and `operator`, `long.v1` for `operator` alone.
///
/// # Panics
/// The rules are not what `postern-governance` accepts, so that no test could go on.
pub fn short_and_long() -> RuleSet {
    let long = template("long.v1", LONG_TOKENS);
    let short = template("short.v1", SHORT_TOKENS);
    let sources = [("long.v1.yaml", &*long), ("short.v1.yaml", &*short)];
    let templates = TemplateSet::from_sources(sources).expect("valid templates");
    let policy = Policy::from_source("policy.yaml", POLICY).expect("a valid policy");
    RuleSet::new(templates, policy).expect("a policy of known templates")
}

/// A template file that asks for one text and answers with at most `max_tokens` tokens.
pub fn template(id: &str, max_tokens: u32) -> String {
    format!(
        "id: {id}\ndescription: Test of {id}.\nauthor: a\nintent: i\nrisk: low\n\
         max_tokens: {max_tokens}\nuser: \"{{{{text}}}}\"\nvariables:\n  \
         text: {{description: What to answer., bytes_max: {TEXT_BYTES_MAX}, required: true, fence: message}}\n"
    )
}
