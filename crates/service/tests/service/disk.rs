//! The audit log's disk fails: nothing is generated unrecorded, and nothing
//! is reported as done without its last record.

use std::path::{Path, PathBuf};
use std::time::Duration;

use postern_audit::{AuditConfig, AuditLog, Entry, RECORD_BYTES_FLOOR, SEGMENT_BYTES_FLOOR};
use postern_service::{Call, NotReady, RefusalKind};
use postern_testkit::chain;
use tempfile::TempDir;

use crate::children::{child_folder, limit_file_bytes, passes};
use crate::house::{
    House, LONG_CONTEXT, Plan, call, coffee, drain, first_text, in_the_clear, short,
};

/// A record of such a call fills a segment of [`small_segments`] alone, so
/// that the next record needs a new file.
pub(crate) fn filling() -> Call {
    call("short.v1", &[("text", &"on ".repeat(1300))])
}

pub(crate) fn small_segments() -> AuditConfig {
    AuditConfig {
        segment_bytes_max: SEGMENT_BYTES_FLOOR,
        record_bytes_max: 4 * RECORD_BYTES_FLOOR,
        ..in_the_clear()
    }
}

/// Takes the log's folder away, so that no new segment can be made in it.
pub(crate) fn take_away(audit_dir: &Path) -> PathBuf {
    let away = audit_dir.with_extension("away");
    std::fs::rename(audit_dir, &away).unwrap();
    away
}

/// Tokens that were generated so far, by the metrics.
fn tokens_made(house: &House) -> u64 {
    let text = house.service.metrics_text();
    let lines = text
        .lines()
        .filter(|line| line.starts_with("postern_completion_tokens_total{"));
    lines
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
        .sum()
}

#[tokio::test]
async fn a_call_whose_admission_cannot_be_written_generates_nothing() {
    let plan = Plan::with_model(chain::endless(LONG_CONTEXT));
    let house = Plan {
        audit: small_segments(),
        ..plan
    }
    .build();
    let caller = house.caller("operator", &["short.v1"]).await;
    let away = take_away(&house.audit_dir);
    let refusal = house
        .service
        .generate(caller.clone(), filling())
        .await
        .unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::AuditUnavailable);
    assert_eq!(tokens_made(&house), 0);
    assert_eq!(house.service.ready(), Err(NotReady::AuditUnavailable));

    // With the folder back it still refuses: what happened to the log meanwhile is for a new start to check.
    std::fs::rename(&away, &house.audit_dir).unwrap();
    let refusal = house.service.generate(caller, short()).await.unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::AuditUnavailable);
    assert_eq!(house.service.ready(), Err(NotReady::AuditUnavailable));
    assert_eq!(house.verify().open_calls, []);
}

#[tokio::test]
async fn a_call_whose_last_record_cannot_be_written_is_not_done() {
    let plan = Plan::with_model(chain::endless(LONG_CONTEXT));
    let house = Plan {
        audit: small_segments(),
        ..plan
    }
    .build();
    let long = Call {
        template: "long.v1".to_owned(),
        max_tokens: Some(2000),
        ..filling()
    };
    let mut stream = house.call(long).await.unwrap();
    first_text(&mut stream).await;
    let away = take_away(&house.audit_dir);
    let refusal = drain(stream).await.refusal();
    assert_eq!(refusal.kind, RefusalKind::AuditUnavailable);
    assert_eq!(house.service.ready(), Err(NotReady::AuditUnavailable));
    let metrics = house.service.metrics_text();
    assert!(
        metrics.contains("postern_audit_failures_total 1"),
        "{metrics}"
    );

    // The next start closes the call.
    std::fs::rename(&away, &house.audit_dir).unwrap();
    assert_eq!(house.verify().open_calls.len(), 1);
    let dir = house.audit_dir.clone();
    house.service.shutdown(Duration::from_secs(60)).await;
    let folder = house.close();
    let (_log, recovery) = AuditLog::open(&dir, &small_segments()).unwrap();
    assert_eq!(recovery.interrupted.len(), 1);
    let last = postern_audit::read(&dir).unwrap().last().unwrap().unwrap();
    let Some(Entry::Interrupted { request_id, .. }) = last.entry() else {
        panic!("{last:?}");
    };
    assert_eq!(*request_id, refusal.id.to_string());
    drop(folder);
}

#[test]
fn a_full_disk_refuses_calls_before_a_token() {
    let folder = TempDir::new().unwrap();
    passes("disk::child_that_runs_out_of_disk", folder.path());
}

#[tokio::test]
#[ignore = "runs as a child process"]
async fn child_that_runs_out_of_disk() {
    const CALLS_MAX: usize = 500;
    if child_folder().is_none() {
        return;
    }
    let house = Plan::default().build();
    limit_file_bytes(64 * 1024);
    let wishes = "quiet ".repeat(100);
    let call = || Call {
        max_tokens: Some(2),
        ..coffee(&wishes)
    };
    let mut refusal = None;
    let mut made = 0;
    for _ in 0..CALLS_MAX {
        made = tokens_made(&house);
        match house.call(call()).await {
            Ok(stream) => drop(drain(stream).await),
            Err(refused) => {
                refusal = Some(refused);
                break;
            }
        }
    }
    assert_eq!(
        refusal.map(|refusal| refusal.kind),
        Some(RefusalKind::AuditUnavailable)
    );
    assert!(made > 0, "calls were answered while there was room");
    for _ in 0..3 {
        let refused = house.call(call()).await.unwrap_err();
        assert_eq!(refused.kind, RefusalKind::AuditUnavailable);
    }
    assert_eq!(
        tokens_made(&house),
        made,
        "nothing was generated unrecorded"
    );
    assert!(house.verify().records > 2);
}
