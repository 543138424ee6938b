//! What Prometheus may know: counts and times, never content.
//!
//! Label values come from closed sets: ids of loaded templates, codes of
//! outcomes, names of rules. What a caller writes never becomes a label.

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
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
    first_token: Histogram,
    rate: Histogram,
    queue_depth: IntGauge,
    in_flight: IntGauge,
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

    pub(crate) fn observe_speed(&self, first_token_s: f64, tokens_per_s: f64) {
        self.first_token.observe(first_token_s);
        self.rate.observe(tokens_per_s);
    }

    /// Everything in the text format, with the gauges set to the given values.
    pub(crate) fn text(&self, queued: usize, in_flight: usize) -> String {
        self.queue_depth.set(gauge(queued));
        self.in_flight.set(gauge(in_flight));
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .expect("names and labels were checked when they were registered")
    }
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
