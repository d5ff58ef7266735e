//! Our own addresses as peers: relayed ones are reached without leaving the process, listeners never; and addresses
//! behind a one-to-one NAT.

use turnwell::relay::{Config, Discard, Live, RelayAddress, RelayId, Traffic};

use crate::client::{Client, Received};
use crate::harness::{Outcome, RELAY_V4, World, addr, config, live};

const LOCAL: &str = "10.0.0.7";
const EXTERNAL: &str = "203.0.113.7";

/// A server behind a NAT: 10.0.0.7 is known outside as 203.0.113.7.
fn behind_nat() -> World {
    let relays = vec![RelayAddress { local: LOCAL.parse().unwrap(), external: Some(EXTERNAL.parse().unwrap()) }];
    let listeners = vec![addr("10.0.0.7:3478")];
    World::with(Config { relays, listeners, ..config() }, live())
}

struct Side {
    client: Client,
    relay: RelayId,
    /// What the client was told.
    relayed: String,
}

fn side(world: &mut World, port: u16) -> Side {
    let mut client = world.client(port);
    let relayed = world.allocate(&mut client).relayed().to_string();
    Side { client, relay: world.last_relay(), relayed }
}

fn pair(world: &mut World) -> (Side, Side) {
    (side(world, 1), side(world, 2))
}

fn indication(from: &Side, to: &Side, data: &[u8]) -> Outcome {
    let received = Received::Indication { peer: addr(&from.relayed), data: data.to_vec() };
    Outcome::ToClient { client: to.client.at, received }
}

#[test]
fn clients_are_told_the_external_address_and_sockets_are_bound_to_the_local_one() {
    let mut world = behind_nat();
    let a = side(&mut world, 1);
    assert!(a.relayed.starts_with("203.0.113.7:"));
    let turnwell::relay::Want::Bind(bound) = world.wants[0] else { panic!("{:?}", world.wants) };
    assert_eq!(bound.to_string(), a.relayed.replace(EXTERNAL, LOCAL));
}

#[test]
fn two_clients_of_one_engine_reach_each_other_inside_it() {
    for mut world in [World::new(), behind_nat()] {
        let (mut a, mut b) = pair(&mut world);
        world.permit(&mut a.client, &[&b.relayed]);
        world.permit(&mut b.client, &[&a.relayed]);
        assert_eq!(world.send(&a.client, &b.relayed, b"a to b"), indication(&a, &b, b"a to b"));
        assert_eq!(world.send(&b.client, &a.relayed, b"b to a"), indication(&b, &a, b"b to a"));
        world.bind(&mut a.client, 0x4001, &b.relayed);
        world.bind(&mut b.client, 0x4002, &a.relayed);
        let channel = |number, data: &[u8], to: &Side| {
            let received = Received::Channel { number, data: data.to_vec() };
            Outcome::ToClient { client: to.client.at, received }
        };
        assert_eq!(world.channel(&a.client, 0x4001, b"x"), channel(0x4002, b"x", &b));
        assert_eq!(world.channel(&b.client, 0x4002, b"y"), channel(0x4001, b"y", &a));
        assert_eq!(world.send(&a.client, &b.relayed, b"z"), channel(0x4002, b"z", &b));
    }
}

#[test]
fn the_other_sides_permission_is_needed_and_each_side_counts_for_itself() {
    let mut world = behind_nat();
    let (mut a, mut b) = pair(&mut world);
    assert_eq!(world.send(&a.client, &b.relayed, b"x"), Outcome::Discard(Discard::NoPermission), "not even sent");
    world.permit(&mut a.client, &[&b.relayed]);
    assert_eq!(world.send(&a.client, &b.relayed, b"xx"), Outcome::Discard(Discard::NoPermission), "not received");
    world.bind(&mut a.client, 0x4000, &b.relayed);
    assert_eq!(world.channel(&a.client, 0x4000, b"xxx"), Outcome::Discard(Discard::NoPermission));
    let sent = |packets, bytes| Traffic { sent_packets: packets, sent_bytes: bytes, ..Traffic::default() };
    assert_eq!(world.relay.traffic(&a.client.at), Some(sent(2, 5)));
    assert_eq!(world.relay.traffic(&b.client.at), Some(Traffic::default()));
    world.permit(&mut b.client, &[&a.relayed]);
    assert_eq!(world.channel(&a.client, 0x4000, b"yyyy"), indication(&a, &b, b"yyyy"));
    assert_eq!(world.relay.traffic(&a.client.at), Some(sent(3, 9)));
    let received = Traffic { received_packets: 1, received_bytes: 4, ..Traffic::default() };
    assert_eq!(world.relay.traffic(&b.client.at), Some(received));
    let tally = world.relay.tally();
    assert_eq!((tally.sent_packets, tally.received_packets), (3, 1));
}

#[test]
fn a_client_may_reach_its_own_relayed_address() {
    let mut world = World::new();
    let mut a = side(&mut world, 1);
    let own = a.relayed.clone();
    world.permit(&mut a.client, &[&own]);
    assert_eq!(world.send(&a.client, &a.relayed, b"echo"), indication(&a, &a, b"echo"));
}

#[test]
fn relayed_addresses_of_other_engines_are_reached_at_their_local_address() {
    let mut world = behind_nat();
    let mut a = side(&mut world, 1);
    let elsewhere = (50_000..).map(|port| format!("{EXTERNAL}:{port}")).find(|peer| *peer != a.relayed).unwrap();
    let local = addr(&elsewhere.replace(EXTERNAL, LOCAL));
    world.permit(&mut a.client, &[&elsewhere]);
    let to_sibling = Outcome::ToSibling { relay: a.relay, peer: local, data: b"x".to_vec() };
    assert_eq!(world.send(&a.client, &elsewhere, b"x"), to_sibling);
    let received = Received::Indication { peer: addr(&elsewhere), data: b"y".to_vec() };
    let to_client = Outcome::ToClient { client: a.client.at, received };
    assert_eq!(world.peer_sends(a.relay, &local.to_string(), b"y"), to_client, "and come back as what clients know");
    world.bind(&mut a.client, 0x4000, &elsewhere);
    assert_eq!(world.channel(&a.client, 0x4000, b"x"), to_sibling);
    let received = Received::Channel { number: 0x4000, data: b"y".to_vec() };
    let to_client = Outcome::ToClient { client: a.client.at, received };
    assert_eq!(world.peer_sends(a.relay, &local.to_string(), b"y"), to_client);
}

/// The local and the external form are one transport address, which cannot have two channels.
#[test]
fn both_forms_of_an_address_behind_nat_are_one_peer_for_channels() {
    let mut world = behind_nat();
    let (mut a, b) = pair(&mut world);
    let local = b.relayed.replace(EXTERNAL, LOCAL);
    assert_eq!(world.bind(&mut a.client, 0x4000, &b.relayed).code(), 200);
    assert_eq!(world.bind(&mut a.client, 0x4001, &local).code(), 400);
    assert_eq!(world.relay.usage().flows, 2);
}

#[test]
fn on_a_relay_address_other_ports_are_nobodys_business() {
    let relays = vec![RelayAddress { local: "127.0.0.1".parse().unwrap(), external: None }];
    let listeners = vec![addr("127.0.0.1:3478")];
    let mut world = World::with(Config { relays, listeners, ..config() }, live());
    let (mut a, mut b) = pair(&mut world);
    assert_eq!(world.permit(&mut a.client, &["127.0.0.1:0"]).code(), 200, "loopback is denied, relayed addresses not");
    assert_eq!(world.permit(&mut b.client, &["127.0.0.1:0"]).code(), 200);
    assert_eq!(world.send(&a.client, &b.relayed, b"x"), indication(&a, &b, b"x"));
    for port in [0, 22, 53, 3478, 8080, 49_999, 50_100] {
        let peer = format!("127.0.0.1:{port}");
        assert_eq!(world.send(&a.client, &peer, b"x"), Outcome::Discard(Discard::ForbiddenPeer), "{port}");
        assert_eq!(world.peer_sends(a.relay, &peer, b"x"), Outcome::Discard(Discard::ForbiddenPeer), "{port}");
        assert_eq!(world.bind(&mut a.client, 0x4000, &peer).code(), 403, "{port}");
    }
    assert_eq!(world.permit(&mut a.client, &["127.0.0.2:0"]).code(), 403);
}

#[test]
fn listeners_are_no_peers_even_where_their_address_is_allowed() {
    let mut open = live();
    let everything = ["0.0.0.0/0", "::/0", "192.0.2.0/24", "198.51.100.0/24", "64:ff9b::/96", "203.0.113.0/24"];
    open.peers = turnwell::relay::PeerPolicy::new(&everything.map(|net| net.parse().unwrap()), &[]);
    let mut world = World::with(config(), open);
    let mut a = side(&mut world, 1);
    for listener in ["192.0.2.1:3478", "198.51.100.7:3478"] {
        assert_eq!(world.permit(&mut a.client, &[listener]).code(), 200, "an address whose other ports are allowed");
        assert_eq!(world.send(&a.client, listener, b"x"), Outcome::Discard(Discard::ForbiddenPeer));
        assert_eq!(world.peer_sends(a.relay, listener, b"x"), Outcome::Discard(Discard::ForbiddenPeer));
        assert_eq!(world.bind(&mut a.client, 0x4000, listener).code(), 403);
    }
    assert!(matches!(world.send(&a.client, "192.0.2.1:80", b"x"), Outcome::ToPeer { .. }));
    let mut v6 = world.client_of("alice", "[2a00::77]:1000");
    world.allocate_ok(&mut v6);
    let translated = "[64:ff9b::192.0.2.1]:3478";
    assert_eq!(world.permit(&mut v6, &[translated]).code(), 200);
    assert_eq!(world.send(&v6, translated, b"x"), Outcome::Discard(Discard::ForbiddenPeer), "nor in another encoding");
    assert_eq!(world.bind(&mut v6, 0x4000, translated).code(), 403);
    assert!(matches!(world.send(&v6, "[64:ff9b::192.0.2.1]:80", b"x"), Outcome::ToPeer { .. }));
}

#[test]
fn the_external_address_with_a_listeners_port_is_that_listener() {
    let mut world = behind_nat();
    let mut a = side(&mut world, 1);
    world.permit(&mut a.client, &["203.0.113.7:1"]);
    assert_eq!(world.send(&a.client, "203.0.113.7:3478", b"x"), Outcome::Discard(Discard::ForbiddenPeer));
    assert_eq!(world.bind(&mut a.client, 0x4000, "203.0.113.7:3478").code(), 403);
}

#[test]
fn a_listener_on_an_address_that_relays_nothing_gives_no_permission() {
    let mut world = World::new();
    let mut a = side(&mut world, 1);
    assert_eq!(world.permit(&mut a.client, &["192.0.2.1:50000"]).code(), 403, "documentation, and no relay address");
    assert_eq!(world.permit(&mut a.client, &[RELAY_V4_PORT]).code(), 200);
}
const RELAY_V4_PORT: &str = "198.51.100.7:50000";

/// Another service of this machine may have a relay port; only the host knows whether another engine has it.
#[test]
fn a_relay_port_that_nobody_here_has_is_no_peer_of_its_own() {
    let mut world = World::new();
    let (mut a, mut b) = pair(&mut world);
    world.permit(&mut a.client, &[&b.relayed]);
    world.permit(&mut b.client, &[&a.relayed]);
    assert_eq!(world.send(&a.client, &b.relayed, b"x"), indication(&a, &b, b"x"));
    world.refresh(&mut b.client, Some(0));
    let peer = addr(&b.relayed);
    let to_sibling = Outcome::ToSibling { relay: a.relay, peer, data: b"x".to_vec() };
    assert_eq!(world.send(&a.client, &b.relayed, b"x"), to_sibling, "nobody of this engine has the port now");
    assert!(b.relayed.starts_with(RELAY_V4));
    let before = world.relay.tally().discards[Discard::NotRelayed.index()];
    world.relay.stray();
    assert_eq!(world.relay.tally().discards[Discard::NotRelayed.index()], before + 1);
    // An operator who names the address means everything there.
    let peers = turnwell::relay::PeerPolicy::new(&["198.51.100.0/24".parse().unwrap()], &[]);
    world.set_live(Live { peers, ..live() });
    let to_peer = Outcome::ToPeer { relay: a.relay, peer, data: b"x".to_vec() };
    assert_eq!(world.send(&a.client, &b.relayed, b"x"), to_peer);
}
