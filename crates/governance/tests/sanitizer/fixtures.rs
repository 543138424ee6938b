//! Made-up secrets, and the two ways to clean a text: whole and in pieces.

use postern_governance::{OutputFilter, Policy, RuleSet, Sanitizer, TemplateSet};

/// Secrets are put together at run time, so that no scanner takes this file for a leak.
pub(crate) fn secret(parts: &[&str]) -> String {
    parts.concat()
}

/// One key of each form that stands by itself.
pub(crate) fn keys() -> Vec<String> {
    vec![
        openai(),
        anthropic(),
        aws(),
        github(),
        github_fine(),
        slack(),
        google(),
        stripe(),
        jwt(),
        private_key("RSA PRIVATE KEY", 2),
    ]
}

pub(crate) fn openai() -> String {
    secret(&["sk", "-proj-", "Zk3fQ9xT2mLw8RbV5nYc7Hd1"])
}

pub(crate) fn openai_legacy() -> String {
    secret(&[
        "sk",
        "-",
        "aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY5zA7bC9dE1fG3",
    ])
}

pub(crate) fn anthropic() -> String {
    secret(&["sk", "-ant-", "api03-Qw3eRt5yUi7oPa9sDf1gHj3kLz5xCv7b"])
}

pub(crate) fn aws() -> String {
    secret(&["AK", "IA", "QZ7XW4PLMN2KVB6T"])
}

pub(crate) fn aws_secret() -> String {
    secret(&["wJalr7Utn", "FEMI/K7MDENG/bPxRfi", "CYzq81RtKm4p"])
}

pub(crate) fn github() -> String {
    secret(&["gh", "p_", "aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY5"])
}

pub(crate) fn github_fine() -> String {
    secret(&[
        "github",
        "_pat_",
        "11ABCDEFG0aB3dE5fG7hI9_jK1lM3nO5pQ7rS9tU1vW3",
    ])
}

pub(crate) fn slack() -> String {
    secret(&["xo", "xb-", "123456789012-abcdefGHIJKL"])
}

pub(crate) fn google() -> String {
    secret(&["AI", "za", "SyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q"])
}

pub(crate) fn stripe() -> String {
    secret(&["sk", "_live_", "4eC39HqLyjWDarjtT1zdp7dc"])
}

pub(crate) fn jwt() -> String {
    secret(&[
        "eyJ",
        "hbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9",
        ".eyJ",
        "zdWIiOiIxMjM0NTY3ODkwIn0",
        ".",
        "dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    ])
}

pub(crate) fn postern() -> String {
    secret(&[
        "pst1",
        ".",
        "eyJpZCI6IjAxbTgzZXhhbXBsZSJ9",
        ".",
        "dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    ])
}

pub(crate) fn private_key(kind: &str, lines: usize) -> String {
    let dashes = "-----";
    let body = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQDZ7sX0\n".repeat(lines);
    format!("{dashes}BEGIN {kind}{dashes}\n{body}{dashes}END {kind}{dashes}")
}

pub(crate) fn clean(text: &str) -> String {
    Sanitizer::builtin().sanitize(text).text
}

pub(crate) fn filter() -> OutputFilter {
    let template = "id: t.v1\ndescription: d\nauthor: a\nintent: i\nrisk: low\n\
                    max_tokens: 8\nuser: \"{{x}}\"\n";
    let templates = TemplateSet::from_sources([("t.v1.yaml", template)]).expect("a template");
    let policy = Policy::from_source("policy.yaml", "version: 1\nidentities: {}\n");
    OutputFilter::new(&RuleSet::new(templates, policy.expect("a policy")).expect("a rule set"))
}

/// Streams a text in chunks of the given sizes (in characters), the last one repeated.
pub(crate) fn stream(text: &str, sizes: &[usize]) -> String {
    let mut filter = filter();
    let mut emitted = String::new();
    let mut characters = text.chars().peekable();
    let mut sizes = sizes
        .iter()
        .copied()
        .chain(std::iter::repeat(*sizes.last().unwrap_or(&1)));
    while characters.peek().is_some() {
        let size = sizes.next().unwrap_or(1).max(1);
        let chunk: String = characters.by_ref().take(size).collect();
        emitted.push_str(&filter.push(&chunk));
    }
    emitted + &filter.finish()
}

/// Compares all cases and reports every one that differs.
pub(crate) fn check(cases: &[(String, String)]) {
    let mut failures = Vec::new();
    for (text, expected) in cases {
        let got = clean(text);
        if got != *expected {
            failures.push(format!(
                "{text:?}\n  expected {expected:?}\n  got      {got:?}"
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
