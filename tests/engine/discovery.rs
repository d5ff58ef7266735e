//! NAT behaviour discovery: which of the four listeners answers, where to, and what it says (RFC 5780 §6, §7).

use turnwell::relay::{Config, Discovery, FiveTuple, ListenerId, RelayAddress, StreamId};
use turnwell::wire::{AttributeType, Class, Method, TransactionId, Writer};

use crate::client::{Client, Reply, udp};
use crate::harness::{Outcome, World, addr, config, live};

/// Two addresses with two ports each, after a listener that takes no part.
const LISTENERS: [&str; 5] =
    ["192.0.2.99:3478", "192.0.2.1:3478", "192.0.2.1:3479", "192.0.2.2:3478", "192.0.2.2:3479"];
const CLIENT: &str = "100.0.0.1:1234";

fn discovering() -> Config {
    let discovery = Discovery { primary: addr(LISTENERS[1]), alternate: addr(LISTENERS[4]) };
    Config { listeners: LISTENERS.map(addr).to_vec(), discovery: vec![discovery], ..config() }
}

fn world() -> World {
    World::with(discovering(), live())
}

fn from(listener: u16) -> FiveTuple {
    FiveTuple { listener: ListenerId(listener), ..Client::new(CLIENT, "nobody", "").at }
}

fn binding(attributes: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    attributes(&mut Writer::new(&mut bytes, Class::Request, Method::BINDING, TransactionId([9; 12])));
    bytes
}

fn change(flags: u32) -> Vec<u8> {
    binding(|writer| {
        writer.u32(AttributeType::CHANGE_REQUEST, flags);
    })
}

/// The listener that answered, the port answered to, and the answer.
#[track_caller]
fn answered(world: &mut World, at: u16, packet: &[u8]) -> (u16, u16, Reply) {
    match world.packet(&from(at), packet) {
        Outcome::Reply(reply) => (at, from(at).client.port(), reply),
        Outcome::ReplyFrom { listener, client, reply } => {
            assert_eq!(client.ip(), from(at).client.ip(), "never to another address than the request's");
            assert_ne!((listener, client), (from(at).listener, from(at).client), "that would be a plain reply");
            (listener.0, client.port(), reply)
        }
        other => panic!("{other:?}"),
    }
}

fn told(reply: &Reply, kind: AttributeType) -> std::net::SocketAddr {
    reply.find(kind).unwrap().address().unwrap()
}

/// RFC 5780 §6.1, table 1, from each of the four listeners.
#[test]
fn the_answer_leaves_from_the_address_and_port_that_the_flags_ask_for() {
    let mut world = world();
    // Which listener has the other port, the other address, and both.
    let rows = [(1, [1, 2, 3, 4]), (2, [2, 1, 4, 3]), (3, [3, 4, 1, 2]), (4, [4, 3, 2, 1])];
    for (at, expected) in rows {
        for (flags, listener) in [0_u32, 2, 4, 6].into_iter().zip(expected) {
            let (source, port, reply) = answered(&mut world, at, &change(flags));
            assert_eq!((reply.code(), source, port), (200, listener, 1234), "at {at} with flags {flags}");
            assert_eq!(told(&reply, AttributeType::RESPONSE_ORIGIN), addr(LISTENERS[usize::from(listener)]));
            assert_eq!(told(&reply, AttributeType::OTHER_ADDRESS), addr(LISTENERS[usize::from(expected[3])]));
            assert_eq!(told(&reply, AttributeType::MAPPED_ADDRESS), addr(CLIENT));
            assert_eq!(reply.mapped(), addr(CLIENT));
        }
    }
    world.assert_empty();
}

#[test]
fn the_undefined_bits_of_change_request_mean_nothing() {
    let (source, _, reply) = answered(&mut world(), 1, &change(!6));
    assert_eq!((source, reply.code()), (1, 200));
    let (source, _, _) = answered(&mut world(), 1, &change(!0));
    assert_eq!(source, 4);
}

#[test]
fn a_request_without_these_attributes_is_told_the_other_address_as_well() {
    let (source, port, reply) = answered(&mut world(), 1, &binding(|_| {}));
    assert_eq!((source, port), (1, 1234));
    let kinds = [
        AttributeType::XOR_MAPPED_ADDRESS,
        AttributeType::MAPPED_ADDRESS,
        AttributeType::RESPONSE_ORIGIN,
        AttributeType::OTHER_ADDRESS,
    ];
    assert_eq!(reply.kinds(), kinds);
}

#[test]
fn response_port_is_answered_to_that_port_of_the_same_address() {
    for value in [&[0x27, 0x0f][..], &[0x27, 0x0f, 0xff, 0xff]] {
        let request = binding(|writer| {
            writer.u32(AttributeType::CHANGE_REQUEST, 4).attribute(AttributeType::RESPONSE_PORT, value);
        });
        let (source, port, reply) = answered(&mut world(), 2, &request);
        assert_eq!((source, port, reply.code()), (4, 9999, 200));
        assert_eq!(reply.mapped(), addr(CLIENT), "where the request came from");
    }
    let own = binding(|writer| {
        writer.u32(AttributeType::RESPONSE_PORT, 1234 << 16);
    });
    assert!(matches!(world().packet(&from(1), &own), Outcome::Reply(_)));
}

#[test]
fn padding_is_answered_by_as_much_up_to_an_mtu() {
    for (asked, answer) in [(0, 0), (1, 1), (64, 64), (1500, 1500), (1504, 1500), (20_000, 1500)] {
        let request = binding(|writer| {
            writer.attribute(AttributeType::PADDING, &vec![b'x'; asked]);
        });
        let (_, _, reply) = answered(&mut world(), 1, &request);
        assert_eq!(reply.bytes_of(AttributeType::PADDING).unwrap().len(), answer, "{asked}");
        assert!(reply.bytes.len() <= request.len() + 4 * 12, "four addresses are all that is added");
    }
}

#[test]
fn malformed_attributes_and_padding_with_response_port_get_400() {
    let bad: [&dyn Fn(&mut Writer<'_>); 6] = [
        &|w| {
            w.attribute(AttributeType::CHANGE_REQUEST, &[0, 0, 0]);
        },
        &|w| {
            w.attribute(AttributeType::CHANGE_REQUEST, &[0, 0, 0, 2, 0]);
        },
        &|w| {
            w.attribute(AttributeType::RESPONSE_PORT, &[1]);
        },
        &|w| {
            w.attribute(AttributeType::RESPONSE_PORT, &[1, 2, 3]);
        },
        &|w| {
            w.u32(AttributeType::RESPONSE_PORT, 0);
        },
        &|w| {
            w.u32(AttributeType::RESPONSE_PORT, 1000 << 16).attribute(AttributeType::PADDING, &[0; 8]);
        },
    ];
    for (at, attributes) in bad.into_iter().enumerate() {
        let (source, port, reply) = answered(&mut world(), 1, &binding(|w| attributes(w)));
        assert_eq!((source, port, reply.code()), (1, 1234, 400), "{at}");
        assert_eq!(reply.kinds(), [AttributeType::ERROR_CODE]);
    }
}

#[test]
fn an_unknown_attribute_still_gets_420_without_these_in_the_list() {
    let request = binding(|writer| {
        writer.u32(AttributeType::CHANGE_REQUEST, 6).attribute(AttributeType(0x7ff1), b"");
    });
    let (source, _, reply) = answered(&mut world(), 1, &request);
    assert_eq!((source, reply.code(), reply.unknown()), (1, 420, vec![AttributeType(0x7ff1)]));
}

#[test]
fn they_are_unknown_to_a_listener_that_takes_no_part_and_on_connections_and_in_other_methods() {
    let mut world = world();
    let all = [AttributeType::CHANGE_REQUEST, AttributeType::RESPONSE_PORT, AttributeType::PADDING];
    let attributes = |writer: &mut Writer<'_>| {
        all.into_iter().for_each(|kind| {
            writer.u32(kind, 0x1000_0000);
        });
    };
    let stream = FiveTuple { stream: Some(StreamId(std::num::NonZeroU32::MIN)), ..from(1) };
    for place in [from(0), stream] {
        let reply = world.packet(&place, &binding(attributes)).reply();
        assert_eq!((reply.code(), reply.unknown()), (420, all.to_vec()));
        let reply = world.packet(&place, &binding(|_| {})).reply();
        assert_eq!(reply.kinds(), [AttributeType::XOR_MAPPED_ADDRESS]);
    }
    let mut client = Client { at: from(1), ..Client::new(CLIENT, "alice", "pw") };
    world.challenge(&mut client);
    let reply = world.ask(&mut client, Method::ALLOCATE, |writer| {
        udp(writer);
        attributes(writer);
    });
    assert_eq!((reply.code(), reply.unknown()), (420, all.to_vec()));
}

#[test]
fn a_family_that_lacks_one_of_its_listeners_takes_no_part() {
    let mut config = discovering();
    config.listeners.pop();
    let mut world = World::with(config, live());
    assert_eq!(world.packet(&from(1), &change(2)).reply().code(), 420);
    assert_eq!(world.packet(&from(1), &binding(|_| {})).reply().kinds(), [AttributeType::XOR_MAPPED_ADDRESS]);
}

#[test]
fn each_family_has_its_own_four() {
    let v6 = ["[2001:db8::1]:3478", "[2001:db8::1]:3479", "[2001:db8::2]:3478", "[2001:db8::2]:3479"];
    let mut config = discovering();
    config.listeners.extend(v6.map(addr));
    config.discovery.push(Discovery { primary: addr(v6[0]), alternate: addr(v6[3]) });
    let mut world = World::with(config, live());
    let place = FiveTuple { listener: ListenerId(6), ..Client::new("[2a00::77]:4321", "nobody", "").at };
    let Outcome::ReplyFrom { listener, client, reply } = world.packet(&place, &change(6)) else { panic!("no answer") };
    assert_eq!((listener, client), (ListenerId(7), place.client));
    assert_eq!(told(&reply, AttributeType::RESPONSE_ORIGIN), addr(v6[2]));
    assert_eq!(told(&reply, AttributeType::OTHER_ADDRESS), addr(v6[2]));
    assert_eq!(told(&reply, AttributeType::MAPPED_ADDRESS), place.client);
    assert_eq!(answered(&mut world, 1, &change(6)).0, 4);
}

#[test]
fn behind_a_nat_clients_are_told_the_external_addresses() {
    let external = |local: &str, outside: &str| RelayAddress {
        local: local.parse().unwrap(),
        external: Some(outside.parse().unwrap()),
    };
    let relays = vec![external("192.0.2.1", "203.0.113.1"), external("192.0.2.2", "203.0.113.2")];
    let mut world = World::with(Config { relays, ..discovering() }, live());
    let (source, _, reply) = answered(&mut world, 1, &change(4));
    assert_eq!(source, 3);
    assert_eq!(told(&reply, AttributeType::RESPONSE_ORIGIN), addr("203.0.113.2:3478"));
    assert_eq!(told(&reply, AttributeType::OTHER_ADDRESS), addr("203.0.113.2:3479"));
}
