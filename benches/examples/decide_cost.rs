//! Measures what governance costs a call, without a model: deciding on, cleaning, fencing and filling in a template
//! with a diff of 16 KiB. The bound is 200 microseconds.
//!
//! ```text
//! cargo run --release -p postern-benches --example decide_cost
//! ```
#![expect(clippy::print_stdout, reason = "a program that prints its result")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};
use postern_governance::{
    CallRequest, Decision, ModelRef, Policy, RuleSet, Source, TemplateSet, decide,
};

const DIFF_BYTES: usize = 16 * 1024;
const ROUNDS: usize = 2000;
/// What a call of this size may cost, in microseconds.
const MEDIAN_US_MAX: f64 = 200.0;

fn main() -> Result<()> {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let templates = TemplateSet::load(&deploy.join("prompts"))?;
    let policy = Policy::load(&deploy.join("policy/policy.yaml"))?;
    let rules = RuleSet::new(templates, policy)?;
    let request = CallRequest {
        identity: "ci-runner".parse()?,
        scopes: vec!["impl-test-gen.v1".to_owned()],
        template: "impl-test-gen.v1".to_owned(),
        variables: BTreeMap::from([
            ("diff".to_owned(), diff()),
            ("language".to_owned(), "Rust".to_owned()),
        ]),
        max_tokens: None,
        temperature: None,
        seed: Some(1),
        model: ModelRef {
            id: "tiny".to_owned(),
            sha256: "00".repeat(32),
        },
        source: Source::Network,
        time_unix_s: 1_800_000_000,
    };
    let mut times_us = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let decision = black_box(decide(&rules, black_box(&request)));
        times_us.push(start.elapsed().as_secs_f64() * 1e6);
        if let Decision::Deny(denial) = decision {
            bail!("the call is denied: {denial}");
        }
    }
    times_us.sort_by(f64::total_cmp);
    let median = times_us[ROUNDS / 2];
    println!(
        "{DIFF_BYTES} bytes of diff: {median:.0} µs in the median, {:.0} µs at the 99th percentile of {ROUNDS}",
        times_us[ROUNDS * 99 / 100]
    );
    if median > MEDIAN_US_MAX {
        bail!("that is more than {MEDIAN_US_MAX} µs");
    }
    Ok(())
}

/// A diff of ordinary code, of exactly [`DIFF_BYTES`].
fn diff() -> String {
    let hunk = "@@ -10,7 +10,9 @@ impl Queue<Job> {\n     pub fn push(&mut self, job: Job) -> Result<(), QueueFull> {\n\
                -        if self.jobs.len() > self.jobs_max {\n+        if self.jobs.len() >= self.jobs_max {\n\
                +            log::warn!(queued = self.jobs.len(); \"the queue is full\");\n             return Err(QueueFull);\n         }\n";
    let mut diff = hunk.repeat(DIFF_BYTES / hunk.len() + 1);
    diff.truncate(DIFF_BYTES);
    diff
}
