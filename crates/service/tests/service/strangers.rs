//! Many who do not prove who they are: a few records, one count of the rest, and nobody lost.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use postern_audit::{Entry, RefusalCount, RefusedMore};
use postern_service::{
    AuthenticationError, NotReady, RefusalKind, Requester, STRANGERS_RECORDED_MAX,
};
use postern_testkit::chain;

use crate::disk::{filling, small_segments, take_away};
use crate::house::{House, LONG_CONTEXT, Plan, coffee, holder};

const RECORDED_MAX: usize = STRANGERS_RECORDED_MAX as usize;

fn handshake(number: u16) -> RefusalKind {
    RefusalKind::Unauthenticated(AuthenticationError::Handshake {
        peer: SocketAddr::from(([192, 0, 2, 7], number)),
        reason: "peer sent no certificates".to_owned(),
    })
}

/// Has so many handshakes fail.
async fn fail_handshakes(house: &House, count: u16) {
    let nobody = Requester::default();
    for number in 0..count {
        let refusal = house.service.refuse(&nobody, handshake(number)).await;
        assert_eq!(refusal.kind, handshake(number));
    }
}

/// What the log says was only counted, by code.
fn counted(entries: &[Entry]) -> BTreeMap<String, u64> {
    let mut counted = BTreeMap::new();
    for entry in entries {
        if let Entry::RefusedMore(RefusedMore { counts, .. }) = entry {
            for RefusalCount { code, count } in counts {
                *counted.entry(code.clone()).or_default() += count;
            }
        }
    }
    counted
}

fn all_entries(audit_dir: &Path) -> Vec<Entry> {
    let stored = postern_audit::read(audit_dir).unwrap();
    let entries = stored.map(|stored| stored.unwrap().content.into_entry().unwrap());
    entries.collect()
}

#[tokio::test]
async fn a_flood_leaves_a_few_records_and_exact_counts() {
    let house = Plan::default().build();
    fail_handshakes(&house, 100).await;
    for _ in 0..50 {
        let refusal = house
            .service
            .authenticate(&holder("kiosk"), Some("x"))
            .await;
        let kind = refusal.unwrap_err().kind;
        assert_eq!(kind.code(), "token-malformed", "the answer stays the same");
    }
    let recorded = house.refused();
    assert_eq!(recorded.len(), RECORDED_MAX);
    assert_eq!(recorded[0].code, "handshake-failed");
    assert_eq!(
        recorded[7].detail,
        "the TLS handshake with 192.0.2.7:7 failed: peer sent no certificates"
    );
    assert_eq!(recorded[0].identity, None);

    // Other refusals have their records all the same.
    house.ask(coffee(&"x".repeat(1025))).await.refusal();
    assert_eq!(house.refused().len(), RECORDED_MAX + 1);

    let metrics = house.service.metrics_text();
    for line in [
        r#"postern_requests_total{outcome="handshake-failed",template="none"} 100"#,
        r#"postern_requests_total{outcome="token-malformed",template="none"} 50"#,
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }

    house.service.shutdown(Duration::from_secs(60)).await;
    let expected = BTreeMap::from([
        ("handshake-failed".to_owned(), 100 - RECORDED_MAX as u64),
        ("token-malformed".to_owned(), 50),
    ]);
    let entries = house.entries();
    assert_eq!(counted(&entries), expected);
    let Some(Entry::RefusedMore(more)) = entries.last() else {
        panic!("{entries:#?}");
    };
    assert!(more.since_us <= more.until_us);
    house.verify();

    // Whoever comes later, as a connection that is still open, is told of at the very end.
    fail_handshakes(&house, 3).await;
    let audit_dir = house.audit_dir.clone();
    let _folder = house.close();
    postern_audit::verify(&audit_dir).unwrap();
    let all = counted(&all_entries(&audit_dir));
    assert_eq!(all["handshake-failed"], 100 - RECORDED_MAX as u64 + 3);
}

#[tokio::test]
async fn callers_that_leave_at_once_are_counted() {
    let house = Plan::default().build();
    for number in 0..200 {
        let nobody = Requester::default();
        let refusing = house.service.refuse(&nobody, handshake(number));
        let _left = tokio::time::timeout(Duration::ZERO, refusing).await;
    }
    house.service.shutdown(Duration::from_secs(60)).await;
    let entries = house.entries();
    let counted = counted(&entries)["handshake-failed"];
    let recorded = house.refused().len();
    assert!(recorded <= RECORDED_MAX, "{recorded}");
    assert_eq!(counted + recorded as u64, 200);
    let line = r#"postern_requests_total{outcome="handshake-failed",template="none"} 200"#;
    assert!(house.service.metrics_text().contains(line));
}

#[tokio::test]
async fn who_cannot_be_recorded_stays_refused() {
    let plan = Plan::with_model(chain::endless(LONG_CONTEXT));
    let house = Plan {
        audit: small_segments(),
        ..plan
    }
    .build();
    let caller = house.caller("operator", &["short.v1"]).await;
    let _away = take_away(&house.audit_dir);
    let filled = house.service.generate(caller, filling()).await;
    filled.unwrap_err();
    assert_eq!(house.service.ready(), Err(NotReady::AuditUnavailable));
    fail_handshakes(&house, 2).await;
    let refusal = house.service.authenticate(&holder("kiosk"), None).await;
    assert_eq!(refusal.unwrap_err().kind.code(), "token-missing");
}

#[tokio::test]
async fn the_loaded_model_is_recorded_before_anything_is_generated() {
    let house = Plan::default().build();
    let model = house.service.models().remove(0);
    let entries = all_entries(&house.audit_dir);
    let [Entry::Opened { .. }, Entry::Administered(loaded)] = &*entries else {
        panic!("{entries:#?}");
    };
    assert_eq!(loaded.identity, None);
    assert_eq!(loaded.action, "model-loaded");
    assert_eq!(loaded.subject, model.id);
    assert_eq!(
        loaded.detail,
        format!("sha256 {}, backend {}", model.sha256, model.backend)
    );
    assert_eq!(loaded.rules_sha256.len(), 64);
}
