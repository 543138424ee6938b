//! Bearer tokens: who is believed, and what a refused one leaves behind.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::{SignedDuration, Timestamp};
use postern_audit::Entry;
use postern_service::{
    Clock, Identity, RefusalKind, Requester, ServiceError, TOKEN_BYTES_MAX, TOKEN_TEMPLATES_MAX,
    TOKEN_TTL_MAX, TokenClaims, TokenKey, issue,
};
use sha2::{Digest as _, Sha256};

use crate::house::{House, Plan, call, claims, coffee, drain, holder};

const NOW_S: i64 = 1_800_000_000;

fn now() -> Timestamp {
    Timestamp::from_second(NOW_S).unwrap()
}

fn house() -> House {
    let clock = Clock::from_fn(now);
    Plan {
        clock,
        ..Plan::default()
    }
    .build()
}

/// A token of `kiosk` for one hour from `seconds` after now.
fn token_from(key: &TokenKey, seconds: i64) -> String {
    let from = now() + SignedDuration::from_secs(seconds);
    issue(key, &claims("kiosk", &["coffee.v1"], from))
}

/// Exchanges the character at `place` (from the end, if negative) by another.
fn tampered(token: &str, place: isize) -> String {
    let length = token.len().cast_signed();
    let place = place.rem_euclid(length).cast_unsigned();
    let other = if &token[place..=place] == "A" {
        "B"
    } else {
        "A"
    };
    format!("{}{other}{}", &token[..place], &token[place + 1..])
}

/// A house whose key the test knows, as an insider would.
fn house_with_known_key() -> (House, [u8; 32]) {
    let bytes = [7; 32];
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("token.key");
    std::fs::write(&path, bytes).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let key = TokenKey::load(&path).unwrap();
    (
        Plan {
            key,
            clock: Clock::from_fn(now),
            ..Plan::default()
        }
        .build(),
        bytes,
    )
}

/// A token with a good signature over any claims.
fn signed(key: &[u8], claims: &str) -> String {
    let signed = format!("pst1.{}", BASE64_URL_SAFE_NO_PAD.encode(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(signed.as_bytes());
    let signature = BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    format!("{signed}.{signature}")
}

/// The id that stands in a token.
fn id_of(token: &str) -> String {
    let claims = token.split('.').nth(1).unwrap();
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    claims["id"].as_str().unwrap().to_owned()
}

/// The code under which `token` is refused to `identity`, or `None` if it is
/// believed; the audit record must say the same.
async fn refusal_code(house: &House, identity: &str, token: Option<&str>) -> Option<&'static str> {
    let before = house.refused().len();
    let authenticated = house.service.authenticate(&holder(identity), token).await;
    let refused = house.refused();
    let Err(refusal) = authenticated else {
        assert_eq!(refused.len(), before);
        return None;
    };
    let RefusalKind::Unauthenticated(error) = refusal.kind else {
        panic!("{refusal}");
    };
    assert_eq!(refused.len(), before + 1);
    assert_eq!(refused[before].code, error.code());
    assert_eq!(refused[before].request_id, refusal.id.to_string());
    assert_eq!(refused[before].identity.as_deref(), Some(identity));
    Some(error.code())
}

#[tokio::test]
async fn a_token_is_believed_only_whole_in_time_and_from_its_own_identity() {
    let house = house();
    let good = token_from(&house.key, 0);
    let parts: Vec<&str> = good.split('.').collect();
    let foreign = token_from(&TokenKey::generate().unwrap(), 0);
    let other_claims = token_from(&house.key, 60);
    let spliced = format!(
        "pst1.{}.{}",
        other_claims.split('.').nth(1).unwrap(),
        parts[2]
    );
    let cases: [(&str, Option<String>, Option<&str>); 20] = [
        ("good", Some(good.clone()), None),
        ("none", None, Some("token-missing")),
        ("empty", Some(String::new()), Some("token-malformed")),
        ("no parts", Some("pst1".to_owned()), Some("token-malformed")),
        (
            "two parts",
            Some(format!("pst1.{}", parts[1])),
            Some("token-malformed"),
        ),
        (
            "four parts",
            Some(format!("{good}.AAAA")),
            Some("token-malformed"),
        ),
        (
            "other format",
            Some(good.replacen("pst1", "pst2", 1)),
            Some("token-malformed"),
        ),
        ("padded", Some(format!("{good}=")), Some("token-malformed")),
        (
            "trailing space",
            Some(format!("{good} ")),
            Some("token-malformed"),
        ),
        (
            "no signature",
            Some(format!("pst1.{}.", parts[1])),
            Some("token-signature"),
        ),
        (
            "short signature",
            Some(good[..good.len() - 3].to_owned()),
            Some("token-signature"),
        ),
        (
            "claims tampered",
            Some(tampered(&good, 20)),
            Some("token-signature"),
        ),
        (
            "signature tampered",
            Some(tampered(&good, -10)),
            Some("token-signature"),
        ),
        ("another's claims", Some(spliced), Some("token-signature")),
        ("wrong key", Some(foreign), Some("token-signature")),
        (
            "oversized",
            Some("a".repeat(TOKEN_BYTES_MAX + 1)),
            Some("token-malformed"),
        ),
        (
            "within the leeway before",
            Some(token_from(&house.key, 29)),
            None,
        ),
        (
            "before",
            Some(token_from(&house.key, 31)),
            Some("token-not-yet-valid"),
        ),
        (
            "within the leeway after",
            Some(token_from(&house.key, -3629)),
            None,
        ),
        (
            "after",
            Some(token_from(&house.key, -3631)),
            Some("token-expired"),
        ),
    ];
    let mut wrong = Vec::new();
    for (name, token, expected) in cases {
        let found = refusal_code(&house, "kiosk", token.as_deref()).await;
        if found != expected {
            wrong.push(format!("{name}: {found:?} instead of {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let found = refusal_code(&house, "operator", Some(&good)).await;
    assert_eq!(found, Some("token-of-other-identity"));
}

#[tokio::test]
async fn claims_beyond_their_bounds_are_malformed_even_if_signed() {
    let (house, key) = house_with_known_key();
    let templates = |count: usize| {
        let names: Vec<String> = (1..=count).map(|n| format!("\"t.v{n}\"")).collect();
        names.join(",")
    };
    let claims = |templates: &str, expires: &str, more: &str| {
        format!(
            r#"{{"id":"01arz3ndektsv4rrffq69g5fav","identity":"kiosk","templates":[{templates}],"not_before":"{}","expires":"{expires}"{more}}}"#,
            now()
        )
    };
    let hour = (now() + SignedDuration::from_hours(1)).to_string();
    let too_long = (now() + TOKEN_TTL_MAX + SignedDuration::from_secs(1)).to_string();
    let cases = [
        ("good", claims(&templates(1), &hour, ""), None),
        (
            "most templates",
            claims(&templates(TOKEN_TEMPLATES_MAX), &hour, ""),
            None,
        ),
        (
            "no template",
            claims("", &hour, ""),
            Some("token-malformed"),
        ),
        (
            "too many templates",
            claims(&templates(TOKEN_TEMPLATES_MAX + 1), &hour, ""),
            Some("token-malformed"),
        ),
        (
            "all templates",
            claims("\"*\"", &hour, ""),
            Some("token-malformed"),
        ),
        (
            "long life",
            claims(&templates(1), &too_long, ""),
            Some("token-malformed"),
        ),
        (
            "no life",
            claims(&templates(1), &now().to_string(), ""),
            Some("token-malformed"),
        ),
        (
            "more claims",
            claims(&templates(1), &hour, r#","admin":true"#),
            Some("token-malformed"),
        ),
        (
            "not JSON",
            "identity=kiosk".to_owned(),
            Some("token-malformed"),
        ),
    ];
    for (name, claims, expected) in cases {
        let token = signed(&key, &claims);
        let found = refusal_code(&house, "kiosk", Some(&token)).await;
        assert_eq!(found, expected, "{name}");
    }
}

#[tokio::test]
async fn a_token_leaves_only_its_id_in_the_log() {
    let house = house();
    let token = token_from(&house.key, -7200);
    refusal_code(&house, "kiosk", Some(&token)).await;
    let id = house.refused()[0].token_id.clone();
    assert_eq!(id, Some(id_of(&token)));
    let refused = format!("{:?}", house.refused());
    for part in token.split('.').skip(1) {
        assert!(!refused.contains(part), "{refused}");
    }
}

#[tokio::test]
async fn a_refusal_names_certificate_and_token_as_far_as_they_are_known() {
    let house = house();
    let expired = token_from(&house.key, -7200);
    let foreign = token_from(&TokenKey::generate().unwrap(), 0);
    let good = token_from(&house.key, 0);
    let cases = [
        ("no token", "kiosk", None, None),
        ("no token of ours", "kiosk", Some("pst1.e30.AAAA"), None),
        ("signed by another", "kiosk", Some(&*foreign), None),
        ("expired", "kiosk", Some(&*expired), Some(id_of(&expired))),
        ("another's", "operator", Some(&*good), Some(id_of(&good))),
    ];
    for (name, identity, token, expected) in cases {
        refusal_code(&house, identity, token).await.unwrap();
        let refused = house.refused().pop().unwrap();
        assert_eq!(refused.token_id, expected, "{name}");
        assert_eq!(refused.certificate_sha256, sha256(identity), "{name}");
    }

    // Whoever is believed and refused later is known by both, and so is a call that is admitted.
    let caller = house
        .service
        .authenticate(&holder("kiosk"), Some(&good))
        .await
        .unwrap();
    let unknown = call("tea.v1", &[]);
    let denied = house.service.generate(caller.clone(), unknown).await;
    denied.unwrap_err();
    let refused = house.refused().pop().unwrap();
    assert_eq!(refused.token_id, Some(id_of(&good)));
    assert_eq!(refused.certificate_sha256, sha256("kiosk"));
    let stream = house.service.generate(caller, coffee("cake")).await;
    drain(stream.unwrap()).await.answer();
    let admitted = house.entries().into_iter().find_map(|entry| match entry {
        Entry::Admitted(admitted) => Some(admitted),
        _ => None,
    });
    assert_eq!(admitted.unwrap().certificate_sha256, sha256("kiosk"));

    // At the device itself there is no certificate.
    let operator = Requester::from("operator".parse::<Identity>().unwrap());
    let local = house.service.authenticate(&operator, None).await;
    local.unwrap_err();
    assert_eq!(house.refused().pop().unwrap().certificate_sha256, "");
}

fn sha256(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn claims_are_bounded_when_they_are_made() {
    let new = |templates: usize, ttl: SignedDuration| {
        let ids = (1..=templates).map(|n| format!("t.v{n}").parse().unwrap());
        TokenClaims::new("kiosk".parse().unwrap(), ids.collect(), now(), ttl)
    };
    let second = SignedDuration::from_secs(1);
    let cases = [
        (0, second, false),
        (1, second, true),
        (TOKEN_TEMPLATES_MAX, TOKEN_TTL_MAX, true),
        (TOKEN_TEMPLATES_MAX + 1, second, false),
        (1, TOKEN_TTL_MAX + second, false),
        (1, SignedDuration::ZERO, false),
        (1, -second, false),
        (1, SignedDuration::MAX, false),
    ];
    for (templates, ttl, expected) in cases {
        let claims = new(templates, ttl);
        assert_eq!(claims.is_ok(), expected, "{templates} templates for {ttl}");
        assert!(claims.is_ok() || matches!(claims, Err(ServiceError::Claims { .. })));
    }
}

#[test]
fn the_longest_token_is_within_its_bound() {
    let id = format!("{}.v1", "t".repeat(61));
    let templates = vec![id.parse().unwrap(); TOKEN_TEMPLATES_MAX];
    let identity = "i".repeat(64).parse().unwrap();
    let claims = TokenClaims::new(identity, templates, now(), TOKEN_TTL_MAX).unwrap();
    let token = issue(&TokenKey::generate().unwrap(), &claims);
    assert!(token.len() <= TOKEN_BYTES_MAX, "{} bytes", token.len());
}
