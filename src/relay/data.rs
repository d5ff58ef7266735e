//! Everything that happens per relayed packet: ChannelData, Send and Data indications, hairpin (RFC 8656 §11, §12).

use std::net::SocketAddr;
use std::ops::Range;

use super::Relay;
use super::action::{Action, Discard, FiveTuple, PeerAddr, RelayId, Transport};
use super::bandwidth::Direction;
use super::clock::Mono;
use super::flow::{FlowKey, Local};
use super::table::Slot;
use crate::wire::channel::{self, HEADER_LENGTH};
use crate::wire::integrity::verify_fingerprint;
use crate::wire::{AddressFamily, AttributeType, ChannelData, Class, Message, Method, TransactionId, Writer, padding};

impl Relay {
    /// Client to peer on a channel: one look-up, nothing copied (RFC 8656 §12.6).
    pub(super) fn channel_data(&mut self, now: Mono, from: &FiveTuple, packet: &[u8], out: &mut Vec<u8>) -> Action {
        let Some(message) = ChannelData::parse(packet) else {
            return Action::Discard(Discard::Short);
        };
        let payload = HEADER_LENGTH..HEADER_LENGTH + message.data.len();
        let key = FlowKey::client(from, message.channel);
        match self.table.relay(now, &key, payload.len(), &self.bandwidth) {
            Err(reason) => Action::Discard(reason),
            Ok(Some(FlowKey { local: Local::Relay(relay), remote, .. })) => {
                let (relay, peer) = (*relay, PeerAddr(*remote));
                self.forward(now, relay, peer, payload, out)
            }
            Ok(Some(FlowKey { local: Local::Client(..), .. }) | None) => {
                Action::Discard(match self.table.of_client(from).filter(|slot| self.table.has_time(now, *slot)) {
                    Some(_) => Discard::NoChannel,
                    None => Discard::NoAllocation,
                })
            }
        }
    }

    /// A Send indication (RFC 8656 §11.2).
    pub(super) fn send(&mut self, now: Mono, from: &FiveTuple, message: Message<'_>, out: &mut Vec<u8>) -> Action {
        let Sent { peer, payload, dont_fragment } = match read_send(message) {
            Ok(parts) => parts,
            Err(reason) => return Action::Discard(reason),
        };
        let slot = self.allocation_for(from, AddressFamily::of(peer.ip()));
        let Some(slot) = slot.filter(|slot| self.table.has_time(now, *slot)) else {
            return Action::Discard(Discard::NoAllocation);
        };
        if let Err(reason) = self.permitted(now, slot, peer) {
            return Action::Discard(reason);
        }
        if self.table.get(slot).is_some_and(|allocation| allocation.transport == Transport::Tcp) {
            return Action::Discard(Discard::TcpAllocation);
        }
        if let Err(reason) = self.table.admit(now, slot, Direction::ToPeer, payload.len(), &self.bandwidth) {
            return Action::Discard(reason);
        }
        let Some(relay) = self.table.get(slot).map(|allocation| allocation.relayed.id) else {
            return Action::Discard(Discard::NoAllocation);
        };
        // Between UDP and UDP the attribute is for IPv4 alone (RFC 8656 §13, §14); from a stream it is heeded (§15).
        let is_heeded = from.stream.is_some() || (from.client.is_ipv4() && peer.is_ipv4());
        match self.forward(now, relay, PeerAddr(self.own.on_the_wire(peer)), payload, out) {
            Action::ToPeer { relay, peer, payload, .. } => {
                Action::ToPeer { relay, peer, payload, dont_fragment: dont_fragment && is_heeded }
            }
            action => action,
        }
    }

    /// Peer to client: as ChannelData when a channel is bound, else as a Data indication (RFC 8656 §11.4, §12.7).
    /// `source` is the peer as the network knows it; `payload` is a range of the packet.
    pub(super) fn deliver(
        &mut self,
        now: Mono,
        relay: RelayId,
        source: PeerAddr,
        payload: Range<usize>,
        out: &mut Vec<u8>,
    ) -> Action {
        let Ok(length) = u16::try_from(payload.len()) else {
            return Action::Discard(Discard::TooLong);
        };
        let key = FlowKey::peer(relay, source);
        let action = match self.table.relay(now, &key, payload.len(), &self.bandwidth) {
            Err(reason) => Action::Discard(reason),
            Ok(Some(FlowKey { local: Local::Client(listener, stream), remote, channel: Some(channel) })) => {
                let start = out.len();
                out.extend_from_slice(&channel::header(*channel, length));
                let client = FiveTuple { client: *remote, listener: *listener, stream: *stream };
                Action::ToClient { client, out: start..out.len(), payload, padding: 0 }
            }
            Ok(Some(_) | None) => self.data_indication(now, relay, source, payload, out),
        };
        if !matches!(action, Action::Discard(_)) {
            self.tally.received_packets += 1;
            self.tally.received_bytes += u64::from(length);
        }
        action
    }

    fn data_indication(
        &mut self,
        now: Mono,
        relay: RelayId,
        source: PeerAddr,
        payload: Range<usize>,
        out: &mut Vec<u8>,
    ) -> Action {
        let Some(slot) = self.table.of_relay(relay).filter(|slot| self.table.has_time(now, *slot)) else {
            return Action::Discard(Discard::UnknownRelay);
        };
        let peer = self.own.known_to_clients(source.0);
        if let Err(reason) = self.permitted(now, slot, peer) {
            return Action::Discard(reason);
        }
        let id = self.indication_id();
        let Some(client) = self.table.get(slot).map(|allocation| allocation.five_tuple) else {
            return Action::Discard(Discard::UnknownRelay);
        };
        let mut writer = Writer::new(out, Class::Indication, Method::DATA, id);
        writer.xor_address(AttributeType::XOR_PEER_ADDRESS, peer);
        if !writer.data_header(payload.len()) {
            return Action::Discard(Discard::TooLong);
        }
        let range = writer.finish();
        if let Err(reason) = self.table.admit(now, slot, Direction::ToClient, payload.len(), &self.bandwidth) {
            out.truncate(range.start);
            return Action::Discard(reason);
        }
        let padding = u8::try_from(padding(payload.len())).unwrap_or(0);
        Action::ToClient { client, out: range, payload, padding }
    }

    /// Out of a relay socket; when the peer is a relayed address of this same engine, straight to its client
    /// without leaving the process.
    fn forward(
        &mut self,
        now: Mono,
        relay: RelayId,
        peer: PeerAddr,
        payload: Range<usize>,
        out: &mut Vec<u8>,
    ) -> Action {
        self.tally.sent_packets += 1;
        self.tally.sent_bytes += payload.len() as u64;
        if self.own.is_relayed(peer.0) {
            if let Some(other) = self.table.relay_at(peer.0)
                && let Some(sender) = self.table.of_relay(relay).and_then(|slot| self.table.get(slot))
            {
                let source = PeerAddr(sender.relayed.local);
                return self.deliver(now, other, source, payload, out);
            }
            // Some other service of this machine may have the port. Its operator may want it to be reached.
            if self.is_relayed_only(peer) {
                return Action::ToSibling { relay, peer, payload };
            }
        }
        Action::ToPeer { relay, peer, payload, dont_fragment: false }
    }

    /// Whether the allocation may exchange packets with this peer now (RFC 8656 §9).
    pub(super) fn permitted(&self, now: Mono, slot: Slot, peer: SocketAddr) -> Result<(), Discard> {
        let allocation = self.table.get(slot).ok_or(Discard::NoAllocation)?;
        if AddressFamily::of(peer.ip()) != allocation.family() {
            return Err(Discard::PeerFamily);
        }
        let permission = allocation.permission(now, peer.ip()).ok_or(Discard::NoPermission)?;
        // Nobody is at port 0, though permissions, which have no port, are often asked for with it.
        if peer.port() == 0 {
            return Err(Discard::ForbiddenPeer);
        }
        // A permission is for an address; on our own addresses most ports are nobody's business.
        if permission.own && !self.own.may_reach(&self.live.peers, peer) {
            return Err(Discard::ForbiddenPeer);
        }
        Ok(())
    }

    /// Unique, not secret: nothing answers an indication.
    pub(super) fn indication_id(&mut self) -> TransactionId {
        self.indications = self.indications.wrapping_add(1);
        let mut id = [0; 12];
        let (prefix, counter) = id.split_at_mut(4);
        prefix.copy_from_slice(&self.indication_prefix);
        counter.copy_from_slice(&self.indications.to_be_bytes());
        TransactionId(id)
    }
}

/// What a Send indication says.
struct Sent {
    peer: SocketAddr,
    /// Where in the message the data stands.
    payload: Range<usize>,
    dont_fragment: bool,
}

fn read_send(message: Message<'_>) -> Result<Sent, Discard> {
    let (mut peer, mut data, mut dont_fragment) = (None, None, false);
    for attribute in message.attributes() {
        let attribute = attribute.map_err(|_| Discard::BadIndication)?;
        match attribute.kind {
            AttributeType::XOR_PEER_ADDRESS if peer.is_none() => {
                let address = attribute.xor_address(message.transaction_id());
                peer = Some(address.map_err(|_| Discard::BadIndication)?);
            }
            AttributeType::DATA if data.is_none() => {
                let start = attribute.offset + 4;
                data = Some(start..start + attribute.value.len());
            }
            AttributeType::FINGERPRINT if !verify_fingerprint(message.as_bytes(), &attribute) => {
                return Err(Discard::BadFingerprint);
            }
            AttributeType::DONT_FRAGMENT => dont_fragment = true,
            AttributeType::XOR_PEER_ADDRESS | AttributeType::DATA => {}
            // Allowed in any message; indications are not authenticated (RFC 8489 §9.2).
            AttributeType::USERNAME
            | AttributeType::REALM
            | AttributeType::NONCE
            | AttributeType::MESSAGE_INTEGRITY
            | AttributeType::MESSAGE_INTEGRITY_SHA256 => {}
            kind if kind.is_comprehension_required() => return Err(Discard::BadIndication),
            _ => {}
        }
    }
    let (peer, payload) = peer.zip(data).ok_or(Discard::BadIndication)?;
    Ok(Sent { peer, payload, dont_fragment })
}
