//! Whom the service believes, and what becomes of those whom it does not.
//!
//! Invariant: each refusal leaves a record of its own or, of those who did not prove who they are and are too many,
//! a count; see [`strangers`](crate::strangers). The caller's answer is the same either way, and waits for no more
//! than the record of its own refusal.

use std::sync::Arc;
use std::time::Instant;

use postern_audit::Entry;
use tokio::sync::oneshot;

use crate::call::Caller;
use crate::requester::Requester;
use crate::service::Service;
use crate::strangers::{Moment, Tally};
use crate::token::{self, Disbelieved};
use crate::{AuthenticationError, Refusal, RefusalKind};

impl Service {
    /// Believes a requester whose certificate names an identity and whose
    /// bearer token is valid now and names the same identity.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] of kind [`RefusalKind::Unauthenticated`], recorded or counted.
    pub async fn authenticate(
        self: &Arc<Self>,
        requester: &Requester,
        bearer: Option<&str>,
    ) -> Result<Caller, Refusal> {
        match self.believe(requester, bearer) {
            Ok(caller) => Ok(caller),
            Err(Disbelieved { error, token_id }) => {
                let by = Requester {
                    token_id,
                    ..requester.clone()
                };
                let kind = RefusalKind::Unauthenticated(error);
                Err(self.refuse(&by, kind).await)
            }
        }
    }

    fn believe(&self, requester: &Requester, bearer: Option<&str>) -> Result<Caller, Disbelieved> {
        let identity = requester
            .identity()
            .ok_or(AuthenticationError::CertificateIdentity)?;
        let token = bearer.ok_or(AuthenticationError::TokenMissing)?;
        let claims = token::verify(&self.tokens, token, identity, self.now())?;
        Ok(Caller {
            identity: claims.identity().clone(),
            certificate_sha256: requester.certificate_sha256.clone(),
            token_id: claims.id(),
            scopes: claims.templates().to_vec(),
            rights: claims.rights().to_vec(),
        })
    }

    /// Takes note of a refusal that was decided before there was a call: a handshake that failed, a
    /// certificate without an identity, a body that is no call. It is recorded, or, of kind
    /// [`RefusalKind::Unauthenticated`] and beyond so many a minute, counted until one record says how many there were.
    /// The refusal stands even where the record fails.
    pub async fn refuse(self: &Arc<Self>, by: &Requester, kind: RefusalKind) -> Refusal {
        let refusal = Refusal {
            id: self.next_request_id(),
            kind,
        };
        let code = refusal.kind.code();
        self.metrics.count_request(code, None);
        let mut place = None;
        if matches!(refusal.kind, RefusalKind::Unauthenticated(_)) {
            place = self.strangers.arrive(code, self.moment());
            if place.is_none() {
                log::debug!(request:% = refusal.id, code; "refused and only counted");
                return refusal;
            }
        }
        let desk = self.desk().await;
        let (service, by, told) = (Arc::clone(self), by.clone(), refusal.clone());
        let (reply, answer) = oneshot::channel();
        tokio::task::spawn_blocking(move || {
            let is_recorded = service.write_refusal(&told, &by, None, None, &service.rules());
            if let Some(place) = place.filter(|_| is_recorded) {
                place.recorded();
            }
            // A caller that left needs no answer.
            let _ = reply.send(());
            service.record_counted(service.strangers.take_due(Instant::now()));
            drop(service);
            drop(desk);
        });
        // Without an answer the thread panicked; the refusal stands all the same.
        let _ = answer.await;
        refusal
    }

    /// Writes the record of what was only counted, if there is anything. What cannot be written stays counted. Blocks.
    pub(crate) fn record_counted(&self, tally: Option<Tally>) {
        let Some(tally) = tally else {
            return;
        };
        let more = tally.entry();
        let count = more.total();
        let id = self.next_request_id();
        match self.append(id, &Entry::RefusedMore(more)) {
            Ok(_) => log::warn!(count; "more were refused than are recorded one by one"),
            Err(_) => self.strangers.give_back(tally, Instant::now()),
        }
    }

    fn moment(&self) -> Moment {
        Moment {
            monotonic: Instant::now(),
            wall: self.now(),
        }
    }
}
