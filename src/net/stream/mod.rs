//! Clients over TCP and TLS, in the worker's own loop: connections in a slab, bounded queues, deadlines, limits.
//!
//! Knows nothing of TURN: bytes of whole messages come out, bytes to be written go in (RFC 8489 §6.2.2, §6.2.3).
//! A connection costs a descriptor and a few hundred bytes until it has said something.

mod census;
mod certificate;
mod closing;
mod connection;
mod proxy;
mod queue;
mod raw;
mod tls;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use slab::Slab;

pub(super) use census::Census;
pub use certificate::{Certificate, CertificateError};
pub use closing::Closing;
pub use tls::Tls;

use super::counters::NetCounters;
use super::sys::{Epoll, Interest, TcpListener};
use crate::relay::{FiveTuple, ListenerId, Mono, StreamId};
use crate::wire::frame;
pub(super) use connection::Connection;
use connection::Left;
use queue::QueueLimits;
pub(super) use raw::{RAW_ROOM, Raw, quiet};
use tls::Handshake;

/// Bits of a [`StreamId`] that number the slot; the others tell apart the connections that had it.
const SLOT_BITS: u32 = 20;
/// Read from a connection at a time.
const READ: usize = 64 * 1024;
/// Room that one read needs: what was left of a message, what is read, and what TLS still held.
pub(super) const ROOM: usize = frame::LONGEST + 2 * READ;
/// Connections accepted before others have their turn.
const ACCEPTS: usize = 64;
/// For how long a listener rests when there is no descriptor for its next connection.
const REST: Duration = Duration::from_millis(200);
/// Empty buffers kept for the next who has something to write.
const MOST_SPARE: usize = 256;

/// What a stream listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// Plain TCP.
    Tcp,
    /// TLS.
    Tls,
    /// Whichever the client's first byte announces.
    Auto,
}

/// What carries a client's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// Plain TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
}

impl Transport {
    /// Its name in URLs, labels and lists.
    pub fn label(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
        }
    }
}

/// A stream listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamListener {
    /// Where: an address of this machine; port 0 is any free port.
    pub addr: SocketAddr,
    /// What it speaks.
    pub kind: StreamKind,
}

/// How much connections may hold, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    /// Connections in all; 0 is no limit.
    pub total: u32,
    /// Connections from one source: an IPv4 address, or a /64 of IPv6; 0 is no limit.
    pub per_source: u32,
    /// From accepting a connection to its first message: PROXY header and TLS handshake included.
    pub opening: Duration,
    /// Without a message, where there is no allocation.
    pub idle: Duration,
    /// Bytes that may wait for one client.
    pub queue_bytes: usize,
    /// How long relayed data may wait for a client.
    pub queue_delay: Duration,
}

/// How streams are served.
#[derive(Clone, Debug)]
pub struct StreamConfig {
    /// Limits and deadlines.
    pub limits: StreamLimits,
    /// From here connections must begin with a PROXY header; from elsewhere they must not.
    pub proxies: Vec<IpNet>,
    /// For the listeners that speak it.
    pub tls: Option<Tls>,
}

/// A worker's listener with its number.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) socket: TcpListener,
    pub(super) id: ListenerId,
    pub(super) kind: StreamKind,
}

/// All connections of a worker.
pub(super) struct Streams {
    config: StreamConfig,
    census: Arc<Census>,
    connections: Slab<(StreamId, Connection)>,
    generation: u32,
    scratch: Vec<u8>,
    spare: Vec<Vec<u8>>,
    /// Connections with something to write.
    dirty: Vec<StreamId>,
    /// Connections to be closed, by whoever knows what else belongs to them.
    closing: Vec<(StreamId, Closing)>,
    /// When to look at a connection, in order: those that have not said anything, and the others.
    opening: VecDeque<(Mono, StreamId)>,
    idle: VecDeque<(Mono, StreamId)>,
    /// Listeners that rest, and until when.
    resting: Option<Mono>,
}

impl Streams {
    pub(super) fn new(config: StreamConfig, census: Arc<Census>) -> Streams {
        Streams {
            config,
            census,
            connections: Slab::new(),
            generation: 0,
            scratch: vec![0; READ],
            spare: Vec::new(),
            dirty: Vec::new(),
            closing: Vec::new(),
            opening: VecDeque::new(),
            idle: VecDeque::new(),
            resting: None,
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }

    /// The client of a connection that is open.
    pub(super) fn client(&self, id: StreamId) -> Option<FiveTuple> {
        self.get(id).map(|connection| connection.five_tuple)
    }

    /// What carries this client's messages: datagrams, or a connection that is open.
    pub(super) fn transport(&self, client: &FiveTuple) -> Transport {
        let Some(id) = client.stream else { return Transport::Udp };
        self.get(id).map_or(Transport::Tcp, Connection::transport)
    }

    /// Whether a whole message has come from a connection.
    pub(super) fn has_heard(&self, id: StreamId) -> bool {
        self.get(id).is_some_and(|connection| connection.heard().is_ok())
    }

    /// Accepts what waits. `token` makes the epoll token of a connection.
    pub(super) fn accept(
        &mut self,
        now: Mono,
        listening: &Listening,
        epoll: &Epoll,
        token: fn(StreamId) -> u64,
        counters: &mut NetCounters,
    ) -> io::Result<()> {
        for _ in 0..ACCEPTS {
            let (socket, from) = match listening.socket.accept() {
                Ok(accepted) => accepted,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(()),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => continue,
                    _ => {
                        counters.accepts_failed += 1;
                        self.resting = Some(now.after(REST));
                        return Err(error);
                    }
                },
            };
            counters.streams_accepted += 1;
            let Some(place) = self.census.enter() else {
                socket.abort_on_close();
                counters.closed(Closing::Full);
                continue;
            };
            let behind_proxy = self.config.proxies.iter().any(|range| range.contains(&from.ip()));
            let Some(id) = self.next_id() else { continue };
            let five_tuple = FiveTuple { client: from, listener: listening.id, stream: Some(id) };
            let mut connection = Connection::new(now, socket, five_tuple, listening.kind, place, behind_proxy);
            if !behind_proxy && let Err(closing) = connection.settle() {
                connection.socket.abort_on_close();
                counters.closed(closing);
                continue;
            }
            if epoll.add(&connection.socket, token(id), Interest::READ).is_err() {
                counters.accepts_failed += 1;
                continue;
            }
            self.connections.insert((id, connection));
            self.opening.push_back((now.after(self.config.limits.opening), id));
        }
        Ok(())
    }

    /// The number of the next connection.
    fn next_id(&mut self) -> Option<StreamId> {
        let slot = u32::try_from(self.connections.vacant_key()).ok().filter(|slot| slot >> SLOT_BITS == 0)?;
        let last = u32::MAX >> SLOT_BITS;
        self.generation = if self.generation >= last { 1 } else { self.generation + 1 };
        NonZeroU32::new(self.generation << SLOT_BITS | slot).map(StreamId)
    }

    /// Reads once; see [`Connection::receive`].
    pub(super) fn receive(
        &mut self,
        id: StreamId,
        room: &mut [u8],
        counters: &mut NetCounters,
    ) -> Result<usize, Closing> {
        let Some((_, connection)) = self.connections.get_mut(slot(id)).filter(|(known, _)| *known == id) else {
            return Ok(0);
        };
        let received = connection.receive(&mut self.scratch, room, self.config.tls.as_ref());
        match connection.take_handshake() {
            None => {}
            Some(Handshake::Full) => counters.tls_full += 1,
            Some(Handshake::Resumed) => counters.tls_resumed += 1,
        }
        if connection.has_sealed() && !connection.dirty {
            connection.dirty = true;
            self.dirty.push(id);
        }
        received
    }

    /// Keeps the beginning of a message; `heard` when there were whole ones before it.
    pub(super) fn keep(&mut self, now: Mono, id: StreamId, partial: &[u8], heard: bool) {
        let idle = now.after(self.config.limits.idle);
        let Some(connection) = self.get_mut(id) else { return };
        connection.keep(partial);
        if heard {
            let first = connection.heard().is_err();
            connection.hears(now);
            if first {
                self.idle.push_back((idle, id));
            }
        }
    }

    /// Queues relayed data.
    pub(super) fn media(&mut self, now: Mono, id: StreamId, parts: [&[u8]; 3], counters: &mut NetCounters) {
        let limits = self.queue_limits();
        if let Some(connection) = self.writes(id) {
            connection.queue.media(now, parts, limits);
            counters.stream_messages += 1;
            counters.stream_dropped += connection.queue.take_dropped();
        }
    }

    /// Queues a reply.
    pub(super) fn reply(&mut self, id: StreamId, bytes: &[u8], counters: &mut NetCounters) {
        let limits = self.queue_limits();
        if let Some(connection) = self.writes(id) {
            let queued = connection.queue.reply(bytes, limits);
            counters.stream_messages += 1;
            counters.stream_dropped += connection.queue.take_dropped();
            if !queued {
                self.closing.push((id, Closing::NotReading));
            }
        }
    }

    /// A connection can be written to again.
    pub(super) fn writable(&mut self, id: StreamId) {
        self.writes(id);
    }

    /// Writes to every connection that has something, once each.
    pub(super) fn flush(&mut self, now: Mono, epoll: &Epoll, token: fn(StreamId) -> u64, counters: &mut NetCounters) {
        let limits = self.queue_limits();
        for id in std::mem::take(&mut self.dirty) {
            let Some((_, connection)) = self.connections.get_mut(slot(id)).filter(|(known, _)| *known == id) else {
                continue;
            };
            connection.dirty = false;
            let left = connection.flush(now, limits);
            counters.stream_dropped += connection.queue.take_dropped();
            let watch = match left {
                Ok(left) => left == Left::Something,
                Err(closing) => {
                    self.closing.push((id, closing));
                    continue;
                }
            };
            if let Some(buffer) = connection.queue.lend().filter(|_| self.spare.len() < MOST_SPARE) {
                self.spare.push(buffer);
            }
            if watch != connection.watched {
                let interest = if watch { Interest::BOTH } else { Interest::READ };
                if epoll.modify(&connection.socket, token(id), interest).is_ok() {
                    connection.watched = watch;
                } else {
                    self.closing.push((id, Closing::Broken));
                }
            }
        }
    }

    /// Gives a connection away: to be one of data, or to another worker.
    pub(super) fn release(&mut self, id: StreamId, epoll: &Epoll) -> Option<Connection> {
        self.get(id)?;
        let (_, connection) = self.connections.remove(slot(id));
        epoll.remove(&connection.socket).ok()?;
        Some(connection)
    }

    /// Takes over another worker's connection, whose client has been heard. `None` when there is no room.
    pub(super) fn adopt(
        &mut self,
        now: Mono,
        mut connection: Connection,
        epoll: &Epoll,
        token: fn(StreamId) -> u64,
    ) -> Option<StreamId> {
        let id = self.next_id()?;
        connection.five_tuple.stream = Some(id);
        connection.watched = false;
        connection.dirty = false;
        connection.hears(now);
        epoll.add(&connection.socket, token(id), Interest::READ).ok()?;
        self.connections.insert((id, connection));
        self.idle.push_back((now.after(self.config.limits.idle), id));
        // What it had to write it still has.
        self.writes(id);
        Some(id)
    }

    /// Moves what a connection has kept into `room`.
    pub(super) fn unread(&mut self, id: StreamId, room: &mut [u8]) -> usize {
        let unread = self.get_mut(id).map(Connection::unread).unwrap_or_default();
        match room.get_mut(..unread.len()) {
            Some(room) => {
                room.copy_from_slice(&unread);
                unread.len()
            }
            None => 0,
        }
    }

    /// A connection is to be closed.
    pub(super) fn close_later(&mut self, id: StreamId, closing: Closing) {
        self.closing.push((id, closing));
    }

    /// The next connection to close, still open: what belongs to it ends before it.
    pub(super) fn next_to_close(&mut self) -> Option<(StreamId, FiveTuple, Closing)> {
        while let Some((id, closing)) = self.closing.pop() {
            if let Some(client) = self.client(id) {
                return Some((id, client, closing));
            }
        }
        None
    }

    /// Closes a connection, as the reason demands.
    pub(super) fn close(&mut self, now: Mono, id: StreamId, closing: Closing) {
        let limits = self.queue_limits();
        if self.get(id).is_none() {
            return;
        }
        let (_, mut connection) = self.connections.remove(slot(id));
        match closing {
            Closing::ByClient | Closing::Idle | Closing::Foreign | Closing::Misaligned | Closing::TooLong => {
                connection.end(now, limits);
            }
            Closing::HandshakeFailed | Closing::TlsFailed => {
                // An alert says why.
                let _ = connection.flush(now, limits);
            }
            _ => connection.socket.abort_on_close(),
        }
    }

    /// When `handle_timeout` has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Mono> {
        let fronts = [self.opening.front(), self.idle.front()].into_iter().flatten().map(|(at, _)| *at);
        fronts.chain(self.resting).min()
    }

    /// Finds out who is late. `is_used` tells whether a connection's client has an allocation. Returns whether resting
    /// listeners are to be woken.
    pub(super) fn handle_timeout(&mut self, now: Mono, is_used: impl Fn(&FiveTuple) -> bool) -> bool {
        while let Some((at, id)) = self.opening.front().copied().filter(|(at, _)| *at <= now) {
            self.opening.pop_front();
            debug_assert!(at <= now);
            if let Some(connection) = self.get(id)
                && connection.heard().is_err()
            {
                let lateness = connection.lateness();
                self.closing.push((id, lateness));
            }
        }
        let idle = self.config.limits.idle;
        while let Some((_, id)) = self.idle.front().copied().filter(|(at, _)| *at <= now) {
            self.idle.pop_front();
            let Some(connection) = self.get(id) else { continue };
            let due = connection.heard().unwrap_or(now).after(idle);
            if is_used(&connection.five_tuple) {
                self.idle.push_back((now.after(idle), id));
            } else if due <= now {
                self.closing.push((id, Closing::Idle));
            } else {
                // In order: nobody who is looked at later is due before the front of this turn's end.
                self.insert_idle(due, id);
            }
        }
        let woken = self.resting.is_some_and(|at| at <= now);
        if woken {
            self.resting = None;
        }
        woken
    }

    fn insert_idle(&mut self, due: Mono, id: StreamId) {
        let at = self.idle.partition_point(|(other, _)| *other <= due);
        self.idle.insert(at, (due, id));
    }

    fn queue_limits(&self) -> QueueLimits {
        QueueLimits { bytes: self.config.limits.queue_bytes, delay: self.config.limits.queue_delay }
    }

    fn get(&self, id: StreamId) -> Option<&Connection> {
        self.connections.get(slot(id)).filter(|(known, _)| *known == id).map(|(_, connection)| connection)
    }

    fn get_mut(&mut self, id: StreamId) -> Option<&mut Connection> {
        self.connections.get_mut(slot(id)).filter(|(known, _)| *known == id).map(|(_, connection)| connection)
    }

    /// A connection that is about to have something to write.
    fn writes(&mut self, id: StreamId) -> Option<&mut Connection> {
        let (_, connection) = self.connections.get_mut(slot(id)).filter(|(known, _)| *known == id)?;
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(id);
        }
        connection.queue.borrow(|| self.spare.pop());
        Some(connection)
    }
}

fn slot(id: StreamId) -> usize {
    (id.0.get() & ((1 << SLOT_BITS) - 1)) as usize
}
