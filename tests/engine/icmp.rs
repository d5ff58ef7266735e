//! ICMP errors become Data indications with ICMP (RFC 8656 §11.5, §18.13), and DONT-FRAGMENT reaches the host where
//! the RFC lets it (§13 to §15).

use turnwell::relay::{Action, Config, Discard, FiveTuple, IcmpError, Live, RelayAddress, RelayId, StreamId};
use turnwell::wire::{AttributeType, Class, Method, TransactionId, Writer};

use crate::client::{Client, Received, udp};
use crate::harness::{Outcome, PEER, PEER_V6, World, addr, config, live, seconds};

const PORT_UNREACHABLE: IcmpError = IcmpError { kind: 3, code: 3, mtu: 0 };

impl World {
    /// Tells clients of ICMP errors.
    fn telling() -> World {
        World::with(config(), Live { icmp_errors: true, ..live() })
    }
}

fn told(client: &Client, peer: &str, value: [u8; 8]) -> Outcome {
    Outcome::ToClient { client: client.at, received: Received::Icmp { peer: addr(peer), value } }
}

#[test]
fn nothing_is_told_unless_switched_on() {
    let mut world = World::new();
    let (mut client, relay) = world.allocated(1000);
    world.permit(&mut client, &[PEER]);
    assert_eq!(world.icmp(relay, PEER, PORT_UNREACHABLE), Outcome::Discard(Discard::IcmpOff));
}

#[test]
fn the_types_that_the_rfc_lists_are_told_and_no_others() {
    let mut world = World::telling();
    let (mut v4, relay_v4) = world.allocated(1000);
    world.permit(&mut v4, &[PEER]);
    let mut v6 = world.client_of("alice", "[2a00::77]:1000");
    let relay_v6 = world.allocate_ok(&mut v6);
    world.permit(&mut v6, &[PEER_V6]);
    for kind in 0..=u8::MAX {
        for (client, relay, peer, listed) in
            [(&v4, relay_v4, PEER, [3, 11].contains(&kind)), (&v6, relay_v6, PEER_V6, [1, 2, 3].contains(&kind))]
        {
            let outcome = world.icmp(relay, peer, IcmpError { kind, code: 1, mtu: 0 });
            let expected = if listed {
                told(client, peer, [0, 0, kind << 1, 1, 0, 0, 0, 0])
            } else {
                Outcome::Discard(Discard::IcmpType)
            };
            assert_eq!(outcome, expected, "type {kind} about {peer}");
        }
    }
    assert_eq!(world.relay.tally().icmp_errors, 5);
    assert_eq!(world.relay.tally().discards[Discard::IcmpType.index()], 2 * 256 - 5);
    assert_eq!(world.relay.traffic(&v4.at).unwrap().received_packets, 0, "an error is no traffic");
}

#[test]
fn the_mtu_is_told_where_the_datagram_was_too_long_and_nowhere_else() {
    let mut world = World::telling();
    let (mut v4, relay_v4) = world.allocated(1000);
    world.permit(&mut v4, &[PEER]);
    let mut v6 = world.client_of("alice", "[2a00::77]:1000");
    let relay_v6 = world.allocate_ok(&mut v6);
    world.permit(&mut v6, &[PEER_V6]);
    let mtu = 0x0001_0578;
    for (client, relay, peer, kind, code, data) in [
        (&v4, relay_v4, PEER, 3, 4, [0, 1, 5, 0x78]),
        (&v4, relay_v4, PEER, 3, 3, [0; 4]),
        (&v4, relay_v4, PEER, 11, 4, [0; 4]),
        (&v6, relay_v6, PEER_V6, 2, 0, [0, 1, 5, 0x78]),
        (&v6, relay_v6, PEER_V6, 1, 4, [0; 4]),
        (&v6, relay_v6, PEER_V6, 3, 0, [0; 4]),
    ] {
        let [a, b, c, d] = data;
        let outcome = world.icmp(relay, peer, IcmpError { kind, code, mtu });
        assert_eq!(outcome, told(client, peer, [0, 0, kind << 1, code, a, b, c, d]));
    }
}

#[test]
fn an_error_needs_a_permission_for_the_address_and_an_allocation_with_time() {
    let mut world = World::telling();
    let (mut client, relay) = world.allocated(1000);
    assert_eq!(world.icmp(relay, PEER, PORT_UNREACHABLE), Outcome::Discard(Discard::NoPermission));
    world.permit(&mut client, &[PEER]);
    assert_eq!(world.icmp(relay, "9.9.9.8:5000", PORT_UNREACHABLE), Outcome::Discard(Discard::NoPermission));
    assert_eq!(world.icmp(RelayId(7), PEER, PORT_UNREACHABLE), Outcome::Discard(Discard::UnknownRelay));
    let another_port = "9.9.9.9:1";
    assert_eq!(
        world.icmp(relay, another_port, PORT_UNREACHABLE),
        told(&client, another_port, [0, 0, 6, 3, 0, 0, 0, 0]),
        "port numbers are not considered"
    );
    world.bind(&mut client, 0x4000, PEER);
    assert_eq!(
        world.icmp(relay, PEER, PORT_UNREACHABLE),
        told(&client, PEER, [0, 0, 6, 3, 0, 0, 0, 0]),
        "an indication, though there is a channel"
    );
    world.punctual = false;
    world.advance(seconds(600));
    assert_eq!(world.icmp(relay, PEER, PORT_UNREACHABLE), Outcome::Discard(Discard::UnknownRelay));
}

#[test]
fn a_client_is_told_ten_errors_in_a_second() {
    let mut world = World::telling();
    let (mut client, relay) = world.allocated(1000);
    let (mut other, other_relay) = world.allocated(1001);
    world.permit(&mut client, &[PEER]);
    world.permit(&mut other, &[PEER]);
    for _ in 0..2 {
        for count in 0..300 {
            let is_told = matches!(world.icmp(relay, PEER, PORT_UNREACHABLE), Outcome::ToClient { .. });
            assert_eq!(is_told, count < 10, "{count}");
        }
        assert!(matches!(world.icmp(other_relay, PEER, PORT_UNREACHABLE), Outcome::ToClient { .. }), "each its own");
        world.advance(seconds(1));
    }
    assert_eq!(world.relay.tally().discards[Discard::IcmpRate.index()], 2 * 290);
}

#[test]
fn behind_a_nat_the_peer_is_named_as_clients_know_it() {
    let relays =
        vec![RelayAddress { local: "198.51.100.7".parse().unwrap(), external: Some("203.0.113.7".parse().unwrap()) }];
    let mut world = World::with(Config { relays, ..config() }, Live { icmp_errors: true, ..live() });
    let (mut client, relay) = world.allocated(1000);
    world.permit(&mut client, &["203.0.113.7:50001"]);
    let expected = told(&client, "203.0.113.7:50001", [0, 0, 6, 3, 0, 0, 0, 0]);
    assert_eq!(world.icmp(relay, "198.51.100.7:50001", PORT_UNREACHABLE), expected);
}

fn asks_not_to_fragment(peer: &str, with: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, Class::Indication, Method::SEND, TransactionId([5; 12]));
    writer.xor_address(AttributeType::XOR_PEER_ADDRESS, addr(peer));
    if with {
        writer.attribute(AttributeType::DONT_FRAGMENT, b"");
    }
    writer.attribute(AttributeType::DATA, b"x");
    bytes
}

#[test]
fn dont_fragment_is_heeded_between_ipv4_and_from_streams_and_ignored_otherwise() {
    let stream = |at: FiveTuple| FiveTuple { stream: Some(StreamId(std::num::NonZeroU32::MIN)), ..at };
    // (client, over a stream, peer, heeded)
    let rows = [
        ("100.0.0.1:1000", false, PEER, true),
        ("[2a00::77]:1000", false, PEER, false),
        ("100.0.0.1:1000", false, PEER_V6, false),
        ("[2a00::77]:1000", false, PEER_V6, false),
        ("100.0.0.1:1000", true, PEER, true),
        ("[2a00::77]:1000", true, PEER, true),
        ("[2a00::77]:1000", true, PEER_V6, true),
    ];
    for (at, on_stream, peer, heeded) in rows {
        let mut world = World::telling();
        let mut client = Client::new(at, "alice", "pw");
        if on_stream {
            client.at = stream(client.at);
        }
        world.challenge(&mut client);
        let family = if peer == PEER { 1 } else { 2 };
        let reply = world.ask(&mut client, Method::ALLOCATE, |writer| {
            udp(writer);
            writer.attribute(AttributeType::REQUESTED_ADDRESS_FAMILY, &[family, 0, 0, 0]);
        });
        assert_eq!(reply.code(), 200);
        world.permit(&mut client, &[peer]);
        for with in [true, false] {
            let packet = asks_not_to_fragment(peer, with);
            let action = world.relay.handle_client(world.now, &client.at, &packet, &mut Vec::new());
            let Action::ToPeer { dont_fragment, .. } = action else { panic!("{action:?}") };
            assert_eq!(dont_fragment, with && heeded, "{at} to {peer}");
        }
        world.bind(&mut client, 0x4000, peer);
        let packet = crate::client::channel_data(0x4000, b"x");
        let action = world.relay.handle_client(world.now, &client.at, &packet, &mut Vec::new());
        assert!(matches!(action, Action::ToPeer { dont_fragment: false, .. }));
    }
}

/// RFC 8656 §3.7: it would be the DF bit of what arrives that decides, and nobody tells the server.
#[test]
fn an_allocate_with_dont_fragment_from_ipv4_to_ipv6_gets_420() {
    for (at, family, code) in
        [("100.0.0.1:1", 1, 200), ("100.0.0.1:1", 2, 420), ("[2a00::77]:1", 1, 200), ("[2a00::77]:1", 2, 200)]
    {
        let mut world = World::telling();
        let mut client = world.client_of("alice", at);
        let reply = world.ask(&mut client, Method::ALLOCATE, |writer| {
            udp(writer);
            writer
                .attribute(AttributeType::REQUESTED_ADDRESS_FAMILY, &[family, 0, 0, 0])
                .attribute(AttributeType::DONT_FRAGMENT, b"");
        });
        assert_eq!(reply.code(), code, "{at} to {family}");
        if code == 420 {
            assert_eq!(reply.unknown(), [AttributeType::DONT_FRAGMENT]);
            world.assert_empty();
        }
    }
}
