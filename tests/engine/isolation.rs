//! A five-tuple is a wall: nobody uses, changes or hears what is another's.

use std::num::NonZeroU32;

use turnwell::relay::{Discard, FiveTuple, ListenerId, StreamId};

use crate::client::{Client, Received};
use crate::harness::{Outcome, PEER, World, addr};

/// Everything that differs from Alice's five-tuple in one part only; all of it Alice, with the right password.
fn neighbours(world: &mut World, client: &Client) -> Vec<Client> {
    let at = client.at;
    let stream = |number| NonZeroU32::new(number).map(StreamId);
    [
        FiveTuple { client: addr("100.0.0.1:1001"), ..at },
        FiveTuple { client: addr("100.0.0.2:1000"), ..at },
        FiveTuple { listener: ListenerId(1), ..at },
        FiveTuple { stream: stream(1), ..at },
        FiveTuple { stream: stream(2), ..at },
    ]
    .into_iter()
    .map(|at| {
        let mut neighbour = Client { at, ..client.as_user("alice", "pw") };
        world.challenge(&mut neighbour);
        neighbour
    })
    .collect()
}

#[test]
fn another_five_tuple_of_the_same_user_has_no_part_in_an_allocation() {
    let mut world = World::new();
    let (mut client, relay) = world.allocated(1000);
    world.bind(&mut client, 0x4000, PEER);
    let usage = world.relay.usage();
    for mut other in neighbours(&mut world, &client) {
        assert_eq!(world.send(&other, PEER, b"x"), Outcome::Discard(Discard::NoAllocation));
        assert_eq!(world.channel(&other, 0x4000, b"x"), Outcome::Discard(Discard::NoAllocation));
        assert_eq!(world.refresh(&mut other, Some(0)).code(), 437);
        assert_eq!(world.permit(&mut other, &[PEER]).code(), 437);
        assert_eq!(world.bind(&mut other, 0x4000, PEER).code(), 437);
        world.close(&other);
    }
    assert_eq!(world.relay.usage(), usage);
    let received = Received::Channel { number: 0x4000, data: b"x".to_vec() };
    assert_eq!(world.peer_sends(relay, PEER, b"x"), Outcome::ToClient { client: client.at, received });
}

#[test]
fn each_five_tuple_has_an_allocation_of_its_own() {
    let mut world = World::new();
    let (client, _) = world.allocated(1000);
    let mut all = neighbours(&mut world, &client);
    let relays: Vec<_> = all.iter_mut().map(|other| world.allocate_ok(other)).collect();
    assert_eq!(world.relay.usage().allocations, 6);
    for (at, (other, relay)) in all.iter_mut().zip(&relays).enumerate() {
        let number = 0x4000;
        let peer = format!("9.9.9.{at}:1");
        assert_eq!(world.bind(other, number, &peer).code(), 200, "the same number, another peer");
        let to_peer = Outcome::ToPeer { relay: *relay, peer: addr(&peer), data: b"up".to_vec() };
        assert_eq!(world.channel(other, number, b"up"), to_peer);
    }
    for (at, (other, relay)) in all.iter().zip(&relays).enumerate() {
        let peer = format!("9.9.9.{at}:1");
        let received = Received::Channel { number: 0x4000, data: b"down".to_vec() };
        assert_eq!(world.peer_sends(*relay, &peer, b"down"), Outcome::ToClient { client: other.at, received });
        let next = format!("9.9.9.{}:1", (at + 1) % all.len());
        assert_eq!(world.peer_sends(*relay, &next, b"x"), Outcome::Discard(Discard::NoPermission));
    }
}

#[test]
fn permissions_of_one_allocation_mean_nothing_for_another() {
    let mut world = World::new();
    let (mut one, _) = world.allocated(1);
    let (two, relay_of_two) = world.allocated(2);
    world.permit(&mut one, &[PEER]);
    assert_eq!(world.send(&two, PEER, b"x"), Outcome::Discard(Discard::NoPermission));
    assert_eq!(world.peer_sends(relay_of_two, PEER, b"x"), Outcome::Discard(Discard::NoPermission));
}

#[test]
fn a_new_owner_of_a_five_tuple_inherits_nothing() {
    let mut world = World::new();
    let (mut alice, _) = world.allocated(1000);
    world.bind(&mut alice, 0x4000, PEER);
    world.refresh(&mut alice, Some(0));
    let mut bob = alice.as_user("bob", "pw");
    let relay = world.allocate_ok(&mut bob);
    assert_eq!(world.channel(&bob, 0x4000, b"x"), Outcome::Discard(Discard::NoChannel));
    assert_eq!(world.send(&bob, PEER, b"x"), Outcome::Discard(Discard::NoPermission));
    assert_eq!(world.peer_sends(relay, PEER, b"x"), Outcome::Discard(Discard::NoPermission));
    assert_eq!(world.refresh(&mut alice, None).code(), 441);
}

/// Indications carry no credential, so the five-tuple alone decides; a forged source address is what a network has to
/// stop.
#[test]
fn a_signature_on_an_indication_is_neither_needed_nor_looked_at() {
    use turnwell::wire::{AttributeType, Class, Method, TransactionId, Writer};
    let mut world = World::new();
    let (mut client, relay) = world.allocated(1000);
    world.permit(&mut client, &[PEER]);
    let wrong = client.as_user("bob", "wrong");
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, Class::Indication, Method::SEND, TransactionId([1; 12]));
    writer.xor_address(AttributeType::XOR_PEER_ADDRESS, addr(PEER)).attribute(AttributeType::DATA, b"x");
    wrong.prove(&mut writer);
    let to_peer = Outcome::ToPeer { relay, peer: addr(PEER), data: b"x".to_vec() };
    assert_eq!(world.packet(&client.at, &bytes), to_peer);
}
