//! What a call leaves behind: its audit record, its metrics, its log line.
//!
//! All three are written together, the record first, so that they agree. Whoever is refused before there is a call
//! is in the metrics first: a client that leaves meanwhile counts as well.

use std::sync::atomic::Ordering;
use std::time::Duration;

use postern_audit::{AuditError, Completed, Entry, Outcome, Receipt, Refused, Timings, Usage};
use postern_governance::{Identity, OutputRecord, RuleSet, TemplateId};

use crate::call::{Answer, AnswerEnd, AnswerSource, AnswerTimings, AnswerUsage};
use crate::path::Admission;
use crate::progress::Progress;
use crate::requester::Requester;
use crate::service::Service;
use crate::{Refusal, RefusalKind, RequestId, translate};

impl Service {
    /// Writes a record to disk, and remembers whether that works at present.
    /// Only an admission shows that it works again: a refusal is smaller and
    /// may find room where no call does.
    pub(crate) fn append(&self, id: RequestId, entry: &Entry) -> Result<Receipt, RefusalKind> {
        let written = self.audit.append(entry);
        match &written {
            Ok(_) if matches!(entry, Entry::Admitted(_)) => {
                self.audit_failing.store(false, Ordering::Relaxed);
            }
            Err(error) if concerns_disk(error) => {
                self.audit_failing.store(true, Ordering::Relaxed);
            }
            _ => {}
        }
        written.map_err(|error| {
            self.metrics.count_audit_failure();
            log::error!(request:% = id, error:% = error; "an audit record could not be written");
            RefusalKind::AuditUnavailable
        })
    }

    /// Records and counts a call that was not admitted under `rules`, or a request about the held output
    /// `subject`. The refusal stands even where the record fails.
    pub(crate) fn record_refusal(
        &self,
        refusal: &Refusal,
        by: &Requester,
        template: Option<&str>,
        subject: Option<RequestId>,
        rules: &RuleSet,
    ) {
        self.write_refusal(refusal, by, template, subject, rules);
        let loaded = template.filter(|name| rules.templates.get(name).is_some());
        self.metrics.count_request(refusal.kind.code(), loaded);
    }

    /// Records and logs a refusal, and says whether it is on disk.
    pub(crate) fn write_refusal(
        &self,
        refusal: &Refusal,
        by: &Requester,
        template: Option<&str>,
        subject: Option<RequestId>,
        rules: &RuleSet,
    ) -> bool {
        let code = refusal.kind.code();
        // Only what has the form of a template's name is kept of it.
        let named = template.and_then(|name| name.parse::<TemplateId>().ok());
        let entry = Refused {
            request_id: refusal.id.to_string(),
            identity: by.identity.as_ref().map(Identity::to_string),
            token_id: by.token_id.map(|id| id.to_string()),
            certificate_sha256: by.certificate_sha256.clone().unwrap_or_default(),
            template: named.as_ref().map(TemplateId::to_string),
            subject: subject.map(|id| id.to_string()),
            code: code.to_owned(),
            detail: refusal.kind.to_string(),
            rules_sha256: rules.checksum().to_owned(),
        };
        let recorded = self
            .append(refusal.id, &Entry::Refused(entry.clipped()))
            .is_ok();
        log::warn!(
            request:% = refusal.id,
            identity = by.identity.as_ref().map_or("", Identity::as_str),
            code, recorded;
            "call refused"
        );
        recorded
    }

    /// Closes a call whose text is whole.
    ///
    /// # Errors
    ///
    /// [`RefusalKind::AuditUnavailable`] if the last record could not be
    /// written; the call is then not done.
    pub(crate) fn finish(
        &self,
        admission: &Admission,
        progress: &Progress,
        end: AnswerEnd,
    ) -> Result<Answer, RefusalKind> {
        let (outcome, code) = match end {
            AnswerEnd::Stop => (Outcome::Completed, "completed"),
            AnswerEnd::Length => (Outcome::Length, "length"),
        };
        let record = self.close(admission, progress, outcome, code)?;
        self.metrics.observe_speed(
            progress
                .first_token()
                .unwrap_or(progress.elapsed())
                .as_secs_f64(),
            progress.tokens_per_s(),
        );
        Ok(self.answer(admission, progress, end, &record))
    }

    /// The answer of a call whose text is whole.
    pub(crate) fn answer(
        &self,
        admission: &Admission,
        progress: &Progress,
        end: AnswerEnd,
        record: &Receipt,
    ) -> Answer {
        let total = progress.elapsed();
        let mut redactions = translate::answer_redactions(&admission.prompt.redactions);
        redactions.extend(translate::answer_redactions(&progress.redactions()));
        Answer {
            id: admission.id,
            text: progress.text().to_owned(),
            finish_reason: end,
            usage: AnswerUsage {
                prompt_tokens: progress.prompt_tokens,
                cached_prompt_tokens: progress.cached_prompt_tokens,
                completion_tokens: progress.completion_tokens,
            },
            timings: AnswerTimings {
                queued_ms: progress.queued_ms,
                first_token_ms: milliseconds(progress.first_token().unwrap_or(total)),
                total_ms: milliseconds(total),
                tokens_per_s: progress.tokens_per_s(),
            },
            model: translate::answering_model(self.engine.info()),
            template: AnswerSource {
                id: admission.prompt.template.id.clone(),
                sha256: admission.prompt.template.sha256.clone(),
            },
            redactions,
            audit: self.receipt(&admission.identity, record),
        }
    }

    /// Closes a call that ends without an answer, and gives the reason to tell.
    pub(crate) fn fail(
        &self,
        admission: &Admission,
        progress: &Progress,
        kind: RefusalKind,
    ) -> RefusalKind {
        let outcome = match &kind {
            // The last record was tried and failed; the log closes the call
            // as interrupted when it is opened again.
            RefusalKind::AuditUnavailable => return kind,
            RefusalKind::ClientGone => Outcome::Cancelled,
            RefusalKind::DeadlineExceeded { .. } => Outcome::Deadline,
            other => Outcome::Failed {
                code: other.code().to_owned(),
            },
        };
        match self.close(admission, progress, outcome, kind.code()) {
            Ok(_) => kind,
            Err(unrecorded) => unrecorded,
        }
    }

    /// Writes the last record of an admitted call, then counts and logs it.
    pub(crate) fn close(
        &self,
        admission: &Admission,
        progress: &Progress,
        outcome: Outcome,
        code: &'static str,
    ) -> Result<Receipt, RefusalKind> {
        let output_redactions = progress.redactions();
        let output = kept_text(admission, progress, &outcome);
        let entry = Completed {
            request_id: admission.id.to_string(),
            admitted_index: admission.record.index,
            outcome,
            output_sha256: progress.text_sha256(),
            output: output.map(str::to_owned),
            usage: Usage {
                prompt_tokens: progress.prompt_tokens as u64,
                completion_tokens: progress.completion_tokens as u64,
            },
            output_redactions: translate::redactions(&output_redactions),
            schema_valid: progress.schema_valid,
            mean_probability: progress.mean_probability,
            timings: Timings {
                queued_us: (progress.queued_ms * 1000.0) as u64,
                first_token_us: progress.first_token().map(microseconds),
                total_us: microseconds(progress.elapsed()),
            },
        };
        let recorded = self.append(admission.id, &Entry::Completed(entry.clipped()));
        let template = &*admission.prompt.template.id;
        let told = if recorded.is_ok() {
            code
        } else {
            RefusalKind::AuditUnavailable.code()
        };
        self.metrics.count_request(told, Some(template));
        self.metrics
            .count_tokens(template, progress.prompt_tokens, progress.completion_tokens);
        for redaction in &admission.prompt.redactions {
            self.metrics
                .count_redactions(&redaction.rule, "input", redaction.count);
        }
        for redaction in &output_redactions {
            self.metrics
                .count_redactions(&redaction.rule, "output", redaction.count);
        }
        log::info!(
            request:% = admission.id,
            identity = admission.identity.as_str(),
            template, outcome = told,
            prompt_tokens = progress.prompt_tokens,
            completion_tokens = progress.completion_tokens;
            "call ended"
        );
        recorded
    }
}

/// The text of an output for its record: what the caller was given of it, if the rules have that kept.
fn kept_text<'p>(
    admission: &Admission,
    progress: &'p Progress,
    outcome: &Outcome,
) -> Option<&'p str> {
    let given = match outcome {
        Outcome::Completed | Outcome::Length => true,
        // It lies in the ledger until somebody has decided, and goes from there when it is rejected.
        Outcome::Held { .. } => false,
        Outcome::Cancelled | Outcome::Deadline | Outcome::Filtered | Outcome::Failed { .. } => {
            admission.streams() && !progress.text().is_empty()
        }
    };
    let keeps = admission.prompt.output_record == OutputRecord::Text;
    (given && keeps).then(|| progress.text())
}

/// Whether the next record will probably fail as well; other errors are about
/// one entry.
fn concerns_disk(error: &AuditError) -> bool {
    use AuditError as E;
    matches!(
        error,
        E::Write { .. }
            | E::Stopped { .. }
            | E::Io { .. }
            | E::Busy { .. }
            | E::DiskNearlyFull { .. }
    )
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
