//! What has to be found: made-up secrets and personal data.

use rand::{Rng, seq::IndexedRandom};

use super::carriers::Slot;
use super::corpus::Side;
use super::values::{
    ALNUM, BASE64, DIGITS, HEX, Make, UPPER, URL_SAFE, base64, card, dni, email, github, iban, nhs,
    of, password, phone, phrase, private_key,
};

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
