//! The model of TCP relaying: which connections with peers there are, from RFC 6062 §5 with lists and loops.

use std::net::SocketAddr;

use turnwell::relay::{ConnectionId, Discard, RelayId};

use crate::naive::{FIRST_STREAM, NOBODY, Naive, PORTS, Rules, may_reach, permitted};
use crate::peer_rule::{SECOND, Time, is_relay};

pub(crate) const MOST_CONNECTIONS: usize = 3;
/// The one port that clients may connect to, beside those of relayed addresses.
pub(crate) const OPEN_PORT: u16 = 1;

/// What a client is told outside of answers: they come when the host has connected, or not; and connections of peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Told {
    Connected(ConnectionId),
    NotConnected(ConnectionId),
    Attempt(ConnectionId, SocketAddr),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Pending,
    Bound,
}

pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    pub(crate) client: usize,
    peer: SocketAddr,
    /// The client has asked for it; else the peer came by itself.
    is_asked_for: bool,
    stage: Stage,
    until: Time,
}

impl Connection {
    /// RFC 6062 §5.2, §5.3: 30 s for the host to connect, and for the client to bind.
    pub(crate) fn waits_until(&self) -> Option<Time> {
        (self.stage != Stage::Bound).then_some(self.until)
    }

    fn is_allowed(&self, rules: Rules) -> bool {
        if self.is_asked_for { may_connect(self.peer, rules) } else { may_reach(self.peer, rules) }
    }
}

impl Naive {
    fn connections_of(&self, client: usize) -> impl Iterator<Item = &Connection> {
        self.connections.iter().filter(move |connection| connection.client == client)
    }

    pub(crate) fn connection(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections.iter().find(|connection| connection.id == id)
    }

    pub(crate) fn is_connected(&self, client: usize, peer: SocketAddr) -> bool {
        self.connections_of(client).any(|connection| connection.peer == peer)
    }

    /// RFC 6062 §5.2
    pub(crate) fn connect(&mut self, client: usize, user: &str, peer: SocketAddr) -> Result<SocketAddr, u16> {
        let mine = self.owned(client, user)?;
        if !mine.tcp {
            return Err(437);
        }
        let relayed = mine.relayed;
        if peer.is_ipv4() != relayed.is_ipv4() {
            return Err(443);
        }
        if self.is_connected(client, peer) {
            return Err(446);
        }
        if !may_connect(peer, self.rules) {
            return Err(403);
        }
        if self.connections_of(client).count() >= MOST_CONNECTIONS { Err(508) } else { Ok(relayed) }
    }

    /// The engine drew a number for what the client asked for.
    pub(crate) fn connecting(&mut self, client: usize, id: ConnectionId, peer: SocketAddr) {
        let until = self.now + 30 * SECOND;
        self.connections.push(Connection { id, client, peer, is_asked_for: true, stage: Stage::Connecting, until });
    }

    pub(crate) fn connected(&mut self, id: ConnectionId) {
        let (now, rules) = (self.now, self.rules);
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) else { return };
        if !connection.is_allowed(rules) {
            self.lost(id);
            self.disconnected.push(id);
        } else if connection.stage == Stage::Connecting {
            (connection.stage, connection.until) = (Stage::Pending, now + 30 * SECOND);
            self.told.push((connection.client, Told::Connected(id)));
        }
    }

    pub(crate) fn lost(&mut self, id: ConnectionId) {
        for connection in self.connections.extract_if(.., |connection| connection.id == id) {
            if connection.stage == Stage::Connecting {
                self.told.push((connection.client, Told::NotConnected(id)));
            }
        }
    }

    /// RFC 6062 §5.3
    pub(crate) fn accept(&self, relay: RelayId, peer: SocketAddr) -> Result<usize, Discard> {
        let mine = self.at(relay).ok_or(Discard::UnknownRelay)?;
        permitted(mine, self.now, peer, self.rules)?;
        let is_full = self.connections_of(mine.client).count() >= MOST_CONNECTIONS;
        if is_full { Err(Discard::ConnectionLimit) } else { Ok(mine.client) }
    }

    pub(crate) fn accepted(&mut self, client: usize, id: ConnectionId, peer: SocketAddr) {
        let until = self.now + 30 * SECOND;
        self.connections.push(Connection { id, client, peer, is_asked_for: false, stage: Stage::Pending, until });
        self.told.push((client, Told::Attempt(id, peer)));
    }

    /// RFC 6062 §5.4, on the five-tuple of a client or on a stream of its own.
    pub(crate) fn connection_bind(&mut self, on: Option<usize>, user: &str, id: ConnectionId) -> Result<(), u16> {
        if user == NOBODY {
            return Err(401);
        }
        if on.is_some_and(|client| client < FIRST_STREAM) {
            return Err(400);
        }
        if on.is_some_and(|client| self.of(client).is_some()) {
            return Err(437);
        }
        let found = self.connection(id).filter(|found| found.stage == Stage::Pending).ok_or(400_u16)?;
        if self.of(found.client).is_none_or(|allocation| allocation.user != user) {
            return Err(441);
        }
        let found = self.connections.iter_mut().find(|connection| connection.id == id).unwrap();
        found.stage = Stage::Bound;
        Ok(())
    }

    /// Those whose wait is over, but for what ends with its allocation before that.
    pub(crate) fn end_late_connections(&mut self) {
        let late = self.connections.iter().filter(|connection| {
            let ends = self.of(connection.client).unwrap().expires;
            connection.waits_until().is_some_and(|until| until <= self.now && until < ends)
        });
        for id in late.map(|connection| connection.id).collect::<Vec<_>>() {
            self.lost(id);
            self.disconnected.push(id);
        }
    }

    /// What the rules no longer allow; what is on its way is judged when it is there.
    pub(crate) fn judge_connections(&mut self) {
        let rules = self.rules;
        let is_over = |connection: &Connection| connection.stage != Stage::Connecting && !connection.is_allowed(rules);
        let over = self.connections.extract_if(.., |connection| is_over(connection));
        self.disconnected.extend(over.map(|connection| connection.id));
    }
}

fn may_connect(peer: SocketAddr, rules: Rules) -> bool {
    let is_open = (is_relay(peer.ip()) && PORTS.contains(&peer.port())) || peer.port() == OPEN_PORT;
    is_open && may_reach(peer, rules)
}
