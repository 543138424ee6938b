//! Who does not prove who they are: recorded, within bounds, and with what is known of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use postern_audit::{Entry, Refused};
use postern_service::STRANGERS_RECORDED_MAX;
use postern_testkit::Credentials;
use postern_testkit::client::{Client, get, post};
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::calls::body;
use crate::daemon::{Plan, refused};

/// SHA-256 of the certificate, by TLS's own implementation, in hexadecimal.
fn fingerprint(credentials: &Credentials) -> String {
    let der = CertificateDer::from_pem_file(&credentials.certificate).unwrap();
    let suite = TLS13_AES_128_GCM_SHA256.tls13().unwrap();
    let digest = suite.common.hash_provider.hash(&der);
    let bytes = digest.as_ref().iter();
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

/// How many failed by code: those with a record, and all together.
fn by_code(entries: &[Entry]) -> (BTreeMap<String, u64>, BTreeMap<String, u64>) {
    let mut recorded = BTreeMap::new();
    for Refused { code, .. } in refused(entries) {
        *recorded.entry(code).or_default() += 1;
    }
    let mut all = recorded.clone();
    for entry in entries {
        if let Entry::RefusedMore(more) = entry {
            for one in &more.counts {
                *all.entry(one.code.clone()).or_default() += one.count;
            }
        }
    }
    (recorded, all)
}

#[tokio::test]
async fn a_flood_of_strangers_leaves_a_few_records_and_exact_counts() {
    const EACH: u64 = 200;
    let daemon = Plan::short().start().await;
    let nobody = Client::new(daemon.address, daemon.pki.ca(), None);
    let mut kiosk = daemon.client("kiosk").connect().await.unwrap();
    for _ in 0..EACH {
        nobody.send(get("/healthz", None)).await.unwrap_err();
        let reply = kiosk.send(get("/v1/models", Some("pst1.e30.AAAA"))).await;
        assert_eq!(reply.unwrap().status, 401, "the answer stays the same");
    }
    let metrics = kiosk.send(get("/metrics", None)).await.unwrap().body;
    let line = r#"postern_requests_total{outcome="token-signature",template="none"} 200"#;
    assert!(metrics.contains(line), "{metrics}");
    // Others get their answers.
    let token = daemon.token("kiosk", &["short.v1"]);
    let call = post("/v1/generate", Some(&token), body("short.v1", json!({})));
    assert_eq!(kiosk.send(call).await.unwrap().status, 200);
    drop(kiosk);

    let entries = daemon.stop().await;
    let (recorded, all) = by_code(&entries);
    let expected = ["handshake-failed", "token-signature"].map(|code| (code.to_owned(), EACH));
    assert_eq!(all, BTreeMap::from(expected));
    // Should the test take more than a minute, each window that gave all its records has a count besides.
    let windows_max = entries
        .iter()
        .filter(|entry| matches!(entry, Entry::RefusedMore(_)))
        .count() as u64;
    let recorded: u64 = recorded.values().sum();
    assert!(windows_max > 0);
    assert!(recorded >= u64::from(STRANGERS_RECORDED_MAX));
    assert!(recorded <= windows_max * u64::from(STRANGERS_RECORDED_MAX));
}

#[tokio::test]
async fn handshakes_that_fail_are_recorded_with_address_and_reason() {
    let plan = Plan::short().with(|config| config.handshake_timeout_ms = 2000);
    let daemon = plan.start().await;
    let pki = &daemon.pki;
    let cases = [
        (None, "peer sent no certificates"),
        (Some(pki.foreign_client("kiosk")), "UnknownIssuer"),
        (Some(pki.expired_client("kiosk")), "xpired"),
        (Some(pki.server_only_client("kiosk")), "certificate"),
    ];
    let mut reasons = Vec::new();
    for (credentials, reason) in &cases {
        let client = Client::new(daemon.address, pki.ca(), credentials.as_ref());
        client.send(get("/healthz", None)).await.unwrap_err();
        reasons.push(*reason);
        wait_for_records(&daemon.audit_dir, reasons.len()).await;
    }
    let mut plain = TcpStream::connect(daemon.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    reasons.push("InvalidContentType");
    wait_for_records(&daemon.audit_dir, reasons.len()).await;
    let silent = TcpStream::connect(daemon.address).await.unwrap();
    reasons.push("not done in time");
    wait_for_records(&daemon.audit_dir, reasons.len()).await;

    let recorded = refused(&daemon.stop().await);
    assert_eq!(recorded.len(), reasons.len(), "{recorded:#?}");
    for (refused, reason) in recorded.iter().zip(reasons) {
        assert_eq!(refused.code, "handshake-failed");
        let detail = &refused.detail;
        assert!(
            detail.starts_with("the TLS handshake with 127.0.0.1:") && detail.contains(reason),
            "{detail}, not {reason}"
        );
        assert_eq!((&refused.identity, &refused.template), (&None, &None));
        assert_eq!(refused.certificate_sha256, "");
    }
    drop((plain, silent));
}

/// Waits until so many refusals are recorded.
async fn wait_for_records(audit_dir: &Path, count: usize) {
    let waiting = async {
        loop {
            let stored = postern_audit::read(audit_dir).unwrap();
            let entries = stored.filter_map(|stored| stored.unwrap().content.into_entry());
            if refused(&entries.collect::<Vec<_>>()).len() >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(60), waiting).await;
    ended.unwrap();
}

#[tokio::test]
async fn records_name_the_certificate_of_whoever_had_one() {
    let daemon = Plan::short().start().await;
    let kiosk = daemon.pki.client("kiosk");
    let nameless = daemon.pki.client_with_uris("nameless", &[]);
    let client =
        |credentials: &Credentials| Client::new(daemon.address, daemon.pki.ca(), Some(credentials));
    let token = daemon.token("kiosk", &["short.v1"]);
    let call = || post("/v1/generate", Some(&token), body("short.v1", json!({})));
    assert_eq!(client(&kiosk).send(call()).await.unwrap().status, 200);
    let broken = post("/v1/generate", Some(&token), "{");
    assert_eq!(client(&kiosk).send(broken).await.unwrap().status, 400);
    let without = client(&kiosk).send(get("/v1/models", None)).await;
    assert_eq!(without.unwrap().status, 401);
    assert_eq!(client(&nameless).send(call()).await.unwrap().status, 403);

    // The files go with the daemon.
    let [of_kiosk, of_nameless] = [&kiosk, &nameless].map(fingerprint);
    let entries = daemon.stop().await;
    let admitted = entries.iter().find_map(|entry| match entry {
        Entry::Admitted(admitted) => Some(admitted),
        _ => None,
    });
    let admitted = admitted.unwrap();
    assert_eq!(admitted.certificate_sha256, of_kiosk);
    let recorded: Vec<_> = refused(&entries)
        .into_iter()
        .map(|one| (one.code, one.certificate_sha256, one.token_id))
        .collect();
    let expected = [
        ("body-malformed", &of_kiosk, admitted.token_id.clone()),
        ("token-missing", &of_kiosk, None),
        ("certificate-identity", &of_nameless, None),
    ];
    let expected =
        expected.map(|(code, holder, token)| (code.to_owned(), String::clone(holder), token));
    assert_eq!(recorded, expected);
}
