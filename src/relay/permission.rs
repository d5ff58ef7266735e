//! CreatePermission: which peers may send to the client (RFC 8656 §10.2), and which peers there may be at all.

use std::net::{IpAddr, SocketAddr};

use super::Relay;
use super::action::Why;
use super::allocation::Permission;
use super::clock::Now;
use super::peers::{PeerClass, embedded_v4};
use super::request::{Authenticated, Reject, Request, Success};
use crate::wire::{AddressFamily, AttributeType, ErrorCode};

impl Relay {
    pub(super) fn create_permission(
        &mut self,
        now: Now,
        request: &Request<'_>,
        auth: &Authenticated,
    ) -> Result<Success, Reject> {
        let first = self.own_allocation(request, auth)?;
        // (1) At least one peer, all of them well formed and of a family that the client has an allocation of.
        let mut permissions = Vec::new();
        for attribute in request.all(AttributeType::XOR_PEER_ADDRESS) {
            let peer = attribute.xor_address(request.message.transaction_id())?;
            let expires = now.mono.after(self.live.lifetimes.permission);
            let slot = self.allocation_for(request.from, AddressFamily::of(peer.ip())).unwrap_or(first);
            let family = self.table.get(slot).ok_or(Reject::malformed())?.family();
            permissions.push((slot, self.own.permission(&self.live.peers, family, peer.ip(), expires)?));
        }
        if permissions.is_empty() {
            return Err(Reject::malformed());
        }
        permissions.sort_by_key(|(_, permission)| permission.ip);
        permissions.dedup_by_key(|(_, permission)| permission.ip);
        let slots = [Some(first), self.table.twin(first)];
        // (2) Room for all of them; what is there may be refreshed under a limit that was lowered since.
        for slot in slots.into_iter().flatten() {
            let allocation = self.table.get(slot).ok_or(Reject::malformed())?;
            let limit = self.live.limits.permissions.max(allocation.permissions.len());
            let ips = permissions.iter().filter(|(of, _)| *of == slot).map(|(_, permission)| permission.ip);
            if allocation.permissions_with(ips) > limit {
                return Err(Reject::new(ErrorCode::InsufficientCapacity, Why::Capacity));
            }
        }
        // (3) All or none.
        let kept = self.live.channel_keeps_permission;
        for (slot, permission) in permissions {
            if let Some(allocation) = self.table.get_mut(slot) {
                allocation.permit(permission, kept);
            }
        }
        slots.into_iter().flatten().for_each(|slot| self.table.settle(slot));
        Ok(Success::default())
    }
}

/// This server's own addresses: peers may be relayed addresses, never listeners.
#[derive(Clone, Debug)]
pub(super) struct OwnAddresses {
    pub(super) relays: Vec<super::RelayAddress>,
    pub(super) ports: std::ops::RangeInclusive<u16>,
    pub(super) listeners: Vec<SocketAddr>,
}

impl OwnAddresses {
    /// Whether relayed addresses have this one.
    fn is_relay(&self, ip: IpAddr) -> bool {
        self.relays.iter().any(|relay| relay.local == ip || relay.external == Some(ip))
    }

    /// Whether an address is this server's, by itself or as what an IPv6 address carries.
    fn is_own(&self, ip: IpAddr) -> bool {
        let is_own = |ip| self.is_relay(ip) || self.listeners.iter().any(|listener| listener.ip() == ip);
        is_own(ip) || embedded_v4(ip).any(|v4| is_own(IpAddr::V4(v4)))
    }

    fn is_listener(&self, address: SocketAddr) -> bool {
        self.listeners.iter().any(|listener| listener.port() == address.port()) && self.is_own(address.ip())
    }

    /// How clients know a listener.
    pub(super) fn listener(&self, listener: super::ListenerId) -> Option<SocketAddr> {
        let local = *self.listeners.get(usize::from(listener.0))?;
        let external = self.relays.iter().find(|relay| relay.local == local.ip()).and_then(|relay| relay.external);
        Some(SocketAddr::new(external.unwrap_or(local.ip()), local.port()))
    }

    /// Whether this is, or may become, the relayed transport address of one of our clients.
    pub(super) fn is_relayed(&self, address: SocketAddr) -> bool {
        self.ports.contains(&address.port()) && self.is_relay(address.ip())
    }

    /// How the network here knows an address that clients know: our relayed addresses are not sent through the NAT.
    pub(super) fn on_the_wire(&self, address: SocketAddr) -> SocketAddr {
        let behind = self.relays.iter().find(|relay| relay.external == Some(address.ip()));
        match behind {
            Some(relay) if self.ports.contains(&address.port()) => SocketAddr::new(relay.local, address.port()),
            Some(_) | None => address,
        }
    }

    /// How clients know an address that the network here knows.
    pub(super) fn known_to_clients(&self, address: SocketAddr) -> SocketAddr {
        let own = self.relays.iter().find(|relay| relay.local == address.ip());
        match own.and_then(|relay| relay.external) {
            Some(external) if self.ports.contains(&address.port()) => SocketAddr::new(external, address.port()),
            Some(_) | None => address,
        }
    }

    /// Whether packets may be exchanged with an address and port.
    pub(super) fn may_reach(&self, peers: &super::PeerPolicy, peer: SocketAddr) -> bool {
        peer.port() != 0 && !self.is_listener(peer) && (self.is_relayed(peer) || peers.allows(peer.ip()))
    }

    /// The refusal of a peer that may not be reached.
    pub(super) fn forbidden(&self, peers: &super::PeerPolicy, ip: IpAddr) -> Reject {
        let class = if self.is_own(ip) { PeerClass::Own } else { peers.class(ip) };
        Reject::new(ErrorCode::Forbidden, Why::ForbiddenPeer(class))
    }

    /// The permission for a peer, where it may have one: 443 for another family, 403 for a forbidden address.
    pub(super) fn permission(
        &self,
        peers: &super::PeerPolicy,
        family: AddressFamily,
        ip: IpAddr,
        expires: super::Mono,
    ) -> Result<Permission, Reject> {
        if AddressFamily::of(ip) != family {
            return Err(Reject::new(ErrorCode::PeerAddressFamilyMismatch, Why::Unsupported));
        }
        if self.is_relay(ip) || peers.allows(ip) {
            Ok(Permission { ip, expires, own: self.is_own(ip) })
        } else {
            Err(self.forbidden(peers, ip))
        }
    }
}
