//! The worker's side of peers: what relay sockets bring, through the engine, to the clients.

use std::io;

use super::{Core, LONGEST, Worker};
use crate::net::outbox::{Body, Target};
use crate::net::relays::RelaySocket;
use crate::net::sys::receive_one;
use crate::relay::{Action, Now, PeerAddr, RelayId};

/// Datagrams, or runs, taken from a relay socket before the others have their turn.
const RECEIVES: usize = 16;

impl Worker<'_> {
    /// The connected socket of a relay socket has something. What its peer sent before there were two is in the first
    /// one, and goes first: a client over a stream would otherwise see one packet overtake another.
    pub(super) fn receive_from_hot(&mut self, now: Now, id: RelayId, few: bool) {
        if self.core.relays.get_mut(id).is_some_and(RelaySocket::waits) {
            if !self.receive_from_peer(now, id, false, true) {
                return;
            }
            if let Some(relay) = self.core.relays.get_mut(id) {
                relay.caught_up();
            }
        }
        self.receive_from_peer(now, id, true, few);
    }

    /// Reads a relay socket, as often as its turn allows. `true` when nothing is left.
    pub(super) fn receive_from_peer(&mut self, now: Now, id: RelayId, hot: bool, few: bool) -> bool {
        for _ in 0..RECEIVES {
            if self.arena.len() - self.arena_used < LONGEST {
                self.flush();
            }
            let Some((socket, known_drops)) = self.core.relays.get_mut(id).and_then(|relay| relay.reader(hot)) else {
                return true;
            };
            let start = self.arena_used;
            let Some(room) = self.arena.get_mut(start..start + LONGEST) else { return false };
            let received = match receive_one(socket, room) {
                Ok(received) => received,
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        // An ICMP error that a send left behind; asking for it clears it.
                        let _ = socket.take_error();
                    }
                    return error.kind() == io::ErrorKind::WouldBlock;
                }
            };
            if let Some(drops) = received.kernel_drops {
                self.core.counters.relay_kernel_drops += u64::from(drops.wrapping_sub(*known_drops));
                *known_drops = drops;
            }
            self.arena_used = (start + received.length).next_multiple_of(64);
            let bytes = self.arena.get(start..start + received.length).unwrap_or_default();
            let mut offset = start;
            for packet in received.segments(bytes) {
                self.core.counters.peer_datagrams += 1;
                let source = PeerAddr(received.source);
                let action = self.core.relay.handle_peer(now, id, source, packet, &mut self.core.outbox.bytes);
                if let Some(action) = self.core.divert(now.mono, action, packet) {
                    self.core.act_for_peer(id, action, offset);
                }
                offset += packet.len();
            }
            let is_run = received.length > received.segment;
            if !is_run && !few {
                return false;
            }
        }
        false
    }
}

impl Core<'_> {
    /// Carries out what a peer's packet caused; the packet stands at `offset` of the arena.
    pub(super) fn act_for_peer(&mut self, id: RelayId, action: Action, offset: usize) {
        match action {
            Action::ToClient { client, out, payload, padding } => {
                let Some(relay) = self.relays.get_mut(id) else { return };
                let body = Body::Arena(offset + payload.start..offset + payload.end);
                let target = Target::Client(client.listener, client.client);
                self.outbox.push(target, out, body, padding, &mut relay.to_client);
            }
            // A peer's packet is delivered or discarded, nothing else.
            Action::Discard(_)
            | Action::Reply { .. }
            | Action::ReplyFrom { .. }
            | Action::ToPeer { .. }
            | Action::ToSibling { .. }
            | Action::Open(_)
            | Action::Connect { .. }
            | Action::Bind { .. }
            | Action::HandOver { .. } => {}
        }
    }
}
