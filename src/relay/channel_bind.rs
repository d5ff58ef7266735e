//! ChannelBind: four bytes instead of a whole indication (RFC 8656 §12.2).

use super::Relay;
use super::action::{PeerAddr, Transport, Why};
use super::allocation::{Allocation, Channel};
use super::clock::Now;
use super::peers::PeerClass;
use super::request::{Authenticated, Reject, Request, Success};
use crate::wire::{AddressFamily, AttributeType, ChannelNumber, ErrorCode};

impl Relay {
    pub(super) fn channel_bind(
        &mut self,
        now: Now,
        request: &Request<'_>,
        auth: &Authenticated,
    ) -> Result<Success, Reject> {
        let slot = self.own_allocation(request, auth)?;
        // (1) Both attributes, well formed.
        let number = request.find(AttributeType::CHANNEL_NUMBER).ok_or(Reject::malformed())?.channel_number()?;
        let peer = request.find(AttributeType::XOR_PEER_ADDRESS).ok_or(Reject::malformed())?;
        let peer = PeerAddr(peer.xor_address(request.message.transaction_id())?);
        let slot = self.allocation_for(request.from, AddressFamily::of(peer.0.ip())).unwrap_or(slot);
        let allocation = self.table.get(slot).ok_or(Reject::malformed())?;
        // Channels are for datagrams; connections have their own (RFC 6062 §3).
        if allocation.transport == Transport::Tcp {
            return Err(Reject::new(ErrorCode::BadRequest, Why::Unsupported));
        }
        // (2) A number that may be bound, (3) (4) to this peer and to no other.
        if !self.live.channel_numbers.contains(number) {
            return Err(Reject::malformed());
        }
        let wire = PeerAddr(self.own.on_the_wire(peer.0));
        conflict(allocation, number, wire)?;
        if allocation.twin.and_then(|twin| self.table.get(twin)).is_some_and(|twin| twin.channel(number).is_some()) {
            return Err(Reject::new(ErrorCode::BadRequest, Why::ChannelConflict));
        }
        // A peer that may be reached; the binding is a permission as well (RFC 8656 §12.2).
        let lifetimes = &self.live.lifetimes;
        let permission = self.own.permission(
            &self.live.peers,
            allocation.family(),
            peer.0.ip(),
            now.mono.after(lifetimes.permission),
        )?;
        if peer.0.port() == 0 {
            return Err(Reject::new(ErrorCode::Forbidden, Why::ForbiddenPeer(PeerClass::Port)));
        }
        if !self.own.may_reach(&self.live.peers, peer.0) {
            return Err(self.own.forbidden(&self.live.peers, peer.0.ip()));
        }
        let limits = &self.live.limits;
        let new = usize::from(allocation.channel(number).is_none());
        let (bound, permitted) = (allocation.channels.len(), allocation.permissions.len());
        if bound + new > limits.channels.max(bound)
            || allocation.permissions_with([permission.ip].into_iter()) > limits.permissions.max(permitted)
        {
            return Err(Reject::new(ErrorCode::InsufficientCapacity, Why::Capacity));
        }
        let expires = now.mono.after(lifetimes.channel);
        let held = expires.after(lifetimes.channel_hold);
        let channel = Channel { number, peer, wire, expires, held };
        if let Some(allocation) = self.table.get_mut(slot) {
            allocation.bind(channel);
            allocation.permit(permission, self.live.channel_keeps_permission);
        }
        self.table.settle(slot);
        Ok(Success::default())
    }
}

/// A number and a peer belong together until five minutes after the binding lapsed. A relayed address behind a NAT has
/// two forms and is one peer.
fn conflict(allocation: &Allocation, number: ChannelNumber, wire: PeerAddr) -> Result<(), Reject> {
    let other_peer = allocation.channel(number).is_some_and(|channel| channel.wire != wire);
    let other_number = allocation.channel_of(wire).is_some_and(|channel| channel.number != number);
    if other_peer || other_number {
        return Err(Reject::new(ErrorCode::BadRequest, Why::ChannelConflict));
    }
    Ok(())
}
