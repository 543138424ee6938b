//! Budgets of a real process that is killed again and again, and of one whose disk is full.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use postern_audit::{AuditLog, Content, Entry};
use postern_engine::{Engine, EngineConfig, ModelManifest, VerifiedModel};
use postern_governance::Budget;
use postern_service::{
    Call, Clock, Ledger, LedgerError, NotReady, RefusalKind, Service, ServiceConfig, TokenKey,
    issue,
};
use postern_testkit::chain;
use tempfile::TempDir;

use crate::budgets::limited;
use crate::children::{child, child_folder, limit_file_bytes, passes};
use crate::house::{claims, drain, holder, in_the_clear, short};

const ROUNDS: u64 = 50;

/// Tokens that the account may use: so few that the last rounds find it used up.
const BUDGET: u64 = 10_000;

/// Callers at once in the child.
const CALLERS: usize = 8;

fn audit_dir(folder: &Path) -> PathBuf {
    folder.join("audit")
}

fn ledger_file(folder: &Path) -> PathBuf {
    folder.join("ledger.redb")
}

fn service_in(folder: &Path, key: &TokenKey) -> Arc<Service> {
    let manifest = ModelManifest::pin(&folder.join("model.gguf"), "test-model").unwrap();
    let model = VerifiedModel::load(&manifest, &mut |_| {}).unwrap();
    let engine = Engine::start(model, &EngineConfig::default()).unwrap();
    let (audit, _) = AuditLog::open(&audit_dir(folder), &in_the_clear()).unwrap();
    let (ledger, _) = Ledger::open(&ledger_file(folder)).unwrap();
    Service::with_ledger(
        engine,
        limited(&format!("limits: {{tokens_per_month: {BUDGET}}}")),
        audit,
        ledger,
        key.clone(),
        ServiceConfig::default(),
        Clock::system(),
    )
    .unwrap()
}

fn prepared_folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    std::fs::write(
        folder.path().join("model.gguf"),
        chain::saying("fine", 4096),
    )
    .unwrap();
    std::fs::create_dir(audit_dir(folder.path())).unwrap();
    folder
}

/// The month of the account, after an opening that charges what was left open.
fn reopened(folder: &Path) -> (Budget, u64) {
    let (ledger, recovery) = Ledger::open(&ledger_file(folder)).unwrap();
    let account = "identity/operator".parse().unwrap();
    let budget = ledger
        .budget(&account, Timestamp::now().as_second())
        .unwrap();
    (budget, recovery.reservations)
}

#[test]
fn budgets_hold_across_fifty_kills() {
    let folder = prepared_folder();
    let folder = folder.path();
    let (mut told, mut charged_in_full, mut refused) = (0, 0, false);
    let mut before = 0;
    for round in 0..ROUNDS {
        let round_told = call_until_killed(folder, round, &mut refused);
        told += round_told;
        let (budget, recovered) = reopened(folder);
        charged_in_full += recovered;
        let month = budget.month;
        assert_eq!(month.reserved, 0, "nothing is reserved for ever");
        assert!(month.used <= BUDGET, "{} of {BUDGET}", month.used);
        assert!(month.used >= before, "nothing comes back");
        assert!(
            month.used >= told,
            "{} charged, but {told} were told to callers",
            month.used
        );
        before = month.used;
    }
    println!(
        "{before} of {BUDGET} tokens charged, {told} of them told to callers; \
         {charged_in_full} reservations charged in full in {ROUNDS} kills"
    );
    assert!(charged_in_full > 0, "some kill came within a call");
    assert!(told > 0, "calls were answered");
    assert!(refused, "the budget was used up in the end");
}

/// Lets a child call, kills it after some answers and some time, and returns the tokens that callers were
/// told of.
fn call_until_killed(folder: &Path, round: u64, refused: &mut bool) -> u64 {
    let mut process: Child = child("killed::child_calls", folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = 0;
    let mut lines = 0;
    for line in BufReader::new(process.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        *refused |= line == "refused";
        if let Some(used) = line.strip_prefix("used ").and_then(whole_number) {
            told += used;
        } else if line != "refused" && line != "ready" {
            continue;
        }
        lines += 1;
        if lines == 1 + round % 5 {
            std::thread::sleep(Duration::from_micros(round * 733 % 20_000));
            process.kill().unwrap();
        }
    }
    process.wait().unwrap();
    told
}

/// The number, if the kill left the line whole: it ends in a point.
fn whole_number(text: &str) -> Option<u64> {
    text.strip_suffix('.')?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs as a child process"]
async fn child_calls() {
    let Some(folder) = child_folder() else { return };
    let key = TokenKey::generate().unwrap();
    let service = service_in(&folder, &key);
    let token = issue(&key, &claims("operator", &["short.v1"], Timestamp::now()));
    let operator = holder("operator");
    let caller = service.authenticate(&operator, Some(&token)).await.unwrap();
    say("ready");
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        let (service, caller) = (Arc::clone(&service), caller.clone());
        callers.spawn(async move {
            loop {
                match service.generate(caller.clone(), short()).await {
                    Ok(stream) => {
                        let usage = drain(stream).await.end.unwrap().usage;
                        let used = usage.prompt_tokens + usage.completion_tokens;
                        say(&format!("used {used}."));
                    }
                    Err(refusal) => {
                        assert_eq!(refusal.kind.code(), "budget-exhausted");
                        say("refused");
                    }
                }
            }
        });
    }
    callers.join_all().await;
}

/// One write a line, so that a kill leaves no half line but at the very end.
fn say(line: &str) {
    let line = format!("\n{line}\n");
    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
}

#[test]
fn a_full_disk_refuses_what_it_cannot_reserve() {
    let folder = prepared_folder();
    passes("killed::child_that_runs_out_of_disk", folder.path());
    // With room again, what could not be settled is charged, and calls go on.
    let (budget, _) = reopened(folder.path());
    assert_eq!(budget.month.reserved, 0);
    assert!((1..=BUDGET).contains(&budget.month.used));
}

#[tokio::test]
#[ignore = "runs as a child process"]
async fn child_that_runs_out_of_disk() {
    // Room for records of the audit log, but not for a page of the ledger, which lie farther back.
    const ROOM_BYTES: u64 = 8192;
    let Some(folder) = child_folder() else { return };
    let key = TokenKey::generate().unwrap();
    let service = service_in(&folder, &key);
    let token = issue(&key, &claims("operator", &["short.v1"], Timestamp::now()));
    let operator = holder("operator");
    let caller = service.authenticate(&operator, Some(&token)).await.unwrap();
    let call = |call: Call| service.generate(caller.clone(), call);
    drain(call(short()).await.unwrap()).await.answer();
    let length = std::fs::metadata(ledger_file(&folder)).unwrap().len();
    assert!(length > 2 * ROOM_BYTES, "{length}");
    limit_file_bytes(ROOM_BYTES);
    for _ in 0..3 {
        let refusal = call(short()).await.unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::BudgetUnavailable);
    }
    assert_eq!(service.ready(), Err(NotReady::BudgetUnavailable));
    let codes: Vec<String> = postern_audit::read(&audit_dir(&folder))
        .unwrap()
        .filter_map(|stored| match stored.unwrap().content {
            Content::Entry(Entry::Refused(refused)) => Some(refused.code),
            _ => None,
        })
        .collect();
    assert_eq!(codes, ["budget-unavailable"; 3]);
}

#[test]
fn a_full_disk_at_the_opening_is_told() {
    let folder = prepared_folder();
    passes("killed::child_that_opens_without_room", folder.path());
}

#[test]
#[ignore = "runs as a child process"]
fn child_that_opens_without_room() {
    let Some(folder) = child_folder() else { return };
    limit_file_bytes(1000);
    let error = Ledger::open(&ledger_file(&folder)).unwrap_err();
    assert!(matches!(error, LedgerError::Io { .. }), "{error}");
    assert!(error.to_string().contains("has room"), "{error}");
}
