//! Proofs that a record is in the audit log, for the caller whose call it is about.
//!
//! The daemon cannot read again whose a record is. So an answer's receipt carries a *ticket*: an HMAC, under a key
//! that only the device has, over the record's index and the identity of the caller. Invariant: without the ticket,
//! or for another identity, there is no proof. Absent: what a proof shows, which is the audit log's to know.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use postern_audit::{AuditError, ProofDocument, Receipt};
use postern_governance::Identity;

use crate::call::{AuditReceipt, Caller};
use crate::service::Service;
use crate::{Refusal, RefusalKind};

/// What the device's key is used with for tickets. No token is signed over these bytes: claims are JSON.
const TICKET_LABEL: &str = "postern-audit-ticket/1";

impl Service {
    /// What the caller `identity` is told of a record of a call of theirs.
    pub(crate) fn receipt(&self, identity: &Identity, record: &Receipt) -> AuditReceipt {
        let signature = self.tokens.sign(&ticketed(identity, record.index));
        AuditReceipt {
            index: record.index,
            head: record.head.clone(),
            leaf: record.leaf.clone(),
            checkpoint: record.checkpoint.clone(),
            ticket: BASE64_URL_SAFE_NO_PAD.encode(signature),
        }
    }

    /// Proves that the record at `index`, whose receipt has this ticket, is in the log.
    ///
    /// # Errors
    ///
    /// A [`Refusal`], recorded: [`RefusalKind::ProofUnknown`] if the ticket is not of this record and caller,
    /// [`RefusalKind::AuditUnavailable`] if no proof can be made now.
    pub async fn inclusion_proof(
        self: &Arc<Self>,
        caller: &Caller,
        index: u64,
        ticket: String,
    ) -> Result<ProofDocument, Refusal> {
        self.at_desk(caller, move |service, caller, _| {
            let signature = BASE64_URL_SAFE_NO_PAD.decode(ticket).unwrap_or_default();
            let signed = ticketed(&caller.identity, index);
            if !service.tokens.verifies(&signed, &signature) {
                return Err(RefusalKind::ProofUnknown);
            }
            service.audit.prove(index).map_err(unproven)
        })
        .await
    }

    /// Proves that the log goes on from an older checkpoint of it, a signed note.
    ///
    /// # Errors
    ///
    /// A [`Refusal`], recorded: [`RefusalKind::CheckpointForeign`] if it is not a checkpoint of this log,
    /// [`RefusalKind::AuditUnavailable`] if no proof can be made now.
    pub async fn consistency_proof(
        self: &Arc<Self>,
        caller: &Caller,
        checkpoint: String,
    ) -> Result<ProofDocument, Refusal> {
        self.at_desk(caller, move |service, _, _| {
            let proof = service.audit.prove_continuation(&checkpoint);
            proof.map_err(unproven)
        })
        .await
    }
}

fn ticketed(identity: &Identity, index: u64) -> Vec<u8> {
    // A name has no zero byte, so no two pairs have the same bytes.
    format!("{TICKET_LABEL}\0{identity}\0{index}").into_bytes()
}

fn unproven(error: AuditError) -> RefusalKind {
    match error {
        AuditError::Witness { .. } => RefusalKind::CheckpointForeign,
        AuditError::Proof(_) => RefusalKind::ProofUnknown,
        error => {
            log::error!(error:% = error; "no proof could be made from the audit log");
            RefusalKind::AuditUnavailable
        }
    }
}
