//! Outputs that are held until somebody has looked at them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};
use postern_audit::{Entry, Outcome, REVIEW_APPROVED, REVIEW_READ};
use postern_governance::{Policy, Right, RuleSet, TemplateSet};
use postern_service::{
    Answer, CallEvent, Caller, Clock, Held, NotReady, Refusal, ReviewDecision, ReviewReport,
    ReviewStatus,
};
use tempfile::TempDir;

use crate::children::{child_folder, limit_file_bytes, passes};
use crate::house::{House, Plan, call};

/// Two may call, two may approve; `ann` may both.
const POLICY: &str = "\
version: 1
authorization: [team.cedar]
roles: {lead: {}}
identities:
  ci-runner: {templates: {short.v1: {}, form.v1: {}}}
  ann: {roles: [lead], templates: {short.v1: {}}}
  bob: {roles: [lead]}
  eve: {templates: {short.v1: {}}}
";

const CEDAR: &str =
    "permit (principal in Role::\"lead\", action == Action::\"approve\", resource is Template);";

const TEMPLATES: [(&str, &str); 2] = [
    (
        "short.v1.yaml",
        "id: short.v1\ndescription: d\nauthor: a\nintent: i\nrisk: high\nmax_tokens: 8\n\
         user: 'hello {{name}}'\nvariables: {name: {}}\n",
    ),
    (
        // No output of eight tokens keeps to it.
        "form.v1.yaml",
        "id: form.v1\ndescription: d\nauthor: a\nintent: i\nrisk: low\nmax_tokens: 8\nuser: form\n\
         output: {schema: {type: object, properties: {a: {type: string, minLength: 400}}, required: [a]}}\n",
    ),
];

/// A service that holds what the section of the policy says, and the hand of its clock, in seconds.
fn house(review: &str) -> (House, Arc<AtomicI64>) {
    let policy = format!("{POLICY}{review}");
    let policy = Policy::from_sources("policy.yaml", &policy, &[("team.cedar", CEDAR)]).unwrap();
    let templates = TemplateSet::from_sources(TEMPLATES).unwrap();
    let later = Arc::new(AtomicI64::new(0));
    let hand = Arc::clone(&later);
    let clock = Clock::from_fn(move || {
        Timestamp::now() + SignedDuration::from_secs(hand.load(Ordering::SeqCst))
    });
    let plan = Plan {
        rules: Some(RuleSet::new(templates, policy).unwrap()),
        has_ledger: true,
        clock,
        ..Plan::default()
    };
    (plan.build(), later)
}

async fn ask(house: &House, identity: &str, template: &str) -> (Vec<String>, CallEvent) {
    let caller = house.caller(identity, &[template]).await;
    let variables: &[_] = match template {
        "short.v1" => &[("name", "Ada")],
        _ => &[],
    };
    let mut stream = house
        .service
        .generate(caller, call(template, variables))
        .await
        .unwrap();
    let mut tokens = Vec::new();
    loop {
        match stream.next().await.unwrap() {
            CallEvent::Token(text) => tokens.push(text),
            last => return (tokens, last),
        }
    }
}

async fn held(house: &House, identity: &str, template: &str) -> Held {
    match ask(house, identity, template).await {
        (tokens, CallEvent::Held(held)) => {
            assert_eq!(tokens, [""; 0], "nothing goes out before the review");
            *held
        }
        _ => panic!("it is not held"),
    }
}

async fn reviewer(house: &House, identity: &str) -> Caller {
    house.caller_with(identity, &[], &[Right::Approve]).await
}

fn verdict(approve: bool) -> ReviewDecision {
    ReviewDecision {
        approve,
        why: "read it".to_owned(),
    }
}

#[track_caller]
fn code<T>(result: Result<T, Refusal>) -> &'static str {
    match result {
        Ok(_) => panic!("it was not refused"),
        Err(refusal) => refusal.kind.code(),
    }
}

fn answer_of(report: &ReviewReport) -> &Answer {
    report.answer.as_ref().expect("an answer")
}

#[tokio::test]
async fn what_the_policy_calls_risky_is_held_and_released_by_somebody_else() {
    let (house, _) = house("review: {risk: high}\n");
    let held = held(&house, "ci-runner", "short.v1").await;
    assert_eq!(held.status, ReviewStatus::Pending);
    assert_eq!(held.reasons[0].code, "risk");
    let (service, author) = (
        &house.service,
        house.caller("ci-runner", &["short.v1"]).await,
    );

    let seen = service.review(&author, held.id).await.unwrap();
    assert_eq!(seen.status, ReviewStatus::Pending);
    assert!(seen.answer.is_none() && seen.variables.is_none(), "not yet");

    let bob = reviewer(&house, "bob").await;
    let whole = service.review(&bob, held.id).await.unwrap();
    assert_eq!(whole.variables.as_ref().unwrap()["name"], "Ada");
    assert!(!answer_of(&whole).text.is_empty());
    assert_eq!(service.reviews(&bob).await.unwrap().len(), 1);

    let decided = service.decide_review(&bob, held.id, verdict(true)).await;
    assert_eq!(decided.unwrap().status, ReviewStatus::Approved);
    let released = service.review(&author, held.id).await.unwrap();
    assert_eq!(answer_of(&released).text, answer_of(&whole).text);
    assert_eq!(released.decision.unwrap().by.as_str(), "bob");

    // The call, its end, who read it, who released it and why. Whoever saw no text read nothing.
    let entries = house.entries();
    let [Entry::Admitted(_), Entry::Completed(end), reviewed @ ..] = &*entries else {
        panic!("{entries:#?}");
    };
    let reasons = vec!["risk".to_owned()];
    assert_eq!(end.outcome, Outcome::Held { reasons });
    let expected = [
        ("bob", REVIEW_READ, "read by somebody who may decide on it"),
        ("bob", REVIEW_APPROVED, "read it"),
        (
            "ci-runner",
            REVIEW_READ,
            "read by its caller after it was released",
        ),
    ];
    assert_eq!(reviewed.len(), expected.len(), "{reviewed:#?}");
    for (entry, (identity, action, detail)) in reviewed.iter().zip(expected) {
        let Entry::Administered(administered) = entry else {
            panic!("{entry:#?}");
        };
        assert_eq!(administered.identity.as_deref(), Some(identity));
        assert_eq!(administered.action, action);
        assert_eq!(administered.subject, held.id.to_string());
        assert_eq!(administered.detail, detail);
        assert_eq!(administered.rules_sha256.len(), 64);
    }
}

#[tokio::test]
async fn a_refused_review_names_the_output_that_it_was_about() {
    let (house, clock) = house("review: {risk: high, expires_hours: 2}\n");
    let service = &house.service;
    let held = held(&house, "ann", "short.v1").await;
    let (own, unruled) = (reviewer(&house, "ann").await, reviewer(&house, "eve").await);
    code(service.review(&unruled, held.id).await);
    code(service.decide_review(&own, held.id, verdict(true)).await);
    let unheard = service.next_request_id();
    code(service.review(&own, unheard).await);
    clock.store(2 * 3600 + 60, Ordering::SeqCst);
    let bob = reviewer_later(&house, &clock).await;
    code(service.decide_review(&bob, held.id, verdict(true)).await);

    let refused = house.refused().into_iter();
    let refused = refused.map(|refused| (refused.code, refused.subject));
    let expected = [
        ("review-unknown", held.id),
        ("review-own", held.id),
        ("review-unknown", unheard),
        ("review-closed", held.id),
    ];
    let expected = expected.map(|(code, id)| (code.to_owned(), Some(id.to_string())));
    assert_eq!(refused.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn the_log_keeps_no_text_of_what_is_held() {
    let (holding, _) = house("review: {risk: high}\naudit: {output: text}\n");
    held(&holding, "ci-runner", "short.v1").await;
    let end = holding.completed().remove(0);
    assert_eq!(end.output, None);

    // What might have been held and was not went out at its end.
    let (sure, _) = house("review: {probability_min: 0.000001}\naudit: {output: text}\n");
    let (tokens, _) = ask(&sure, "ci-runner", "short.v1").await;
    let end = sure.completed().remove(0);
    assert_eq!(end.output, Some(tokens.concat()));

    // What failed went nowhere, as a call that may be held does not stream.
    let (failing, _) = house("review: {probability_min: 0.000001}\naudit: {output: text}\n");
    ask(&failing, "ci-runner", "form.v1").await;
    let end = failing.completed().remove(0);
    assert!(matches!(end.outcome, Outcome::Failed { .. }), "{end:?}");
    assert_eq!(end.output, None);
}

#[tokio::test]
async fn what_is_rejected_is_gone() {
    let (house, _) = house("review: {risk: high}\n");
    let held = held(&house, "ci-runner", "short.v1").await;
    let (service, bob) = (&house.service, reviewer(&house, "bob").await);
    let rejected = service.decide_review(&bob, held.id, verdict(false)).await;
    assert_eq!(rejected.unwrap().status, ReviewStatus::Rejected);
    for caller in [bob, house.caller("ci-runner", &["short.v1"]).await] {
        let seen = service.review(&caller, held.id).await.unwrap();
        assert_eq!(seen.status, ReviewStatus::Rejected);
        assert!(seen.answer.is_none());
    }
}

#[tokio::test]
async fn who_may_not_decide_is_refused() {
    let (house, _) = house("review: {risk: high}\n");
    let service = &house.service;
    let held = held(&house, "ann", "short.v1").await;
    let own = reviewer(&house, "ann").await;
    let unable = house.caller("bob", &["short.v1"]).await;
    let unruled = reviewer(&house, "eve").await;
    let decide =
        async |caller: &Caller| code(service.decide_review(caller, held.id, verdict(true)).await);
    assert_eq!(decide(&own).await, "review-own");
    assert_eq!(decide(&unable).await, "review-unknown", "without the right");
    assert_eq!(decide(&unruled).await, "review-unknown", "without a rule");
    assert_eq!(
        code(service.review(&unruled, held.id).await),
        "review-unknown"
    );
    assert!(service.reviews(&unruled).await.unwrap().is_empty());
    let bob = reviewer(&house, "bob").await;
    for why in ["", "  ", &"x".repeat(1001)] {
        let verdict = ReviewDecision {
            approve: true,
            why: why.to_owned(),
        };
        let decided = service.decide_review(&bob, held.id, verdict).await;
        assert_eq!(code(decided), "review-why");
    }
    let seen = service.review(&bob, held.id).await.unwrap();
    assert_eq!(seen.status, ReviewStatus::Pending, "after all that");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_reviewers_at_once_one_decides() {
    let (house, _) = house("review: {risk: high}\n");
    let held = held(&house, "ci-runner", "short.v1").await;
    let (bob, ann) = (reviewer(&house, "bob").await, reviewer(&house, "ann").await);
    let tasks: Vec<_> = (0..16)
        .map(|number| {
            let caller = if number % 2 == 0 { &bob } else { &ann }.clone();
            let (service, id) = (Arc::clone(&house.service), held.id);
            tokio::spawn(async move {
                let verdict = verdict(number % 4 < 2);
                service.decide_review(&caller, id, verdict).await
            })
        })
        .collect();
    let mut decided = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => decided += 1,
            Err(refusal) => assert_eq!(refusal.kind.code(), "review-closed"),
        }
    }
    assert_eq!(decided, 1);
    let is_decision = |entry: &&Entry| matches!(entry, Entry::Administered(_));
    assert_eq!(house.entries().iter().filter(is_decision).count(), 1);
}

#[tokio::test]
async fn what_nobody_decides_on_expires() {
    let (house, clock) = house("review: {risk: high, expires_hours: 2}\n");
    let first = held(&house, "ci-runner", "short.v1").await;
    let (service, bob) = (&house.service, reviewer(&house, "bob").await);
    let approved = held(&house, "ci-runner", "short.v1").await;
    let decided = service
        .decide_review(&bob, approved.id, verdict(true))
        .await;
    assert!(decided.is_ok());

    clock.store(2 * 3600 + 60, Ordering::SeqCst);
    let bob = reviewer_later(&house, &clock).await;
    for id in [first.id, approved.id] {
        let seen = service.review(&bob, id).await.unwrap();
        assert_eq!(seen.status, ReviewStatus::Expired);
        assert!(seen.answer.is_none());
        let decided = service.decide_review(&bob, id, verdict(true)).await;
        assert_eq!(code(decided), "review-closed");
    }
}

/// As [`reviewer`], when the clock has been moved.
async fn reviewer_later(house: &House, clock: &AtomicI64) -> Caller {
    let later = clock.swap(0, Ordering::SeqCst);
    let caller = reviewer(house, "bob").await;
    clock.store(later, Ordering::SeqCst);
    caller
}

#[tokio::test]
async fn an_output_that_breaks_its_schema_is_held_or_fails() {
    let (house_that_holds, _) = house("review: {schema_failure: true}\n");
    let held = held(&house_that_holds, "ci-runner", "form.v1").await;
    assert_eq!(held.reasons[0].code, "schema-failure");
    let end = house_that_holds.completed().pop().unwrap();
    assert_eq!(
        (end.schema_valid, end.mean_probability),
        (Some(false), None)
    );
    let (house_that_fails, _) = house("");
    match ask(&house_that_fails, "ci-runner", "form.v1").await {
        (_, CallEvent::Failed(refusal)) => assert_eq!(refusal.kind.code(), "output-invalid"),
        _ => panic!("it is not refused"),
    }
}

#[tokio::test]
async fn an_unsure_output_is_held_and_a_sure_one_goes_out_at_its_end() {
    let (unsure, _) = house("review: {probability_min: 1}\n");
    let held = held(&unsure, "ci-runner", "short.v1").await;
    assert_eq!(held.reasons[0].code, "low-probability");
    let end = unsure.completed().pop().unwrap();
    let probability = end.mean_probability.unwrap();
    assert!((0.0..1.0).contains(&probability), "{probability}");
    assert_eq!(end.schema_valid, None, "the template has none");
    let (sure, _) = house("review: {probability_min: 0.000001}\n");
    let (tokens, last) = ask(&sure, "ci-runner", "short.v1").await;
    let CallEvent::Done(answer) = last else {
        panic!("it is held");
    };
    assert_eq!(tokens, [answer.text], "in one piece");
}

#[tokio::test]
async fn without_a_place_to_hold_it_nothing_is_generated() {
    let policy = Policy::from_source(
        "policy.yaml",
        "version: 1\nidentities: {operator: {templates: {short.v1: {}}}}\nreview: {risk: low}\n",
    )
    .unwrap();
    let templates = TemplateSet::from_sources([TEMPLATES[0]]).unwrap();
    let plan = Plan {
        rules: Some(RuleSet::new(templates, policy).unwrap()),
        ..Plan::default()
    };
    let house = plan.build();
    let outcome = house.ask(call("short.v1", &[("name", "Ada")])).await;
    assert_eq!(outcome.end.err().unwrap().kind.code(), "review-unavailable");
}

#[tokio::test]
async fn whoever_the_policy_names_no_more_gets_nothing_more() {
    let (house, _) = house("review: {risk: high}\n");
    let held = held(&house, "ci-runner", "short.v1").await;
    let (service, bob) = (&house.service, reviewer(&house, "bob").await);
    let decided = service.decide_review(&bob, held.id, verdict(true)).await;
    assert!(decided.is_ok());
    let author = house.caller("ci-runner", &["short.v1"]).await;
    assert!(service.review(&author, held.id).await.is_ok());

    let without = POLICY.replace("ci-runner", "somebody");
    let policy = Policy::from_sources("policy.yaml", &without, &[("team.cedar", CEDAR)]);
    let templates = TemplateSet::from_sources(TEMPLATES).unwrap();
    service.replace_rules(RuleSet::new(templates, policy.unwrap()).unwrap());
    let seen = service.review(&author, held.id).await;
    assert_eq!(code(seen), "unknown-identity");
    assert_eq!(code(service.reviews(&author).await), "unknown-identity");
}

#[test]
fn an_output_that_finds_no_room_does_not_go_out() {
    let folder = TempDir::new().unwrap();
    passes("reviews::child_that_cannot_hold", folder.path());
}

#[tokio::test]
#[ignore = "runs as a child process"]
async fn child_that_cannot_hold() {
    if child_folder().is_none() {
        return;
    }
    let (house, _) = house("review: {risk: high}\n");
    // Room for records of the audit log, but not for a page of the ledger, which lie farther back.
    limit_file_bytes(8192);
    let (tokens, last) = ask(&house, "ci-runner", "short.v1").await;
    assert_eq!(tokens, [""; 0]);
    let CallEvent::Failed(refusal) = last else {
        panic!("it is neither kept nor handed out");
    };
    assert_eq!(refusal.kind.code(), "review-unavailable");
    let Some(Entry::Completed(end)) = house.entries().pop() else {
        panic!("the call has its end");
    };
    let code = "review-unavailable".to_owned();
    assert_eq!(end.outcome, Outcome::Failed { code });

    // The next one is refused before anything is generated for it.
    let caller = house.caller("ci-runner", &["short.v1"]).await;
    let next = house
        .service
        .generate(caller, call("short.v1", &[("name", "Ada")]));
    assert_eq!(next.await.unwrap_err().kind.code(), "review-unavailable");
    assert_eq!(house.service.ready(), Err(NotReady::BudgetUnavailable));
}
