//! Relayed data: every size, both ways, by indication and by channel, and what is counted.

use std::collections::HashSet;

use turnwell::relay::{Action, Discard, PeerAddr, Traffic};

use crate::client::Received;
use crate::harness::{Outcome, PEER, World, addr};

fn traffic(sent: (u64, u64), received: (u64, u64)) -> Traffic {
    Traffic { sent_packets: sent.0, sent_bytes: sent.1, received_packets: received.0, received_bytes: received.1 }
}

#[test]
fn every_size_arrives_unchanged_both_ways() {
    let mut world = World::new();
    let (mut client, relay) = world.allocated(1000);
    world.permit(&mut client, &[PEER]);
    world.bind(&mut client, 0x4000, "9.9.9.9:1");
    for length in (0..70).chain([1199, 1200, 1472, 9000, 65_000]) {
        let data: Vec<u8> = (0..length).map(|at: u32| at.to_le_bytes()[0]).collect();
        let to = |peer: &str| Outcome::ToPeer { relay, peer: addr(peer), data: data.clone() };
        assert_eq!(world.send(&client, PEER, &data), to(PEER), "{length}");
        assert_eq!(world.channel(&client, 0x4000, &data), to("9.9.9.9:1"), "{length}");
        let indication = Received::Indication { peer: addr(PEER), data: data.clone() };
        let to_client = Outcome::ToClient { client: client.at, received: indication };
        assert_eq!(world.peer_sends(relay, PEER, &data), to_client, "{length}");
        let channel = Received::Channel { number: 0x4000, data: data.clone() };
        let to_client = Outcome::ToClient { client: client.at, received: channel };
        assert_eq!(world.peer_sends(relay, "9.9.9.9:1", &data), to_client, "{length}");
    }
}

#[test]
fn relayed_data_is_a_range_of_the_packet_and_writes_nothing() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(1000);
    world.bind(&mut client, 0x4000, PEER);
    let mut out = Vec::new();
    let packet = crate::client::channel_data(0x4000, b"hello");
    let action = world.relay.handle_client(world.now, &client.at, &packet, &mut out);
    assert!(matches!(action, Action::ToPeer { payload, .. } if payload == (4..9)));
    assert!(out.is_empty());
}

#[test]
fn what_is_written_stands_behind_what_the_buffer_had() {
    let mut world = World::new();
    let (mut client, relay) = world.allocated(1000);
    world.bind(&mut client, 0x4000, PEER);
    let mut out = b"kept".to_vec();
    let action = world.relay.handle_peer(world.now, relay, PeerAddr(addr(PEER)), b"abc", &mut out);
    assert!(matches!(action, Action::ToClient { out, payload, padding: 0, .. } if out == (4..8) && payload == (0..3)));
    assert_eq!(out, [b'k', b'e', b'p', b't', 0x40, 0, 0, 3]);
}

#[test]
fn indications_never_repeat_a_transaction_id() {
    let mut world = World::new();
    let (mut client, relay) = world.allocated(1000);
    world.permit(&mut client, &[PEER]);
    let mut ids = HashSet::new();
    for _ in 0..1000 {
        let mut out = Vec::new();
        let _ = world.relay.handle_peer(world.now, relay, PeerAddr(addr(PEER)), b"x", &mut out);
        assert!(ids.insert(out[8..20].to_vec()));
    }
}

#[test]
fn what_fits_no_message_is_dropped_and_counted_for_nobody() {
    let mut world = World::new();
    let (mut client, relay) = world.allocated(1000);
    world.permit(&mut client, &[PEER]);
    world.bind(&mut client, 0x4000, "9.9.9.9:1");
    let huge = vec![0; 65_536];
    for source in [PEER, "9.9.9.9:1"] {
        assert_eq!(world.peer_sends(relay, source, &huge), Outcome::Discard(Discard::TooLong));
    }
    // XOR-PEER-ADDRESS takes 12 bytes, DATA's header 4, its padding 1: 65,519 bytes are the most.
    assert_eq!(world.peer_sends(relay, PEER, &huge[..65_520]), Outcome::Discard(Discard::TooLong));
    assert!(matches!(world.peer_sends(relay, PEER, &huge[..65_516]), Outcome::ToClient { .. }));
    assert!(matches!(world.peer_sends(relay, "9.9.9.9:1", &huge[..65_535]), Outcome::ToClient { .. }));
    let counted = traffic((0, 0), (2, 65_516 + 65_535));
    assert_eq!(world.relay.traffic(&client.at), Some(counted));
    assert_eq!(world.relay.tally().received_packets, 2);
    assert_eq!(world.relay.tally().received_bytes, 65_516 + 65_535);
}

#[test]
fn payload_is_counted_once_by_allocation_and_engine_whatever_the_framing() {
    let mut world = World::new();
    let (mut client, relay) = world.allocated(1000);
    world.permit(&mut client, &[PEER]);
    world.bind(&mut client, 0x4000, "9.9.9.9:1");
    world.send(&client, PEER, &[0; 100]);
    world.channel(&client, 0x4000, &[0; 20]);
    world.channel(&client, 0x4000, &[0; 3]);
    world.peer_sends(relay, PEER, &[0; 7]);
    world.peer_sends(relay, "9.9.9.9:1", &[0; 50]);
    world.peer_sends(relay, "9.9.9.8:1", &[0; 1000]);
    world.send(&client, "9.9.9.8:1", &[0; 1000]);
    world.channel(&client, 0x4001, &[0; 1000]);
    let counted = traffic((3, 123), (2, 57));
    assert_eq!(world.relay.traffic(&client.at), Some(counted));
    let tally = *world.relay.tally();
    assert_eq!((tally.sent_packets, tally.sent_bytes), (3, 123));
    assert_eq!((tally.received_packets, tally.received_bytes), (2, 57));
    world.events();
    world.refresh(&mut client, Some(0));
    assert_eq!(world.ended()[0].0.traffic, counted, "and so says the record of its end");
}

#[test]
fn traffic_of_a_channel_that_is_gone_stays_counted() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(1000);
    world.refresh(&mut client, Some(3600));
    world.bind(&mut client, 0x4000, PEER);
    world.channel(&client, 0x4000, &[0; 10]);
    world.advance(crate::harness::seconds(900));
    assert_eq!(world.relay.usage().flows, 0);
    world.bind(&mut client, 0x4001, PEER);
    world.channel(&client, 0x4001, &[0; 5]);
    assert_eq!(world.relay.traffic(&client.at), Some(traffic((2, 15), (0, 0))));
}

#[test]
fn a_client_without_an_allocation_has_no_traffic() {
    let mut world = World::new();
    let client = world.client(1000);
    assert_eq!(world.relay.traffic(&client.at), None);
}
