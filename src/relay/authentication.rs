//! The long-term credential mechanism, in the order of RFC 8489 §9.2.4 but for the nonce: it comes before anything that
//! costs a key derivation, so that a forged request costs one MAC.

use std::borrow::Cow;

use super::Relay;
use super::action::Why;
use super::clock::Now;
use super::live::Expiry;
use super::nonce::{Offer, holder};
use super::request::{Authenticated, Reject, Request};
use super::table::Slot;
use crate::credentials::{AuthFailure, Claim, Credentials, Identity, userhash};
use crate::wire::{Algorithm, Attribute, AttributeType, ErrorCode, IntegrityKey, Method, PasswordAlgorithm};

/// What USERNAME may have at most when it is read; one is made with fewer than 509 bytes (RFC 8489 §14.3). A longer one
/// would only be hashed and logged.
const LONGEST_USERNAME: usize = 763;

impl From<&Credentials> for Offer {
    fn from(credentials: &Credentials) -> Offer {
        let sha256 = credentials.algorithms().contains(&PasswordAlgorithm::Sha256);
        Offer { sha256, anonymity: credentials.is_anonymous() }
    }
}

const fn unauthenticated(failure: AuthFailure) -> Reject {
    Reject::new(ErrorCode::Unauthenticated, Why::Auth(failure))
}

impl Relay {
    /// Who sent a request.
    pub(super) fn authenticate(&self, now: Now, request: &Request<'_>) -> Result<Authenticated, Reject> {
        let live = &self.live;
        if live.credentials.is_empty() {
            return Err(Reject::new(ErrorCode::Forbidden, Why::NoCredentials));
        }
        if request.malformed {
            return Err(Reject::malformed());
        }
        let challenge = Reject::new(ErrorCode::Unauthenticated, Why::Challenge);
        let integrity = request.integrity.ok_or(challenge)?;
        let name = request.value(AttributeType::USERNAME).map(Named::Username);
        let name = name.or(request.value(AttributeType::USERHASH).map(Named::Hash));
        let (Some(name), Some(realm), Some(nonce)) =
            (name, request.value(AttributeType::REALM), request.value(AttributeType::NONCE))
        else {
            return Err(Reject::malformed());
        };
        if matches!(name, Named::Username(name) if name.len() > LONGEST_USERNAME) {
            return Err(Reject::malformed());
        }
        let offer = Offer::from(&*live.credentials);
        if !self.nonces.verify(now.mono, holder(request.from), nonce, live.lifetimes.nonce, offer) {
            return Err(Reject::new(ErrorCode::StaleNonce, Why::StaleNonce));
        }
        let slot = self.table.of_client(request.from);
        let chosen = self.password_algorithm(request, slot.is_some())?;
        if realm != live.credentials.realm().as_bytes() {
            return Err(Reject::new(ErrorCode::Unauthenticated, Why::WrongRealm));
        }
        let known = slot.or_else(|| self.allocation_to_bind(request));
        let username = self.username(name, known).ok_or(unauthenticated(AuthFailure::UnknownUser))?;
        let claim = Claim { username: &username, algorithm: chosen.unwrap_or(PasswordAlgorithm::Md5) };
        let (identity, mine) = self.identify(now, request, claim, integrity, slot)?;
        if self.revoked.contains(&username, &identity.user, identity.expires, now.unix) {
            return Err(unauthenticated(AuthFailure::Revoked));
        }
        let algorithm = answered_with(chosen, integrity, request.has_sha1);
        Ok(Authenticated { identity, username: username.into(), algorithm, slot: slot.filter(|_| mine) })
    }

    /// The client's choice out of what the nonce came with, none for a client of RFC 5389. A list that differs from
    /// the one that was sent has been changed on the way (RFC 8489 §9.2.1). A client that has an allocation has shown
    /// its list already, and need not repeat it (§9.2.3.2).
    fn password_algorithm(
        &self,
        request: &Request<'_>,
        is_subsequent: bool,
    ) -> Result<Option<PasswordAlgorithm>, Reject> {
        let listed = request.find(AttributeType::PASSWORD_ALGORITHMS);
        let Some(chosen) = request.find(AttributeType::PASSWORD_ALGORITHM) else {
            return if listed.is_none() { Ok(None) } else { Err(Reject::malformed()) };
        };
        let offered = self.live.credentials.algorithms();
        let is_unchanged = match listed {
            Some(listed) => listed.password_algorithms().eq(offered.iter().map(|algorithm| Ok(Some(*algorithm)))),
            None => is_subsequent,
        };
        let chosen = chosen.password_algorithm()?.filter(|chosen| is_unchanged && offered.contains(chosen));
        chosen.map(Some).ok_or(Reject::malformed())
    }

    /// The user name that a request stands for. A hash is known of static users, and of the one who made the allocation
    /// of the five-tuple, or of the connection that is to be bound; that of a time-limited name before its first
    /// Allocate cannot be, since nobody lists those names. That is why such a server does not ask for hashes.
    fn username<'a>(&'a self, name: Named<'a>, slot: Option<Slot>) -> Option<Cow<'a, str>> {
        match name {
            Named::Username(name) => std::str::from_utf8(name).ok().map(Cow::Borrowed),
            Named::Hash(hash) => {
                let credentials = &self.live.credentials;
                let own = slot.and_then(|slot| self.table.get(slot)).map(|allocation| &*allocation.username);
                let own = own.filter(|name| userhash(name, credentials.realm()) == hash);
                own.or_else(|| credentials.user_of_hash(hash)).map(Cow::Borrowed)
            }
        }
    }

    /// Whose key signed the request, and whether the five-tuple's allocation, if any, is his. The key of an
    /// established allocation is at hand, so its own user costs no derivation; where it does not match, realm,
    /// password or the client's choice of an algorithm may have changed since.
    fn identify(
        &self,
        now: Now,
        request: &Request<'_>,
        claim: Claim<'_>,
        integrity: Attribute<'_>,
        slot: Option<Slot>,
    ) -> Result<(Identity, bool), Reject> {
        let matches = |key: &IntegrityKey| key.verify(request.message.as_bytes(), &integrity);
        let strict = self.live.expiry == Expiry::Strict;
        let own = slot.and_then(|slot| self.table.get(slot)).filter(|own| *own.username == *claim.username);
        let fits = |key: &IntegrityKey| key.is_of(claim.algorithm) && matches(key);
        let Some(allocation) = own.filter(|allocation| fits(&allocation.key)) else {
            let checks_expiry = strict || request.message.method() == Method::ALLOCATE;
            let identity = self.live.credentials.authenticate(claim, now.unix, checks_expiry, matches);
            return identity.map(|identity| (identity, own.is_some())).map_err(unauthenticated);
        };
        if let Some(ago) = allocation.credential_expires.and_then(|expires| now.unix.checked_sub(expires))
            && strict
        {
            return Err(unauthenticated(AuthFailure::Expired { ago }));
        }
        let identity = Identity {
            user: allocation.user.clone(),
            expires: allocation.credential_expires,
            key: allocation.key.clone(),
        };
        Ok((identity, true))
    }

    /// The slot of the requester's allocation, or the right error: 437 without one, 441 when it is another's
    /// (RFC 8656 §5).
    pub(super) fn own_allocation(&self, request: &Request<'_>, auth: &Authenticated) -> Result<Slot, Reject> {
        match (auth.slot, self.table.of_client(request.from)) {
            (Some(slot), _) => Ok(slot),
            (None, Some(_)) => Err(Reject::new(ErrorCode::WrongCredentials, Why::WrongUser)),
            (None, None) => Err(Reject::new(ErrorCode::AllocationMismatch, Why::NoAllocation)),
        }
    }
}

/// How a request names its user.
#[derive(Clone, Copy)]
enum Named<'a> {
    Username(&'a [u8]),
    Hash(&'a [u8]),
}

/// The algorithm of the answer's signature: SHA-256 for a client that chose a password algorithm, SHA-1 for the others
/// (RFC 8489 §9.2.4). A client that signed in one way only is answered in that way: it may know no other.
fn answered_with(chosen: Option<PasswordAlgorithm>, integrity: Attribute<'_>, has_sha1: bool) -> Algorithm {
    let has_sha256 = integrity.kind == AttributeType::MESSAGE_INTEGRITY_SHA256;
    match (has_sha256, has_sha1) {
        (true, true) if chosen.is_none() => Algorithm::Sha1,
        (true, _) => Algorithm::Sha256,
        (false, _) => Algorithm::Sha1,
    }
}
