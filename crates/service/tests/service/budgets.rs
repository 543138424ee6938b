//! Limits and budgets of whole calls: nothing beyond them is let through, and after each call they hold
//! exactly what it used.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use postern_audit::Entry;
use postern_governance::{Account, LimitKey, Policy, RuleSet, Shortfall, Span, TemplateSet};
use postern_service::{Call, Clock, Ledger, LedgerError, RefusalKind, ServiceConfig};
use postern_testkit::chain;
use postern_testkit::rules::{LONG_TOKENS, SHORT_TOKENS, template};

use crate::disk::{filling, small_segments, take_away};
use crate::house::{House, LONG_CONTEXT, Plan, drain, first_text, long, short};

const DAY_S: i64 = 86_400;

/// The rules of the test models, with `limits` put before the identities.
pub(crate) fn limited(limits: &str) -> RuleSet {
    let policy = format!(
        "version: 1\n{limits}\nidentities:\n  operator: {{templates: {{long.v1: {{}}, short.v1: {{}}}}}}\n  \
         kiosk: {{roles: [hall], templates: {{short.v1: {{}}}}}}\n  \
         desk: {{roles: [hall], templates: {{short.v1: {{}}}}}}\n"
    );
    let roles = if limits.contains("roles:") {
        ""
    } else {
        "roles: {hall: {}}\n"
    };
    let policy = policy.replacen("identities:", &format!("{roles}identities:"), 1);
    let (long, short) = (
        template("long.v1", LONG_TOKENS),
        template("short.v1", SHORT_TOKENS),
    );
    let sources = [("long.v1.yaml", &*long), ("short.v1.yaml", &*short)];
    let templates = TemplateSet::from_sources(sources).unwrap();
    RuleSet::new(
        templates,
        Policy::from_source("policy.yaml", &policy).unwrap(),
    )
    .unwrap()
}

/// A house whose model says a short text, with a ledger.
pub(crate) fn house(limits: &str) -> House {
    plan(limits, chain::saying("fine", LONG_CONTEXT)).build()
}

fn plan(limits: &str, model: Vec<u8>) -> Plan {
    Plan {
        rules: Some(limited(limits)),
        has_ledger: true,
        ..Plan::with_model(model)
    }
}

/// Used and reserved tokens of an account's day.
async fn day_of(house: &House, identity: &str, account: &str) -> (u64, u64) {
    let caller = house.caller(identity, &["short.v1", "long.v1"]).await;
    let reports = house.service.budgets(&caller).await.unwrap();
    let account: Account = account.parse().unwrap();
    let report = reports.iter().find(|report| report.account == account);
    let day = &report.unwrap().day;
    (day.used, day.reserved)
}

fn over_limit(kind: &RefusalKind) -> (String, Shortfall) {
    match kind {
        RefusalKind::OverLimit { account, shortfall } => (account.to_string(), *shortfall),
        other => panic!("{other}"),
    }
}

async fn ask_as(house: &House, identity: &str, call: Call) -> Result<u64, RefusalKind> {
    let caller = house.caller(identity, &[&call.template]).await;
    let stream = house.service.generate(caller, call).await;
    let answer = drain(stream.map_err(|refusal| refusal.kind)?).await;
    let usage = answer.end.map_err(|refusal| refusal.kind)?.usage;
    Ok((usage.prompt_tokens + usage.completion_tokens) as u64)
}

#[tokio::test]
async fn what_a_call_used_is_charged_and_nothing_stays_reserved() {
    let house = house("limits: {tokens_per_day: 100000}");
    let mut sum = 0;
    for _ in 0..3 {
        sum += ask_as(&house, "operator", short()).await.unwrap();
        assert_eq!(
            day_of(&house, "operator", "identity/operator").await,
            (sum, 0)
        );
    }
    assert!(sum > 0);
    // Each admission says what was reserved for it.
    let entries = house.entries();
    let mut admitted = entries.iter().filter_map(|entry| match entry {
        Entry::Admitted(admitted) => Some(&admitted.budgets[0]),
        _ => None,
    });
    let last = admitted.next_back().unwrap();
    assert_eq!(
        (&*last.account, &*last.limit, last.allowed),
        ("identity/operator", "tokens_per_day", 100_000)
    );
    assert_eq!(last.before, sum / 3 * 2);
    assert!(last.after > sum);
    assert_eq!(day_of(&house, "kiosk", "identity/kiosk").await, (0, 0));
}

#[tokio::test]
async fn a_used_up_budget_refuses_with_its_numbers_until_the_next_day() {
    let now = Arc::new(AtomicI64::new(Timestamp::now().as_second()));
    let shown = Arc::clone(&now);
    let clock =
        Clock::from_fn(move || Timestamp::from_second(shown.load(Ordering::Relaxed)).unwrap());
    let model = chain::saying("fine", LONG_CONTEXT);
    let house = Plan {
        clock,
        ..plan("limits: {tokens_per_day: 70}", model)
    }
    .build();
    let caller = house.caller("operator", &["short.v1"]).await;
    let ask = async || {
        let stream = house.service.generate(caller.clone(), short()).await?;
        drain(stream).await.end.map(|answer| answer.usage)
    };
    let used = ask().await.unwrap();
    let used = (used.prompt_tokens + used.completion_tokens) as u64;
    let refusal = loop {
        if let Err(refusal) = ask().await {
            break refusal;
        }
    };
    assert_eq!(refusal.kind.code(), "budget-exhausted");
    let (account, shortfall) = over_limit(&refusal.kind);
    assert_eq!(account, "identity/operator");
    assert_eq!(
        (shortfall.limit, shortfall.allowed),
        (LimitKey::TokensPerDay, 70)
    );
    assert_eq!((shortfall.used % used, shortfall.reserved), (0, 0));
    assert!(shortfall.used <= 70);
    let today = now.load(Ordering::Relaxed);
    let midnight = Span::Day.end_unix_s(Span::Day.number_at(today));
    assert_eq!(shortfall.resets_unix_s, Some(midnight));
    assert_eq!(shortfall.retry_after_s, Some((midnight - today) as u64));
    let refused = house.refused().remove(0);
    assert_eq!(refused.code, "budget-exhausted");
    assert!(
        refused.detail.contains("tokens_per_day 70"),
        "{}",
        refused.detail
    );

    // Back is no way out; the next day is, and after it there is no way back.
    for jump in [-1, -400 * DAY_S] {
        now.store(today + jump, Ordering::Relaxed);
        assert_eq!(ask().await.unwrap_err().kind.code(), "budget-exhausted");
    }
    now.store(midnight, Ordering::Relaxed);
    ask().await.unwrap();
    while ask().await.is_ok() {}
    now.store(today, Ordering::Relaxed);
    assert_eq!(ask().await.unwrap_err().kind.code(), "budget-exhausted");
}

#[tokio::test]
async fn every_limit_refuses_with_its_code() {
    let cases = [
        ("limits: {requests_per_minute: 2}", "rate-limited", 2),
        ("limits: {tokens_per_minute: 60}", "rate-limited", 1),
        ("limits: {tokens_per_minute: 5}", "call-over-limit", 0),
        ("limits: {prompt_tokens: 1}", "call-over-limit", 0),
        ("limits: {tokens_per_day: 5}", "call-over-limit", 0),
        ("limits: {tokens_per_month: 70}", "budget-exhausted", 1),
        (
            "roles: {hall: {limits: {requests_per_minute: 2}}}",
            "rate-limited",
            2,
        ),
        (
            "templates: {short.v1: {limits: {requests_per_minute: 2}}}",
            "rate-limited",
            2,
        ),
    ];
    for (limits, code, calls_min) in cases {
        let house = house(limits);
        let mut answered = 0;
        let kind = loop {
            match ask_as(&house, "kiosk", short()).await {
                Ok(_) => answered += 1,
                Err(kind) => break kind,
            }
        };
        assert_eq!(kind.code(), code, "{limits}");
        assert!(answered >= calls_min, "{limits}: {answered}");
        assert_eq!(house.refused()[0].code, code);
        // Without a limit that is shared, nobody else is held up.
        let other = ask_as(&house, "operator", short()).await;
        let is_shared = limits.starts_with("templates") || code == "call-over-limit";
        assert_eq!(other.is_err(), is_shared, "{limits}");
        assert_eq!(house.verify().open_calls, []);
    }
}

#[tokio::test]
async fn identities_of_a_role_share_its_account() {
    let house = house("roles: {hall: {limits: {tokens_per_day: 5000}}}");
    let kiosk = ask_as(&house, "kiosk", short()).await.unwrap();
    let desk = ask_as(&house, "desk", short()).await.unwrap();
    assert_eq!(day_of(&house, "desk", "role/hall").await, (kiosk + desk, 0));
    assert_eq!(
        day_of(&house, "kiosk", "role/hall").await,
        (kiosk + desk, 0)
    );
}

#[tokio::test]
async fn calls_that_run_count_until_they_end() {
    let limits = "limits: {concurrent_calls: 1, tokens_per_day: 1000000}";
    let house = plan(limits, chain::endless(LONG_CONTEXT)).build();
    let mut running = house.call(long()).await.unwrap();
    first_text(&mut running).await;
    let (used, reserved) = day_of(&house, "operator", "identity/operator").await;
    assert_eq!(used, 0);
    assert!(reserved > u64::from(LONG_TOKENS), "prompt and answer");
    let refusal = house.ask(short()).await.refusal();
    assert_eq!(refusal.kind.code(), "too-many-calls");
    let (_, shortfall) = over_limit(&refusal.kind);
    assert_eq!((shortfall.used, shortfall.allowed), (1, 1));

    // A client that leaves is charged what was generated until then.
    drop(running);
    let usage = house.wait_for_completed(1).await.remove(0).usage;
    let used = usage.prompt_tokens + usage.completion_tokens;
    assert_eq!(
        day_of(&house, "operator", "identity/operator").await,
        (used, 0)
    );
    house.ask(short()).await.answer();
}

#[tokio::test]
async fn a_call_that_never_began_costs_nothing() {
    let limits = "limits: {tokens_per_day: 1000000, requests_per_minute: 1}";
    // The context overflows.
    let house = plan(limits, chain::endless(64)).build();
    house.ask(long()).await.refusal();
    assert_eq!(
        day_of(&house, "operator", "identity/operator").await,
        (0, 0)
    );

    // The admission cannot be written.
    let house = Plan {
        audit: small_segments(),
        ..plan(limits, chain::endless(LONG_CONTEXT))
    }
    .build();
    let caller = house.caller("operator", &["short.v1"]).await;
    take_away(&house.audit_dir);
    let refusal = house.service.generate(caller.clone(), filling()).await;
    assert_eq!(refusal.unwrap_err().kind, RefusalKind::AuditUnavailable);
    let reports = house.service.budgets(&caller).await.unwrap();
    assert_eq!((reports[0].day.used, reports[0].day.reserved), (0, 0));
    assert_eq!(reports[0].running_calls, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_callers_at_once_stay_within_their_budget() {
    const CALLERS: usize = 64;
    const CALLS_EACH: usize = 4;
    const BUDGET: u64 = 1500;
    let limits = format!("limits: {{tokens_per_day: {BUDGET}}}");
    let house = Plan {
        service: ServiceConfig {
            calls_max: CALLERS,
            ..ServiceConfig::default()
        },
        ..plan(&limits, chain::saying("fine", LONG_CONTEXT))
    }
    .build();
    let caller = house.caller("operator", &["short.v1"]).await;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        let (service, caller) = (Arc::clone(&house.service), caller.clone());
        callers.spawn(async move {
            let mut used = 0;
            for _ in 0..CALLS_EACH {
                match service.generate(caller.clone(), short()).await {
                    Ok(stream) => {
                        if let Ok(answer) = drain(stream).await.end {
                            used += answer.usage.prompt_tokens + answer.usage.completion_tokens;
                        }
                    }
                    Err(refusal) => {
                        assert_eq!(refusal.kind.code(), "budget-exhausted", "{refusal}")
                    }
                }
            }
            used as u64
        });
    }
    let mut told = 0;
    let mut most = 0;
    while let Some(used) = callers.join_next().await {
        told += used.unwrap();
        let (used, reserved) = day_of(&house, "operator", "identity/operator").await;
        most = most.max(used + reserved);
    }
    assert!(most <= BUDGET, "{most} of {BUDGET}");
    let (used, reserved) = day_of(&house, "operator", "identity/operator").await;
    assert_eq!(reserved, 0);
    let recorded: u64 = house
        .completed()
        .iter()
        .map(|call| call.usage.prompt_tokens + call.usage.completion_tokens)
        .sum();
    assert_eq!(used, recorded);
    assert!(used >= told && used <= BUDGET);
    assert!(used > BUDGET / 2, "calls were let through: {used}");
    assert!(
        house
            .refused()
            .iter()
            .any(|refused| refused.code == "budget-exhausted")
    );
}

#[tokio::test]
async fn a_warning_is_logged_and_counted_once_a_period() {
    let house = house("limits: {tokens_per_day: 300, warn_percent: 1}");
    for _ in 0..3 {
        ask_as(&house, "operator", short()).await.unwrap();
    }
    let text = house.service.metrics_text();
    let line =
        r#"postern_budget_warnings_total{account="identity/operator",limit="tokens_per_day"} 1"#;
    assert!(text.lines().any(|found| found == line), "{text}");
}

#[tokio::test]
async fn without_a_ledger_a_budget_refuses() {
    let model = chain::saying("fine", LONG_CONTEXT);
    let house = Plan {
        has_ledger: false,
        ..plan("limits: {tokens_per_day: 1000}", model)
    }
    .build();
    let refusal = house.ask(short()).await.refusal();
    assert_eq!(refusal.kind, RefusalKind::BudgetUnavailable);
    assert!(matches!(house.entries()[..], [Entry::Refused(_)]));
}

#[tokio::test]
async fn an_orderly_end_leaves_nothing_to_charge() {
    let house = house("limits: {tokens_per_day: 100000}");
    let used = ask_as(&house, "operator", short()).await.unwrap();
    let path = house.ledger_path();
    let in_use = Ledger::open(&path).unwrap_err();
    assert!(matches!(in_use, LedgerError::InUse { .. }), "{in_use}");
    house.service.shutdown(Duration::from_secs(60)).await;
    let _folder = house.close();
    let (ledger, recovery) = Ledger::open(&path).unwrap();
    assert_eq!(recovery.reservations, 0);
    let account = "identity/operator".parse().unwrap();
    let budget = ledger
        .budget(&account, Timestamp::now().as_second())
        .unwrap();
    assert_eq!((budget.day.used, budget.day.reserved), (used, 0));
    assert_eq!((budget.month.used, budget.month.reserved), (used, 0));
}

#[test]
fn a_file_that_is_no_ledger_is_told_apart() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("ledger.redb");
    std::fs::write(&path, "no ledger ".repeat(1000)).unwrap();
    let error = Ledger::open(&path).unwrap_err();
    assert!(matches!(error, LedgerError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("move it away"), "{error}");
    let nowhere = folder.path().join("nowhere/ledger.redb");
    let error = Ledger::open(&nowhere).unwrap_err();
    assert!(matches!(error, LedgerError::Io { .. }), "{error}");
}
