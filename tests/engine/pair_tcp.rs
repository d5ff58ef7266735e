//! Connections on the engine and on the naive model (RFC 6062): what the client asks, what the host says, what peers do.

use turnwell::relay::{ConnectionId, PeerAddr};
use turnwell::wire::{AttributeType, Class, Message, Method};

use crate::client::{Client, Reply};
use crate::harness::Outcome;
use crate::naive_tcp::Told;
use crate::operation::Peer;
use crate::pair::{Pair, client};

impl Pair {
    /// A connection, counted from the last one back.
    fn nth(&self, connection: usize) -> Option<ConnectionId> {
        let count = self.connections.len();
        (count > 0).then(|| self.connections[count - 1 - connection % count].0)
    }

    pub(crate) fn connect(&mut self, client: usize, bob: bool, peer: Peer) {
        let (mut identity, user) = self.identity(client, bob);
        let peer = self.resolve(peer);
        let request = identity.sign(Method::CONNECT, |writer| {
            writer.xor_address(AttributeType::XOR_PEER_ADDRESS, peer);
        });
        let outcome = self.world.packet(&identity.at, &request);
        match (outcome, self.naive.connect(client, user, peer)) {
            (Outcome::Connect { connection, from, peer: to }, Ok(relayed)) => {
                assert_eq!((from, to), (relayed, peer));
                assert!(self.connections.iter().all(|(known, _)| *known != connection), "{connection:?} twice");
                self.naive.connecting(client, connection, peer);
                self.connections.push((connection, Some(identity)));
                self.seen.push("connect".into());
            }
            (Outcome::Reply(reply), Err(code)) => self.refused(&reply, &identity, code),
            (got, expected) => panic!("{got:?}, not {expected:?}"),
        }
    }

    fn refused(&mut self, reply: &Reply, identity: &Client, code: u16) {
        assert_eq!(reply.code(), code);
        let signature = if code == 401 { None } else { Some(identity.algorithm) };
        assert_eq!(reply.signature(&identity.key), signature);
        self.seen.push(code.to_string());
    }

    pub(crate) fn connected(&mut self, connection: usize) {
        let Some(id) = self.nth(connection) else { return };
        self.wake();
        self.world.relay.connected(self.world.now, id);
        self.world.drain_events();
        self.naive.connected(id);
    }

    pub(crate) fn lost(&mut self, connection: usize) {
        let Some(id) = self.nth(connection) else { return };
        self.wake();
        self.world.relay.connection_lost(self.world.now, id);
        self.world.drain_events();
        self.naive.lost(id);
    }

    /// Only a socket of a TCP allocation listens, and of one address there is one connection at a time.
    pub(crate) fn accepted(&mut self, client: usize, peer: Peer) {
        let peer = self.resolve(peer);
        let Some(relay) = self.naive.of(client).filter(|mine| mine.tcp).map(|mine| mine.relay) else { return };
        if self.naive.is_connected(client, peer) {
            return;
        }
        self.wake();
        let accepted = self.world.relay.accepted(self.world.now, relay, PeerAddr(peer));
        self.world.drain_events();
        match (accepted, self.naive.accept(relay, peer)) {
            (Some(id), Ok(client)) => {
                assert!(self.connections.iter().all(|(known, _)| *known != id), "{id:?} twice");
                self.naive.accepted(client, id, peer);
                self.connections.push((id, None));
                self.seen.push("accepted".into());
            }
            (None, Err(reason)) => {
                self.discarded(reason);
                self.seen.push(format!("{reason:?}"));
            }
            (got, expected) => panic!("{got:?}, not {expected:?}"),
        }
    }

    pub(crate) fn bind_connection(&mut self, by: usize, bob: bool, is_new: bool, connection: usize) {
        let id = self.nth(connection).unwrap_or(ConnectionId(1));
        let (mut identity, user) = if is_new {
            self.streams += 1;
            self.identity_at(&client(2000 + self.streams, true), by, bob)
        } else {
            self.identity(by, bob)
        };
        let request = identity.sign(Method::CONNECTION_BIND, |writer| {
            writer.u32(AttributeType::CONNECTION_ID, id.0);
        });
        let outcome = self.world.packet(&identity.at, &request);
        match (outcome, self.naive.connection_bind(Some(by).filter(|_| !is_new), user, id)) {
            (Outcome::Bind { reply, connection }, Ok(())) => {
                assert_eq!((reply.code(), connection), (200, id));
                assert_eq!(reply.signature(&identity.key), Some(identity.algorithm));
                self.seen.push("bound".into());
            }
            (Outcome::Reply(reply), Err(code)) => self.refused(&reply, &identity, code),
            (got, expected) => panic!("{got:?}, not {expected:?}"),
        }
    }

    /// The host has copied, and asks whether it may go on. Of what is over it has nothing to copy.
    pub(crate) fn copied(&mut self, connection: usize, bytes: [usize; 2]) {
        let Some(id) = self.nth(connection) else { return };
        self.wake();
        let now = self.world.now;
        let expected = match self.naive.connection(id).map(|found| found.client) {
            Some(client) => {
                let [to_peer, to_client] = bytes.map(|bytes| bytes as u64);
                self.world.relay.copied(now, id, to_peer, to_client);
                self.naive.copied(client, bytes);
                self.naive.may_copy(client)
            }
            None => [false; 2],
        };
        assert_eq!(self.world.relay.may_copy(now, id), expected);
        self.seen.push(format!("may copy {expected:?}"));
    }

    /// What an answer that had to wait, or an indication, says.
    pub(crate) fn told(&self, bytes: &[u8]) -> Told {
        let message = Message::parse(bytes).expect("what the engine writes parses");
        let found = |kind| message.attributes().flatten().find(|attribute| attribute.kind == kind);
        let number = found(AttributeType::CONNECTION_ID).map(|attribute| ConnectionId(attribute.u32().unwrap()));
        if message.class() == Class::Indication {
            assert_eq!(message.method(), Method::CONNECTION_ATTEMPT);
            let peer = found(AttributeType::XOR_PEER_ADDRESS).expect("a peer");
            return Told::Attempt(number.unwrap(), peer.xor_address(message.transaction_id()).unwrap());
        }
        assert_eq!(message.method(), Method::CONNECT);
        let reply = Reply { bytes: bytes.to_vec() };
        let is_its = |asked: &Client| {
            let mut last = Client { transactions: asked.transactions - 1, ..asked.clone() };
            last.next_id() == reply.id()
        };
        let asked = self.connections.iter().find(|(_, asked)| asked.as_ref().is_some_and(is_its));
        let Some((id, Some(asked))) = asked else { panic!("the answer to no Connect") };
        assert_eq!(reply.signature(&asked.key), Some(asked.algorithm));
        match reply.code() {
            200 => {
                assert_eq!(number, Some(*id));
                Told::Connected(*id)
            }
            code => {
                assert_eq!((code, number), (447, None));
                Told::NotConnected(*id)
            }
        }
    }
}
