//! Refresh: an allocation lives on, or ends (RFC 8656 §8.2).

use super::Relay;
use super::action::EndReason;
use super::clock::Now;
use super::request::{Authenticated, Reject, Request, Success};
use super::table::Slot;
use crate::wire::{AttributeType, ErrorCode};

use super::action::Why;

impl Relay {
    pub(super) fn refresh(&mut self, now: Now, request: &Request<'_>, auth: &Authenticated) -> Result<Success, Reject> {
        let slot = self.own_allocation(request, auth)?;
        // (1) A family that the allocation does not have.
        let mut slots = [Some(slot), self.table.twin(slot)];
        if let Some(attribute) = request.find(AttributeType::REQUESTED_ADDRESS_FAMILY) {
            let family = attribute.address_family()?;
            let is_of = |slot: &Slot| self.table.get(*slot).map(|allocation| allocation.family()) == family;
            slots = slots.map(|slot| slot.filter(is_of));
            if slots == [None, None] {
                return Err(Reject::new(ErrorCode::PeerAddressFamilyMismatch, Why::Unsupported));
            }
        }
        let slots = slots.into_iter().flatten();
        // (2) The lifetime asked for, between the default and the maximum; zero ends the allocation.
        let lifetime = request.find(AttributeType::LIFETIME).map(|attribute| attribute.u32()).transpose()?;
        if lifetime == Some(0) {
            slots.for_each(|slot| self.end(slot, EndReason::Deleted));
            return Ok(Success { lifetime: Some(0), ..Success::default() });
        }
        let granted = self.lifetime(lifetime);
        for slot in slots {
            if let Some(allocation) = self.table.get_mut(slot) {
                allocation.expires = now.mono.after(std::time::Duration::from_secs(u64::from(granted)));
            }
            self.table.settle(slot);
        }
        Ok(Success { lifetime: Some(granted), ..Success::default() })
    }

    /// The lifetime to grant, in seconds (RFC 8656 §7.2, §8.2).
    pub(super) fn lifetime(&self, requested: Option<u32>) -> u32 {
        let seconds = |duration: std::time::Duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
        let (default, maximum) = (seconds(self.live.lifetimes.default), seconds(self.live.lifetimes.maximum));
        requested.unwrap_or(default).min(maximum).max(default)
    }
}
