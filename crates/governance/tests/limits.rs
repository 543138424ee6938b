//! Limits: how they are read from a policy, which hold for a call, and that their arithmetic keeps
//! to them whatever the clock does.

use postern_governance::{
    Account, Adjustment, Budget, LIMIT_MAX, LimitKey, Limits, Meter, Policy, Reservation, RuleSet,
    Shortfall, Span, TemplateId, TemplateSet,
};
use proptest::prelude::*;

const DAY_S: i64 = 86_400;

/// 2026-11-27 12:00:00 UTC.
const NOON: i64 = 1_795_780_800;

fn policy(sections: &str) -> Result<Policy, String> {
    let text = format!("version: 1\n{sections}");
    Policy::from_source("policy.yaml", &text).map_err(|error| error.to_string())
}

fn day_budget(tokens: u64) -> Limits {
    Limits {
        tokens_per_day: Some(tokens),
        ..Limits::default()
    }
}

#[test]
fn a_limit_out_of_bounds_is_an_error_with_its_place() {
    let cases = [
        (
            "limits:\n  tokens_per_day: 0\nidentities: {}\n",
            "policy.yaml:3: field `limits.tokens_per_day` is 0, but must be from 1 to 1000000000000; \
             remove the line for no limit, or take the template or identity out to allow nothing",
        ),
        (
            "identities:\n  kiosk:\n    limits: {requests_per_minute: -5}\n    templates: {}\n",
            "policy.yaml:4: field `identities.kiosk.limits.requests_per_minute` is -5, but must be from 1 to \
             1000000000000; remove the line for no limit, or take the template or identity out to allow nothing",
        ),
        (
            "roles:\n  ci:\n    limits:\n      concurrent_calls: 1000000000001\nidentities: {}\n",
            "policy.yaml:5: field `roles.ci.limits.concurrent_calls` is 1000000000001, but must be from 1 to \
             1000000000000",
        ),
        (
            "templates:\n  a.v1:\n    limits:\n      warn_percent: 101\nidentities: {}\n",
            "policy.yaml:5: field `templates.a.v1.limits.warn_percent` is 101, but must be from 1 to 100",
        ),
        (
            "identities:\n  kiosk:\n    roles: [ci]\n    templates: {}\n",
            "policy.yaml:4: field `identities.kiosk.roles` names `ci`, which is not among `roles`; declare it there",
        ),
        (
            "roles: {ci: {}}\nidentities:\n  kiosk:\n    roles: [ci, ci]\n    templates: {}\n",
            "policy.yaml:5: field `identities.kiosk.roles` names `ci` twice",
        ),
    ];
    for (sections, expected) in cases {
        assert_eq!(policy(sections).unwrap_err(), expected, "{sections}");
    }
    let wrong_kinds = [
        "limits: {tokens_per_day: 1.5}\nidentities: {}\n",
        "limits: {tokens_per_day: many}\nidentities: {}\n",
        "limits: {tokens_per_day: 99999999999999999999}\nidentities: {}\n",
        "limits: {tokens_a_day: 5}\nidentities: {}\n",
        // A line without its number is no way to say that there is no limit.
        "limits: {tokens_per_day: null}\nidentities: {}\n",
        "limits: {tokens_per_day: }\nidentities: {}\n",
    ];
    for sections in wrong_kinds {
        let error = policy(sections).unwrap_err();
        assert!(error.starts_with("policy.yaml:2:"), "{error}");
    }
}

#[test]
fn a_limited_template_must_exist() {
    let template =
        "id: a.v1\ndescription: d\nauthor: a\nintent: i\nrisk: low\nmax_tokens: 8\nuser: hello\n";
    let templates = || TemplateSet::from_sources([("a.v1.yaml", template)]).unwrap();
    let known = policy("templates:\n  a.v1: {limits: {tokens_per_day: 5}}\nidentities: {}\n");
    RuleSet::new(templates(), known.unwrap()).unwrap();
    let unknown = policy("templates:\n  b.v1: {limits: {tokens_per_day: 5}}\nidentities: {}\n");
    let error = RuleSet::new(templates(), unknown.unwrap()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "policy.yaml:3: field `templates.b.v1` names a template that does not exist; add the template or remove the lines"
    );
}

#[test]
fn all_limits_that_hold_are_told_in_order() {
    let policy = policy(
        "limits: {tokens_per_day: 1000, concurrent_calls: 4}\n\
         roles: {ci: {limits: {tokens_per_month: 50}}, idle: {}}\n\
         templates: {a.v1: {limits: {prompt_tokens: 7}}}\n\
         identities:\n  kiosk: {limits: {tokens_per_day: 10}, roles: [idle, ci], templates: {a.v1: {}, b.v1: {}}}\n  \
         other: {templates: {a.v1: {}}}\n",
    )
    .unwrap();
    let applied = |identity: &str, template: &str| -> Vec<(String, Limits)> {
        let applied = policy.limits(&identity.parse().unwrap(), &template.parse().unwrap());
        let applied = applied.into_iter();
        applied
            .map(|applied| (applied.account.to_string(), applied.limits))
            .collect()
    };
    let kiosk = Limits {
        tokens_per_day: Some(10),
        concurrent_calls: Some(4),
        ..Limits::default()
    };
    let ci = Limits {
        tokens_per_month: Some(50),
        ..Limits::default()
    };
    let template = Limits {
        prompt_tokens: Some(7),
        ..Limits::default()
    };
    let other = Limits {
        tokens_per_day: Some(1000),
        concurrent_calls: Some(4),
        ..Limits::default()
    };
    let named = |name: &str, limits: Limits| (name.to_owned(), limits);
    assert_eq!(
        applied("kiosk", "a.v1"),
        [
            named("identity/kiosk", kiosk),
            named("role/ci", ci),
            named("template/a.v1", template)
        ]
    );
    assert_eq!(
        applied("kiosk", "b.v1"),
        [named("identity/kiosk", kiosk), named("role/ci", ci)]
    );
    assert_eq!(
        applied("other", "a.v1"),
        [
            named("identity/other", other),
            named("template/a.v1", template)
        ]
    );
    let accounts: Vec<String> = policy
        .accounts()
        .iter()
        .map(|applied| applied.account.to_string())
        .collect();
    assert_eq!(
        accounts,
        [
            "identity/kiosk",
            "identity/other",
            "role/ci",
            "template/a.v1"
        ]
    );
}

#[test]
fn limits_change_a_checksum_only_where_there_are_any() {
    let bare = "identities: {kiosk: {templates: {a.v1: {}}}}\n";
    let checksum = |sections: &str| policy(sections).unwrap().checksum().to_owned();
    // What a version without limits made of it.
    let before = "d59cf423fb5f2c01b50e822a597fff832f0cdc86262e5e97c7430a2270a94f25";
    assert_eq!(checksum(bare), before);
    assert_eq!(checksum(&format!("limits: {{}}\n{bare}")), before);
    let limited = checksum(&format!("limits: {{tokens_per_day: 5}}\n{bare}"));
    assert_ne!(limited, before);
    assert_ne!(
        checksum(&format!("limits: {{tokens_per_day: 6}}\n{bare}")),
        limited
    );
}

#[test]
fn accounts_are_read_as_they_are_written() {
    for text in ["identity/kiosk", "role/ci", "template/triage.v1"] {
        assert_eq!(text.parse::<Account>().unwrap().to_string(), text);
    }
    for text in [
        "",
        "kiosk",
        "identity/",
        "identity/A",
        "template/triage",
        "group/x",
        "identity/a/b",
    ] {
        assert!(text.parse::<Account>().is_err(), "{text}");
    }
}

#[test]
fn months_are_those_of_the_calendar() {
    let lengths = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let (mut day, mut number) = (0, 0);
    for year in 1970..2500 {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        for (month, length) in lengths.into_iter().enumerate() {
            let length = length + i64::from(leap && month == 1);
            for second in [day * DAY_S, (day + length) * DAY_S - 1] {
                assert_eq!(
                    Span::Month.number_at(second),
                    number,
                    "{year}, month {month}"
                );
            }
            day += length;
            assert_eq!(Span::Month.end_unix_s(number), day * DAY_S);
            number += 1;
        }
    }
    assert_eq!(Span::Month.number_at(-1), -1);
    assert_eq!(Span::Day.number_at(-1), -1);
    assert_eq!(Span::Day.end_unix_s(0), DAY_S);
}

#[test]
fn no_time_is_too_early_or_too_late() {
    for unix_s in [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 1, i64::MAX] {
        for span in Span::ALL {
            let number = span.number_at(unix_s);
            let _ = span.end_unix_s(number);
        }
        let reserved = Budget::default().reserve(&day_budget(5), unix_s, 5);
        let (budget, reservation) = reserved.unwrap();
        assert_eq!(budget.settle(reservation, 5).day.used, 5);
        budget.reserve(&day_budget(5), unix_s, 1).unwrap_err();
    }
    for number in [i64::MIN, i64::MAX] {
        for span in Span::ALL {
            let _ = span.end_unix_s(number);
        }
    }
}

#[test]
fn a_refusal_says_when_to_come_back() {
    let limits = day_budget(100);
    let (budget, first) = Budget::default().reserve(&limits, NOON, 60).unwrap();
    // The call that runs may give back what is missing.
    let shortfall = budget.reserve(&limits, NOON, 50).unwrap_err();
    let expected = Shortfall {
        limit: LimitKey::TokensPerDay,
        allowed: 100,
        used: 0,
        reserved: 60,
        asked: 50,
        retry_after_s: Some(2),
        resets_unix_s: Some(NOON + DAY_S / 2),
    };
    assert_eq!(shortfall, expected);
    // Used tokens come back with the next day only.
    let budget = budget.settle(first, 55);
    let shortfall = budget.reserve(&limits, NOON, 50).unwrap_err();
    assert_eq!(shortfall.retry_after_s, Some(43_200));
    assert_eq!((shortfall.used, shortfall.reserved), (55, 0));
    budget.reserve(&limits, NOON, 45).unwrap();
    budget.reserve(&limits, NOON + DAY_S / 2, 100).unwrap();
    // More than the whole day gives never passes.
    let shortfall = budget.reserve(&limits, NOON, 101).unwrap_err();
    assert_eq!(shortfall.retry_after_s, None);
}

#[test]
fn a_reservation_counts_in_the_day_in_which_it_was_made() {
    let limits = day_budget(100);
    let midnight = NOON + DAY_S / 2;
    let (budget, last) = Budget::default()
        .reserve(&limits, midnight - 1, 100)
        .unwrap();
    let (budget, first) = budget.reserve(&limits, midnight, 100).unwrap();
    let budget = budget.settle(last, 90);
    assert_eq!((budget.day.used, budget.day.reserved), (0, 100));
    assert_eq!((budget.month.used, budget.month.reserved), (90, 100));
    let budget = budget.settle(first, 1);
    assert_eq!((budget.day.used, budget.day.reserved), (1, 0));
}

#[test]
fn a_clock_that_jumps_gives_a_new_day_once() {
    let limits = day_budget(100);
    let use_up = |budget: Budget, now: i64| {
        let (budget, reservation) = budget.reserve(&limits, now, 100)?;
        Ok::<_, Shortfall>(budget.settle(reservation, 100))
    };
    let budget = use_up(Budget::default(), NOON).unwrap();
    let ahead = use_up(budget, NOON + 400 * DAY_S).unwrap();
    for now in [NOON, NOON - 400 * DAY_S, NOON + 400 * DAY_S, 0, i64::MIN] {
        let shortfall = use_up(ahead, now).unwrap_err();
        assert!(shortfall.retry_after_s.unwrap() > 0);
    }
    // A person may bring the day back that the clock shows.
    let adjustment = Adjustment {
        used: Some(40),
        granted: None,
    };
    let mended = ahead.adjust(Span::Day, adjustment, NOON);
    assert_eq!(mended.day.number, Span::Day.number_at(NOON));
    mended.reserve(&limits, NOON, 60).unwrap();
    mended.reserve(&limits, NOON, 61).unwrap_err();
}

#[test]
fn a_grant_holds_for_its_day() {
    let limits = day_budget(100);
    let adjustment = Adjustment {
        used: Some(100),
        granted: Some(50),
    };
    let budget = Budget::default().adjust(Span::Day, adjustment, NOON);
    budget.reserve(&limits, NOON, 50).unwrap();
    budget.reserve(&limits, NOON, 51).unwrap_err();
    budget.reserve(&limits, NOON + DAY_S, 101).unwrap_err();
}

#[test]
fn a_warning_is_due_once_a_period() {
    let limits = Limits {
        warn_percent: Some(50),
        ..day_budget(100)
    };
    let spend = |budget: Budget, now: i64, tokens: u64| {
        let (budget, reservation) = budget.reserve(&limits, now, tokens).unwrap();
        let (budget, crossings) = budget.settle(reservation, tokens).crossings(&limits);
        (budget, crossings.len())
    };
    let (budget, warnings) = spend(Budget::default(), NOON, 49);
    assert_eq!(warnings, 0);
    let (budget, warnings) = spend(budget, NOON, 1);
    assert_eq!(warnings, 1);
    let (budget, warnings) = spend(budget, NOON, 50);
    assert_eq!(warnings, 0);
    let (_, warnings) = spend(budget, NOON + DAY_S, 60);
    assert_eq!(warnings, 1);
}

#[test]
fn a_minute_refills_continuously() {
    let limits = Limits {
        requests_per_minute: Some(6),
        ..Limits::default()
    };
    let mut meter = Meter::default();
    for _ in 0..6 {
        meter = meter.begin(&limits, 0, 1).unwrap();
    }
    let shortfall = meter.begin(&limits, 0, 1).unwrap_err();
    assert_eq!(shortfall.retry_after_s, Some(10));
    assert_eq!((shortfall.used, shortfall.allowed), (6, 6));
    meter.begin(&limits, 9_999, 1).unwrap_err();
    let meter = meter.begin(&limits, 10_000, 1).unwrap();
    meter.begin(&limits, 10_000, 1).unwrap_err();
    // A clock that went back refills nothing.
    meter.begin(&limits, 0, 1).unwrap_err();
    // A call that was refused after all takes nothing.
    meter.take_back(1).begin(&limits, 10_000, 1).unwrap();
}

#[test]
fn tokens_of_a_minute_that_were_not_needed_come_back() {
    let limits = Limits {
        tokens_per_minute: Some(100),
        concurrent_calls: Some(2),
        ..Limits::default()
    };
    let meter = Meter::default().begin(&limits, 0, 90).unwrap();
    meter.begin(&limits, 0, 11).unwrap_err();
    let meter = meter.end(80);
    let meter = meter.begin(&limits, 0, 50).unwrap();
    let meter = meter.begin(&limits, 0, 40).unwrap();
    let shortfall = meter.begin(&limits, 60_000, 1).unwrap_err();
    assert_eq!(shortfall.limit, LimitKey::ConcurrentCalls);
    assert_eq!((shortfall.used, shortfall.retry_after_s), (2, Some(2)));
    let never = Meter::default().begin(&limits, 0, 101).unwrap_err();
    assert_eq!(never.retry_after_s, None);
}

#[test]
fn an_answer_is_bounded_by_the_limits() {
    use postern_governance::{CallRequest, Decision, ModelRef, Source, decide};
    let template =
        "id: a.v1\ndescription: d\nauthor: a\nintent: i\nrisk: low\nmax_tokens: 64\nuser: hello\n";
    let templates = TemplateSet::from_sources([("a.v1.yaml", template)]).unwrap();
    let policy = policy(
        "templates: {a.v1: {limits: {output_tokens: 20}}}\n\
         identities: {kiosk: {limits: {output_tokens: 30}, templates: {a.v1: {}}}}\n",
    );
    let rules = RuleSet::new(templates, policy.unwrap()).unwrap();
    let decided = |max_tokens| {
        let request = CallRequest {
            identity: "kiosk".parse().unwrap(),
            scopes: vec!["a.v1".to_owned()],
            template: "a.v1".to_owned(),
            variables: Default::default(),
            max_tokens,
            temperature: None,
            seed: None,
            model: ModelRef {
                id: "m".to_owned(),
                sha256: "0".repeat(64),
            },
            source: Source::Network,
            time_unix_s: NOON,
        };
        match decide(&rules, &request) {
            Decision::Allow(prompt) => Ok(prompt.max_tokens),
            Decision::Deny(denial) => Err(denial.code()),
        }
    };
    assert_eq!(decided(None), Ok(20));
    assert_eq!(decided(Some(5)), Ok(5));
    assert_eq!(decided(Some(21)), Err("parameter-out-of-range"));
}

/// What may happen to an account.
#[derive(Debug, Clone)]
enum Step {
    Reserve { tokens: u64, now: i64 },
    Settle { which: usize, part: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let now = prop_oneof![
        4 => (0..3 * DAY_S).prop_map(|after| NOON + after),
        1 => any::<i64>(),
    ];
    let tokens = prop_oneof![6 => 1_u64..200, 1 => any::<u64>()];
    let step = prop_oneof![
        3 => (tokens, now).prop_map(|(tokens, now)| Step::Reserve { tokens, now }),
        2 => (any::<usize>(), 0_u64..=100).prop_map(|(which, part)| Step::Settle { which, part }),
    ];
    prop::collection::vec(step, 1..80)
}

proptest! {
    /// Whatever is asked at whatever time, an account never holds more than it is allowed; what it used
    /// only grows within a period; periods only go forward; and in the end nothing is reserved.
    #[test]
    fn a_budget_is_never_exceeded(
        steps in steps(),
        day in 1_u64..1000,
        month in prop_oneof![1_u64..3000, Just(LIMIT_MAX)],
    ) {
        let limits = Limits {
            tokens_per_day: Some(day),
            tokens_per_month: Some(month),
            ..Limits::default()
        };
        let mut budget = Budget::default();
        let mut open: Vec<Reservation> = Vec::new();
        for step in steps {
            let before = budget;
            match step {
                Step::Reserve { tokens, now } => match budget.reserve(&limits, now, tokens) {
                    Ok((reserved, reservation)) => {
                        budget = reserved;
                        open.push(reservation);
                    }
                    Err(shortfall) => {
                        prop_assert!(shortfall.used + shortfall.reserved <= shortfall.allowed);
                        prop_assert!(
                            u128::from(shortfall.used) + u128::from(shortfall.reserved) + u128::from(tokens)
                                > u128::from(shortfall.allowed)
                        );
                        prop_assert_ne!(shortfall.retry_after_s, Some(0));
                    }
                },
                Step::Settle { which, part } if !open.is_empty() => {
                    let reservation = open.swap_remove(which % open.len());
                    budget = budget.settle(reservation, reservation.tokens * part / 100);
                }
                Step::Settle { .. } => {}
            }
            for (span, allowed) in [(Span::Day, day), (Span::Month, month)] {
                let (was, is) = (before.spending(span), budget.spending(span));
                prop_assert!(is.used + is.reserved <= allowed, "{is:?}");
                prop_assert!(is.number >= was.number);
                prop_assert!(is.number > was.number || is.used >= was.used);
            }
        }
        for reservation in open {
            budget = budget.settle(reservation, reservation.tokens);
        }
        prop_assert_eq!((budget.day.reserved, budget.month.reserved), (0, 0));
    }

    /// In no stretch of time is more begun than the bucket holds and what is refilled meanwhile.
    #[test]
    fn a_rate_is_never_exceeded(
        limit in 1_u64..500,
        calls in prop::collection::vec((1_u64..100, 0_u64..5_000, any::<bool>()), 1..200),
    ) {
        let limits = Limits { tokens_per_minute: Some(limit), ..Limits::default() };
        let mut meter = Meter::default();
        let mut now_ms = 0;
        // The latest time of the clock at which anything was begun, with what was begun then.
        let mut begun: Vec<(u64, u64)> = Vec::new();
        let mut latest_ms = 0;
        for (tokens, later_ms, jumps_back) in calls {
            now_ms += later_ms;
            let clock_ms = if jumps_back { now_ms / 2 } else { now_ms };
            if let Ok(next) = meter.begin(&limits, clock_ms, tokens) {
                meter = next;
                latest_ms = latest_ms.max(clock_ms);
                begun.push((latest_ms, tokens));
            }
        }
        for (first, (from_ms, _)) in begun.iter().enumerate() {
            let mut sum = 0;
            for (at_ms, tokens) in &begun[first..] {
                sum += tokens;
                let refilled = (at_ms - from_ms) * limit / 60_000 + 1;
                prop_assert!(sum <= limit + refilled, "{sum} in {} ms", at_ms - from_ms);
            }
        }
    }

    /// After the time that a refusal names, the same call passes; one second earlier it does not.
    #[test]
    fn retry_after_is_true_and_not_too_long(
        limit in 1_u64..500,
        first in 1_u64..500,
        second in 1_u64..500,
    ) {
        let limits = Limits { tokens_per_minute: Some(limit), ..Limits::default() };
        let meter = Meter::default().begin(&limits, 0, first.min(limit)).unwrap();
        if let Err(shortfall) = meter.begin(&limits, 0, second) {
            match shortfall.retry_after_s {
                None => prop_assert!(second > limit),
                Some(wait_s) => {
                    prop_assert!(meter.begin(&limits, wait_s * 1000, second).is_ok());
                    prop_assert!(meter.begin(&limits, (wait_s - 1) * 1000, second).is_err());
                }
            }
        }
    }
}

#[test]
fn a_template_id_is_part_of_an_account() {
    let id: TemplateId = "triage_v1".parse().unwrap();
    assert_eq!(Account::Template(id).to_string(), "template/triage_v1");
}
