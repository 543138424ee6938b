//! Rule files: what they can say, and what is refused.

use postern_governance::{Mode, Modes, PATTERN_BYTES_MAX, RuleClass, Sanitizer, Settings};

fn with(text: &str) -> Result<Sanitizer, String> {
    Sanitizer::with_rules(&[("own.toml".to_owned(), text.to_owned())]).map_err(|e| e.to_string())
}

fn rule(keys: &str) -> String {
    format!("version = 1\n\n[[rule]]\nid = \"acme\"\ndescription = \"Acme\"\n{keys}\n")
}

#[test]
fn own_rules_are_asked_first_and_can_replace_and_disable() {
    let own = rule("keywords = [\"acme_\"]\nhead = \"acme_[a-z0-9]{8}\"\ntail = \"a-z0-9\"");
    let sanitizer = with(&own).expect("a good file");
    assert_eq!(
        sanitizer.sanitize("acme_ab12cd34ef").text,
        "[REDACTED:acme:1]"
    );
    let off = with("version = 1\ndisable = [\"payment-card\"]\n").expect("a good file");
    assert_eq!(off.sanitize("4111111111111111").text, "4111111111111111");
    assert_ne!(off.checksum(), Sanitizer::builtin().checksum());
}

#[test]
fn names_are_found_from_a_list() {
    let names = rule("class = \"personal\"\nform = \"literal\"\nkeywords = [\"Jo Bloggs\"]");
    let sanitizer = with(&names).expect("a good file");
    let cases = [
        ("ask jo bloggs, please", "ask [REDACTED:acme:1], please"),
        ("Jo Bloggsworth", "Jo Bloggsworth"),
    ];
    for (text, expected) in cases {
        assert_eq!(sanitizer.sanitize(text).text, expected);
    }
}

#[test]
fn rules_in_the_format_of_gitleaks_are_read() {
    let theirs = r#"
title = "theirs"
[extend]
useDefault = true
[[rules]]
id = "acme-token"
description = "Acme"
regex = '''(?i)acme(?:[0-9a-z\-_\t .]{0,20})(?:[\s|']|[\s|"]){0,3}(?:=|>|:=|:)(?:'|\"|\s){0,5}([a-z0-9]{12})(?:['|\"|\n|\r|\s]|$)'''
secretGroup = 1
keywords = ["acme"]
[rules.allowlist]
stopwords = ["aaaa"]
[[rules]]
id = "a-path"
path = '''\.p12$'''
[allowlist]
regexes = ['''^0+$''']
"#;
    let sanitizer = with(theirs).expect("a good file");
    let cases = [
        (
            "acme_key = 'ab12cd34ef56' # x",
            "acme_key = '[REDACTED:acme-token:1]' # x",
        ),
        ("acme_key = 'aaaacd34ef56'", "acme_key = 'aaaacd34ef56'"),
        ("acme_key = '000000000000'", "acme_key = '000000000000'"),
    ];
    for (text, expected) in cases {
        assert_eq!(sanitizer.sanitize(text).text, expected);
    }
}

#[test]
fn what_is_wrong_is_named_with_file_line_and_rule() {
    let long = "a".repeat(PATTERN_BYTES_MAX + 1);
    let cases = [
        ("version = 2\n".to_owned(), "own.toml:1: field `version`"),
        (
            "version = 1\ndisable = [\"nothing\"]\n".to_owned(),
            "`nothing`, which is no rule",
        ),
        (
            rule("keywords = [\"a\"]\nhead = \"a\"\ncolour = 1"),
            "unknown field `colour`",
        ),
        (
            rule("keywords = [\"a\"]"),
            "own.toml:3: rule `acme`: `head`",
        ),
        (rule("head = \"abc\""), "`keywords` is missing"),
        (
            rule("keywords = [\"a\"]\nhead = \"a(\""),
            "is no regular expression",
        ),
        (rule("keywords = [\"a\"]\nhead = \"a(?=b)\""), "look-around"),
        (
            rule("keywords = [\"a\"]\nhead = \"a*\""),
            "matches the empty text",
        ),
        (
            rule("keywords = [\"a\"]\nhead = \"a{63}\""),
            "matches no less than 63 bytes",
        ),
        (
            rule(&format!("keywords = [\"a\"]\nhead = \"{long}\"")),
            "is longer than",
        ),
        (
            rule("keywords = [\"a\"]\npattern = \"((a{0,99}){0,99}){0,99}b\""),
            "compiles to more than",
        ),
        (
            rule("keywords = [\"a\"]\nhead = \"ab\"\ngroup = 1"),
            "has 0 groups",
        ),
        (
            rule("keywords = [\"a\"]\nhead = \"ab\"\ntail = \"[a\""),
            "inside of a class",
        ),
        (
            rule("keywords = [\"a\"]\nhead = \"ab\"\nconfidence = 2.0"),
            "from 0 to 1",
        ),
        (
            rule("keywords = [\"\"]\nhead = \"ab\""),
            "a keyword has 1 to",
        ),
        (
            rule("keywords = [\"a\"]\nhead = \"ab\"").replace("acme", "A b"),
            "must be 1 to 40",
        ),
    ];
    for (text, expected) in cases {
        let error = with(&text).expect_err(expected);
        assert!(
            error.contains(expected),
            "{error:?} should hold {expected:?}"
        );
        assert!(error.starts_with("own.toml"), "{error}");
    }
}

#[test]
fn settings_decide_what_happens() {
    let text = "mail anna@posteo.de, token ghp_";
    let settings = |confidence_min, personal| Settings {
        confidence_min,
        modes: Modes {
            secret: Mode::Redact,
            personal,
        },
    };
    let sanitizer = Sanitizer::builtin();
    let marked = sanitizer.sanitize_with(text, settings(0.5, Mode::Mark));
    assert_eq!(marked.text, text);
    assert_eq!(marked.findings[0].rule, "email-address");
    assert_eq!(marked.findings[0].class, RuleClass::Personal);
    assert_eq!(
        (
            marked.findings[0].start.line,
            marked.findings[0].start.column
        ),
        (1, 6)
    );
    assert!(
        sanitizer
            .sanitize_with(text, settings(0.99, Mode::Redact))
            .findings
            .is_empty()
    );
}
