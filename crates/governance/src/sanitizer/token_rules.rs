//! Keys of known form: what they look like.
//!
//! Absent: the walk over the text, which is in [`super::token`].

use regex::Regex;

use crate::canonical::Canonical;

/// Shortest text that any head matches, in bytes; shorter runs are not searched.
pub(super) const HEAD_BYTES_MIN: usize = 15;

/// One kind of key.
pub(super) struct Rule {
    pub(super) name: &'static str,
    /// Matches the least that is enough; begins at a word boundary, has at least
    /// [`HEAD_BYTES_MIN`] bytes and fewer than [`super::RUN_OVERLAP_BYTES`].
    head: &'static str,
    /// Signs that belong to the secret behind the head, besides letters and digits.
    tail_signs: &'static str,
}

/// The first that matches at a place wins.
const RULES: [Rule; 20] = [
    // Postern's own bearer tokens: claims and signature in base64url. The claims may be long.
    Rule {
        name: "postern-token",
        head: r"pst1\.[A-Za-z0-9_-]{16}",
        tail_signs: "_-.",
    },
    // https://docs.anthropic.com: sk-ant-<kind>-<random>
    Rule {
        name: "anthropic-api-key",
        head: r"sk-ant-[A-Za-z0-9_-]{20}",
        tail_signs: "_-",
    },
    // Project, service account and admin keys, and the older form without a kind.
    Rule {
        name: "openai-api-key",
        head: r"sk-(?:(?:proj|svcacct|admin|None)-[A-Za-z0-9_-]{20}|[A-Za-z0-9]{20})",
        tail_signs: "_-",
    },
    // AWS IAM reference, "Unique identifiers": AKIA long-term, ASIA temporary, and kin.
    Rule {
        name: "aws-access-key",
        head: "(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}",
        tail_signs: "",
    },
    Rule {
        name: "github-token",
        head: "gh[pousr]_[A-Za-z0-9]{36}",
        tail_signs: "_",
    },
    Rule {
        name: "github-token",
        head: "github_pat_[A-Za-z0-9_]{22}",
        tail_signs: "_",
    },
    Rule {
        name: "slack-token",
        head: "xox[abeoprs]-[A-Za-z0-9-]{10}",
        tail_signs: "-",
    },
    // App-level tokens: xapp-<version>-<app>-<number>-<random>
    Rule {
        name: "slack-token",
        head: "xapp-[0-9]-[A-Za-z0-9-]{10}",
        tail_signs: "-",
    },
    Rule {
        name: "google-api-key",
        head: "AIza[A-Za-z0-9_-]{35}",
        tail_signs: "_-",
    },
    Rule {
        name: "stripe-key",
        head: "[rs]k_(?:live|test)_[A-Za-z0-9]{16}",
        tail_signs: "",
    },
    Rule {
        name: "stripe-key",
        head: "whsec_[A-Za-z0-9]{24}",
        tail_signs: "",
    },
    // OAuth 2.0 access tokens; those of service accounts have a kind in front.
    Rule {
        name: "google-oauth-token",
        head: r"ya29\.(?:[a-z]\.)?[A-Za-z0-9_-]{20}",
        tail_signs: "_-",
    },
    Rule {
        name: "npm-token",
        head: "npm_[A-Za-z0-9]{36}",
        tail_signs: "",
    },
    Rule {
        name: "hugging-face-token",
        head: "hf_[A-Za-z0-9]{30}",
        tail_signs: "",
    },
    // Routable tokens have further parts behind dots.
    Rule {
        name: "gitlab-token",
        head: "glpat-[A-Za-z0-9_-]{20}",
        tail_signs: "_-.",
    },
    // A macaroon in base64: version 2, and a location field.
    Rule {
        name: "pypi-token",
        head: "pypi-AgEI[A-Za-z0-9_-]{16}",
        tail_signs: "_-",
    },
    // SG.<id of 22>.<secret of 43>
    Rule {
        name: "sendgrid-api-key",
        head: r"SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{16}",
        tail_signs: "_-",
    },
    // age: an X25519 identity in Bech32.
    Rule {
        name: "age-secret-key",
        head: "AGE-SECRET-KEY-1[A-Z0-9]{38}",
        tail_signs: "",
    },
    // RFC 7519: two base64url JSON objects; the header may be long.
    Rule {
        name: "jwt",
        head: r"eyJ[A-Za-z0-9_-]{8,150}\.eyJ[A-Za-z0-9_-]{8}",
        tail_signs: "_-.",
    },
    // Also by the usual first fields of the header: alg, typ, kid, enc.
    Rule {
        name: "jwt",
        head: r"eyJ(?:hbGciO|0eXAiO|raWQiO|lbmMiO)[A-Za-z0-9_-]{4,150}\.[A-Za-z0-9_-]{8}",
        tail_signs: "_-.",
    },
];

/// The rules, compiled.
#[derive(Debug)]
pub(super) struct TokenRules {
    /// Every head as one alternative with a group of its own, in the order of [`RULES`].
    heads: Regex,
}

/// A secret in a run.
pub(super) struct Match {
    pub(super) rule: &'static Rule,
    pub(super) start: usize,
    /// Behind the tail, as far as the text is at hand.
    pub(super) end: usize,
}

impl TokenRules {
    pub(super) fn builtin() -> Self {
        let heads: Vec<String> = RULES
            .iter()
            .map(|rule| format!("({})", rule.head))
            .collect();
        let pattern = format!(r"(?-u:\b)(?:{})", heads.join("|"));
        let heads = Regex::new(&pattern).expect("the built-in rules compile");
        Self { heads }
    }

    /// What the checksum of the rules is taken over.
    pub(super) fn canonical() -> Canonical {
        let rules = RULES.iter().enumerate().map(|(order, rule)| {
            let entry = Canonical::object([
                ("name", Canonical::text(rule.name)),
                ("head", Canonical::text(rule.head)),
                ("tail_signs", Canonical::text(rule.tail_signs)),
            ]);
            (format!("{order:03}"), entry)
        });
        Canonical::Object(rules.collect())
    }

    /// The first key that begins at `start` or behind it.
    pub(super) fn find_at(&self, text: &str, start: usize) -> Option<Match> {
        let found = self.heads.find_at(text, start)?;
        let groups = self.heads.captures_at(text, found.start())?;
        let index = (1..groups.len()).find(|index| groups.get(*index).is_some())?;
        let rule = &RULES[index - 1];
        let rest = &text[found.end()..];
        let tail = rest.find(|c| !rule.has_tail(c)).unwrap_or(rest.len());
        Some(Match {
            rule,
            start: found.start(),
            end: found.end() + tail,
        })
    }
}

impl Rule {
    pub(super) fn has_tail(&self, c: char) -> bool {
        c.is_ascii_alphanumeric() || self.tail_signs.contains(c)
    }
}
