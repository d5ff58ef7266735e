//! The worker's side of streams: their events, their messages through the engine, and what ends them.

use std::io;

use tracing::{debug, warn};

use super::{Core, Worker};
use crate::net::outbox::{Body, RunHint, Target};
use crate::net::stream::{Closing, ROOM};
use crate::net::sys::{Event, Interest};
use crate::relay::{Action, FiveTuple, Mono, Now, StreamId};
use crate::wire::FrameError;
use crate::wire::frame::{self, Frame};

/// From here on epoll tokens are those of stream listeners, and then of connections.
pub(super) const STREAMS: u64 = 1 << 33;
const CONNECTIONS: u64 = 1 << 34;
/// The longest message of a client without an allocation: USERNAME, REALM and NONCE at their longest fit.
const LONGEST_UNKNOWN: usize = 4096;

impl Worker<'_> {
    /// Something happened on a stream listener or on a connection.
    pub(super) fn stream_event(&mut self, now: Now, event: Event) {
        if event.token < CONNECTIONS {
            self.core.accept_streams(now.mono, (event.token - STREAMS) as usize);
            return;
        }
        let id = u32::try_from(event.token - CONNECTIONS).ok().and_then(std::num::NonZeroU32::new);
        let Some(id) = id.map(StreamId) else { return };
        if event.writable {
            self.core.streams.writable(id);
        }
        if event.readable || event.error {
            self.receive_from_stream(now, id);
        }
    }

    fn receive_from_stream(&mut self, now: Now, id: StreamId) {
        if self.arena.len() - self.arena_used < ROOM {
            self.flush();
        }
        let start = self.arena_used;
        let Some(room) = self.arena.get_mut(start..start + ROOM) else { return };
        let length = match self.core.streams.receive(id, room, &mut self.core.counters) {
            Ok(0) => return,
            Ok(length) => length,
            Err(closing) => {
                self.core.streams.close_later(id, closing);
                return;
            }
        };
        self.read_frames(now, id, start, length);
    }

    /// Takes the messages of a connection, which stand in the arena.
    pub(super) fn read_frames(&mut self, now: Now, id: StreamId, start: usize, length: usize) {
        let Some(from) = self.core.streams.client(id) else { return };
        self.arena_used = (start + length).next_multiple_of(64);
        let received = self.arena.get(start..start + length).unwrap_or_default();
        let opens = !self.core.streams.has_heard(id);
        let mut at = 0;
        let end = loop {
            let rest = received.get(at..).unwrap_or_default();
            match self.core.next_frame(&from, rest, opens && at == 0) {
                Ok(Frame::Whole { length, padding }) => {
                    let message = rest.get(..length).unwrap_or_default();
                    self.core.counters.client_datagrams += 1;
                    let action = self.core.relay.handle_client(now, &from, message, &mut self.core.outbox.bytes);
                    match action {
                        Action::Bind { out, connection } => {
                            let early = rest.get(length + padding..).unwrap_or_default();
                            return self.core.bind(now, id, out, connection, early);
                        }
                        Action::HandOver { engine } => return self.core.hand_over(id, engine, rest),
                        action => self.core.act_for_stream(now, &from, action, start + at, message),
                    }
                    at += length + padding;
                }
                Ok(Frame::Partial { .. }) => break Ok(rest),
                Err(error) => break Err(error),
            }
        };
        match end {
            Ok(rest) => self.core.streams.keep(now.mono, id, rest, at > 0),
            Err(FrameError::Foreign) => self.core.streams.close_later(id, Closing::Foreign),
            Err(FrameError::Misaligned) => self.core.streams.close_later(id, Closing::Misaligned),
            Err(FrameError::TooLong) => self.core.streams.close_later(id, Closing::TooLong),
        }
    }
}

impl Core<'_> {
    /// Begins to watch the stream listeners.
    pub(super) fn watch_streams(&self) -> io::Result<()> {
        for (number, listening) in self.seat.streams.iter().enumerate() {
            self.epoll.add(&listening.socket, STREAMS + number as u64, Interest::READ)?;
        }
        Ok(())
    }

    /// Carries out what a message of a stream caused; it stands at `offset` of the arena.
    fn act_for_stream(&mut self, now: Now, from: &FiveTuple, action: Action, offset: usize, message: &[u8]) {
        let Some(action) = self.divert(now.mono, action, message) else { return };
        match action {
            // A connection is answered on itself alone.
            Action::Discard(_) | Action::ReplyFrom { .. } => {}
            Action::Reply { out } => {
                if let (Some(id), Some(bytes)) = (from.stream, self.outbox.bytes.get(out)) {
                    self.streams.reply(id, bytes, &mut self.counters);
                }
            }
            Action::ToPeer { relay: id, peer, payload, dont_fragment } => {
                let Some(relay) = self.relays.get_mut(id) else { return };
                let body = Body::Arena(offset + payload.start..offset + payload.end);
                self.outbox.push(Target::Peer(id, peer.0, dont_fragment), 0..0, body, 0, &mut relay.to_peer);
            }
            Action::ToSibling { relay, peer, payload } => {
                if let Some(action) = self.sibling(relay, peer, payload) {
                    self.act_for_stream(now, from, action, offset, message);
                }
            }
            Action::ToClient { client, out, payload, padding } => {
                let body = Body::Arena(offset + payload.start..offset + payload.end);
                let target = Target::Client(client.listener, client.client);
                self.outbox.push(target, out, body, padding, &mut RunHint::default());
            }
            // Taken before.
            Action::Bind { .. } | Action::HandOver { .. } => {}
            Action::Connect { connection, from, peer, .. } => self.connect(now, connection, from, peer),
            Action::Open(pending) => {
                let outcome = self.fulfil(&pending);
                let action = self.relay.opened(now, pending, outcome, &mut self.outbox.bytes);
                self.act_for_stream(now, from, action, offset, message);
            }
        }
    }

    /// Takes what is for a client on a stream, from whichever packet, and hands back everything else. On streams
    /// ChannelData is padded like everything else (RFC 8656 §12.5).
    pub(super) fn divert(&mut self, now: Mono, action: Action, packet: &[u8]) -> Option<Action> {
        let Action::ToClient { client: FiveTuple { stream: Some(id), .. }, out, payload, .. } = action else {
            return Some(action);
        };
        let head = self.outbox.bytes.get(out).unwrap_or_default();
        let body = packet.get(payload).unwrap_or_default();
        let padding = [0; 3];
        let padding = padding.get(..crate::wire::padding(head.len() + body.len())).unwrap_or_default();
        self.streams.media(now, id, [head, body, padding], &mut self.counters);
        None
    }

    /// Writes what waits, ends who is late, and closes what is to be closed.
    pub(super) fn settle_streams(&mut self, now: Now) {
        self.streams.flush(now.mono, &self.epoll, connection_token, &mut self.counters);
        if self.streams.poll_timeout().is_some_and(|deadline| deadline <= now.mono) {
            let relay = &self.relay;
            if self.streams.handle_timeout(now.mono, |client| relay.has_allocation(client)) {
                self.listen_again(Interest::READ);
            }
        }
        while let Some((id, client, closing)) = self.streams.next_to_close() {
            debug!(client = %client.client, reason = closing.label(), "connection closed");
            self.counters.closed(closing);
            self.relay.close(&client);
            // While it is still known what carried the client's messages.
            self.carry_out_events();
            self.streams.close(now.mono, id, closing);
        }
        for _ in 0..self.tcp.take_ended() {
            self.counters.closed(Closing::DataOver);
        }
        self.counters.streams = (self.streams.len() + self.tcp.bound()) as u64;
    }

    fn accept_streams(&mut self, now: Mono, number: usize) {
        let seat = self.seat;
        let Some(listening) = seat.streams.get(number) else { return };
        let accepted = self.streams.accept(now, listening, &self.epoll, connection_token, &mut self.counters);
        if let Err(error) = accepted {
            warn!(%error, "connections cannot be accepted for a moment");
            self.listen_again(Interest::NONE);
        }
    }

    /// Stream listeners rest while there is no descriptor, or listen again.
    fn listen_again(&self, interest: Interest) {
        for (number, listening) in self.seat.streams.iter().enumerate() {
            if let Err(error) = self.epoll.modify(&listening.socket, STREAMS + number as u64, interest) {
                warn!(%error, "a listener could not be watched");
            }
        }
    }

    /// The next frame, or the one that opens a connection; only clients with an allocation may send long ones.
    fn next_frame(&self, from: &FiveTuple, bytes: &[u8], opens: bool) -> Result<Frame, FrameError> {
        let read = if opens { Frame::opening } else { Frame::first };
        let found = read(bytes, frame::LONGEST)?;
        let needed = match found {
            Frame::Whole { length, padding } => length + padding,
            Frame::Partial { needed } => needed,
        };
        if needed > LONGEST_UNKNOWN && !self.relay.has_allocation(from) {
            return Err(FrameError::TooLong);
        }
        Ok(found)
    }
}

pub(super) fn connection_token(id: StreamId) -> u64 {
    CONNECTIONS + u64::from(id.0.get())
}
