//! The lines that values stand in, and harmless lines around them.

/// What a value needs around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// A token of known form: anywhere.
    Token,
    /// A password or key without a form: behind a name that announces it.
    Password,
    /// Brings its own line.
    Whole,
    /// Personal data: sentences and records.
    Prose,
}

/// A line with `{}` in the place of the value, and what kind of file it is from.
pub(super) struct Carrier {
    pub(super) line: &'static str,
    pub(super) extension: &'static str,
    pub(super) filler: &'static [&'static str],
}

/// Names that announce a secret.
pub(super) const NAMES: [&str; 10] = [
    "password",
    "db_password",
    "api_key",
    "API_KEY",
    "client_secret",
    "auth_token",
    "ADMIN_PASSWORD",
    "secretKey",
    "accessToken",
    "SMTP_PASSWORD",
];

const CODE: &[&str] = &[
    "import os",
    "def load(path: str) -> dict:",
    "    return json.loads(path.read_text())",
    "for item in items:",
    "    total += item.price * item.count",
    "# the cache is warmed on start",
    "timeout = 30",
    "if token.is_expired():",
    "    raise ValueError(\"the password must have 8 characters\")",
];
const CONFIG: &[&str] = &[
    "host: db.internal",
    "port: 5432",
    "replicas: 3",
    "image: registry.local/app:1.4.2",
    "log_level: debug",
    "token_ttl: 3600",
    "password_file: /run/secrets/db",
];
const ENV: &[&str] = &[
    "NODE_ENV=production",
    "PORT=8080",
    "LOG_LEVEL=info",
    "TOKEN_URL=/oauth/token",
    "PASSWORD_MIN_LENGTH=12",
];
const DIFF: &[&str] = &[
    "diff --git a/app.py b/app.py",
    "index 3f2a9c8..b1c2d3e 100644",
    "@@ -10,7 +10,7 @@ def connect():",
    "     return pool",
    "-    retries = 3",
    "+    retries = 5",
];
const TALK: &[&str] = &[
    "Thanks for the quick answer.",
    "The build fails since yesterday, see the log below.",
    "We meet at the river at four, bring the papers.",
    "My order from last week has not arrived.",
    "Version 2.14.0 works, 2.15.1 does not.",
];

/// Fits everything.
pub(super) const PLAIN: Carrier = Carrier {
    line: "{}",
    extension: "txt",
    filler: TALK,
};

const TOKEN: &[&Carrier] = &[
    &Carrier {
        line: "{name} = \"{}\"",
        extension: "py",
        filler: CODE,
    },
    &Carrier {
        line: "const client = new Client('{}');",
        extension: "js",
        filler: CODE,
    },
    &Carrier {
        line: "  curl -H 'Authorization: Bearer {}' https://api.internal/v1/items",
        extension: "sh",
        filler: CODE,
    },
    &Carrier {
        line: "{name}={}",
        extension: "env",
        filler: ENV,
    },
    &Carrier {
        line: "  {name}: {}",
        extension: "yaml",
        filler: CONFIG,
    },
    &Carrier {
        line: "  \"{name}\": \"{}\",",
        extension: "json",
        filler: &["  \"port\": 8080,", "  \"debug\": false,"],
    },
    &Carrier {
        line: "+    client = connect(\"{}\")",
        extension: "diff",
        filler: DIFF,
    },
    &Carrier {
        line: "-{name}={}",
        extension: "diff",
        filler: DIFF,
    },
    &Carrier {
        line: "     key = '{}'  # old",
        extension: "diff",
        filler: DIFF,
    },
    &Carrier {
        line: "    <add key=\"{name}\" value=\"{}\" />",
        extension: "xml",
        filler: &["    <add key=\"Mode\" value=\"fast\" />"],
    },
    &Carrier {
        line: "2026-03-02T10:11:12Z INFO request failed, header was {}",
        extension: "log",
        filler: &["2026-03-02T10:11:11Z INFO started"],
    },
    &Carrier {
        line: "Can you check why {} is refused? It worked on Monday.",
        extension: "txt",
        filler: TALK,
    },
    &Carrier {
        line: "ENV {name} {}",
        extension: "dockerfile",
        filler: &["FROM debian:13", "RUN apt-get update"],
    },
    &Carrier {
        line: "export {name}=\"{}\"",
        extension: "sh",
        filler: ENV,
    },
];

const PASSWORD: &[&Carrier] = &[
    &Carrier {
        line: "password = \"{}\"",
        extension: "py",
        filler: CODE,
    },
    &Carrier {
        line: "DB_PASSWORD={}",
        extension: "env",
        filler: ENV,
    },
    &Carrier {
        line: "  password: {}",
        extension: "yaml",
        filler: CONFIG,
    },
    &Carrier {
        line: "  password: \"{}\"",
        extension: "yaml",
        filler: CONFIG,
    },
    &Carrier {
        line: "  \"password\": \"{}\",",
        extension: "json",
        filler: &["  \"port\": 8080,", "  \"debug\": false,"],
    },
    &Carrier {
        line: "const char *passwd = \"{}\";",
        extension: "c",
        filler: &["#include <stdio.h>", "int main(void) {"],
    },
    &Carrier {
        line: "let db_password: &str = \"{}\";",
        extension: "rs",
        filler: &["use std::env;", "fn main() {"],
    },
    &Carrier {
        line: "private static final String PASSWORD = \"{}\";",
        extension: "java",
        filler: &["package app;", "class Main {"],
    },
    &Carrier {
        line: "$config['password'] = '{}';",
        extension: "php",
        filler: &["<?php", "$config['host'] = 'db';"],
    },
    &Carrier {
        line: "+  adminPassword: '{}',",
        extension: "diff",
        filler: DIFF,
    },
    &Carrier {
        line: "    <password>{}</password>",
        extension: "xml",
        filler: &["    <username>app</username>"],
    },
    &Carrier {
        line: "mysqldump --user=root --password={} shop",
        extension: "sh",
        filler: CODE,
    },
    &Carrier {
        line: "CREATE USER app WITH PASSWORD '{}';",
        extension: "sql",
        filler: &["CREATE DATABASE shop;"],
    },
    &Carrier {
        line: "spring.datasource.password={}",
        extension: "properties",
        filler: &["spring.datasource.url=jdbc:h2:mem"],
    },
    &Carrier {
        line: "password := \"{}\"",
        extension: "go",
        filler: &["package main", "port := 8080"],
    },
    &Carrier {
        line: "  password => '{}',",
        extension: "rb",
        filler: &["require 'pg'"],
    },
    &Carrier {
        line: "The password is {} and the user is admin.",
        extension: "txt",
        filler: TALK,
    },
    &Carrier {
        line: "machine ftp.internal login deploy password {}",
        extension: "netrc",
        filler: &[],
    },
];

const PROSE: &[&Carrier] = &[
    &Carrier {
        line: "{}",
        extension: "txt",
        filler: TALK,
    },
    &Carrier {
        line: "Please use {} from now on.",
        extension: "txt",
        filler: TALK,
    },
    &Carrier {
        line: "customer;{};open",
        extension: "csv",
        filler: &["customer;note;state"],
    },
    &Carrier {
        line: "  \"contact\": \"{}\",",
        extension: "json",
        filler: &["  \"active\": true,"],
    },
    &Carrier {
        line: "2026-03-02 10:11:12 WARN rejected record ({})",
        extension: "log",
        filler: &["2026-03-02 10:11:11 INFO 14 records read"],
    },
];

/// The carriers that fit a slot.
pub(super) fn for_slot(slot: Slot) -> &'static [&'static Carrier] {
    match slot {
        Slot::Token => TOKEN,
        Slot::Password => PASSWORD,
        Slot::Whole => &[&PLAIN],
        Slot::Prose => PROSE,
    }
}
