//! Binding: the client learns its reflexive address (RFC 8489 §12). No state, no authentication.

use super::Relay;
use super::action::{Action, Discard};
use super::clock::Now;
use super::request::{Details, Request, Success};

impl Relay {
    pub(super) fn binding(&mut self, now: Now, request: &Request<'_>, out: &mut Vec<u8>) -> Action {
        if !self.budget.take(now.mono, request.from) {
            return Action::Discard(Discard::ReplyBudget);
        }
        let answer = match request.check().and_then(|()| self.corners.answer(&self.own, request)) {
            Ok(answer) => answer,
            Err(reject) => {
                let details = Details::of(request, reject.why);
                return self.refuse(now, request.answer(), &reject, details, out);
            }
        };
        let discovery = answer.map(|answer| answer.told);
        let success = Success { mapped: Some(request.from.client), discovery, ..Success::default() };
        let action = self.accept(request.answer(), success, out);
        match answer {
            Some(answer) => answer.redirect(request.from, action),
            None => action,
        }
    }
}
