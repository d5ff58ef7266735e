//! One allocation: who, where, until when, and what it has bound (RFC 8656 §3.2).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::action::{ConnectionId, FiveTuple, PeerAddr, Record, RelayId, Traffic, Transport};
use super::bandwidth::Meter;
use super::clock::Mono;
use super::flow::FlowKey;
use super::icmp::ToldErrors;
use crate::wire::{AddressFamily, ChannelNumber, ErrorCode, IntegrityKey, TransactionId};

/// A relayed transport address and its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Relayed {
    pub(super) id: RelayId,
    /// What the socket is bound to.
    pub(super) local: SocketAddr,
    /// What the client and its peers are told: `local` seen from outside a NAT.
    pub(super) external: SocketAddr,
}

/// A permission: for an address, any port (RFC 8656 §9).
#[derive(Clone, Copy, Debug)]
pub(super) struct Permission {
    pub(super) ip: IpAddr,
    pub(super) expires: Mono,
    /// The address is one of this server's own, so that each packet's port decides as well.
    pub(super) own: bool,
}

/// A channel binding (RFC 8656 §12). After `expires` it relays nothing, but is held until `held`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Channel {
    pub(super) number: ChannelNumber,
    /// As the client knows it.
    pub(super) peer: PeerAddr,
    /// As the network knows it: differs for our own relayed addresses behind a NAT.
    pub(super) wire: PeerAddr,
    pub(super) expires: Mono,
    pub(super) held: Mono,
}

/// An allocation with everything that belongs to it.
#[derive(Debug)]
pub(super) struct Allocation {
    pub(super) five_tuple: FiveTuple,
    /// The whole USERNAME; later requests must bring the same (RFC 8656 §5).
    pub(super) username: Box<str>,
    pub(super) user: Arc<str>,
    /// When the credential ends, in seconds since the Unix epoch.
    pub(super) credential_expires: Option<u64>,
    /// Kept keyed, so that a later request costs one MAC.
    pub(super) key: IntegrityKey,
    /// The transaction that made it; its retransmission gets the same answer.
    pub(super) transaction: TransactionId,
    /// The first lifetime, in seconds, for that same answer.
    pub(super) granted: u32,
    pub(super) token: Option<super::action::ReservationToken>,
    pub(super) relayed: Relayed,
    pub(super) transport: Transport,
    /// The allocation of the other family with the same five-tuple; kept by the table alone.
    pub(super) twin: Option<super::table::Slot>,
    /// The family that the client asked for in vain, for the same answer.
    pub(super) address_error: Option<(AddressFamily, ErrorCode)>,
    pub(super) created: Mono,
    pub(super) expires: Mono,
    /// Where the expiry queue has it; changed by the table alone.
    pub(super) queued: Mono,
    /// Sorted by address.
    pub(super) permissions: Vec<Permission>,
    /// Sorted by number.
    pub(super) channels: Vec<Channel>,
    /// Of a TCP allocation; kept by the table alone.
    pub(super) connections: Vec<ConnectionId>,
    /// What indications and connections relayed, and the flow rows that are gone; the rows in force count for themselves.
    pub(super) traffic: Traffic,
    pub(super) told_errors: ToldErrors,
    pub(super) meter: Meter,
}

impl Allocation {
    pub(super) fn family(&self) -> AddressFamily {
        AddressFamily::of(self.relayed.local.ip())
    }

    /// The permission in force for an address.
    pub(super) fn permission(&self, now: Mono, ip: IpAddr) -> Option<&Permission> {
        let at = self.permissions.binary_search_by_key(&ip, |permission| permission.ip).ok()?;
        self.permissions.get(at).filter(|permission| now < permission.expires)
    }

    /// Installs or refreshes a permission; with `kept` it lasts at least as long as the channels of its address.
    pub(super) fn permit(&mut self, mut permission: Permission, kept: bool) {
        if kept {
            let own = self.channels.iter().filter(|channel| channel.peer.0.ip() == permission.ip);
            permission.expires = own.map(|channel| channel.expires).fold(permission.expires, Mono::max);
        }
        match self.permissions.binary_search_by_key(&permission.ip, |other| other.ip) {
            Ok(at) => {
                if let Some(place) = self.permissions.get_mut(at) {
                    *place = permission;
                }
            }
            Err(at) => self.permissions.insert(at, permission),
        }
    }

    /// How many permissions there would be with one for each of `ips`, which are all different.
    pub(super) fn permissions_with(&self, ips: impl Iterator<Item = IpAddr>) -> usize {
        let is_new = |ip: &IpAddr| self.permissions.binary_search_by_key(ip, |permission| permission.ip).is_err();
        self.permissions.len() + ips.filter(is_new).count()
    }

    /// The channel, bound or held, with this number.
    pub(super) fn channel(&self, number: ChannelNumber) -> Option<&Channel> {
        let at = self.channels.binary_search_by_key(&number, |channel| channel.number).ok()?;
        self.channels.get(at)
    }

    /// The channel, bound or held, of this peer as the network knows it.
    pub(super) fn channel_of(&self, wire: PeerAddr) -> Option<&Channel> {
        self.channels.iter().find(|channel| channel.wire == wire)
    }

    /// Binds or refreshes a channel.
    pub(super) fn bind(&mut self, channel: Channel) {
        match self.channels.binary_search_by_key(&channel.number, |other| other.number) {
            Ok(at) => {
                if let Some(place) = self.channels.get_mut(at) {
                    *place = channel;
                }
            }
            Err(at) => self.channels.insert(at, channel),
        }
    }

    /// The two ends of a channel's flow rows: the client's, the peer's.
    pub(super) fn flow_keys(&self, channel: &Channel) -> [FlowKey; 2] {
        [FlowKey::client(&self.five_tuple, channel.number), FlowKey::peer(self.relayed.id, channel.wire)]
    }

    /// When a channel's flow rows stop relaying: with the allocation, the channel or the permission.
    pub(super) fn flow_expires(&self, channel: &Channel) -> Mono {
        let ip = channel.peer.0.ip();
        let permission = self.permissions.iter().find(|permission| permission.ip == ip);
        let permitted = permission.map_or(Mono(0), |permission| permission.expires);
        self.expires.min(channel.expires).min(permitted)
    }

    /// The next moment at which something of this allocation ends.
    pub(super) fn deadline(&self) -> Mono {
        let permissions = self.permissions.iter().map(|permission| permission.expires);
        let channels = self.channels.iter().map(|channel| channel.held);
        permissions.chain(channels).fold(self.expires, Mono::min)
    }

    pub(super) fn record(&self, traffic: Traffic) -> Box<Record> {
        Box::new(Record {
            user: self.user.clone(),
            client: self.five_tuple,
            relayed: self.relayed.external,
            created: self.created,
            traffic,
        })
    }
}
