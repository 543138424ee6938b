//! Outputs that a person has to look at before their caller gets them.
//!
//! Invariants: an output that is held reaches its caller only after somebody else, whom token and policy
//! let do so, has released it; each decision is made once, and is in the audit log before it takes effect, as is each
//! reading of a text before it is handed out.
//! Absent: when an output is held, which the policy says; see [`postern_governance::ReviewPlan`].

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use postern_audit::{
    Administered, Entry, Outcome, REVIEW_APPROVED, REVIEW_READ, REVIEW_REJECTED, Receipt,
};
use postern_governance::{
    Identity, Question, ReviewPlan, ReviewReason, Right, RuleSet, Source, TemplateId,
};
use serde::{Deserialize, Serialize};

use crate::call::{Answer, AnswerEnd, AuditReceipt, Caller};
use crate::ledger::Ledger;
use crate::path::Admission;
use crate::progress::Progress;
use crate::service::Service;
use crate::{Refusal, RefusalKind, RequestId};

/// Longest reason that a decision may have, in bytes.
pub const WHY_BYTES_MAX: usize = 1000;

/// What the record of a reading says of whoever may decide, and of the output's own caller.
const READ_TO_DECIDE: &str = "read by somebody who may decide on it";
const READ_BY_AUTHOR: &str = "read by its caller after it was released";

/// An output that is kept for a review.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeldOutput {
    pub(crate) id: RequestId,
    author: Identity,
    template: TemplateId,
    reasons: Vec<ReviewReason>,
    held: Timestamp,
    pub(crate) expires: Timestamp,
    /// As they went into the prompt, for whoever looks at it.
    variables: BTreeMap<String, String>,
    /// What the caller gets; gone once it was rejected or its time is over.
    answer: Option<Answer>,
    decision: Option<Decided>,
}

/// What somebody decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decided {
    /// Who.
    pub by: Identity,
    /// Whether the output goes out.
    pub approved: bool,
    /// Why.
    pub why: String,
    /// When.
    pub at: Timestamp,
}

/// Where a held output stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReviewStatus {
    /// Nobody has decided yet.
    Pending,
    /// Its caller may have it.
    Approved,
    /// Its caller does not get it.
    Rejected,
    /// Its time is over.
    Expired,
}

impl ReviewStatus {
    /// The name in answers and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
        }
    }
}

/// What a caller is told whose output is held.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Held {
    /// The call, under which the output can be asked for.
    pub id: RequestId,
    /// Always [`ReviewStatus::Pending`].
    pub status: ReviewStatus,
    /// Why it is held.
    pub reasons: Vec<ReasonReport>,
    /// When it is thrown away if nobody has decided.
    pub expires: Timestamp,
    /// The record of the call's end.
    pub audit: AuditReceipt,
}

/// One reason, for programs and for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReasonReport {
    /// A stable name, such as `low-probability`.
    pub code: &'static str,
    /// The same in words.
    pub detail: String,
}

/// A held output as somebody may see it.
#[derive(Clone, PartialEq, Serialize)]
pub struct ReviewReport {
    /// The call.
    pub id: RequestId,
    /// Where it stands.
    pub status: ReviewStatus,
    /// Who made the call.
    pub author: Identity,
    /// The template.
    pub template: TemplateId,
    /// Why it is held.
    pub reasons: Vec<ReasonReport>,
    /// Since when.
    pub held: Timestamp,
    /// Until when.
    pub expires: Timestamp,
    /// What was decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decided>,
    /// The sanitized variables of the call, for those who may decide.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variables: Option<BTreeMap<String, String>>,
    /// The answer, for those who may decide, and for its caller once it is approved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
}

/// What somebody wants to decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReviewDecision {
    /// Whether the output goes out.
    pub approve: bool,
    /// Why; not empty, and at most [`WHY_BYTES_MAX`] bytes.
    pub why: String,
}

impl HeldOutput {
    /// As it is at `now`: without its text if its time is over.
    pub(crate) fn at(mut self, now: Timestamp) -> Self {
        if now >= self.expires {
            self.forget_text();
        }
        self
    }

    pub(crate) fn has_text(&self) -> bool {
        self.answer.is_some()
    }

    fn forget_text(&mut self) {
        self.answer = None;
        self.variables.clear();
    }

    fn status(&self) -> ReviewStatus {
        match &self.decision {
            Some(decided) if !decided.approved => ReviewStatus::Rejected,
            _ if self.answer.is_none() => ReviewStatus::Expired,
            Some(_) => ReviewStatus::Approved,
            None => ReviewStatus::Pending,
        }
    }

    /// What its author may see, or with `whole` whoever decides on it.
    fn report(self, whole: bool) -> ReviewReport {
        let status = self.status();
        let released = whole || status == ReviewStatus::Approved;
        ReviewReport {
            id: self.id,
            status,
            author: self.author,
            template: self.template,
            reasons: reason_reports(&self.reasons),
            held: self.held,
            expires: self.expires,
            decision: self.decision,
            variables: whole.then_some(self.variables),
            answer: self.answer.filter(|_| released),
        }
    }
}

impl Service {
    /// Whether what the policy plans can be done: an output that may have to be held needs a place.
    pub(crate) fn check_review(&self, plan: &ReviewPlan) -> Result<(), RefusalKind> {
        if !plan.may_hold() {
            return Ok(());
        }
        match self.budgets.ledger() {
            Some(ledger) if !ledger.is_failing() => Ok(()),
            Some(_) => Err(RefusalKind::ReviewUnavailable),
            None => {
                log::error!(
                    "the policy wants a review, but this service was started without a ledger"
                );
                Err(RefusalKind::ReviewUnavailable)
            }
        }
    }

    /// Keeps the output of a call that is over, and closes the call.
    pub(crate) fn hold(
        &self,
        admission: &Admission,
        progress: &Progress,
        end: AnswerEnd,
        reasons: &[ReviewReason],
    ) -> Result<Held, RefusalKind> {
        let now = self.now();
        let hours = i64::from(admission.prompt.review.expires_hours);
        let expires = now.saturating_add(SignedDuration::from_hours(hours));
        let template = admission.prompt.template.id.parse();
        let output = HeldOutput {
            id: admission.id,
            author: admission.identity.clone(),
            template: template.map_err(|_| RefusalKind::Internal)?,
            reasons: reasons.to_vec(),
            held: now,
            expires: expires.unwrap_or(Timestamp::MAX),
            variables: admission.prompt.variables.clone(),
            answer: Some(self.answer(admission, progress, end, &admission.record)),
            decision: None,
        };
        // Kept first: a record that says so must not be there without the output.
        if !self
            .review_ledger()?
            .hold(&output, now)
            .map_err(unavailable)?
        {
            return Err(RefusalKind::ReviewQueueFull);
        }
        let codes = reasons.iter().map(|reason| reason.code().to_owned());
        let outcome = Outcome::Held {
            reasons: codes.collect(),
        };
        let record = self.close(admission, progress, outcome, "held")?;
        Ok(Held {
            id: admission.id,
            status: ReviewStatus::Pending,
            reasons: reason_reports(reasons),
            expires: output.expires,
            audit: self.receipt(&admission.identity, &record),
        })
    }

    /// The held outputs that `caller` made or may decide on, the oldest first, without their texts.
    ///
    /// # Errors
    ///
    /// A [`Refusal`], recorded, if what is held cannot be read.
    pub async fn reviews(self: &Arc<Self>, caller: &Caller) -> Result<Vec<ReviewReport>, Refusal> {
        self.at_desk(caller, |service, caller, rules| {
            let held = service.review_ledger()?.all_held(service.now());
            let seen = held.map_err(unavailable)?.into_iter().filter(|output| {
                output.author == caller.identity || service.may_approve(caller, rules, output)
            });
            let listed = seen.map(|output| ReviewReport {
                answer: None,
                ..output.report(false)
            });
            Ok(listed.collect())
        })
        .await
    }

    /// One held output: whole for whoever may decide on it; for its author the answer once it is approved. That the
    /// text is handed out is recorded before.
    ///
    /// # Errors
    ///
    /// A [`Refusal`], recorded: [`RefusalKind::ReviewUnknown`], also where the caller may not know of it, or
    /// that what is held cannot be read, or the reading cannot be recorded.
    pub async fn review(
        self: &Arc<Self>,
        caller: &Caller,
        id: RequestId,
    ) -> Result<ReviewReport, Refusal> {
        self.at_desk_about(caller, Some(id), move |service, caller, rules| {
            let (output, decides) = service.find_held(caller, rules, id)?;
            let report = output.report(decides);
            if report.answer.is_some() {
                let why = if decides {
                    READ_TO_DECIDE
                } else {
                    READ_BY_AUTHOR
                };
                service.record_review(caller, rules, id, REVIEW_READ, why)?;
            }
            Ok(report)
        })
        .await
    }

    /// Releases or rejects a held output. Of two who decide at once, the second is told what the first decided.
    ///
    /// # Errors
    ///
    /// A [`Refusal`], recorded: [`RefusalKind::ReviewUnknown`], [`RefusalKind::ReviewOwn`],
    /// [`RefusalKind::ReviewClosed`], [`RefusalKind::ReviewWhy`], or that the decision cannot be recorded or kept.
    pub async fn decide_review(
        self: &Arc<Self>,
        caller: &Caller,
        id: RequestId,
        verdict: ReviewDecision,
    ) -> Result<ReviewReport, Refusal> {
        self.at_desk_about(caller, Some(id), move |service, caller, rules| {
            service.decide_held(caller, rules, id, verdict)
        })
        .await
    }

    fn decide_held(
        &self,
        caller: &Caller,
        rules: &RuleSet,
        id: RequestId,
        verdict: ReviewDecision,
    ) -> Result<ReviewReport, RefusalKind> {
        let why = verdict.why.trim();
        if why.is_empty() || why.len() > WHY_BYTES_MAX {
            return Err(RefusalKind::ReviewWhy);
        }
        let _turn = self.turn();
        let (mut output, decides) = self.find_held(caller, rules, id)?;
        if output.author == caller.identity {
            return Err(RefusalKind::ReviewOwn);
        }
        if !decides {
            return Err(RefusalKind::ReviewUnknown);
        }
        let status = output.status();
        if status != ReviewStatus::Pending {
            return Err(RefusalKind::ReviewClosed { status });
        }
        let action = match verdict.approve {
            true => REVIEW_APPROVED,
            false => REVIEW_REJECTED,
        };
        let record = self.record_review(caller, rules, id, action, why)?;
        output.decision = Some(Decided {
            by: caller.identity.clone(),
            approved: verdict.approve,
            why: why.to_owned(),
            at: self.now(),
        });
        if let Some(answer) = &mut output.answer {
            answer.audit = self.receipt(&output.author, &record);
        }
        if !verdict.approve {
            output.forget_text();
        }
        self.review_ledger()?
            .replace_held(&output)
            .map_err(unavailable)?;
        log::info!(request:% = id, by = caller.identity.as_str(), action; "review decided");
        Ok(output.report(true))
    }

    /// Records what `caller` does with a held output, before it is done.
    fn record_review(
        &self,
        caller: &Caller,
        rules: &RuleSet,
        id: RequestId,
        action: &str,
        why: &str,
    ) -> Result<Receipt, RefusalKind> {
        let entry = Administered {
            identity: Some(caller.identity.to_string()),
            action: action.to_owned(),
            subject: id.to_string(),
            detail: why.to_owned(),
            rules_sha256: rules.checksum().to_owned(),
        };
        self.append(id, &Entry::Administered(entry))
    }

    /// A held output that `caller` may know of, and whether they may decide on it.
    fn find_held(
        &self,
        caller: &Caller,
        rules: &RuleSet,
        id: RequestId,
    ) -> Result<(HeldOutput, bool), RefusalKind> {
        let found = self.review_ledger()?.held(id, self.now());
        let output = found
            .map_err(unavailable)?
            .ok_or(RefusalKind::ReviewUnknown)?;
        let decides = self.may_approve(caller, rules, &output);
        if !decides && output.author != caller.identity {
            return Err(RefusalKind::ReviewUnknown);
        }
        Ok((output, decides))
    }

    /// Whether token and `rules` both let the caller decide; nobody does on a call of their own.
    fn may_approve(&self, caller: &Caller, rules: &RuleSet, output: &HeldOutput) -> bool {
        let question = Question::Approve {
            identity: &caller.identity,
            template: &output.template,
            author: &output.author,
        };
        let now = self.circumstances(Source::Network);
        caller.rights.contains(&Right::Approve) && rules.authorize(&question, &now).allowed
    }

    fn review_ledger(&self) -> Result<&Ledger, RefusalKind> {
        let ledger = self.budgets.ledger();
        ledger.ok_or(RefusalKind::ReviewUnavailable)
    }
}

fn reason_reports(reasons: &[ReviewReason]) -> Vec<ReasonReport> {
    let reports = reasons.iter().map(|reason| ReasonReport {
        code: reason.code(),
        detail: reason.to_string(),
    });
    reports.collect()
}

fn unavailable(error: crate::LedgerError) -> RefusalKind {
    log::error!(error:% = error; "held outputs cannot be read or written");
    RefusalKind::ReviewUnavailable
}
