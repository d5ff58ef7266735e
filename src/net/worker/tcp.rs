//! The worker's side of TCP relaying: what the engine wants done with connections, and what becomes of them.

use std::net::SocketAddr;
use std::ops::Range;

use tracing::{debug, warn};

use super::{Core, Worker};
use crate::net::stream::{Closing, Connection, ROOM};
use crate::net::sys::Event;
use crate::net::tcp::{Progress, Source};
use crate::relay::{ConnectionId, Now, PeerAddr, RelayId, StreamId, Transport};

/// Connections of peers accepted before others have their turn.
const ACCEPTS: usize = 64;

impl Worker<'_> {
    /// Takes over a client's connection from another worker, with the message that was meant for this one.
    pub(super) fn adopt(&mut self, now: Now, connection: Connection) {
        let Some(id) = self.core.adopt(now, connection) else { return };
        if self.arena.len() - self.arena_used < ROOM {
            self.flush();
        }
        let start = self.arena_used;
        let Some(room) = self.arena.get_mut(start..start + ROOM) else { return };
        let length = self.core.streams.unread(id, room);
        self.read_frames(now, id, start, length);
    }
}

impl Core<'_> {
    /// Something happened on a relay socket that listens, or on a connection.
    pub(super) fn tcp_event(&mut self, now: Now, event: Event) {
        match Source::of(event.token) {
            Source::Listener(relay) => self.accept_peers(now, relay),
            Source::Connection(id) if self.tcp.is_bound(id) => self.pump(now, id),
            Source::Connection(id) => {
                let progress = self.tcp.event(&self.epoll, id, event);
                self.progressed(now, id, progress);
            }
        }
    }

    /// Looks again at what has waited: relay sockets without a descriptor, connections above their limit.
    pub(super) fn settle_tcp(&mut self, now: Now) {
        self.tcp.handle_timeout(now.mono, &self.epoll);
        while let Some(id) = self.tcp.next_held(now.mono) {
            self.pump(now, id);
        }
    }

    fn pump(&mut self, now: Now, id: ConnectionId) {
        let allowed = self.relay.may_copy(now, id);
        let progress = self.tcp.pump(now.mono, &self.epoll, id, allowed);
        self.progressed(now, id, progress);
    }

    /// Begins to connect to a peer for a client that waits.
    pub(super) fn connect(&mut self, now: Now, id: ConnectionId, from: SocketAddr, peer: PeerAddr) {
        // A relay port of ours is a peer while an allocation listens there, not as what else has it.
        if self.relay.is_relayed_only(peer) && !self.seat.shared.ledger.is_relayed(Transport::Tcp, peer.0) {
            self.relay.stray();
            return self.relay.connection_lost(now, id);
        }
        if let Err(error) = self.tcp.connect(&self.epoll, id, from, peer.0) {
            debug!(%error, peer = %peer.0, "a peer cannot be connected to");
            self.relay.connection_lost(now, id);
        }
    }

    /// A client's connection becomes one of data: the reply goes out, and what follows the request is for the peer.
    pub(super) fn bind(&mut self, now: Now, stream: StreamId, out: Range<usize>, id: ConnectionId, early: &[u8]) {
        if let Some(reply) = self.outbox.bytes.get(out) {
            self.streams.reply(stream, reply, &mut self.counters);
        }
        let Some(released) = self.streams.release(stream, &self.epoll) else {
            self.tcp.disconnect(id);
            return self.relay.connection_lost(now, id);
        };
        let (client, queued) = released.into_raw();
        match self.tcp.bind(id, client, [queued, early.to_vec()]) {
            true => self.pump(now, id),
            false => self.relay.connection_lost(now, id),
        }
    }

    /// Gives a client's connection to the worker whose it is, with what it has sent.
    pub(super) fn hand_over(&mut self, stream: StreamId, worker: u16, unread: &[u8]) {
        let Some(mut released) = self.streams.release(stream, &self.epoll) else { return };
        released.keep(unread);
        if !self.seat.shared.hand_over(usize::from(worker), released) {
            self.counters.closed(Closing::Full);
        }
    }

    fn adopt(&mut self, now: Now, connection: Connection) -> Option<StreamId> {
        let id = self.streams.adopt(now.mono, connection, &self.epoll, super::streams::connection_token);
        if id.is_none() {
            self.counters.closed(Closing::Full);
        }
        id
    }

    fn accept_peers(&mut self, now: Now, relay: RelayId) {
        for _ in 0..ACCEPTS {
            match self.tcp.accept(relay) {
                Ok(Some((socket, source))) => match self.relay.accepted(now, relay, PeerAddr(source)) {
                    Some(id) => self.tcp.keep(id, socket),
                    None => socket.abort_on_close(),
                },
                Ok(None) => return,
                Err(error) => {
                    self.counters.accepts_failed += 1;
                    warn!(%error, "peers' connections cannot be accepted for a moment");
                    return self.tcp.rest(now.mono, &self.epoll, relay);
                }
            }
        }
    }

    fn progressed(&mut self, now: Now, id: ConnectionId, progress: Progress) {
        match progress {
            Progress::None => {}
            Progress::Connected => self.relay.connected(now, id),
            Progress::Moved { to_peer, to_client } => self.relay.copied(now, id, to_peer, to_client),
            Progress::Over { to_peer, to_client } => {
                self.relay.copied(now, id, to_peer, to_client);
                self.relay.connection_lost(now, id);
            }
            Progress::Lost => self.relay.connection_lost(now, id),
        }
    }
}
