//! TCP relaying (RFC 6062): the sockets that peers connect to, connections with peers, and the clients' that are bound
//! to them.
//!
//! Knows nothing of TURN: the engine says what to open, what belongs together and what to close. Until a client's
//! connection is bound, a peer's is not read: what it sends waits in the kernel, whose window then closes.

mod pipe;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use slab::Slab;

use super::quota::Permit;
use super::stream::Raw;
use super::sys::{Epoll, Event, Interest, TcpListener, TcpOptions, TcpStream, connect_tcp, listen_tcp};
use super::{STREAM_BUFFER, UNACKNOWLEDGED};
use crate::relay::{ConnectionId, Mono, RelayId};
use pipe::{Pipe, Scratch};

/// From here on epoll tokens are of relay sockets that listen, of peers' connections, and of the clients' bound to them.
pub(super) const LISTENERS: u64 = 1 << 35;
const PEERS: u64 = 1 << 36;
const CLIENTS: u64 = 1 << 37;
/// Tells the engine's numbers of these relay sockets from those of the sockets for datagrams.
const LISTENS: u32 = 1 << 31;
/// For how long a connection is not read when more came over it than may be relayed.
const HOLD: Duration = Duration::from_millis(10);
/// For how long a relay socket rests when there is no descriptor for its next connection.
const REST: Duration = Duration::from_millis(200);

/// All of a worker.
#[derive(Debug, Default)]
pub(super) struct TcpRelays {
    listeners: Slab<Listener>,
    connections: HashMap<ConnectionId, Connection>,
    bound: usize,
    /// Clients' connections that have ended and were not counted yet.
    ended: u64,
    scratch: Scratch,
    /// Relay sockets that rest, and until when.
    resting: Vec<(Mono, RelayId)>,
    /// Connections that wait to be allowed more, and when to look.
    held: VecDeque<(Mono, ConnectionId)>,
}

#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    /// The allocation's place in the quotas; comes back when the socket goes.
    permit: Permit,
}

/// A connection with a peer.
#[derive(Debug)]
enum Connection {
    /// Not established yet.
    Begun(TcpStream),
    /// No client's connection is bound to it.
    Pending(TcpStream),
    Bound(Box<Pipe>),
}

/// What an event is about.
pub(super) enum Source {
    Listener(RelayId),
    Connection(ConnectionId),
}

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing yet.
    None,
    /// It is established.
    Connected,
    /// Bytes were moved.
    Moved { to_peer: u64, to_client: u64 },
    /// As before, and both halves have ended.
    Over { to_peer: u64, to_client: u64 },
    /// It could not be established, or broke.
    Lost,
}

impl Source {
    pub(super) fn of(token: u64) -> Source {
        let number = u32::try_from(token % LISTENERS).unwrap_or(u32::MAX);
        match token < PEERS {
            true => Source::Listener(RelayId(number | LISTENS)),
            false => Source::Connection(ConnectionId(number)),
        }
    }
}

/// Whether a relay socket is one that listens.
pub(super) fn listens(id: RelayId) -> bool {
    id.0 & LISTENS != 0
}

impl TcpRelays {
    /// Clients' connections that are bound.
    pub(super) fn bound(&self) -> usize {
        self.bound
    }

    /// Clients' connections that have ended since it was last asked.
    pub(super) fn take_ended(&mut self) -> u64 {
        std::mem::take(&mut self.ended)
    }

    /// Opens a relay socket. It is bound for itself alone, so that nobody else has the address; only then may the
    /// connections that leave from it share it.
    pub(super) fn listen(&mut self, epoll: &Epoll, address: SocketAddr, permit: Permit) -> io::Result<RelayId> {
        let socket = listen_tcp(address, TcpOptions { reuse_port: false, ..options() })?;
        socket.share_port()?;
        let entry = self.listeners.vacant_entry();
        let number = u32::try_from(entry.key()).ok().filter(|number| number & LISTENS == 0);
        let number = number.ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        epoll.add(&socket, LISTENERS + u64::from(number), Interest::READ)?;
        entry.insert(Listener { socket, permit });
        Ok(RelayId(number | LISTENS))
    }

    /// The allocation's place in the quotas.
    pub(super) fn permit(&self, id: RelayId) -> Option<&Permit> {
        self.listeners.get(slot(id)).map(|listener| &listener.permit)
    }

    /// Closes a relay socket; the connections go one by one.
    pub(super) fn close(&mut self, id: RelayId) {
        self.listeners.try_remove(slot(id));
    }

    /// The next connection of a peer; none when there is none, or no such socket any more.
    pub(super) fn accept(&mut self, id: RelayId) -> io::Result<Option<(TcpStream, SocketAddr)>> {
        let Some(listener) = self.listeners.get(slot(id)) else { return Ok(None) };
        loop {
            match listener.socket.accept() {
                Ok(accepted) => return Ok(Some(accepted)),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(None),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
    }

    /// A relay socket is not looked at for a moment.
    pub(super) fn rest(&mut self, now: Mono, epoll: &Epoll, id: RelayId) {
        if let Some(listener) = self.listeners.get(slot(id))
            && epoll.remove(&listener.socket).is_ok()
        {
            self.resting.push((now.after(REST), id));
        }
    }

    /// When `handle_timeout` has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Mono> {
        let held = self.held.front().map(|(at, _)| *at);
        self.resting.first().map(|(at, _)| *at).into_iter().chain(held).min()
    }

    /// Looks again at relay sockets that have rested.
    pub(super) fn handle_timeout(&mut self, now: Mono, epoll: &Epoll) {
        let rested = self.resting.partition_point(|(at, _)| *at <= now);
        for (_, id) in self.resting.drain(..rested) {
            if let Some(listener) = self.listeners.get(slot(id)) {
                // Where another has the number by now, it is watched already.
                let _ = epoll.add(&listener.socket, LISTENERS + slot(id) as u64, Interest::READ);
            }
        }
    }

    /// The next connection that has waited to be allowed more.
    pub(super) fn next_held(&mut self, now: Mono) -> Option<ConnectionId> {
        self.held.front().filter(|(at, _)| *at <= now)?;
        let (_, id) = self.held.pop_front()?;
        if let Some(Connection::Bound(pipe)) = self.connections.get_mut(&id) {
            pipe.queued = false;
        }
        Some(id)
    }

    /// Begins to connect to a peer.
    pub(super) fn connect(
        &mut self,
        epoll: &Epoll,
        id: ConnectionId,
        from: SocketAddr,
        peer: SocketAddr,
    ) -> io::Result<()> {
        let socket = connect_tcp(from, peer, options())?;
        epoll.add(&socket, peer_token(id), Interest::WRITE)?;
        self.connections.insert(id, Connection::Begun(socket));
        Ok(())
    }

    /// Takes in an accepted connection.
    pub(super) fn keep(&mut self, id: ConnectionId, socket: TcpStream) {
        self.connections.insert(id, Connection::Pending(socket));
    }

    /// Binds a client's connection to a peer's, which is to be pumped then. `to_client` is written to it first,
    /// `to_peer` was read from it already.
    pub(super) fn bind(&mut self, id: ConnectionId, client: Raw, [to_client, to_peer]: [Vec<u8>; 2]) -> bool {
        match self.connections.remove(&id) {
            Some(Connection::Pending(peer)) => {
                let pipe = Pipe::new(client, peer, to_client, to_peer);
                self.connections.insert(id, Connection::Bound(Box::new(pipe)));
                self.bound += 1;
                true
            }
            // The engine binds only what is pending.
            Some(Connection::Begun(_) | Connection::Bound(_)) | None => false,
        }
    }

    /// Whether a connection of a client is bound to it: then it is pumped when something happens.
    pub(super) fn is_bound(&self, id: ConnectionId) -> bool {
        matches!(self.connections.get(&id), Some(Connection::Bound(_)))
    }

    /// Something happened on a connection that is not bound.
    pub(super) fn event(&mut self, epoll: &Epoll, id: ConnectionId, event: Event) -> Progress {
        match self.connections.remove(&id) {
            Some(Connection::Begun(socket)) => self.begun(epoll, id, socket, event),
            Some(connection @ (Connection::Bound(_) | Connection::Pending(_))) => {
                self.connections.insert(id, connection);
                Progress::None
            }
            None => Progress::None,
        }
    }

    /// Closes a connection in good order, and the client's that is bound to it.
    pub(super) fn disconnect(&mut self, id: ConnectionId) {
        if let Some(Connection::Bound(_)) = self.connections.remove(&id) {
            self.bound -= 1;
            self.ended += 1;
        }
    }

    fn begun(&mut self, epoll: &Epoll, id: ConnectionId, socket: TcpStream, event: Event) -> Progress {
        if !event.writable && !event.error {
            self.connections.insert(id, Connection::Begun(socket));
            return Progress::None;
        }
        let is_connected = matches!(socket.take_error(), Ok(None)) && epoll.remove(&socket).is_ok();
        if !is_connected {
            return Progress::Lost;
        }
        self.connections.insert(id, Connection::Pending(socket));
        Progress::Connected
    }

    /// Moves what can be moved over a bound connection; `allowed` says whether more may be, to the peer and back.
    pub(super) fn pump(&mut self, now: Mono, epoll: &Epoll, id: ConnectionId, allowed: [bool; 2]) -> Progress {
        let Some(Connection::Bound(pipe)) = self.connections.get_mut(&id) else { return Progress::None };
        let moved = pipe.pump(&mut self.scratch, allowed);
        if pipe.is_held() && !pipe.queued {
            pipe.queued = true;
            self.held.push_back((now.after(HOLD), id));
        }
        match moved.and_then(|moved| pipe.watch(epoll, client_token(id), peer_token(id)).map(|()| moved)) {
            Ok(moved) if pipe.is_over() => {
                self.disconnect(id);
                Progress::Over { to_peer: moved.to_peer, to_client: moved.to_client }
            }
            Ok(moved) => Progress::Moved { to_peer: moved.to_peer, to_client: moved.to_client },
            Err(_) => {
                pipe.abort_on_close();
                self.disconnect(id);
                Progress::Lost
            }
        }
    }
}

/// What a peer may have us hold in the kernel is bounded, and one that acknowledges nothing is given up.
fn options() -> TcpOptions {
    TcpOptions { reuse_port: true, send_buffer: STREAM_BUFFER, user_timeout: Some(UNACKNOWLEDGED) }
}

fn slot(id: RelayId) -> usize {
    (id.0 & !LISTENS) as usize
}

fn peer_token(id: ConnectionId) -> u64 {
    PEERS + u64::from(id.0)
}

fn client_token(id: ConnectionId) -> u64 {
    CLIENTS + u64::from(id.0)
}
