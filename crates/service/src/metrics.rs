//! What Prometheus may know: counts and times, never content.
//!
//! Label values come from closed sets: ids of loaded templates, codes of
//! outcomes, names of rules, accounts of the policy. What a caller writes never becomes a label.

use std::sync::Mutex;

use postern_engine::{EngineStats, Work};
use postern_governance::Account;
use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

/// Template label of calls that named no loaded template.
const NO_TEMPLATE: &str = "none";

const FIRST_TOKEN_SECONDS: &[f64] = &[
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
];
const TOKENS_PER_SECOND: &[f64] = &[
    1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 50.0, 100.0, 200.0, 500.0, 1000.0,
];

/// The service's own registry and what is in it.
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    tokens_in: IntCounterVec,
    tokens_out: IntCounterVec,
    redactions: IntCounterVec,
    audit_failures: IntCounter,
    budget_warnings: IntCounterVec,
    first_token: Histogram,
    rate: Histogram,
    queue_depth: IntGauge,
    in_flight: IntGauge,
    cache_pages: IntGaugeVec,
    /// Totals of the engine, which counts by itself, in the order of [`totals`].
    engine: Mutex<[IntCounter; 6]>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let r = &registry;
        Self {
            requests: counters(
                r,
                "postern_requests_total",
                "Calls that ended, by outcome and template.",
                &["outcome", "template"],
            ),
            tokens_in: counters(
                r,
                "postern_prompt_tokens_total",
                "Prompt tokens read.",
                &["template"],
            ),
            tokens_out: counters(
                r,
                "postern_completion_tokens_total",
                "Tokens generated.",
                &["template"],
            ),
            redactions: counters(
                r,
                "postern_redactions_total",
                "Secrets replaced by a mark, by rule and direction.",
                &["rule", "direction"],
            ),
            audit_failures: registered(
                r,
                IntCounter::new(
                    "postern_audit_failures_total",
                    "Audit records that could not be written.",
                ),
            ),
            budget_warnings: counters(
                r,
                "postern_budget_warnings_total",
                "Days and months of which the part was used at which a warning is due.",
                &["account", "limit"],
            ),
            first_token: histogram(
                r,
                "postern_first_token_seconds",
                "Time from a call's arrival to its first token.",
                FIRST_TOKEN_SECONDS,
            ),
            rate: histogram(
                r,
                "postern_tokens_per_second",
                "Decoding speed of finished calls.",
                TOKENS_PER_SECOND,
            ),
            queue_depth: level(
                r,
                "postern_queue_depth",
                "Calls that wait in the engine's queue.",
            ),
            in_flight: level(
                r,
                "postern_calls_in_flight",
                "Calls admitted and not ended.",
            ),
            cache_pages: registered(
                r,
                IntGaugeVec::new(
                    Opts::new(
                        "postern_kv_cache_pages",
                        "Pages of the KV cache: in use, kept for prompts that begin alike, or free.",
                    ),
                    &["state"],
                ),
            ),
            engine: Mutex::new(
                [
                    ("postern_engine_passes_total", "Passes over the weights."),
                    (
                        "postern_engine_pass_sequences_total",
                        "Sequences that passes served; divided by the passes, the size of a batch.",
                    ),
                    (
                        "postern_engine_prompt_tokens_total",
                        "Tokens of prompts that the engine took in.",
                    ),
                    (
                        "postern_engine_cached_prompt_tokens_total",
                        "Those of them that were found in the KV cache.",
                    ),
                    (
                        "postern_engine_guessed_tokens_total",
                        "Tokens computed ahead on a guess.",
                    ),
                    (
                        "postern_engine_right_guesses_total",
                        "Guesses that were right.",
                    ),
                ]
                .map(|(name, about)| registered(r, IntCounter::new(name, about))),
            ),
            registry,
        }
    }

    /// Counts a call's end. `template` is the id of a loaded template.
    pub(crate) fn count_request(&self, outcome: &str, template: Option<&str>) {
        let template = template.unwrap_or(NO_TEMPLATE);
        self.requests.with_label_values(&[outcome, template]).inc();
    }

    pub(crate) fn count_tokens(&self, template: &str, prompt: usize, completion: usize) {
        self.tokens_in
            .with_label_values(&[template])
            .inc_by(prompt as u64);
        self.tokens_out
            .with_label_values(&[template])
            .inc_by(completion as u64);
    }

    pub(crate) fn count_redactions(&self, rule: &str, direction: &str, count: u64) {
        self.redactions
            .with_label_values(&[rule, direction])
            .inc_by(count);
    }

    pub(crate) fn count_audit_failure(&self) {
        self.audit_failures.inc();
    }

    /// Counts a warning. Accounts and limits are names of the policy.
    pub(crate) fn count_budget_warning(&self, account: &Account, limit: &str) {
        let account = account.to_string();
        self.budget_warnings
            .with_label_values(&[&*account, limit])
            .inc();
    }

    pub(crate) fn observe_speed(&self, first_token_s: f64, tokens_per_s: f64) {
        self.first_token.observe(first_token_s);
        self.rate.observe(tokens_per_s);
    }

    /// Everything in the text format, with what the engine says of itself.
    pub(crate) fn text(&self, engine: &EngineStats, in_flight: usize) -> String {
        self.queue_depth.set(gauge(engine.queued));
        self.in_flight.set(gauge(in_flight));
        let cache = engine.cache;
        for (state, pages) in [
            ("in-use", cache.pages_in_use),
            ("kept", cache.pages_kept),
            // The figures may be of two passes.
            (
                "free",
                cache
                    .pages
                    .saturating_sub(cache.pages_in_use + cache.pages_kept),
            ),
        ] {
            self.cache_pages
                .with_label_values(&[state])
                .set(gauge(pages));
        }
        // Under a lock, or two readers at a time would both add what is new.
        let counters = self
            .engine
            .lock()
            .expect("nothing panics while the lock is held");
        for (counter, total) in counters.iter().zip(totals(&engine.work)) {
            counter.inc_by(total.saturating_sub(counter.get()));
        }
        drop(counters);
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .expect("names and labels were checked when they were registered")
    }
}

fn totals(work: &Work) -> [u64; 6] {
    [
        work.passes,
        work.sequences,
        work.prompt_tokens,
        work.cached_prompt_tokens,
        work.guessed_tokens,
        work.right_guesses,
    ]
}

fn gauge(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn counters(registry: &Registry, name: &str, about: &str, labels: &[&str]) -> IntCounterVec {
    registered(registry, IntCounterVec::new(Opts::new(name, about), labels))
}

fn histogram(registry: &Registry, name: &str, about: &str, buckets: &[f64]) -> Histogram {
    let opts = HistogramOpts::new(name, about).buckets(buckets.to_vec());
    registered(registry, Histogram::with_opts(opts))
}

fn level(registry: &Registry, name: &str, about: &str) -> IntGauge {
    registered(registry, IntGauge::new(name, about))
}

fn registered<M: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<M>,
) -> M {
    let metric = metric.expect("names and buckets are constants that a test builds");
    registry
        .register(Box::new(metric.clone()))
        .expect("each name is registered once");
    metric
}
