//! ChannelBind: a number and a peer belong together (RFC 8656 §12).

use turnwell::relay::{ChannelNumbers, Discard, Limits, Why};
use turnwell::wire::AttributeType;

use crate::client::{Client, Received};
use crate::harness::{OTHER_PEER, Outcome, PEER, World, addr, config, live, seconds};

fn up(world: &mut World, client: &Client, number: u16) -> bool {
    match world.channel(client, number, b"up") {
        Outcome::ToPeer { data, .. } => data == b"up",
        Outcome::Discard(Discard::NoChannel) => false,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_bound_channel_relays_both_ways_with_four_bytes_of_header() {
    let mut world = World::new();
    let (mut client, relay) = world.allocated(1000);
    let reply = world.bind(&mut client, 0x4abc, PEER);
    assert_eq!((reply.code(), reply.kinds().as_slice()), (200, &[AttributeType::MESSAGE_INTEGRITY][..]));
    assert_eq!(world.relay.usage().flows, 2);
    let to_peer = Outcome::ToPeer { relay, peer: addr(PEER), data: b"hello".to_vec() };
    assert_eq!(world.channel(&client, 0x4abc, b"hello"), to_peer);
    let received = Received::Channel { number: 0x4abc, data: b"world".to_vec() };
    assert_eq!(world.peer_sends(relay, PEER, b"world"), Outcome::ToClient { client: client.at, received });
}

#[test]
fn a_binding_is_a_permission_for_the_address() {
    let mut world = World::new();
    let (mut client, relay) = world.allocated(1000);
    world.bind(&mut client, 0x4000, "9.9.9.9:1");
    let received = Received::Indication { peer: addr("9.9.9.9:2"), data: b"x".to_vec() };
    assert_eq!(
        world.peer_sends(relay, "9.9.9.9:2", b"x"),
        Outcome::ToClient { client: client.at, received },
        "another port of the peer has no channel, so it comes as an indication"
    );
    assert!(matches!(world.send(&client, "9.9.9.9:2", b"x"), Outcome::ToPeer { .. }));
}

#[test]
fn empty_and_padded_channel_data_is_relayed() {
    let mut world = World::new();
    let (mut client, relay) = world.allocated(1000);
    world.bind(&mut client, 0x4000, PEER);
    let empty = Outcome::ToPeer { relay, peer: addr(PEER), data: vec![] };
    assert_eq!(world.channel(&client, 0x4000, b""), empty);
    let padded = [0x40, 0, 0, 1, b'x', 0, 0, 0];
    let one = Outcome::ToPeer { relay, peer: addr(PEER), data: b"x".to_vec() };
    assert_eq!(world.packet(&client.at, &padded), one);
    let received = Received::Channel { number: 0x4000, data: vec![] };
    assert_eq!(world.peer_sends(relay, PEER, b""), Outcome::ToClient { client: client.at, received });
}

#[test]
fn the_range_of_numbers_is_the_rfcs_and_may_be_widened() {
    let wide = || {
        let mut live = live();
        live.channel_numbers = ChannelNumbers::Rfc5766;
        live
    };
    for (live, number, code) in [
        (live(), 0x3fff, 400),
        (live(), 0x4000, 200),
        (live(), 0x4fff, 200),
        (live(), 0x5000, 400),
        (live(), 0x7fff, 400),
        (live(), 0xffff, 400),
        (wide(), 0x3fff, 400),
        (wide(), 0x4000, 200),
        (wide(), 0x7fff, 200),
        (wide(), 0x8000, 400),
    ] {
        let mut world = World::with(config(), live);
        let (mut client, _) = world.allocated(1000);
        assert_eq!(world.bind(&mut client, number, PEER).code(), code, "{number:#x}");
    }
}

#[test]
fn the_reserved_half_of_channel_number_may_hold_anything() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(1000);
    let reply = world.ask(&mut client, turnwell::wire::Method::CHANNEL_BIND, |w| {
        w.u32(AttributeType::CHANNEL_NUMBER, 0x4000_ffff).xor_address(AttributeType::XOR_PEER_ADDRESS, addr(PEER));
    });
    assert_eq!(reply.code(), 200, "RFC 8656 §18.1: RFFU is ignored on reception");
}

#[test]
fn a_bound_number_takes_no_other_peer_and_a_bound_peer_no_other_number() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(1000);
    assert_eq!(world.bind(&mut client, 0x4000, PEER).code(), 200);
    for (number, peer) in [(0x4000, OTHER_PEER), (0x4000, "9.9.9.9:5001"), (0x4001, PEER)] {
        assert_eq!(world.bind(&mut client, number, peer).code(), 400);
        assert_eq!(world.last_refusal(), Some(Why::ChannelConflict));
    }
    assert_eq!(world.bind(&mut client, 0x4001, "9.9.9.9:5001").code(), 200, "another port is another peer");
}

#[test]
fn a_repeated_channel_bind_is_answered_the_same_and_resets_the_time() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(1000);
    let request = client.sign(turnwell::wire::Method::CHANNEL_BIND, |w| {
        w.u32(AttributeType::CHANNEL_NUMBER, 0x4000 << 16).xor_address(AttributeType::XOR_PEER_ADDRESS, addr(PEER));
    });
    let first = world.packet(&client.at, &request);
    world.refresh(&mut client, Some(3600));
    world.advance(seconds(250));
    assert_eq!(world.packet(&client.at, &request), first);
    assert_eq!(world.relay.usage().flows, 2);
    world.advance(seconds(299));
    assert!(up(&mut world, &client, 0x4000));
}

#[test]
fn more_channels_than_the_limit_get_508() {
    let mut limited = live();
    limited.limits = Limits { channels: 2, ..Limits::default() };
    let mut world = World::with(config(), limited);
    let (mut client, _) = world.allocated(1000);
    assert_eq!(world.bind(&mut client, 0x4000, "1.1.1.1:1").code(), 200);
    assert_eq!(world.bind(&mut client, 0x4001, "1.1.1.1:2").code(), 200);
    assert_eq!(world.bind(&mut client, 0x4002, "1.1.1.1:3").code(), 508);
    assert_eq!(world.last_refusal(), Some(Why::Capacity));
    assert_eq!(world.bind(&mut client, 0x4001, "1.1.1.1:2").code(), 200, "refreshing needs no room");
}

/// Bound at 0 and 500; unbound at 1100. Other ports of the peer may speak for as long.
#[test]
fn the_channel_keeps_its_permission_alive() {
    let mut world = World::new();
    let (mut client, relay) = world.allocated(1000);
    world.refresh(&mut client, Some(3600));
    world.bind(&mut client, 0x4000, PEER);
    for passed in [500, 599] {
        world.advance(seconds(passed));
        assert!(up(&mut world, &client, 0x4000));
        assert!(matches!(world.peer_sends(relay, PEER, b"x"), Outcome::ToClient { .. }));
        assert!(matches!(world.peer_sends(relay, "9.9.9.9:1", b"x"), Outcome::ToClient { .. }));
        if passed == 500 {
            world.bind(&mut client, 0x4000, PEER);
        }
    }
    world.advance(seconds(1));
    assert!(!up(&mut world, &client, 0x4000));
    assert_eq!(world.peer_sends(relay, PEER, b"x"), Outcome::Discard(Discard::NoPermission));
}

#[test]
fn a_create_permission_shortens_no_permission_that_a_channel_keeps() {
    let mut world = World::new();
    let (mut client, relay) = world.allocated(1000);
    world.bind(&mut client, 0x4000, PEER);
    world.advance(seconds(10));
    world.permit(&mut client, &[PEER]);
    world.advance(seconds(580));
    assert!(up(&mut world, &client, 0x4000));
    assert!(matches!(world.peer_sends(relay, PEER, b"x"), Outcome::ToClient { .. }));
}

#[test]
fn a_held_channel_keeps_no_permission() {
    let mut world = World::new();
    let (mut client, relay) = world.allocated(1000);
    world.refresh(&mut client, Some(3600));
    world.bind(&mut client, 0x4000, PEER);
    world.advance(seconds(700));
    assert_eq!(world.peer_sends(relay, PEER, b"x"), Outcome::Discard(Discard::NoPermission));
    world.permit(&mut client, &[PEER]);
    world.advance(seconds(299));
    assert!(matches!(world.peer_sends(relay, PEER, b"x"), Outcome::ToClient { .. }));
    world.advance(seconds(1));
    assert_eq!(world.peer_sends(relay, PEER, b"x"), Outcome::Discard(Discard::NoPermission));
}

#[test]
fn the_channel_stops_with_its_permission_and_goes_on_when_that_is_renewed() {
    let mut world = World::strict();
    let (mut client, relay) = world.allocated(1000);
    world.bind(&mut client, 0x4000, PEER);
    world.advance(seconds(300));
    assert!(!up(&mut world, &client, 0x4000));
    assert_eq!(world.peer_sends(relay, PEER, b"x"), Outcome::Discard(Discard::NoPermission));
    world.permit(&mut client, &[PEER]);
    assert!(up(&mut world, &client, 0x4000));
    let received = Received::Channel { number: 0x4000, data: b"x".to_vec() };
    assert_eq!(world.peer_sends(relay, PEER, b"x"), Outcome::ToClient { client: client.at, received });
}

/// Time 0: bound. 600: unbound. 900: number and peer are free.
#[test]
fn a_lapsed_channel_holds_number_and_peer_for_five_minutes() {
    let mut world = World::new();
    let (mut client, relay) = world.allocated(1000);
    world.refresh(&mut client, Some(3600));
    world.bind(&mut client, 0x4000, PEER);
    world.advance(seconds(590));
    world.permit(&mut client, &[PEER, OTHER_PEER]);
    assert!(up(&mut world, &client, 0x4000));
    world.advance(seconds(10));
    assert!(!up(&mut world, &client, 0x4000));
    let received = Received::Indication { peer: addr(PEER), data: b"x".to_vec() };
    assert_eq!(
        world.peer_sends(relay, PEER, b"x"),
        Outcome::ToClient { client: client.at, received },
        "permitted, unbound: an indication"
    );
    world.advance(seconds(299));
    assert_eq!(world.bind(&mut client, 0x4000, OTHER_PEER).code(), 400);
    assert_eq!(world.bind(&mut client, 0x4001, PEER).code(), 400);
    world.advance(seconds(1));
    assert_eq!(world.relay.usage().flows, 0);
    assert_eq!(world.bind(&mut client, 0x4000, OTHER_PEER).code(), 200);
    assert_eq!(world.bind(&mut client, 0x4001, PEER).code(), 200);
}

#[test]
fn a_held_channel_may_be_bound_again_to_the_same_peer() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(1000);
    world.refresh(&mut client, Some(3600));
    world.bind(&mut client, 0x4000, PEER);
    world.advance(seconds(700));
    assert!(!up(&mut world, &client, 0x4000));
    assert_eq!(world.bind(&mut client, 0x4000, PEER).code(), 200);
    assert!(up(&mut world, &client, 0x4000));
    assert_eq!(world.relay.usage().flows, 2);
}

#[test]
fn data_refreshes_no_channel() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(1000);
    world.refresh(&mut client, Some(3600));
    world.bind(&mut client, 0x4000, PEER);
    for _ in 0..5 {
        world.advance(seconds(119));
        world.permit(&mut client, &[PEER]);
        assert!(up(&mut world, &client, 0x4000));
    }
    world.advance(seconds(5));
    assert!(!up(&mut world, &client, 0x4000));
}
