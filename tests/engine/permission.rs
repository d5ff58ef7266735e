//! CreatePermission: for an address and any port, all or none (RFC 8656 §9, §10.2).

use turnwell::relay::{Discard, Limits, Why};

use crate::client::Received;
use crate::harness::{OTHER_PEER, Outcome, PEER, PEER_V6, World, addr, config, live, seconds};

#[test]
fn a_permission_opens_both_ways_for_every_port_of_the_address() {
    let mut world = World::new();
    let (mut client, relay) = world.allocated(1000);
    assert_eq!(world.peer_sends(relay, PEER, b"x"), Outcome::Discard(Discard::NoPermission));
    assert_eq!(world.permit(&mut client, &[PEER]).code(), 200);
    for port in [1, 5000, 65_535] {
        let peer = format!("9.9.9.9:{port}");
        let to_peer = Outcome::ToPeer { relay, peer: addr(&peer), data: b"up".to_vec() };
        assert_eq!(world.send(&client, &peer, b"up"), to_peer);
        let received = Received::Indication { peer: addr(&peer), data: b"down".to_vec() };
        assert_eq!(world.peer_sends(relay, &peer, b"down"), Outcome::ToClient { client: client.at, received });
    }
    assert_eq!(world.send(&client, "9.9.9.8:5000", b"x"), Outcome::Discard(Discard::NoPermission));
    assert_eq!(world.peer_sends(relay, "9.9.9.8:5000", b"x"), Outcome::Discard(Discard::NoPermission));
}

#[test]
fn one_request_may_name_several_peers() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(1000);
    assert_eq!(world.permit(&mut client, &[PEER, OTHER_PEER, "1.1.1.1:0"]).code(), 200);
    for peer in [PEER, OTHER_PEER, "1.1.1.1:53"] {
        assert!(matches!(world.send(&client, peer, b"x"), Outcome::ToPeer { .. }));
    }
}

#[test]
fn one_bad_peer_leaves_the_others_without_permission() {
    for (bad, code) in [("10.1.2.3:1", 403), (PEER_V6, 443)] {
        let mut world = World::new();
        let (mut client, _) = world.allocated(1000);
        assert_eq!(world.permit(&mut client, &[PEER, bad, OTHER_PEER]).code(), code);
        for peer in [PEER, OTHER_PEER] {
            assert_eq!(world.send(&client, peer, b"x"), Outcome::Discard(Discard::NoPermission));
        }
    }
}

#[test]
fn a_repeated_create_permission_is_answered_the_same_and_resets_the_time() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(1000);
    let request = client.sign(turnwell::wire::Method::CREATE_PERMISSION, |w| {
        w.xor_address(turnwell::wire::AttributeType::XOR_PEER_ADDRESS, addr(PEER));
    });
    let first = world.packet(&client.at, &request);
    world.advance(seconds(200));
    assert_eq!(world.packet(&client.at, &request), first);
    world.advance(seconds(299));
    assert!(matches!(world.send(&client, PEER, b"x"), Outcome::ToPeer { .. }));
    world.advance(seconds(1));
    assert_eq!(world.send(&client, PEER, b"x"), Outcome::Discard(Discard::NoPermission));
}

#[test]
fn data_refreshes_no_permission() {
    let mut world = World::new();
    let (mut client, relay) = world.allocated(1000);
    world.permit(&mut client, &[PEER]);
    for _ in 0..299 {
        world.advance(seconds(1));
        assert!(matches!(world.send(&client, PEER, b"x"), Outcome::ToPeer { .. }));
        assert!(matches!(world.peer_sends(relay, PEER, b"x"), Outcome::ToClient { .. }));
    }
    world.advance(seconds(1));
    assert_eq!(world.peer_sends(relay, PEER, b"x"), Outcome::Discard(Discard::NoPermission));
}

fn limited(permissions: usize) -> World {
    let mut live = live();
    live.limits = Limits { permissions, channels: 10, ..Limits::default() };
    World::with(config(), live)
}

#[test]
fn more_permissions_than_the_limit_get_508_and_none_is_installed() {
    let mut world = limited(3);
    let (mut client, _) = world.allocated(1000);
    assert_eq!(world.permit(&mut client, &["1.1.1.1:1", "1.1.1.2:1"]).code(), 200);
    assert_eq!(world.permit(&mut client, &["1.1.1.3:1", "1.1.1.4:1"]).code(), 508);
    assert_eq!(world.last_refusal(), Some(Why::Capacity));
    assert_eq!(world.send(&client, "1.1.1.3:1", b"x"), Outcome::Discard(Discard::NoPermission));
    assert_eq!(world.permit(&mut client, &["1.1.1.1:1", "1.1.1.2:1", "1.1.1.3:1"]).code(), 200);
    assert_eq!(world.bind(&mut client, 0x4000, "1.1.1.4:1").code(), 508, "a binding is a permission, too");
    world.advance(seconds(300));
    assert_eq!(world.permit(&mut client, &["1.1.1.4:1"]).code(), 200, "lapsed ones do not count");
}

#[test]
fn the_same_new_peer_named_twice_is_one_permission() {
    let mut world = limited(2);
    let (mut client, _) = world.allocated(1000);
    assert_eq!(world.permit(&mut client, &["1.1.1.1:1", "1.1.1.1:2", "1.1.1.2:1", "1.1.1.2:9"]).code(), 200);
    assert_eq!(world.permit(&mut client, &["1.1.1.3:1"]).code(), 508);
}

#[test]
fn a_lowered_limit_leaves_what_is_there_refreshable() {
    let mut world = limited(3);
    let (mut client, _) = world.allocated(1000);
    world.permit(&mut client, &["1.1.1.1:1", "1.1.1.2:1", "1.1.1.3:1"]);
    world.bind(&mut client, 0x4000, "1.1.1.1:1");
    let mut lower = live();
    lower.limits = Limits { permissions: 1, channels: 0, ..Limits::default() };
    world.set_live(lower);
    assert_eq!(world.permit(&mut client, &["1.1.1.1:1", "1.1.1.3:1"]).code(), 200);
    assert_eq!(world.bind(&mut client, 0x4000, "1.1.1.1:1").code(), 200);
    assert_eq!(world.permit(&mut client, &["1.1.1.4:1"]).code(), 508);
    assert_eq!(world.bind(&mut client, 0x4001, "1.1.1.2:1").code(), 508);
}

#[test]
fn ipv6_permissions_are_for_the_whole_address() {
    let mut world = World::new();
    let mut client = world.client_of("alice", "[2a00::77]:1000");
    let relay = world.allocate_ok(&mut client);
    assert_eq!(world.permit(&mut client, &[PEER_V6]).code(), 200);
    assert!(matches!(world.send(&client, "[2a00::9]:1", b"x"), Outcome::ToPeer { .. }));
    assert_eq!(world.send(&client, "[2a00::a]:1", b"x"), Outcome::Discard(Discard::NoPermission));
    assert_eq!(world.peer_sends(relay, "[2a00::a]:1", b"x"), Outcome::Discard(Discard::NoPermission));
    assert_eq!(world.permit(&mut client, &[PEER]).code(), 443);
    assert_eq!(world.send(&client, PEER, b"x"), Outcome::Discard(Discard::PeerFamily));
}
