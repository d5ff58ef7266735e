//! TCP relaying (RFC 6062): allocations, Connect, ConnectionAttempt, ConnectionBind, and how all of it ends.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use turnwell::relay::{
    Config, ConnectionId, Discard, EndReason, Event, Limits, Live, PeerAddr, PeerClass, PeerPolicy, PortShare,
    RelayAddress, RelayId, StreamId, TcpRelaying, Transport, Want, Why,
};
use turnwell::wire::{AttributeType, Class, Message, Method};

use crate::client::{Client, Reply, udp};
use crate::connecting::{
    accepted, allocated, ask_bind, ask_connect, client_of, connecting, disconnected, lost, number, of_password, on,
    pending, tcp, told, world,
};
use crate::harness::{
    EPOCH, OTHER_PEER, Outcome, PEER, PEER_V6, RELAY_V4, RELAY_V6, World, addr, config, credentials, live, seconds,
};

#[test]
fn a_relay_socket_that_listens_is_granted_and_granted_again() {
    let mut world = world();
    let mut client = client_of(&mut world, "alice", 1);
    let request = client.sign(Method::ALLOCATE, tcp);
    let reply = world.packet(&client.at, &request).reply();
    assert_eq!(reply.code(), 200);
    assert_eq!(world.wants, [Want::Listen(reply.relayed())]);
    assert_eq!((reply.relayed().ip(), reply.lifetime()), (addr(&format!("{RELAY_V4}:0")).ip(), Some(600)));
    assert_eq!(reply.mapped(), client.at.client);
    assert_eq!(world.packet(&client.at, &request).reply(), reply);
    assert_eq!(world.ask(&mut client, Method::ALLOCATE, tcp).code(), 437);
    let (sessions, _) = world.relay.sessions(0, 10);
    assert_eq!((sessions[0].transport, sessions[0].connections), (Transport::Tcp, 0));
    assert_eq!(world.refresh(&mut client, Some(0)).code(), 200);
    world.assert_empty();
}

#[test]
fn it_is_off_unless_switched_on() {
    let mut world = World::new();
    let mut client = client_of(&mut world, "alice", 1);
    assert_eq!(world.ask(&mut client, Method::ALLOCATE, tcp).code(), 442);
    assert_eq!(world.allocate(&mut client).code(), 200);
    assert!(matches!(ask_connect(&mut world, &mut client, PEER), Outcome::Reply(reply) if reply.code() == 437));
}

/// His own rule comes before the one for everybody; that of time-limited credentials is the latter, whatever their name.
#[test]
fn it_is_on_or_off_for_a_user() {
    let rules = |enabled, alice: Option<bool>| {
        let mut credentials = credentials();
        alice.into_iter().for_each(|relayed| credentials.set_tcp("alice", relayed));
        Live { credentials: Arc::new(credentials), tcp: TcpRelaying { enabled, ..on().tcp }, ..on() }
    };
    let issued = credentials().issue(Some("alice"), EPOCH + 3600).unwrap();
    for (enabled, alice, codes) in [
        (false, None, [442, 442, 442]),
        (false, Some(true), [200, 442, 442]),
        (false, Some(false), [403, 442, 442]),
        (true, None, [200, 200, 200]),
        (true, Some(true), [200, 200, 200]),
        (true, Some(false), [403, 200, 200]),
    ] {
        let mut world = World::with(config(), rules(enabled, alice));
        let clients = [("alice", "pw"), ("bob", "pw"), (&issued.username, &issued.password)];
        let mut port = 0;
        let asked = clients.map(|(user, password)| {
            port += 1;
            let mut client = of_password(&mut world, user, password, port);
            world.ask(&mut client, Method::ALLOCATE, tcp).code()
        });
        assert_eq!(asked, codes, "{enabled} {alice:?}");
        if asked[0] == 403 {
            let mut client = client_of(&mut world, "alice", 9);
            assert_eq!(world.ask(&mut client, Method::ALLOCATE, tcp).code(), 403);
            assert_eq!(world.last_refusal(), Some(Why::ForbiddenTransport));
            assert_eq!(world.ask(&mut client, Method::ALLOCATE, udp).code(), 200, "datagrams are not meant");
        }
    }

    let mut world = World::with(config(), rules(true, None));
    let (mut alice, _) = allocated(&mut world, 1);
    let connection = pending(&mut world, &mut alice, PEER);
    let mut others =
        [of_password(&mut world, "bob", "pw", 2), of_password(&mut world, &issued.username, &issued.password, 3)];
    for other in &mut others {
        assert_eq!(world.ask(other, Method::ALLOCATE, tcp).code(), 200);
    }
    world.events();
    world.set_live(rules(true, Some(false)));
    assert_eq!(disconnected(&world.events()), [connection], "a reload ends what he had");
    assert_eq!(world.relay.usage().allocations, 2);
    world.set_live(rules(false, Some(true)));
    assert_eq!(world.relay.usage().allocations, 0, "and what the others had, when it is switched off");
}

#[test]
fn what_excludes_a_tcp_allocation_gets_400() {
    let mut world = world();
    for (kind, value) in [
        (AttributeType::EVEN_PORT, &[0][..]),
        (AttributeType::EVEN_PORT, &[0x80]),
        (AttributeType::DONT_FRAGMENT, &[]),
        (AttributeType::RESERVATION_TOKEN, &[1; 8]),
    ] {
        let mut client = client_of(&mut world, "alice", 1);
        let reply = world.ask(&mut client, Method::ALLOCATE, |writer| {
            tcp(writer);
            writer.attribute(kind, value);
        });
        assert_eq!(reply.code(), 400, "{kind:?}");
    }
    let mut over_udp = world.client(2);
    assert_eq!(world.ask(&mut over_udp, Method::ALLOCATE, tcp).code(), 400);
    world.assert_empty();
}

#[test]
fn connect_is_answered_once_the_host_has_connected() {
    let mut world = world();
    let (mut client, _) = allocated(&mut world, 1);
    let relayed = world.relay.sessions(0, 1).0[0].relayed;
    let outcome = ask_connect(&mut world, &mut client, PEER);
    let Outcome::Connect { connection, from, peer } = outcome else { panic!("{outcome:?}") };
    assert_eq!((from, peer), (relayed, addr(PEER)));
    assert_eq!(told(&mut world), []);
    world.advance(seconds(5));
    world.relay.connected(world.now, connection);
    world.drain_events();
    let [(to, reply)] = told(&mut world).try_into().expect("one answer");
    assert_eq!((to, reply.code(), number(&reply)), (client.at, 200, connection.0));
    assert_eq!(reply.message().method(), Method::CONNECT);
    assert_eq!(reply.signature(&client.key), Some(client.algorithm));
    // A host that says it again changes nothing.
    world.relay.connected(world.now, connection);
    world.drain_events();
    assert_eq!(told(&mut world), []);
}

#[test]
fn a_bound_connection_counts_its_bytes_and_ends() {
    let mut world = world();
    let (mut client, _) = allocated(&mut world, 1);
    let connection = pending(&mut world, &mut client, PEER);
    let mut data = client_of(&mut world, "alice", 2);
    let outcome = ask_bind(&mut world, &mut data, connection);
    let Outcome::Bind { reply, connection: bound } = outcome else { panic!("{outcome:?}") };
    assert_eq!((reply.code(), bound), (200, connection));
    assert_eq!(reply.signature(&data.key), Some(data.algorithm));
    world.relay.copied(world.now, connection, 100, 0);
    world.relay.copied(world.now, connection, 20, 3);
    let traffic = world.relay.traffic(&client.at).unwrap();
    assert_eq!((traffic.sent_packets, traffic.sent_bytes), (2, 120));
    assert_eq!((traffic.received_packets, traffic.received_bytes), (1, 3));
    assert_eq!(world.relay.tally().sent_bytes, 120);
    assert_eq!(world.relay.usage().connections, 1);
    world.advance(seconds(500));
    assert_eq!(disconnected(&world.events()), [], "what is bound waits for nobody");
    lost(&mut world, connection);
    assert_eq!((told(&mut world), world.relay.usage().connections), (vec![], 0));
    world.relay.copied(world.now, connection, 1, 1);
    assert_eq!(world.relay.traffic(&client.at).unwrap().sent_bytes, 120);
}

#[test]
fn what_is_above_a_limit_waits() {
    let limits = Limits { allocation_bandwidth: 8_000_000, ..Limits::default() };
    let mut world = World::with(config(), Live { limits, ..on() });
    let (mut client, _) = allocated(&mut world, 1);
    let connection = pending(&mut world, &mut client, PEER);
    assert_eq!(world.relay.may_copy(world.now, connection), [true, true]);
    world.relay.copied(world.now, connection, 3_000_000, 0);
    assert_eq!(world.relay.may_copy(world.now, connection), [false, true], "each way has its own");
    world.advance(seconds(3));
    assert_eq!(world.relay.may_copy(world.now, connection), [true, true]);
    assert_eq!(world.relay.may_copy(world.now, ConnectionId(connection.0 ^ 1)), [false, false]);
}

#[test]
fn one_connection_with_a_peer_at_a_time() {
    let mut world = world();
    let (mut client, relay) = allocated(&mut world, 1);
    let refused = |world: &mut World, client: &mut Client| {
        assert_eq!(ask_connect(world, client, PEER).reply().code(), 446);
        assert_eq!(world.last_refusal(), Some(Why::Connected));
    };
    let connection = connecting(&mut world, &mut client, PEER);
    refused(&mut world, &mut client);
    world.relay.connected(world.now, connection);
    refused(&mut world, &mut client);
    let mut data = client_of(&mut world, "alice", 2);
    ask_bind(&mut world, &mut data, connection);
    refused(&mut world, &mut client);
    connecting(&mut world, &mut client, "9.9.9.9:5001");
    lost(&mut world, connection);
    connecting(&mut world, &mut client, PEER);
    world.permit(&mut client, &[OTHER_PEER]);
    accepted(&mut world, relay, OTHER_PEER).expect("accepted");
    assert_eq!(ask_connect(&mut world, &mut client, OTHER_PEER).reply().code(), 446);
}

#[test]
fn a_peer_that_cannot_be_connected_to_is_447() {
    let mut world = world();
    let (mut client, _) = allocated(&mut world, 1);
    let connection = connecting(&mut world, &mut client, PEER);
    world.events();
    lost(&mut world, connection);
    let [(to, reply)] = told(&mut world).try_into().expect("one answer");
    assert_eq!((to, reply.code()), (client.at, 447));
    assert_eq!(reply.signature(&client.key), Some(client.algorithm));

    let connection = connecting(&mut world, &mut client, PEER);
    world.advance(seconds(29));
    assert_eq!(told(&mut world), []);
    world.advance(seconds(1));
    let events = world.events();
    assert_eq!(disconnected(&events), [connection]);
    let told = events.iter().filter_map(|event| match event {
        Event::Control(_, bytes) => Some(Reply { bytes: bytes.to_vec() }.code()),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [447]);
    world.relay.connected(world.now, connection);
    world.drain_events();
    assert_eq!(world.events(), [], "too late");
}

#[test]
fn a_connection_that_nobody_binds_ends_after_30_seconds() {
    let mut world = world();
    let (mut client, relay) = allocated(&mut world, 1);
    world.permit(&mut client, &[OTHER_PEER]);
    let asked = pending(&mut world, &mut client, PEER);
    let came = accepted(&mut world, relay, OTHER_PEER).expect("accepted");
    world.advance(seconds(29));
    assert_eq!(disconnected(&world.events()), []);
    world.advance(seconds(1));
    assert_eq!(disconnected(&world.events()), [asked, came].into_iter().collect::<Vec<_>>());
    let mut data = client_of(&mut world, "alice", 2);
    for connection in [asked, came] {
        assert_eq!(ask_bind(&mut world, &mut data, connection).reply().code(), 400);
    }
    assert_eq!(world.relay.usage().connections, 0);
}

#[test]
fn what_is_wrong_with_a_connect() {
    let mut world = world();
    let mut nobody = client_of(&mut world, "alice", 9);
    assert_eq!(ask_connect(&mut world, &mut nobody, PEER).reply().code(), 437);
    let (mut client, _) = allocated(&mut world, 1);
    let mut bob = client.as_user("bob", "pw");
    assert_eq!(ask_connect(&mut world, &mut bob, PEER).reply().code(), 441);
    assert_eq!(world.ask(&mut client, Method::CONNECT, |_| {}).code(), 400);
    let malformed = world.ask(&mut client, Method::CONNECT, |writer| {
        writer.attribute(AttributeType::XOR_PEER_ADDRESS, &[0, 1, 2]);
    });
    assert_eq!(malformed.code(), 400);
    assert_eq!(ask_connect(&mut world, &mut client, PEER_V6).reply().code(), 443);
    for (forbidden, class) in [
        ("10.0.0.1:5000", PeerClass::Private),
        ("127.0.0.1:5000", PeerClass::Loopback),
        ("9.9.9.9:25", PeerClass::Port),
        ("9.9.9.9:1023", PeerClass::Port),
        ("9.9.9.9:0", PeerClass::Port),
        ("192.0.2.1:3478", PeerClass::Own),
    ] {
        assert_eq!(ask_connect(&mut world, &mut client, forbidden).reply().code(), 403, "{forbidden}");
        assert_eq!(world.last_refusal(), Some(Why::ForbiddenPeer(class)), "{forbidden}");
    }
    connecting(&mut world, &mut client, "9.9.9.9:80");
    // The host knows whether an allocation is there.
    connecting(&mut world, &mut client, &format!("{RELAY_V4}:50007"));
    assert!(world.relay.is_relayed_only(PeerAddr(addr(&format!("{RELAY_V4}:50007")))));
    assert!(!world.relay.is_relayed_only(PeerAddr(addr("9.9.9.9:50007"))));
    assert_eq!(ask_connect(&mut world, &mut client, &format!("{RELAY_V4}:80")).reply().code(), 403);
}

#[test]
fn connections_of_an_allocation_are_limited() {
    let limits = Limits { connections: 2, ..Limits::default() };
    let mut world = World::with(config(), Live { limits, ..on() });
    let (mut client, relay) = allocated(&mut world, 1);
    world.permit(&mut client, &[PEER, OTHER_PEER]);
    let first = connecting(&mut world, &mut client, "9.9.9.9:5001");
    accepted(&mut world, relay, OTHER_PEER).expect("accepted");
    assert_eq!(ask_connect(&mut world, &mut client, PEER).reply().code(), 508);
    assert_eq!(accepted(&mut world, relay, PEER), None);
    assert_eq!(world.relay.tally().discards[Discard::ConnectionLimit.index()], 1);
    lost(&mut world, first);
    accepted(&mut world, relay, PEER).expect("accepted");
}

#[test]
fn a_peer_connects_under_a_permission_only() {
    let mut world = world();
    let (mut client, relay) = allocated(&mut world, 1);
    assert_eq!(accepted(&mut world, relay, PEER), None);
    world.permit(&mut client, &[PEER]);
    world.events();
    assert_eq!(accepted(&mut world, relay, OTHER_PEER), None);
    assert_eq!(accepted(&mut world, RelayId(7), PEER), None);
    let discards = world.relay.tally().discards;
    assert_eq!([Discard::NoPermission, Discard::UnknownRelay].map(|reason| discards[reason.index()]), [2, 1]);
    assert_eq!(world.events(), []);

    let connection = accepted(&mut world, relay, "9.9.9.9:6").expect("any port of the address");
    let events = world.events();
    let [Event::Control(to, bytes)] = events.as_slice() else { panic!("{events:?}") };
    let message = Message::parse(bytes).expect("a message");
    assert_eq!((*to, message.class(), message.method()), (client.at, Class::Indication, Method::CONNECTION_ATTEMPT));
    let attributes: Vec<_> = message.attributes().map(Result::unwrap).collect();
    let [peer, number] = attributes.as_slice() else { panic!("two attributes") };
    assert_eq!(peer.xor_address(message.transaction_id()), Ok(addr("9.9.9.9:6")));
    assert_eq!((number.kind, number.u32()), (AttributeType::CONNECTION_ID, Ok(connection.0)));

    world.punctual = false;
    world.advance(seconds(300));
    assert_eq!(accepted(&mut world, relay, PEER), None, "the permission is over");
    let mut data = client_of(&mut world, "alice", 2);
    assert_eq!(ask_bind(&mut world, &mut data, connection).reply().code(), 400, "and so is the wait");
}

#[test]
fn what_is_wrong_with_a_connection_bind() {
    let mut world = world();
    let (mut client, _) = allocated(&mut world, 1);
    let connection = pending(&mut world, &mut client, PEER);
    let unanswered = connecting(&mut world, &mut client, OTHER_PEER);
    let mut data = client_of(&mut world, "alice", 2);
    let bare = data.bare(Method::CONNECTION_BIND);
    assert_eq!(world.packet(&data.at, &bare).reply().code(), 401);
    assert_eq!(world.ask(&mut data, Method::CONNECTION_BIND, |_| {}).code(), 400);
    let long = world.ask(&mut data, Method::CONNECTION_BIND, |writer| {
        writer.attribute(AttributeType::CONNECTION_ID, &[0; 5]);
    });
    assert_eq!(long.code(), 400);
    for unknown in [ConnectionId(connection.0 ^ 1), unanswered] {
        assert_eq!(ask_bind(&mut world, &mut data, unknown).reply().code(), 400);
    }
    let mut bob = client_of(&mut world, "bob", 3);
    assert_eq!(ask_bind(&mut world, &mut bob, connection).reply().code(), 441);
    let mut over_udp = world.client(4);
    assert_eq!(ask_bind(&mut world, &mut over_udp, connection).reply().code(), 400);
    assert_eq!(ask_bind(&mut world, &mut client, connection).reply().code(), 437, "the control connection stays one");
    assert!(matches!(ask_bind(&mut world, &mut data, connection), Outcome::Bind { .. }));
    let mut again = client_of(&mut world, "alice", 5);
    assert_eq!(ask_bind(&mut world, &mut again, connection).reply().code(), 400);
}

#[test]
fn connections_of_a_client_share_its_nonce() {
    let mut world = world();
    let (mut client, _) = allocated(&mut world, 1);
    let connection = pending(&mut world, &mut client, PEER);
    let mut data = Client { at: client_of(&mut world, "alice", 2).at, ..client.clone() };
    assert!(matches!(ask_bind(&mut world, &mut data, connection), Outcome::Bind { .. }));
    let mut elsewhere = Client::new("100.0.0.2:1", "alice", "pw");
    elsewhere.at.stream = NonZeroU32::new(7).map(StreamId);
    elsewhere.nonce.clone_from(&client.nonce);
    assert_eq!(ask_bind(&mut world, &mut elsewhere, connection).reply().code(), 438);
}

#[test]
fn a_number_tells_whose_connection_it_is() {
    let share = |index| PortShare { range: 50_000..=50_099, index, of: 3 };
    let mut owner = World::with(Config { ports: share(1), ..config() }, on());
    let mut other = World::with(Config { ports: share(2), ..config() }, on());
    let (mut client, _) = allocated(&mut owner, 1);
    let mut seen = Vec::new();
    for port in 5000..5050 {
        let connection = pending(&mut owner, &mut client, &format!("9.9.9.9:{port}"));
        assert_eq!((connection.owner(3), connection.0 % 3), (1, 1));
        assert!(!seen.contains(&connection));
        seen.push(connection);
        let mut data = client_of(&mut other, "alice", port);
        assert_eq!(ask_bind(&mut other, &mut data, connection), Outcome::HandOver { engine: 1 });
    }
    let mut forged = client_of(&mut other, "alice", 1);
    forged.nonce = b"none".to_vec();
    assert_eq!(ask_bind(&mut other, &mut forged, seen[0]).reply().code(), 438, "only for who has proved himself");
}

/// Nobody lists time-limited names, but the engine that has the connection knows whose it is.
#[test]
fn a_connection_bind_may_name_its_user_by_a_hash() {
    let share = |index| PortShare { range: 50_000..=50_099, index, of: 3 };
    let mut owner = World::with(Config { ports: share(1), ..config() }, on());
    let mut other = World::with(Config { ports: share(2), ..config() }, on());
    let issued = credentials().issue(Some("alice"), EPOCH + 3600).unwrap();
    let of = |world: &mut World, port| of_password(world, &issued.username, &issued.password, port);
    let mut client = of(&mut owner, 1);
    assert_eq!(owner.ask(&mut client, Method::ALLOCATE, tcp).code(), 200);
    let connection = pending(&mut owner, &mut client, PEER);

    let mut hashed = Client { is_anonymous: true, ..of(&mut owner, 2) };
    assert_eq!(ask_bind(&mut owner, &mut hashed, ConnectionId(connection.0 + 3)).reply().code(), 401);
    let mut forged = Client { is_anonymous: true, ..of_password(&mut owner, &issued.username, "wrong", 3) };
    assert_eq!(ask_bind(&mut owner, &mut forged, connection).reply().code(), 401);
    let mut bob = Client { is_anonymous: true, ..of_password(&mut owner, "1:bob", "wrong", 4) };
    assert_eq!(ask_bind(&mut owner, &mut bob, connection).reply().code(), 401);
    assert!(matches!(ask_bind(&mut owner, &mut hashed, connection), Outcome::Bind { .. }));

    let mut elsewhere = Client { is_anonymous: true, ..of(&mut other, 5) };
    assert_eq!(ask_bind(&mut other, &mut elsewhere, connection), Outcome::HandOver { engine: 1 });
    let mut control = of(&mut other, 6);
    assert_eq!(other.ask(&mut control, Method::ALLOCATE, tcp).code(), 200);
    let mut bob = Client { is_anonymous: true, ..control.as_user("1:bob", "wrong") };
    assert_eq!(
        ask_bind(&mut other, &mut bob, connection).reply().code(),
        401,
        "a control connection stays where it is"
    );
    let mut stale = Client { nonce: b"none".to_vec(), ..elsewhere };
    assert_eq!(ask_bind(&mut other, &mut stale, connection).reply().code(), 438, "only for who has proved his address");
}

#[test]
fn everything_ends_with_the_allocation() {
    for why in [EndReason::Deleted, EndReason::Closed, EndReason::Expired] {
        let mut world = world();
        let (mut client, relay) = allocated(&mut world, 1);
        world.advance(seconds(580));
        world.permit(&mut client, &[OTHER_PEER]);
        let bound = pending(&mut world, &mut client, PEER);
        let mut data = client_of(&mut world, "alice", 2);
        ask_bind(&mut world, &mut data, bound);
        let waits = pending(&mut world, &mut client, "9.9.9.9:5001");
        let begun = connecting(&mut world, &mut client, "9.9.9.9:5002");
        let came = accepted(&mut world, relay, OTHER_PEER).expect("accepted");
        world.events();
        match why {
            EndReason::Deleted => assert_eq!(world.refresh(&mut client, Some(0)).code(), 200),
            EndReason::Expired => world.advance(seconds(600)),
            _ => world.close(&client),
        }
        let events = world.events();
        let mut gone = disconnected(&events);
        gone.sort_unstable();
        let mut all = vec![bound, waits, begun, came];
        all.sort_unstable();
        assert_eq!(gone, all, "{why:?}");
        assert!(events.iter().any(|event| matches!(event, Event::Ended(_, reason) if *reason == why)));
        assert!(events.iter().any(|event| matches!(event, Event::Close(id, _) if *id == relay)));
        world.assert_empty();
    }
}

#[test]
fn a_reload_ends_what_is_forbidden_now() {
    let mut world = world();
    let (mut client, relay) = allocated(&mut world, 1);
    world.permit(&mut client, &[OTHER_PEER]);
    let high = pending(&mut world, &mut client, "1.1.1.1:5000");
    let low = pending(&mut world, &mut client, "1.1.1.1:80");
    let denied = pending(&mut world, &mut client, PEER);
    let begun = connecting(&mut world, &mut client, "9.9.9.9:5001");
    let came = accepted(&mut world, relay, OTHER_PEER).expect("accepted");
    world.events();
    let peers = PeerPolicy::new(&[], &["9.9.9.0/24".parse().unwrap()]);
    let ports = TcpRelaying { enabled: true, peer_ports: vec![1024..=60_000] };
    world.set_live(Live { peers, tcp: ports, ..on() });
    assert_eq!(disconnected(&world.events()), [low, denied]);
    world.relay.connected(world.now, begun);
    world.drain_events();
    let events = world.events();
    assert_eq!(disconnected(&events), [begun], "what was on its way is judged when it is there");
    assert!(events.iter().any(|event| matches!(event, Event::Control(..))));

    world.set_live(live());
    let events = world.events();
    assert_eq!(disconnected(&events), [high, came]);
    assert!(events.iter().any(|event| matches!(event, Event::Ended(_, EndReason::Closed))));
    world.assert_empty();
}

#[test]
fn datagrams_and_connections_do_not_mix() {
    let mut world = world();
    let (mut client, _) = allocated(&mut world, 1);
    assert_eq!(world.bind(&mut client, 0x4000, PEER).code(), 400);
    world.permit(&mut client, &[PEER]);
    assert_eq!(world.send(&client, PEER, b"x"), Outcome::Discard(Discard::TcpAllocation));
    assert_eq!(world.channel(&client, 0x4000, b"x"), Outcome::Discard(Discard::NoChannel));
    let mut other = client_of(&mut world, "alice", 2);
    assert_eq!(world.ask(&mut other, Method::ALLOCATE, udp).code(), 200);
    assert_eq!(ask_connect(&mut world, &mut other, PEER).reply().code(), 437);
    // A relayed address for connections takes no datagrams: at most another worker has one for those.
    let relayed = world.relay.sessions(0, 1).0[0].relayed;
    world.permit(&mut other, &[&relayed.to_string()]);
    assert!(matches!(world.send(&other, &relayed.to_string(), b"x"), Outcome::ToSibling { .. }));
}

#[test]
fn both_families_relay_connections() {
    let mut world = world();
    let mut client = client_of(&mut world, "alice", 1);
    let reply = world.ask(&mut client, Method::ALLOCATE, |writer| {
        tcp(writer);
        writer.attribute(AttributeType::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0]);
    });
    assert_eq!(reply.code(), 200);
    assert!(matches!(world.wants.as_slice(), [Want::Listen(_), Want::Listen(_)]));
    for (peer, relay) in [(PEER, RELAY_V4), (PEER_V6, RELAY_V6)] {
        let outcome = ask_connect(&mut world, &mut client, peer);
        let Outcome::Connect { from, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(from.ip().to_string(), relay);
    }
    world.close(&client);
    world.assert_empty();
}

#[test]
fn relayed_addresses_behind_a_nat_have_two_forms_and_are_one_peer() {
    let public = "203.0.113.9";
    let relays = vec![RelayAddress { local: RELAY_V4.parse().unwrap(), external: Some(public.parse().unwrap()) }];
    let mut world = World::with(Config { relays, ..config() }, on());
    let (mut one, relay) = allocated(&mut world, 1);
    let sessions = world.relay.sessions(0, 1).0;
    assert_eq!(sessions[0].relayed.ip().to_string(), public);
    let other = SocketAddr::new(public.parse().unwrap(), 50_042);
    let outcome = ask_connect(&mut world, &mut one, &other.to_string());
    let Outcome::Connect { from, peer, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!((from.ip().to_string(), peer), (RELAY_V4.into(), addr(&format!("{RELAY_V4}:50042"))));
    world.permit(&mut one, &[&other.to_string()]);
    world.events();
    accepted(&mut world, relay, &format!("{RELAY_V4}:50043")).expect("a relayed address of ours");
    let [(_, indication)] = told(&mut world).try_into().expect("one");
    let peer = indication.find(AttributeType::XOR_PEER_ADDRESS).unwrap().xor_address(indication.id());
    assert_eq!(peer, Ok(SocketAddr::new(other.ip(), 50_043)));
}
