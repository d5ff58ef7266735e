//! Binding: the client learns its reflexive address (RFC 8489 §12). No state, no authentication.

use super::Relay;
use super::action::Action;
use super::clock::Now;
use super::request::{Details, Request, Success};

impl Relay {
    pub(super) fn binding(&mut self, now: Now, request: &Request<'_>, out: &mut Vec<u8>) -> Action {
        if let Err(reject) = request.check() {
            let details = Details::of(request, reject.why);
            return self.refuse(now, request.answer(), &reject, details, out);
        }
        let success = Success { mapped: Some(request.from.client), ..Success::default() };
        self.accept(request.answer(), success, out)
    }
}
