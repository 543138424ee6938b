//! Proofs that a record is in the audit log, and that the log goes on from what it was.

use postern_audit::{ProofDocument, SigningKey, VerifierKey};
use postern_testkit::client::{Reply, get, post};
use serde_json::{Value, json};

use crate::calls::body;
use crate::daemon::{Daemon, Plan, refused};

async fn answer(daemon: &Daemon) -> Value {
    let token = daemon.token("kiosk", &["short.v1"]);
    let call = post("/v1/generate", Some(&token), body("short.v1", json!({})));
    let reply = daemon.client("kiosk").send(call).await.unwrap();
    serde_json::from_str(&reply.body).unwrap()
}

async fn ask(daemon: &Daemon, identity: &str, path: &str) -> Reply {
    let token = daemon.token(identity, &["short.v1"]);
    let client = daemon.client(identity);
    client.send(get(path, Some(&token))).await.unwrap()
}

async fn hand_in(daemon: &Daemon, checkpoint: &str) -> Reply {
    let token = daemon.token("kiosk", &["short.v1"]);
    let handed_in = json!({ "checkpoint": checkpoint }).to_string();
    let request = post("/v1/audit/consistency", Some(&token), handed_in);
    daemon.client("kiosk").send(request).await.unwrap()
}

fn proof_of(reply: &Reply) -> ProofDocument {
    assert_eq!(reply.status, 200, "{}", reply.body);
    serde_json::from_str(&reply.body).unwrap()
}

fn signer(daemon: &Daemon) -> VerifierKey {
    postern_audit::signer(&daemon.audit_dir).unwrap()
}

fn proof_path(audit: &Value) -> String {
    let ticket = audit["ticket"].as_str().unwrap();
    format!("/v1/audit/{}/proof?ticket={ticket}", audit["index"])
}

#[tokio::test]
async fn the_caller_of_a_call_gets_a_proof_that_holds_offline() {
    let daemon = Plan::short().start().await;
    let audit = answer(&daemon).await["audit"].clone();
    let reply = ask(&daemon, "kiosk", &proof_path(&audit)).await;
    let proof = proof_of(&reply);
    proof.verify(&signer(&daemon), None).unwrap();
    let ProofDocument::Inclusion { index, leaf, .. } = proof else {
        panic!("{}", reply.body);
    };
    assert_eq!(
        (json!(index), json!(leaf)),
        (audit["index"].clone(), audit["leaf"].clone())
    );
}

#[tokio::test]
async fn nobody_else_does() {
    let daemon = Plan::short().start().await;
    let audit = answer(&daemon).await["audit"].clone();
    let index = audit["index"].as_u64().unwrap();
    let path = proof_path(&audit);
    let ticket = path.split_once('?').unwrap().1;
    for (identity, path) in [
        ("operator", path.clone()),
        ("kiosk", format!("/v1/audit/{}/proof?{ticket}", index - 1)),
        ("kiosk", format!("/v1/audit/{index}/proof")),
        ("kiosk", format!("/v1/audit/{index}/proof?ticket=")),
        ("kiosk", format!("/v1/audit/-1/proof?{ticket}")),
        ("kiosk", format!("/v1/audit/%ff/proof?{ticket}")),
    ] {
        let reply = ask(&daemon, identity, &path).await;
        assert_eq!(reply.status, 404, "{path}: {}", reply.body);
        assert!(
            reply.body.contains("proof-unknown"),
            "{path}: {}",
            reply.body
        );
    }
    let codes: Vec<_> = refused(&daemon.stop().await)
        .into_iter()
        .map(|one| one.code)
        .collect();
    assert_eq!(codes, ["proof-unknown"; 6]);
}

#[tokio::test]
async fn a_kept_checkpoint_shows_that_the_log_goes_on() {
    let daemon = Plan::short().start().await;
    let first = answer(&daemon).await["audit"].clone();
    let old = first["checkpoint"].as_str().unwrap();
    answer(&daemon).await;
    let proof = proof_of(&hand_in(&daemon, old).await);
    proof.verify(&signer(&daemon), Some(old)).unwrap();

    let name = signer(&daemon).name().clone();
    let stranger = SigningKey::generate(name.clone()).unwrap();
    let checkpoint = signer(&daemon).open(old).unwrap();
    for foreign in [
        stranger.sign(&checkpoint),
        "postern\n".to_owned(),
        String::new(),
    ] {
        let reply = hand_in(&daemon, &foreign).await;
        assert_eq!(reply.status, 422, "{}", reply.body);
        assert!(reply.body.contains("checkpoint-foreign"), "{}", reply.body);
    }
}
