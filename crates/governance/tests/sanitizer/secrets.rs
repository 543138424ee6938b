//! Keys, passwords and private keys.

use postern_governance::PRIVATE_KEY_BLOCK_BYTES_MAX;

use crate::fixtures::*;

/// Longer than everything that is looked at of a secret.
const LONG_BYTES: usize = 512;

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
fn keys_longer_than_every_window_are_cut_to_one_mark() {
    let tail = "aB3".repeat(2 * LONG_BYTES);
    for filler in [
        0,
        1,
        LONG_BYTES - 30,
        LONG_BYTES - 10,
        LONG_BYTES,
        5 * LONG_BYTES,
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
        "hbGciOi",
        &"J9sK4".repeat(30),
        ".eyJ",
        "zdWIiOiIxMjM0NTY3ODkwIn0.sig",
    ]);
    for (key, rule) in [(google(), "google-api-key"), (long_jwt, "jwt")] {
        for before in 0..=2 * LONG_BYTES {
            let text = format!("{}.{key}", "a".repeat(before));
            let expected = format!("{}.[REDACTED:{rule}:1]", "a".repeat(before));
            assert_eq!(clean(&text), expected, "{before} bytes before the key");
        }
    }
}

#[test]
fn values_over_the_bound_are_only_searched_for_keys() {
    let long = "a1".repeat(LONG_BYTES);
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
