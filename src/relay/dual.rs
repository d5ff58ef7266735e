//! Dual allocation: one relayed transport address of each family (RFC 8656 §7.2, ADDITIONAL-ADDRESS-FAMILY). Either is
//! an allocation of its own with the same five-tuple: permissions, channels and lifetimes go by the family.

use std::net::SocketAddr;

use super::Relay;
use super::action::{FiveTuple, RelayId, Why};
use super::allocate::Pending;
use super::request::{Reject, Request};
use super::table::Slot;
use crate::wire::{AddressFamily, AttributeType, ErrorCode};

/// What is still to be opened for the second family, and what came of the first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Dual {
    rest: Option<AddressFamily>,
    pub(super) first: Option<(RelayId, SocketAddr)>,
    /// The family that cannot be had, and why: ADDRESS-ERROR-CODE.
    pub(super) failed: Option<(AddressFamily, ErrorCode)>,
}

impl Relay {
    /// The families that ADDITIONAL-ADDRESS-FAMILY asks for: the one to begin with, and the rest. `None` without it.
    pub(super) fn additional(&self, request: &Request<'_>) -> Result<Option<(AddressFamily, Dual)>, Reject> {
        let Some(attribute) = request.find(AttributeType::ADDITIONAL_ADDRESS_FAMILY) else { return Ok(None) };
        let reserves = match request.find(AttributeType::EVEN_PORT) {
            Some(even) => even.leading_u8(1)? & 0x80 != 0,
            None => false,
        };
        let excluded = [AttributeType::REQUESTED_ADDRESS_FAMILY, AttributeType::RESERVATION_TOKEN];
        if attribute.address_family()? != Some(AddressFamily::Ipv6)
            || excluded.into_iter().any(|kind| request.find(kind).is_some())
            || reserves
        {
            return Err(Reject::malformed());
        }
        let has = |family| !self.candidates(request.from, family).is_empty();
        let unsupported = ErrorCode::AddressFamilyNotSupported;
        let one = |family, missing| (family, Dual { failed: Some((missing, unsupported)), ..Dual::default() });
        match (has(AddressFamily::Ipv4), has(AddressFamily::Ipv6)) {
            (true, true) => {
                Ok(Some((AddressFamily::Ipv4, Dual { rest: Some(AddressFamily::Ipv6), ..Dual::default() })))
            }
            (true, false) => Ok(Some(one(AddressFamily::Ipv4, AddressFamily::Ipv6))),
            (false, true) => Ok(Some(one(AddressFamily::Ipv6, AddressFamily::Ipv4))),
            (false, false) => Err(Reject::new(unsupported, Why::Unsupported)),
        }
    }

    /// One family has its socket, or cannot have one. `true` when there is one more thing to open.
    pub(super) fn next_family(&mut self, pending: &mut Pending, failure: Option<ErrorCode>) -> bool {
        let family = pending.family;
        let Some(dual) = &mut pending.dual else { return false };
        if let Some(code) = failure {
            dual.failed = Some((family, code));
        }
        let Some(family) = dual.rest.take() else { return false };
        dual.first = pending.bound.take();
        pending.family = family;
        pending.attempts = 0;
        if self.draw(pending) {
            return true;
        }
        if let Some(dual) = &mut pending.dual {
            dual.failed = Some((family, ErrorCode::InsufficientCapacity));
        }
        false
    }

    /// The client's allocation for peers of a family, else its only one: that answers what is wrong with the family.
    pub(super) fn allocation_for(&self, client: &FiveTuple, family: AddressFamily) -> Option<Slot> {
        let first = self.table.of_client(client)?;
        let is_of = |slot: &Slot| self.table.get(*slot).is_some_and(|allocation| allocation.family() == family);
        Some(self.table.twin(first).filter(is_of).unwrap_or(first))
    }
}
