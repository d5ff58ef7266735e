//! TCP relaying step by step: an allocation, a connection asked for, made, bound, lost; and what clients are told of it.

use std::num::NonZeroU32;

use turnwell::relay::{ConnectionId, Event, FiveTuple, Live, PeerAddr, RelayId, StreamId, TcpRelaying};
use turnwell::wire::{AttributeType, Method, Writer};

use crate::client::{Client, Reply};
use crate::harness::{Outcome, World, addr, config, live};

pub(crate) fn on() -> Live {
    Live { tcp: TcpRelaying { enabled: true, peer_ports: vec![80..=80, 1024..=65_535] }, ..live() }
}

pub(crate) fn world() -> World {
    World::with(config(), on())
}

pub(crate) fn tcp(writer: &mut Writer<'_>) {
    writer.attribute(AttributeType::REQUESTED_TRANSPORT, &[6, 0, 0, 0]);
}

/// A client of this user on a connection of its own.
pub(crate) fn client_of(world: &mut World, user: &str, port: u16) -> Client {
    let mut client = Client::new(&format!("100.0.0.1:{port}"), user, "pw");
    client.at.stream = NonZeroU32::new(u32::from(port)).map(StreamId);
    world.challenge(&mut client);
    client
}

/// The same of any credential.
pub(crate) fn of_password(world: &mut World, user: &str, password: &str, port: u16) -> Client {
    let named = Client::new("100.0.0.1:1", user, password);
    let Client { at, nonce, .. } = client_of(world, user, port);
    Client { at, nonce, ..named }
}

/// A client with a TCP allocation, and its relay socket.
pub(crate) fn allocated(world: &mut World, port: u16) -> (Client, RelayId) {
    let mut client = client_of(world, "alice", port);
    assert_eq!(world.ask(&mut client, Method::ALLOCATE, tcp).code(), 200, "{:?}", world.last_refusal());
    (client, world.last_relay())
}

pub(crate) fn ask_connect(world: &mut World, client: &mut Client, peer: &str) -> Outcome {
    let peer = addr(peer);
    let bytes = client.sign(Method::CONNECT, |writer| {
        writer.xor_address(AttributeType::XOR_PEER_ADDRESS, peer);
    });
    world.packet(&client.at, &bytes)
}

/// A Connect that the engine passes on.
#[track_caller]
pub(crate) fn connecting(world: &mut World, client: &mut Client, peer: &str) -> ConnectionId {
    match ask_connect(world, client, peer) {
        Outcome::Connect { connection, .. } => connection,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub(crate) fn pending(world: &mut World, client: &mut Client, peer: &str) -> ConnectionId {
    let connection = connecting(world, client, peer);
    world.relay.connected(world.now, connection);
    world.drain_events();
    let [(_, reply)] = told(world).try_into().expect("one answer");
    assert_eq!((reply.code(), number(&reply)), (200, connection.0));
    connection
}

pub(crate) fn ask_bind(world: &mut World, client: &mut Client, connection: ConnectionId) -> Outcome {
    let bytes = client.sign(Method::CONNECTION_BIND, |writer| {
        writer.u32(AttributeType::CONNECTION_ID, connection.0);
    });
    world.packet(&client.at, &bytes)
}

pub(crate) fn accepted(world: &mut World, relay: RelayId, peer: &str) -> Option<ConnectionId> {
    let accepted = world.relay.accepted(world.now, relay, PeerAddr(addr(peer)));
    world.drain_events();
    accepted
}

pub(crate) fn lost(world: &mut World, connection: ConnectionId) {
    world.relay.connection_lost(world.now, connection);
    world.drain_events();
}

/// What clients were told by events since the last look at those.
pub(crate) fn told(world: &mut World) -> Vec<(FiveTuple, Reply)> {
    let events = world.events().into_iter();
    let told = events.filter_map(|event| match event {
        Event::Control(client, bytes) => Some((client, Reply { bytes: bytes.into_vec() })),
        _ => None,
    });
    told.collect()
}

pub(crate) fn disconnected(events: &[Event]) -> Vec<ConnectionId> {
    let ids = events.iter().filter_map(|event| match event {
        Event::Disconnect(id) => Some(*id),
        _ => None,
    });
    ids.collect()
}

pub(crate) fn number(reply: &Reply) -> u32 {
    reply.find(AttributeType::CONNECTION_ID).expect("a CONNECTION-ID").u32().expect("a number")
}
