//! What is taken out of a text, what is left alone, and that a stream gives the same as the whole.

use postern_governance::{
    ASSIGNMENT_VALUE_BYTES_MAX, HOLD_BACK_BYTES_MAX, OutputFilter, PRIVATE_KEY_BLOCK_BYTES_MAX,
    Policy, RUN_BYTES_MAX, RuleSet, Sanitizer, TemplateSet,
};
use proptest::prelude::*;

/// Secrets are put together at run time, so that no scanner takes this file for a leak.
fn secret(parts: &[&str]) -> String {
    parts.concat()
}

fn openai() -> String {
    secret(&["sk", "-proj-", "Zk3fQ9xT2mLw8RbV5nYc7Hd1"])
}

fn openai_legacy() -> String {
    secret(&[
        "sk",
        "-",
        "aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY5zA7bC9dE1fG3",
    ])
}

fn anthropic() -> String {
    secret(&["sk", "-ant-", "api03-Qw3eRt5yUi7oPa9sDf1gHj3kLz5xCv7b"])
}

fn aws() -> String {
    secret(&["AK", "IA", "QZ7XW4PLMN2KVB6T"])
}

fn aws_secret() -> String {
    secret(&["wJalr7Utn", "FEMI/K7MDENG/bPxRfi", "CYzq81RtKm4p"])
}

fn github() -> String {
    secret(&["gh", "p_", "aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY5"])
}

fn github_fine() -> String {
    secret(&[
        "github",
        "_pat_",
        "11ABCDEFG0aB3dE5fG7hI9_jK1lM3nO5pQ7rS9tU1vW3",
    ])
}

fn slack() -> String {
    secret(&["xo", "xb-", "123456789012-abcdefGHIJKL"])
}

fn google() -> String {
    secret(&["AI", "za", "SyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q"])
}

fn stripe() -> String {
    secret(&["sk", "_live_", "4eC39HqLyjWDarjtT1zdp7dc"])
}

fn jwt() -> String {
    secret(&[
        "eyJ",
        "hbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9",
        ".eyJ",
        "zdWIiOiIxMjM0NTY3ODkwIn0",
        ".",
        "dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    ])
}

fn postern() -> String {
    secret(&[
        "pst1",
        ".",
        "eyJpZCI6IjAxbTgzZXhhbXBsZSJ9",
        ".",
        "dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    ])
}

fn private_key(kind: &str, lines: usize) -> String {
    let dashes = "-----";
    let body = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQDZ7sX0\n".repeat(lines);
    format!("{dashes}BEGIN {kind}{dashes}\n{body}{dashes}END {kind}{dashes}")
}

fn clean(text: &str) -> String {
    Sanitizer::builtin().sanitize(text).text
}

fn filter() -> OutputFilter {
    let template = "id: t.v1\ndescription: d\nauthor: a\nintent: i\nrisk: low\n\
                    max_tokens: 8\nuser: \"{{x}}\"\n";
    let templates = TemplateSet::from_sources([("t.v1.yaml", template)]).expect("a template");
    let policy = Policy::from_source("policy.yaml", "version: 1\nidentities: {}\n");
    OutputFilter::new(&RuleSet::new(templates, policy.expect("a policy")).expect("a rule set"))
}

/// Streams a text in chunks of the given sizes (in characters), the last one repeated.
fn stream(text: &str, sizes: &[usize]) -> String {
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
fn check(cases: &[(String, String)]) {
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

#[test]
fn keys_of_known_form_are_redacted() {
    let mark = |rule: &str| format!("[REDACTED:{rule}:1]");
    let keys = [
        (openai(), "openai-api-key"),
        (openai_legacy(), "openai-api-key"),
        (anthropic(), "anthropic-api-key"),
        (aws(), "aws-access-key"),
        (github(), "github-token"),
        (github_fine(), "github-token"),
        (slack(), "slack-token"),
        (google(), "google-api-key"),
        (stripe(), "stripe-key"),
        (jwt(), "jwt"),
        (postern(), "postern-token"),
        (
            secret(&["xapp", "-1-", "A0123456789-42-", "0a1b2c3d4e"]),
            "slack-token",
        ),
        (secret(&["npm", "_", &"a1B2c3".repeat(6)]), "npm-token"),
        (
            secret(&["hf", "_", &"a1B2c3".repeat(6)]),
            "hugging-face-token",
        ),
        (secret(&["glpat", "-", &"a1B2c".repeat(4)]), "gitlab-token"),
        (secret(&["pypi", "-AgEI", &"a1B2c".repeat(8)]), "pypi-token"),
        (
            secret(&["SG", ".", &"a1B2c3".repeat(4), ".", &"d4E5f6".repeat(7)]),
            "sendgrid-api-key",
        ),
        (
            secret(&["ya29", ".", "a0", &"a1B2c3".repeat(6)]),
            "google-oauth-token",
        ),
        (
            secret(&["AGE-SECRET", "-KEY-1", &"Q2W3E4".repeat(9), "QPZR"]),
            "age-secret-key",
        ),
        (private_key("PRIVATE KEY", 3), "private-key"),
        (private_key("RSA PRIVATE KEY", 25), "private-key"),
        (private_key("OPENSSH PRIVATE KEY", 7), "private-key"),
        (private_key("PGP PRIVATE KEY BLOCK", 20), "private-key"),
    ];
    let mut cases = Vec::new();
    for (key, rule) in keys {
        let mark = mark(rule);
        for (before, after) in [
            ("", ""),
            ("use ", " please"),
            ("(", ")"),
            ("\"", "\","),
            ("x=", "\n"),
            ("+  key: \"", "\"\n-  old"),
            ("https://host/", "?a=b"),
            ("größe:", "ß"),
        ] {
            cases.push((
                format!("{before}{key}{after}"),
                format!("{before}{mark}{after}"),
            ));
        }
    }
    check(&cases);
}

#[test]
fn assignments_are_redacted() {
    let password = |before: &str, value: &str, after: &str| {
        let expected = format!("{before}[REDACTED:password-assignment:1]{after}");
        (format!("{before}{value}{after}"), expected)
    };
    let token = |before: &str, value: &str, after: &str| {
        let expected = format!("{before}[REDACTED:secret-assignment:1]{after}");
        (format!("{before}{value}{after}"), expected)
    };
    check(&[
        password("password=", "hunter2", ""),
        password("password = ", "hunter2", "\n"),
        password("Password: ", "hunter2", " and more"),
        password("DB_PASSWORD=\"", "c0rrect-horse", "\"\n"),
        password("  \"db.password\" : '", "tr0ub4dor&3", "',"),
        password("{\"passwd\":\"", "Pa55word!x", "\"}"),
        password("{\\\"password\\\": \\\"", "hunter22", "\\\"}"),
        password("<b>**password**: ", "hunter22", "</b>"),
        password("pwd := \"", "letmeinplease", "\""),
        password("config['password'] = '", "hunter22", "'"),
        password("password => '", "hunter22", "'"),
        password("passphrase: ", "gehäuse!9", ""),
        password("https://host/login?password=", "hunter22", "&next=1"),
        token("API_KEY=", "a81kd93kf02kd81s", ""),
        token("api-key: '", "a81kd93kf02kd81s", "'"),
        token("client_secret = \"", "Zx81kd93kf02kd81s", "\""),
        token("+    token: ", "a81kd93kf02kd81s", "\n"),
        token("--token=", "a81kd93kf02kd81s", " --verbose"),
        token("aws_secret_access_key = ", "abcd1234efgh", ""),
        (
            format!("aws_secret_access_key = {}\n", aws_secret()),
            "aws_secret_access_key = [REDACTED:aws-secret-key:1]\n".to_owned(),
        ),
        (
            format!("SecretAccessKey: \"{}\"", aws_secret()),
            "SecretAccessKey: \"[REDACTED:aws-secret-key:1]\"".to_owned(),
        ),
        (
            format!("token = \"{}\"", github()),
            "token = \"[REDACTED:github-token:1]\"".to_owned(),
        ),
        (
            format!("password: x9-{}-rest", github()),
            "password: x9-[REDACTED:github-token:1]-rest".to_owned(),
        ),
    ]);
}

#[test]
fn payment_cards_are_redacted() {
    let mark = "[REDACTED:payment-card:1]";
    let mut cases = Vec::new();
    for card in [
        "4111111111111111",
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "4111\u{a0}1111\u{a0}1111\u{a0}1111",
        "4222222222222",
        "5555555555554444",
        "2223003122003222",
        "378282246310005",
        "3782 822463 10005",
        "6011111111111117",
        "30569309025904",
        "3530111333300000",
        "6200000000000005",
        "6759649826438453",
    ] {
        for (before, after) in [
            ("", ""),
            ("card ", "."),
            ("card:", ", exp 12/29"),
            ("(", ")"),
            ("12 ", " x"),
            ("order-", "\n"),
            ("日本", "。"),
        ] {
            let tainted = before == "日本";
            let shown = if tainted { card } else { mark };
            cases.push((
                format!("{before}{card}{after}"),
                format!("{before}{shown}{after}"),
            ));
        }
    }
    check(&cases);
}

#[test]
fn what_is_no_secret_stays() {
    let untouched = [
        "",
        " ",
        "A quiet place with oat milk, near the river, open until 22:00.",
        "The token is valid for an hour. The secret: always smile.",
        "password: required",
        "password: \"Enter your password\"",
        "password = \"changeme\"",
        "password = \"********\"",
        "password = \"<your password here>\"",
        "password=${DB_PASSWORD}",
        "password: {{ vault_password1 }}",
        "password = os.environ[\"DB_PASSWORD1\"]",
        "password = config.password2",
        "password = get_password2(user)",
        "let token = Token::new2(x);",
        "let token: String = next();",
        "api_key = settings.API_KEY1",
        "PASSWORD=$DB_PASS1",
        "token_file: /run/secrets/token1",
        "secret=/run/secrets/db1",
        "max_tokens: 1024",
        "\"tokens\": 12345678901",
        "<input type=\"password\" name=\"password\" placeholder=\"x1y2z3w4\">",
        "task-0123456789012345678901234567890123456789",
        "sk-circle-fade-dot-animation-number-one",
        "sk-short",
        "disk-aaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "BAKIA1234567890123456",
        "ghp_tooShort",
        "npm_config_registry",
        "hf_hub_download",
        "pst1.0",
        "SG.1.2",
        "eyJhbGciOiJIUzI1NiJ9",
        "550e8400-e29b-41d4-a716-446655440000",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "4111111111111112",
        "1234567890123456",
        "41111111111111111111111111",
        "id4111111111111111",
        "4111111111111111x",
        "0.4111111111111111",
        "4111  1111  1111  1111",
        "1700000000000 2026-11-23 12:00:00",
        "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
        "-------- BEGIN --------",
        "[REDACTED:payment-card:1] and [REDACTED:openai-api-key:7]",
        "password = \"[REDACTED:password-assignment:1]\"",
    ];
    check(&untouched.map(|text| (text.to_owned(), text.to_owned())));
}

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

#[test]
fn keys_longer_than_every_window_are_cut_to_one_mark() {
    let tail = "aB3".repeat(2 * RUN_BYTES_MAX);
    for filler in [
        0,
        1,
        RUN_BYTES_MAX - 30,
        RUN_BYTES_MAX - 10,
        RUN_BYTES_MAX,
        5 * RUN_BYTES_MAX,
    ] {
        let before = "a-".repeat(filler / 2);
        let text = format!("{before}{}{tail} end", openai());
        let expected = format!("{before}[REDACTED:openai-api-key:1] end");
        assert_eq!(clean(&text), expected, "{filler} bytes before the key");
        assert_eq!(
            stream(&text, &[1]),
            expected,
            "{filler} bytes before the key, streamed"
        );
    }
}

#[test]
fn keys_at_any_place_of_a_long_run_are_found() {
    let long_jwt = secret(&[
        "eyJ",
        &"x".repeat(150),
        ".eyJ",
        "zdWIiOiIxMjM0NTY3ODkwIn0.sig",
    ]);
    for (key, rule) in [(google(), "google-api-key"), (long_jwt, "jwt")] {
        for before in 0..=2 * RUN_BYTES_MAX {
            let text = format!("{}.{key}", "a".repeat(before));
            let expected = format!("{}.[REDACTED:{rule}:1]", "a".repeat(before));
            assert_eq!(clean(&text), expected, "{before} bytes before the key");
        }
    }
}

#[test]
fn values_over_the_bound_are_only_searched_for_keys() {
    let long = "a1".repeat(ASSIGNMENT_VALUE_BYTES_MAX);
    let text = format!("token = {long}");
    assert_eq!(clean(&text), text);
    let text = format!("token = \"{long}!{}\"", openai());
    assert_eq!(
        clean(&text),
        format!("token = \"{long}![REDACTED:openai-api-key:1]\"")
    );
}

#[test]
fn private_keys_are_withheld_however_they_end() {
    let begin = "-----BEGIN PRIVATE KEY-----\n";
    let line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQDZ7sX0\n";
    let mark = "[REDACTED:private-key:1]";
    let lines_over_bound = PRIVATE_KEY_BLOCK_BYTES_MAX / line.len() + 40;
    let cases = [
        (
            "ends with the text",
            format!("key: {begin}{line}{line}"),
            format!("key: {mark}"),
        ),
        (
            "has no body",
            format!("{begin}-----END PRIVATE KEY-----, done"),
            format!("{mark}, done"),
        ),
        (
            "is longer than the bound",
            format!("{begin}{}\"; then prose", line.repeat(lines_over_bound)),
            format!("{mark}\"; then prose"),
        ),
        (
            "is escaped in JSON",
            private_key("PRIVATE KEY", 4).replace('\n', "\\n"),
            mark.to_owned(),
        ),
        (
            "is in a diff",
            format!(
                "+{}\n+x",
                private_key("EC PRIVATE KEY", 3).replace('\n', "\n+")
            ),
            format!("+{mark}\n+x"),
        ),
        (
            "follows dashes",
            format!("----{begin}{line}"),
            format!("----{mark}"),
        ),
    ];
    for (name, text, expected) in cases {
        assert_eq!(clean(&text), expected, "a key that {name}");
        assert_eq!(stream(&text, &[1]), expected, "a key that {name}, streamed");
    }
}

#[test]
fn no_piece_of_a_secret_is_emitted_before_it_is_known() {
    let keys = [
        openai(),
        anthropic(),
        aws(),
        github(),
        github_fine(),
        slack(),
        google(),
        stripe(),
        jwt(),
        private_key("PRIVATE KEY", 3),
        "4111 1111 1111 1111".to_owned(),
    ];
    for key in keys {
        let mut filter = filter();
        let mut emitted = filter.push("see ");
        for c in key.chars() {
            emitted.push_str(&filter.push(&c.to_string()));
            let safe = emitted == "see " || emitted.starts_with("see [REDACTED:");
            assert!(safe, "{emitted:?} while {key:?} was written");
        }
        emitted.push_str(&filter.finish());
        assert!(emitted.starts_with("see [REDACTED:"), "{emitted}");
        assert_eq!(filter.redactions().len(), 1);
        assert_eq!(filter.redactions()[0].variable, "output");
    }
}

#[test]
fn prose_is_held_back_by_one_word_only() {
    let text = "The Copper Kettle has oat milk and a garden. It is open until nine. ";
    let mut filter = filter();
    let mut pushed = 0;
    let mut emitted = 0;
    let longest_word = text.split(' ').map(str::len).max().unwrap_or(0);
    for c in text.chars() {
        pushed += c.len_utf8();
        emitted += filter.push(&c.to_string()).len();
        assert!(
            pushed - emitted <= longest_word,
            "{} bytes are held back",
            pushed - emitted
        );
    }
    assert_eq!(pushed, emitted);
}

#[test]
fn hostile_texts_are_held_back_within_the_bound() {
    let texts = [
        "a".repeat(20_000),
        "-".repeat(20_000),
        "1 ".repeat(10_000),
        "password=".repeat(2_000),
        format!("password = \"{}", "a".repeat(20_000)),
        format!("password{}", " ".repeat(20_000)),
        "-----BEGIN ".repeat(2_000),
        format!("-----BEGIN {}", "A".repeat(20_000)),
        "eyJ".repeat(7_000),
        "[REDACTED:".repeat(2_000),
    ];
    for text in texts {
        let mut filter = filter();
        let (mut pushed, mut emitted) = (0, 0);
        for c in text.chars() {
            pushed += c.len_utf8();
            emitted += filter.push(&c.to_string()).len();
            let held = pushed - emitted;
            assert!(
                held <= HOLD_BACK_BYTES_MAX,
                "{held} bytes of {:?} are held",
                &text[..20]
            );
        }
        emitted += filter.finish().len();
        assert_eq!(pushed, emitted, "{:?}", &text[..20]);
    }
}

#[test]
fn debug_output_shows_nothing_that_is_held_back() {
    let mut filter = filter();
    let _ = filter.push("password = hunter");
    assert!(!format!("{filter:?}").contains("hunter"));
}

/// Texts that are likely to hold secrets, parts of them, and what lies around them.
fn tricky_text() -> impl Strategy<Value = String> {
    let fragments = vec![
        openai(),
        openai_legacy(),
        anthropic(),
        aws(),
        aws_secret(),
        github(),
        github_fine(),
        slack(),
        google(),
        stripe(),
        jwt(),
        private_key("RSA PRIVATE KEY", 2),
    ];
    let secrets = proptest::sample::select(fragments);
    let part = (secrets.clone(), any::<proptest::sample::Index>())
        .prop_map(|(text, index)| text[..index.index(text.len())].to_owned());
    let small = proptest::sample::select(vec![
        "password",
        "=",
        ": ",
        "\"",
        "'",
        " ",
        "\n",
        "-",
        "_",
        ".",
        ",",
        "]",
        "[",
        "\\",
        "token",
        "api_key",
        "secret_access_key",
        "hunter22",
        "4111",
        "1111",
        "4111 1111 1111 1111",
        "0",
        "-----",
        "BEGIN ",
        "END ",
        "PRIVATE KEY",
        "ß",
        "日",
        "\u{a0}",
        "[REDACTED:",
        "payment-card",
        ":1]",
        "[REDACTED:jwt:3]",
        "x",
        "Z9",
        "sk-",
        "eyJ",
        "(",
        "$",
        "/",
        "&",
        "=>",
        "**",
    ]);
    let fragment = prop_oneof![
        2 => secrets,
        2 => part,
        8 => small.prop_map(str::to_owned),
        1 => "[ -~]{0,12}",
        1 => "\\PC{0,4}",
        1 => (1usize..700).prop_map(|n| "aB1".repeat(n)),
    ];
    proptest::collection::vec(fragment, 0..14).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cleaning_twice_changes_nothing(text in tricky_text()) {
        let once = Sanitizer::builtin().sanitize(&text);
        let twice = Sanitizer::builtin().sanitize(&once.text);
        prop_assert_eq!(&twice.text, &once.text);
        prop_assert!(twice.redactions.is_empty());
    }

    #[test]
    fn every_split_gives_the_text_of_the_whole(
        text in tricky_text(),
        sizes in proptest::collection::vec(1usize..40, 1..8),
    ) {
        let whole = clean(&text);
        prop_assert_eq!(stream(&text, &sizes), whole.clone());
        prop_assert_eq!(stream(&text, &[1]), whole);
    }

    #[test]
    fn a_key_among_anything_is_gone(before in "[ -~\\n]{0,30}", after in "[ -~\\n]{0,30}") {
        for key in [openai(), github(), aws(), google(), stripe(), jwt()] {
            let text = format!("{before} {key} {after}");
            prop_assert!(!clean(&text).contains(&key));
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        let whole = clean(&text);
        prop_assert_eq!(stream(&text, &[3]), whole);
    }
}
