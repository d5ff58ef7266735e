//! ICMP errors that relayed packets met, told to the client by Data indications (RFC 8656 §11.5, §18.13).

use super::Relay;
use super::action::{Action, Discard, PeerAddr, RelayId};
use super::clock::{Mono, Now};
use crate::wire::{AddressFamily, AttributeType, Class, Method, Writer};

/// So many errors in a second are told to one client; more would let peers, and whoever forges ICMP, flood it.
const MOST_A_SECOND: u8 = 10;

/// An ICMP error about a datagram that left a relay socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// Its type; that of ICMPv6 when the peer has an IPv6 address.
    pub kind: u8,
    /// Its code.
    pub code: u8,
    /// The MTU of the next hop in bytes, where the message is about a datagram that is too long.
    pub mtu: u32,
}

impl IcmpError {
    /// Whether errors of this type are relayed (RFC 8656 §11.5).
    fn is_relayed(&self, family: AddressFamily) -> bool {
        match family {
            AddressFamily::Ipv4 => matches!(self.kind, 3 | 11),
            AddressFamily::Ipv6 => matches!(self.kind, 1..=3),
        }
    }

    /// The attribute's value (RFC 8656 §18.13): 16 reserved bits, 7 of the type, 9 of the code, then the MTU of a
    /// datagram that is too long, or zero.
    fn encode(&self, family: AddressFamily) -> [u8; 8] {
        let is_too_long = match family {
            AddressFamily::Ipv4 => (self.kind, self.code) == (3, 4),
            AddressFamily::Ipv6 => self.kind == 2,
        };
        let [a, b, c, d] = if is_too_long { self.mtu } else { 0 }.to_be_bytes();
        [0, 0, self.kind << 1, self.code, a, b, c, d]
    }
}

/// How many errors a client was told in the second that runs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ToldErrors {
    second: u64,
    count: u8,
}

impl ToldErrors {
    fn one_more(&mut self, now: Mono) -> bool {
        if self.second != now.seconds() {
            *self = ToldErrors { second: now.seconds(), count: 0 };
        }
        self.count = self.count.saturating_add(1);
        self.count <= MOST_A_SECOND
    }
}

impl Relay {
    /// An ICMP error about a datagram that this relay socket sent to a peer, named as the network knows it.
    pub fn handle_icmp(
        &mut self,
        now: Now,
        relay: RelayId,
        peer: PeerAddr,
        error: IcmpError,
        out: &mut Vec<u8>,
    ) -> Action {
        let action = self.icmp_indication(now.mono, relay, peer, error, out);
        self.counted(action)
    }

    fn icmp_indication(
        &mut self,
        now: Mono,
        relay: RelayId,
        peer: PeerAddr,
        error: IcmpError,
        out: &mut Vec<u8>,
    ) -> Action {
        if !self.live.icmp_errors {
            return Action::Discard(Discard::IcmpOff);
        }
        let family = AddressFamily::of(peer.0.ip());
        if !error.is_relayed(family) {
            return Action::Discard(Discard::IcmpType);
        }
        let Some(slot) = self.table.of_relay(relay).filter(|slot| self.table.has_time(now, *slot)) else {
            return Action::Discard(Discard::UnknownRelay);
        };
        let peer = self.own.known_to_clients(peer.0);
        let id = self.indication_id();
        let Some(allocation) = self.table.get_mut(slot) else {
            return Action::Discard(Discard::UnknownRelay);
        };
        // Whoever sent the error needs no permission; the peer does, and only its address counts.
        if allocation.permission(now, peer.ip()).is_none() {
            return Action::Discard(Discard::NoPermission);
        }
        if !allocation.told_errors.one_more(now) {
            return Action::Discard(Discard::IcmpRate);
        }
        let mut writer = Writer::new(out, Class::Indication, Method::DATA, id);
        writer.xor_address(AttributeType::XOR_PEER_ADDRESS, peer).attribute(AttributeType::ICMP, &error.encode(family));
        let range = writer.finish();
        self.tally.icmp_errors += 1;
        Action::ToClient { client: allocation.five_tuple, out: range, payload: 0..0, padding: 0 }
    }
}
