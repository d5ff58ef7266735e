//! Dual allocation: a relayed address of each family for one client (RFC 8656 §7.2, ADDITIONAL-ADDRESS-FAMILY).

use std::net::SocketAddr;

use turnwell::relay::{EndReason, OpenError, RelayId};
use turnwell::wire::{AttributeType, Method, Writer};

use crate::client::{Client, Reply, udp};
use crate::harness::{Outcome, RELAY_V6, World, addr, config, live, seconds};

const PEER_V4: &str = "198.51.101.9:7000";
const PEER_V6: &str = "[2001:4860::9]:7000";

fn both(writer: &mut Writer<'_>) {
    udp(writer);
    writer.attribute(AttributeType::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0]);
}

fn relayed(reply: &Reply) -> Vec<SocketAddr> {
    let of_kind = |kind| reply.attributes().into_iter().filter(move |attribute| attribute.kind == kind);
    of_kind(AttributeType::XOR_RELAYED_ADDRESS).map(|found| found.xor_address(reply.id()).unwrap()).collect()
}

fn family(number: u8) -> impl Fn(&mut Writer<'_>) {
    move |writer| {
        writer.attribute(AttributeType::REQUESTED_ADDRESS_FAMILY, &[number, 0, 0, 0]);
    }
}

/// A client with both, and its relay sockets: IPv4, IPv6.
fn allocated(world: &mut World) -> (Client, [RelayId; 2]) {
    let mut client = world.client(1000);
    let reply = world.ask(&mut client, Method::ALLOCATE, both);
    assert_eq!(reply.code(), 200);
    let last = world.last_relay();
    (client, [RelayId(last.0 - 1), last])
}

#[test]
fn one_request_gets_an_address_of_each_family() {
    let mut world = World::new();
    let mut client = world.client(1000);
    let bytes = client.sign(Method::ALLOCATE, both);
    let reply = world.packet(&client.at, &bytes).reply();
    let families: Vec<bool> = relayed(&reply).iter().map(SocketAddr::is_ipv4).collect();
    assert_eq!((reply.code(), families), (200, vec![true, false]));
    assert!(reply.find(AttributeType::ADDRESS_ERROR_CODE).is_none());
    let again = world.packet(&client.at, &bytes).reply();
    assert_eq!(again.bytes, reply.bytes, "a retransmission gets the same answer");
    assert_eq!(world.relay.usage().allocations, 2);
}

#[test]
fn data_goes_by_the_family_of_the_peer() {
    let mut world = World::new();
    let (mut client, [v4, v6]) = allocated(&mut world);
    assert_eq!(world.permit(&mut client, &[PEER_V4, PEER_V6]).code(), 200);
    for (peer, relay) in [(PEER_V4, v4), (PEER_V6, v6)] {
        let sent = Outcome::ToPeer { relay, peer: addr(peer), data: b"up".to_vec() };
        assert_eq!(world.send(&client, peer, b"up"), sent);
        assert!(matches!(world.peer_sends(relay, peer, b"down"), Outcome::ToClient { .. }));
    }
    assert_eq!(world.bind(&mut client, 0x4001, PEER_V6).code(), 200);
    assert_eq!(world.bind(&mut client, 0x4001, PEER_V4).code(), 400, "one number, one peer");
    assert_eq!(world.bind(&mut client, 0x4002, PEER_V4).code(), 200);
    let sent = Outcome::ToPeer { relay: v6, peer: addr(PEER_V6), data: b"up".to_vec() };
    assert_eq!(world.channel(&client, 0x4001, b"up"), sent);
}

#[test]
fn each_family_is_refreshed_and_ended_by_itself_or_both_together() {
    let mut world = World::new();
    let (mut client, _) = allocated(&mut world);
    world.events();
    let end_v4 = |writer: &mut Writer<'_>| {
        family(1)(writer);
        writer.u32(AttributeType::LIFETIME, 0);
    };
    assert_eq!(world.ask(&mut client, Method::REFRESH, end_v4).code(), 200);
    assert_eq!(world.ended().len(), 1);
    assert_eq!(world.ask(&mut client, Method::REFRESH, family(1)).code(), 443);
    assert_eq!(world.ask(&mut client, Method::REFRESH, family(2)).code(), 200);
    assert_eq!(world.permit(&mut client, &[PEER_V4]).code(), 443);
    assert_eq!(world.permit(&mut client, &[PEER_V6]).code(), 200);
    assert_eq!(world.refresh(&mut client, Some(0)).code(), 200);
    world.assert_empty();

    let (mut client, _) = allocated(&mut world);
    world.advance(seconds(500));
    assert_eq!(world.ask(&mut client, Method::REFRESH, family(2)).code(), 200);
    world.events();
    world.advance(seconds(101));
    let ended = world.ended();
    assert!(matches!(ended.as_slice(), [(record, EndReason::Expired)] if record.relayed.is_ipv4()), "{ended:?}");
    assert_eq!(world.refresh(&mut client, Some(0)).code(), 200);
    world.assert_empty();

    let (mut client, _) = allocated(&mut world);
    assert_eq!(world.refresh(&mut client, Some(0)).code(), 200);
    world.assert_empty();
    let (client, _) = allocated(&mut world);
    world.close(&client);
    world.assert_empty();
}

#[test]
fn what_cannot_be_had_is_told_beside_what_can() {
    let error = |reply: &Reply| reply.bytes_of(AttributeType::ADDRESS_ERROR_CODE).map(|value| value[..4].to_vec());
    let mut only_v6 = config();
    only_v6.relays.retain(|relay| relay.local.is_ipv6());
    let mut world = World::with(only_v6, live());
    let mut client = world.client(1000);
    let reply = world.ask(&mut client, Method::ALLOCATE, both);
    assert_eq!((reply.code(), error(&reply)), (200, Some(vec![1, 0, 4, 40])));
    assert_eq!(relayed(&reply).iter().map(|address| address.ip().to_string()).collect::<Vec<_>>(), [RELAY_V6]);

    for (refusals, failed) in
        [(vec![OpenError::Unavailable], vec![1, 0, 5, 8]), (vec![OpenError::UserQuota], vec![1, 0, 4, 86])]
    {
        let mut world = World::new();
        world.refusals.extend(refusals);
        let mut client = world.client(1000);
        let reply = world.ask(&mut client, Method::ALLOCATE, both);
        assert_eq!((reply.code(), error(&reply)), (200, Some(failed)));
        assert_eq!(relayed(&reply).len(), 1);
        assert_eq!(world.relay.usage().ports, 1);
    }
    let mut world = World::new();
    world.refusals.extend([OpenError::Unavailable, OpenError::Unavailable]);
    let mut client = world.client(1000);
    assert_eq!(world.ask(&mut client, Method::ALLOCATE, both).code(), 508);
    world.assert_empty();
}

#[test]
fn what_excludes_each_other_is_refused() {
    let with = |kind: AttributeType, value: &'static [u8]| {
        move |writer: &mut Writer<'_>| {
            both(writer);
            writer.attribute(kind, value);
        }
    };
    let mut world = World::new();
    let mut client = world.client(1000);
    for (kind, value) in [
        (AttributeType::REQUESTED_ADDRESS_FAMILY, &[1, 0, 0, 0][..]),
        (AttributeType::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0]),
        (AttributeType::RESERVATION_TOKEN, &[7; 8]),
        (AttributeType::EVEN_PORT, &[0x80]),
    ] {
        assert_eq!(world.ask(&mut client, Method::ALLOCATE, with(kind, value)).code(), 400, "{kind:?}");
    }
    let ipv4 = |writer: &mut Writer<'_>| {
        udp(writer);
        writer.attribute(AttributeType::ADDITIONAL_ADDRESS_FAMILY, &[1, 0, 0, 0]);
    };
    assert_eq!(world.ask(&mut client, Method::ALLOCATE, ipv4).code(), 400);
    let even = world.ask(&mut client, Method::ALLOCATE, with(AttributeType::EVEN_PORT, &[0]));
    assert!(relayed(&even).iter().all(|address| address.port() % 2 == 0) && relayed(&even).len() == 2);
}

#[test]
fn a_channel_number_is_one_peers_across_both_families() {
    let mut world = World::new();
    let (mut client, _) = allocated(&mut world);
    assert_eq!(world.bind(&mut client, 0x4000, PEER_V4).code(), 200);
    assert_eq!(world.bind(&mut client, 0x4000, PEER_V6).code(), 400);
    assert_eq!(world.bind(&mut client, 0x4001, PEER_V6).code(), 200);
    assert_eq!(world.bind(&mut client, 0x4001, PEER_V4).code(), 400);
    assert_eq!(world.relay.usage().flows, 4);
}

#[test]
fn traffic_is_that_of_both_families_and_each_record_tells_its_own() {
    let mut world = World::new();
    let (mut client, [v4, _]) = allocated(&mut world);
    world.permit(&mut client, &[PEER_V4]);
    world.bind(&mut client, 0x4000, PEER_V6);
    world.send(&client, PEER_V4, b"four");
    world.channel(&client, 0x4000, b"sixsix");
    world.peer_sends(v4, PEER_V4, b"x");
    let traffic = world.relay.traffic(&client.at).unwrap();
    assert_eq!((traffic.sent_packets, traffic.sent_bytes, traffic.received_packets), (2, 10, 1));
    world.events();
    world.close(&client);
    let mut sent: Vec<u64> = world.ended().iter().map(|(record, _)| record.traffic.sent_bytes).collect();
    sent.sort_unstable();
    assert_eq!(sent, [4, 6]);
}

#[test]
fn both_sockets_are_given_back_when_another_request_was_faster() {
    let mut world = World::new();
    let mut client = world.client(1000);
    let [one, two] = [client.sign(Method::ALLOCATE, both), client.sign(Method::ALLOCATE, both)];
    let (one, two) = (world.pending(&client.at, &one), world.pending(&client.at, &two));
    assert_eq!(world.fulfil(two).reply().code(), 200);
    world.events();
    assert_eq!(world.fulfil(one).reply().code(), 437);
    let closed = world.events().iter().filter(|event| matches!(event, turnwell::relay::Event::Close(..))).count();
    assert_eq!((closed, world.relay.usage().ports), (2, 2));
    world.close(&client);
    world.assert_empty();
}

#[test]
fn the_family_that_is_left_lives_on_when_a_late_host_has_not_ended_the_other() {
    let mut world = World::new();
    let (mut client, [v4, v6]) = allocated(&mut world);
    world.ask(&mut client, Method::REFRESH, |writer| {
        family(2)(writer);
        writer.u32(AttributeType::LIFETIME, 3600);
    });
    world.advance(seconds(500));
    world.permit(&mut client, &[PEER_V4, PEER_V6]);
    world.punctual = false;
    world.advance(seconds(100));
    assert_eq!(world.send(&client, PEER_V4, b"x"), Outcome::Discard(turnwell::relay::Discard::NoAllocation));
    assert_eq!(world.peer_sends(v4, PEER_V4, b"x"), Outcome::Discard(turnwell::relay::Discard::UnknownRelay));
    let sent = Outcome::ToPeer { relay: v6, peer: addr(PEER_V6), data: b"x".to_vec() };
    assert_eq!(world.send(&client, PEER_V6, b"x"), sent);
    assert_eq!(world.permit(&mut client, &[PEER_V4]).code(), 443, "the first request found it out");
    assert_eq!(world.relay.usage().allocations, 1);
}
