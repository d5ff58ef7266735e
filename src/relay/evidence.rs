//! What credentials that do not work leave behind for a diagnosis off the packet path: few pieces, bounded in size.

use super::Relay;
use super::action::Event;
use super::clock::{Mono, Now};
use super::request::{Authenticated, Request};
use crate::credentials::{AuthFailure, Evidence, Symptom};
use crate::wire::{AttributeType, PasswordAlgorithm};

/// Pieces in a second: an app that does it wrong does so all the time.
const PER_SECOND: u32 = 4;
/// The longest request that is kept; clients send far shorter ones.
const LONGEST: usize = 1500;

/// How many pieces the current second has seen.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    second: u64,
    taken: u32,
}

impl Sampler {
    fn admit(&mut self, now: Mono) -> bool {
        if self.second != now.seconds() {
            *self = Sampler { second: now.seconds(), taken: 0 };
        }
        self.taken += 1;
        self.taken <= PER_SECOND
    }
}

impl Relay {
    /// A credential was refused.
    pub(super) fn refused_credential(&mut self, now: Now, request: &Request<'_>, failure: AuthFailure) {
        let message = request.message.as_bytes();
        let username = request.value(AttributeType::USERNAME).and_then(|name| std::str::from_utf8(name).ok());
        let Some(username) = username.filter(|_| failure != AuthFailure::Revoked && message.len() <= LONGEST) else {
            return;
        };
        if self.sampler.admit(now.mono) {
            let chosen =
                request.find(AttributeType::PASSWORD_ALGORITHM).and_then(|chosen| chosen.password_algorithm().ok());
            let algorithm = chosen.flatten().unwrap_or(PasswordAlgorithm::Md5);
            let message = if failure == AuthFailure::BadIntegrity { message.into() } else { Box::default() };
            let evidence =
                Evidence { symptom: Symptom::Refused(failure), username: username.into(), algorithm, message };
            self.table.events.push_back(Event::Evidence(Box::new(evidence)));
        }
    }

    /// An allocation was granted to a credential that ends in a few thousand years.
    pub(super) fn accepted_credential(&mut self, now: Now, auth: &Authenticated) {
        let is_far = auth.identity.expires.is_some_and(|expires| expires >= Evidence::FAR);
        if is_far && self.sampler.admit(now.mono) {
            let evidence = Evidence {
                symptom: Symptom::NeverExpires,
                username: auth.username.clone(),
                algorithm: PasswordAlgorithm::Md5,
                message: Box::default(),
            };
            self.table.events.push_back(Event::Evidence(Box::new(evidence)));
        }
    }
}
