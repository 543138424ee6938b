//! Made-up secrets, personal data, and what only looks like them.

use rand::{Rng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng as Random;

use super::carriers::Slot;
use super::corpus::Side;

const ALNUM: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const HEX: &str = "0123456789abcdef";
const DIGITS: &str = "0123456789";
const URL_SAFE: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const BASE64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const WORDS: [&str; 14] = [
    "river", "Otter", "copper", "Lantern", "maple", "Thunder", "velvet", "Harbor", "pepper",
    "Saddle", "winter", "Falcon", "garden", "Marble",
];

type Make = fn(&mut Random) -> String;

/// Class, side, where it stands, how it is made.
pub(super) const KINDS: &[(&str, Side, Slot, Make)] = &[
    ("aws-access-key", Side::Secret, Slot::Token, |r| {
        format!("AKIA{}", of(r, UPPER, 16))
    }),
    ("aws-secret-key", Side::Secret, Slot::Whole, |r| {
        of(r, BASE64, 40)
    }),
    ("google-api-key", Side::Secret, Slot::Token, |r| {
        format!("AIza{}", of(r, URL_SAFE, 35))
    }),
    ("azure-storage-key", Side::Secret, Slot::Whole, |r| {
        format!("{}==", of(r, BASE64, 86))
    }),
    ("github-token", Side::Secret, Slot::Token, github),
    ("github-fine-grained", Side::Secret, Slot::Token, |r| {
        format!("github_pat_{}_{}", of(r, ALNUM, 22), of(r, ALNUM, 59))
    }),
    ("gitlab-token", Side::Secret, Slot::Token, |r| {
        format!("glpat-{}", of(r, URL_SAFE, 20))
    }),
    ("npm-token", Side::Secret, Slot::Token, |r| {
        format!("npm_{}", of(r, ALNUM, 36))
    }),
    ("pypi-token", Side::Secret, Slot::Token, |r| {
        format!("pypi-AgEIcHlwaS5vcmc{}", of(r, URL_SAFE, 100))
    }),
    ("docker-token", Side::Secret, Slot::Token, |r| {
        format!("dckr_pat_{}", of(r, URL_SAFE, 27))
    }),
    ("crates-io-token", Side::Secret, Slot::Token, |r| {
        format!("cio{}", of(r, ALNUM, 32))
    }),
    ("slack-token", Side::Secret, Slot::Token, |r| {
        format!(
            "xoxb-{}-{}-{}",
            of(r, DIGITS, 12),
            of(r, DIGITS, 12),
            of(r, ALNUM, 24)
        )
    }),
    ("slack-webhook", Side::Secret, Slot::Whole, |r| {
        format!(
            "T{}/B{}/{}",
            of(r, UPPER, 8),
            of(r, UPPER, 8),
            of(r, ALNUM, 24)
        )
    }),
    ("discord-bot-token", Side::Secret, Slot::Token, |r| {
        format!(
            "M{}.{}.{}",
            of(r, ALNUM, 23),
            of(r, URL_SAFE, 6),
            of(r, ALNUM, 38)
        )
    }),
    ("telegram-bot-token", Side::Secret, Slot::Token, |r| {
        format!(
            "{}:AA{}",
            1_000_000_000 + r.random_range(0..900_000_000),
            of(r, ALNUM, 33)
        )
    }),
    ("stripe-key", Side::Secret, Slot::Token, |r| {
        format!("sk_live_{}", of(r, ALNUM, 24))
    }),
    ("twilio-key", Side::Secret, Slot::Token, |r| {
        format!("SK{}", of(r, HEX, 32))
    }),
    ("sendgrid-key", Side::Secret, Slot::Token, |r| {
        format!("SG.{}.{}", of(r, URL_SAFE, 22), of(r, URL_SAFE, 43))
    }),
    ("openai-key", Side::Secret, Slot::Token, |r| {
        format!("sk-proj-{}", of(r, URL_SAFE, 48))
    }),
    ("anthropic-key", Side::Secret, Slot::Token, |r| {
        format!("sk-ant-api03-{}AA", of(r, URL_SAFE, 93))
    }),
    ("hugging-face-token", Side::Secret, Slot::Token, |r| {
        format!("hf_{}", of(r, ALNUM, 34))
    }),
    ("groq-key", Side::Secret, Slot::Token, |r| {
        format!("gsk_{}", of(r, ALNUM, 52))
    }),
    ("jwt", Side::Secret, Slot::Token, |r| {
        format!(
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIx{}.{}",
            of(r, ALNUM, 40),
            of(r, URL_SAFE, 43)
        )
    }),
    ("private-key", Side::Secret, Slot::Whole, private_key),
    ("age-key", Side::Secret, Slot::Token, |r| {
        format!(
            "AGE-SECRET-KEY-1{}",
            of(r, "023456789ACDEFGHJKLMNPQRSTUVWXYZ", 58)
        )
    }),
    ("connection-string", Side::Secret, Slot::Whole, password),
    ("basic-auth-url", Side::Secret, Slot::Whole, password),
    ("kubeconfig-key", Side::Secret, Slot::Whole, |r| {
        format!("LS0tLS1CRUdJTiB{}=", of(r, BASE64, 300))
    }),
    ("docker-auth", Side::Secret, Slot::Whole, |r| {
        format!("{}=", of(r, BASE64, 39))
    }),
    ("password", Side::Secret, Slot::Password, password),
    ("pass-phrase", Side::Secret, Slot::Whole, phrase),
    ("generic-key-hex", Side::Secret, Slot::Whole, |r| {
        let n = *[32, 40, 64].choose(r).unwrap_or(&32);
        of(r, HEX, n)
    }),
    ("generic-key", Side::Secret, Slot::Whole, |r| {
        let n = r.random_range(20..48);
        of(r, ALNUM, n)
    }),
    ("encoded-token", Side::Secret, Slot::Whole, |r| {
        base64(github(r).as_bytes())
    }),
    ("email", Side::Personal, Slot::Prose, email),
    ("phone", Side::Personal, Slot::Whole, phone),
    ("payment-card", Side::Personal, Slot::Prose, card),
    ("iban", Side::Personal, Slot::Prose, iban),
    ("ipv4", Side::Personal, Slot::Prose, |r| {
        format!(
            "{}.{}.{}.{}",
            r.random_range(11..99),
            r.random_range(1..255),
            r.random_range(1..255),
            r.random_range(1..254)
        )
    }),
    ("ipv6", Side::Personal, Slot::Prose, |r| {
        format!(
            "2a02:{}:{}:{}::{}",
            of(r, "123456789abcdef", 4),
            of(r, "123456789abcdef", 4),
            of(r, "123456789abcdef", 3),
            of(r, "123456789abcdef", 4)
        )
    }),
    ("mac", Side::Personal, Slot::Prose, |r| {
        (0..6).map(|_| of(r, HEX, 2)).collect::<Vec<_>>().join(":")
    }),
    ("us-ssn", Side::Personal, Slot::Prose, |r| {
        format!(
            "{:03}-{:02}-{:04}",
            r.random_range(100..665),
            r.random_range(10..99),
            r.random_range(1000..9999)
        )
    }),
    ("uk-nhs", Side::Personal, Slot::Whole, nhs),
    ("spanish-dni", Side::Personal, Slot::Whole, dni),
    ("date-of-birth", Side::Personal, Slot::Whole, |r| {
        format!(
            "{:02}/{:02}/{}",
            r.random_range(1..29),
            r.random_range(1..13),
            r.random_range(1940..2010)
        )
    }),
    ("street-address", Side::Personal, Slot::Whole, |r| {
        format!(
            "{} {} {}",
            r.random_range(1..400),
            ["Maple", "Harbour", "Mill", "Church Hill"]
                .choose(r)
                .unwrap_or(&"Mill"),
            ["Street", "Road", "Avenue", "Lane"]
                .choose(r)
                .unwrap_or(&"Road")
        )
    }),
    ("passport", Side::Personal, Slot::Whole, |r| {
        format!("{}{}", of(r, "CFGHJK", 1), of(r, DIGITS, 8))
    }),
];

/// Lines for values that bring their own.
pub(super) const OWN_LINES: &[(&str, &[&str])] = &[
    (
        "aws-secret-key",
        &[
            "aws_secret_access_key = {}",
            "export AWS_SECRET_ACCESS_KEY={}",
            "  \"SecretAccessKey\": \"{}\",",
            "secretAccessKey: '{}',",
        ],
    ),
    (
        "azure-storage-key",
        &[
            "DefaultEndpointsProtocol=https;AccountName=shop;AccountKey={};EndpointSuffix=core.windows.net",
            "conn = \"AccountName=a;AccountKey={}\"",
        ],
    ),
    (
        "slack-webhook",
        &[
            "curl -X POST https://hooks.slack.com/services/{}",
            "webhook: \"https://hooks.slack.com/services/{}\"",
        ],
    ),
    (
        "connection-string",
        &[
            "DATABASE_URL=postgres://app:{}@db.internal:5432/shop",
            "mongodb+srv://root:{}@cluster0.mongo.test/admin",
            "url: \"redis://:{}@cache:6379/0\"",
            "amqp://worker:{}@queue.internal//",
            "+SQLALCHEMY_DATABASE_URI = 'mysql://app:{}@db/shop'",
        ],
    ),
    (
        "basic-auth-url",
        &[
            "git clone https://ci:{}@git.internal/app.git",
            "wget http://admin:{}@files.internal/backup.tar",
            "proxy = http://user7:{}@proxy.internal:3128",
        ],
    ),
    ("kubeconfig-key", &["    client-key-data: {}"]),
    ("docker-auth", &["      \"auth\": \"{}\""]),
    (
        "pass-phrase",
        &[
            "passphrase = \"{}\"",
            "password: \"{}\"",
            "  \"passphrase\": \"{}\"",
        ],
    ),
    (
        "generic-key-hex",
        &[
            "api_key = \"{}\"",
            "API_SECRET={}",
            "  secret: {}",
            "x-api-key: {}",
            "\"encryption_key\": \"{}\"",
            "auth_token='{}'",
            "SECRET_KEY_BASE={}",
        ],
    ),
    (
        "generic-key",
        &[
            "api_key: {}",
            "CLIENT_SECRET=\"{}\"",
            "access_token = '{}'",
            "+const apiKey = \"{}\";",
            "<apiKey>{}</apiKey>",
            "--token {}",
            "String secretKey = \"{}\";",
            "{{\"token\":\"{}\"}}",
            "https://api.internal/v1/items?api_key={}&page=2",
        ],
    ),
    (
        "encoded-token",
        &["data: {}", "  token: {}", "payload = b64decode(\"{}\")"],
    ),
    (
        "phone",
        &[
            "Call me at {} after five.",
            "Phone: {}",
            "Tel. {}",
            "mobile: {}",
            "\"phone\": \"{}\",",
        ],
    ),
    (
        "uk-nhs",
        &["NHS number: {}", "The patient's NHS no. is {}."],
    ),
    ("spanish-dni", &["DNI: {}", "Mi DNI es {}."]),
    (
        "date-of-birth",
        &[
            "Date of birth: {}",
            "DOB {}",
            "She was born on {} in Leeds.",
            "\"date_of_birth\": \"{}\"",
        ],
    ),
    (
        "street-address",
        &[
            "I live at {}, second floor.",
            "Ship to {}, please.",
            "Address: {}",
        ],
    ),
    ("passport", &["Passport number {}", "passport no: {}"]),
];

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

fn of(random: &mut Random, alphabet: &str, count: usize) -> String {
    let bytes = alphabet.as_bytes();
    (0..count)
        .map(|_| char::from(bytes[random.random_range(0..bytes.len())]))
        .collect()
}

fn github(random: &mut Random) -> String {
    format!("gh{}_{}", of(random, "pousr", 1), of(random, ALNUM, 36))
}

fn password(random: &mut Random) -> String {
    let word = |random: &mut Random| WORDS.choose(random).copied().unwrap_or("river");
    match random.random_range(0..4) {
        0 => format!("{}{}!", word(random), random.random_range(10..9999)),
        1 => {
            let length = random.random_range(10..20);
            format!("{}7", of(random, ALNUM, length))
        }
        2 => format!(
            "{}-{}-{}",
            word(random),
            word(random),
            random.random_range(10..99)
        ),
        _ => format!(
            "{}${}_{}",
            word(random),
            of(random, ALNUM, 4),
            random.random_range(1..99)
        ),
    }
}

fn phrase(random: &mut Random) -> String {
    let words: Vec<&str> = (0..4)
        .filter_map(|_| WORDS.choose(random).copied())
        .collect();
    words.join(" ")
}

fn private_key(random: &mut Random) -> String {
    let kind = [
        "RSA PRIVATE KEY",
        "PRIVATE KEY",
        "EC PRIVATE KEY",
        "OPENSSH PRIVATE KEY",
    ]
    .choose(random)
    .copied()
    .unwrap_or("PRIVATE KEY");
    let lines: Vec<String> = (0..random.random_range(4..14))
        .map(|_| of(random, BASE64, 64))
        .collect();
    format!(
        "-----BEGIN {kind}-----\n{}\n-----END {kind}-----",
        lines.join("\n")
    )
}

fn uuid(random: &mut Random) -> String {
    let mut part = |count| of(random, HEX, count);
    format!(
        "{}-{}-4{}-a{}-{}",
        part(8),
        part(4),
        part(3),
        part(3),
        part(12)
    )
}

fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().enumerate().fold(0u32, |bits, (place, byte)| {
            bits | u32::from(*byte) << (16 - 8 * place)
        });
        for place in 0..4 {
            let sextet = (bits >> (18 - 6 * place)) & 63;
            text.push(if place <= three.len() {
                char::from(BASE64.as_bytes()[sextet as usize])
            } else {
                '='
            });
        }
    }
    text
}

fn email(random: &mut Random) -> String {
    let first = [
        "anna",
        "j.miller",
        "tom.o",
        "lea-marie",
        "info",
        "k.nowak",
        "mueller77",
    ]
    .choose(random)
    .copied()
    .unwrap_or("anna");
    let host = [
        "posteo.test",
        "mail.firma.de",
        "example.com",
        "uni-bonn.de",
        "shop.co.uk",
        "gmail.com",
    ]
    .choose(random)
    .copied()
    .unwrap_or("mail.test");
    format!("{first}{}@{host}", random.random_range(1..99))
}

fn phone(random: &mut Random) -> String {
    match random.random_range(0..6) {
        0 => format!("+49 30 {}", of(random, DIGITS, 8)),
        1 => format!("+44 20 7946 {}", of(random, DIGITS, 4)),
        2 => format!(
            "({}) 555-{}",
            random.random_range(201..989),
            of(random, DIGITS, 4)
        ),
        3 => format!(
            "{}-555-{}",
            random.random_range(201..989),
            of(random, DIGITS, 4)
        ),
        4 => format!(
            "06 {} {} {} {}",
            of(random, DIGITS, 2),
            of(random, DIGITS, 2),
            of(random, DIGITS, 2),
            of(random, DIGITS, 2)
        ),
        _ => format!("030 {}", of(random, "123456789", 7)),
    }
}

fn with_luhn(mut digits: Vec<u32>) -> String {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let doubled = digit * 2;
            if place % 2 == 1 {
                *digit
            } else if doubled > 9 {
                doubled - 9
            } else {
                doubled
            }
        })
        .sum();
    digits.push((10 - sum % 10) % 10);
    digits.iter().map(ToString::to_string).collect()
}

fn card(random: &mut Random) -> String {
    let prefix = ["4539", "5412", "2221", "6011"]
        .choose(random)
        .copied()
        .unwrap_or("4539");
    let digits = format!("{prefix}{}", of(random, DIGITS, 11));
    let number = with_luhn(digits.bytes().map(|b| u32::from(b - b'0')).collect());
    match random.random_range(0..3) {
        0 => number,
        1 => number
            .as_bytes()
            .chunks(4)
            .map(String::from_utf8_lossy)
            .collect::<Vec<_>>()
            .join(" "),
        _ => number
            .as_bytes()
            .chunks(4)
            .map(String::from_utf8_lossy)
            .collect::<Vec<_>>()
            .join("-"),
    }
}

fn iban(random: &mut Random) -> String {
    let bban = of(random, DIGITS, 18);
    // `DE` is 1314, and the check digits count as 00.
    let remainder = format!("{bban}131400")
        .bytes()
        .fold(0u32, |rest, b| (rest * 10 + u32::from(b - b'0')) % 97);
    let compact = format!("DE{:02}{bban}", 98 - remainder);
    match random.random_range(0..2) {
        0 => compact,
        _ => compact
            .as_bytes()
            .chunks(4)
            .map(String::from_utf8_lossy)
            .collect::<Vec<_>>()
            .join(" "),
    }
}

fn nhs(random: &mut Random) -> String {
    loop {
        let digits = of(random, DIGITS, 9);
        let sum: u32 = digits
            .bytes()
            .zip((2..=10).rev())
            .map(|(b, weight)| u32::from(b - b'0') * weight)
            .sum();
        let check = (11 - sum % 11) % 11;
        if check < 10 {
            return format!("{} {} {}{check}", &digits[..3], &digits[3..6], &digits[6..]);
        }
    }
}

fn dni(random: &mut Random) -> String {
    let number = random.random_range(10_000_000u32..99_999_999);
    let letters = b"TRWAGMYFPDXBNJZSQVHLCKE";
    format!("{number}{}", char::from(letters[(number % 23) as usize]))
}
