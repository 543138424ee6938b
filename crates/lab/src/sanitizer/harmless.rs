//! What only looks like a secret or personal data, and has to stay.

use rand::{Rng, seq::IndexedRandom};

use super::values::{BASE64, DIGITS, HEX, Make, WORDS, of, uuid};

/// Kind, extension, and a line of it.
pub(super) const HARMLESS: &[(&str, &str, Make)] = &[
    ("uuid", "json", |r| format!("  \"id\": \"{}\",", uuid(r))),
    ("git-hash", "txt", |r| format!("commit {}", of(r, HEX, 40))),
    ("lock-file", "lock", |r| {
        format!("checksum = \"{}\"", of(r, HEX, 64))
    }),
    ("integrity", "json", |r| {
        format!("      \"integrity\": \"sha512-{}==\",", of(r, BASE64, 86))
    }),
    ("go-sum", "sum", |r| {
        format!(
            "golang.org/x/net v0.{}.0 h1:{}=",
            r.random_range(1..40),
            of(r, BASE64, 43)
        )
    }),
    ("base64-image", "html", |r| {
        format!(
            "<img src=\"data:image/png;base64,iVBORw0KGgo{}\">",
            of(r, BASE64, 400)
        )
    }),
    ("placeholder", "py", |r| {
        [
            "password = \"changeme\"",
            "api_key = \"YOUR_API_KEY\"",
            "token = \"<your token here>\"",
            "secret = os.environ[\"APP_SECRET\"]",
            "password = \"********\"",
            "API_KEY=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE",
            "password = getpass.getpass()",
            "token: ${{ secrets.GITHUB_TOKEN }}",
            "password: !vault |",
            "postgres://user:password@localhost/db",
            "DB_PASSWORD=${DB_PASSWORD:-}",
            "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "client_secret: \"{{ client_secret }}\"",
            "password = config.get('password')",
            "sk-your-api-key-here-0000000000",
            "token = None",
            "const token = req.headers['x-token'];",
        ]
        .choose(r)
        .unwrap_or(&"")
        .to_string()
    }),
    ("code", "js", |r| {
        [
            "const passwordInput = document.querySelector('#password');",
            "if (token === undefined) return null;",
            "export function hashPassword(password) {",
            "  secretName: app-tls-secret",
            "this.tokenExpiresIn = 3600;",
            "import { SecretManager } from './secret-manager';",
            "let key = keys[index];",
            "assert_eq!(tokens.len(), 42);",
            "max_tokens: 4096,",
            "password_hash = sha256(password)",
            "public_key = load_key('id.pub')",
            "token_type = \"Bearer\"",
            "<input type=\"password\" name=\"password\" autocomplete=\"current-password\">",
            "csrf_token = forms.CharField(max_length=64)",
            "const primaryKey = 'customer_id_2';",
            "foreign_key: \"orders.customer_id\"",
            "cache_key = f\"user:{user_id}:profile\"",
            "sort_key = \"created_at\"",
            "passwordResetUrl: '/account/reset-password',",
            "// The secret is to keep the token in memory only.",
            "raise AuthenticationError('invalid token')",
            "secretRef: { name: db-credentials, key: password }",
            "API_KEY_HEADER = 'X-Api-Key'",
            "let token = tokens.next().unwrap();",
            "password: z.string().min(8),",
            "PasswordAuthentication no",
            "token: 'next-page-token',",
        ]
        .choose(r)
        .unwrap_or(&"")
        .to_string()
    }),
    ("versions", "txt", |r| {
        format!(
            "release {}.{}.{}-rc{} on 2026-0{}-1{}",
            r.random_range(1..20),
            r.random_range(0..40),
            r.random_range(0..9),
            r.random_range(1..5),
            r.random_range(1..9),
            r.random_range(0..9)
        )
    }),
    ("timestamps", "log", |r| {
        format!(
            "{} 2026-03-0{}T10:1{}:00.{}Z took {} ms",
            1_700_000_000_000u64 + r.random_range(0..99_999_999_999),
            r.random_range(1..9),
            r.random_range(0..9),
            of(r, DIGITS, 6),
            r.random_range(1..9999)
        )
    }),
    ("numbers", "csv", |r| {
        format!(
            "{};{}.{};{};{}",
            r.random_range(1..99999),
            r.random_range(1..999),
            of(r, DIGITS, 8),
            of(r, DIGITS, 16),
            r.random_range(1..9)
        )
    }),
    ("minified", "js", |r| {
        format!(
            "!function(e,t){{var n={};return e.{}(t,n)}}(window,{{a:{},b:\"{}\"}});",
            r.random_range(1..9999),
            WORDS.choose(r).unwrap_or(&"x"),
            of(r, DIGITS, 7),
            of(r, "abcdefgh", 6)
        )
    }),
    ("prose", "txt", |r| {
        [
            "The secret of good bread is time: let the dough rest for 24 hours.",
            "A token of thanks from all of us at table 14.",
            "You must choose a password of 12 characters or more.",
            "Please call the front desk, room 1204, after 18:30.",
            "It costs 1 299.00 euros, or 36 payments of 39.90.",
            "The key to success: start early.",
            "Chapter 3.2.1.4 explains the protocol.",
            "We sold 4539 1488 and 0343 units in the first four weeks.",
            "Born in winter, the calf grew fast.",
            "Our address has changed, the new one follows.",
            "Order 2026-114-8812 was shipped on 3 May.",
            "The meeting is on 12/03/2026 at 10:00.",
            "Take exit 14 and follow the road for 300 m.",
            "password reset instructions were sent",
            "Credentials: BSc, MSc, and ten years of practice.",
            "The token expired 3600 seconds ago.",
        ]
        .choose(r)
        .unwrap_or(&"")
        .to_string()
    }),
    ("certificate", "pem", |r| {
        format!(
            "-----BEGIN CERTIFICATE-----\n{}\n{}\n-----END CERTIFICATE-----",
            of(r, BASE64, 64),
            of(r, BASE64, 64)
        )
    }),
    ("ssh-public", "txt", |r| {
        format!(
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{} build",
            of(r, BASE64, 43)
        )
    }),
    ("urls", "md", |r| {
        format!(
            "See https://docs.internal/{}/{}?page={}#section-{} and image@2x.png",
            WORDS.choose(r).unwrap_or(&"a"),
            uuid(r),
            r.random_range(1..99),
            r.random_range(1..9)
        )
    }),
];
