//! Numbers and counts of marks.

use postern_governance::Sanitizer;

use crate::fixtures::{openai, openai_legacy};

#[test]
fn the_same_secret_has_the_same_number() {
    let (one, two) = (openai(), openai_legacy());
    let text = format!("{one} {two} {one} 4111111111111111 4111-1111 1111 1111 378282246310005");
    let sanitized = Sanitizer::builtin().sanitize(&text);
    assert_eq!(
        sanitized.text,
        "[REDACTED:openai-api-key:1] [REDACTED:openai-api-key:2] [REDACTED:openai-api-key:1] \
         [REDACTED:payment-card:1] [REDACTED:payment-card:1] [REDACTED:payment-card:2]"
    );
    let counts: Vec<(&str, u64)> = sanitized
        .redactions
        .iter()
        .map(|r| (r.rule.as_str(), r.count))
        .collect();
    assert_eq!(counts, [("openai-api-key", 3), ("payment-card", 3)]);
}

#[test]
fn marks_in_the_input_are_not_counted() {
    let text = "[REDACTED:payment-card:1] 4111111111111111";
    let sanitized = Sanitizer::builtin().sanitize(text);
    assert_eq!(sanitized.redactions.len(), 1);
    assert_eq!(sanitized.redactions[0].count, 1);
}
