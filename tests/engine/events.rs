//! The rare side effects, exactly and in order.

use turnwell::relay::flow::{Flow, FlowKey};
use turnwell::relay::{EndReason, Event, Mono, PeerAddr, Record, RelayId, Traffic};
use turnwell::wire::ChannelNumber;

use crate::client::{Client, Received};
use crate::harness::{OTHER_PEER, Outcome, PEER, World, addr, seconds};

fn keys(client: &Client, relay: RelayId, number: u16, peer: &str) -> [FlowKey; 2] {
    [FlowKey::client(&client.at, ChannelNumber(number)), FlowKey::peer(relay, PeerAddr(addr(peer)))]
}

/// What `FlowUp` says when a channel's rows are written at `lasts` seconds before they end.
fn up(world: &World, keys: [FlowKey; 2], lasts: u64, counted: [(u64, u64); 2]) -> [Event; 2] {
    let [client, peer] = keys;
    let expires = world.now.mono.after(seconds(lasts));
    let row = |to, (packets, bytes)| Flow { to, allocation: 0, expires, packets, bytes };
    [Event::FlowUp(client, row(peer, counted[0])), Event::FlowUp(peer, row(client, counted[1]))]
}

#[test]
fn an_allocation_begins_and_ends_with_its_record() {
    let mut world = World::new();
    let mut client = world.client(1000);
    let created = world.now.mono;
    let relayed = world.allocate(&mut client).relayed();
    let record = Record { user: "alice".into(), client: client.at, relayed, created, traffic: Traffic::default() };
    assert_eq!(world.events(), [Event::Started(Box::new(record.clone()))]);
    world.advance(seconds(5));
    world.close(&client);
    let relay = world.last_relay();
    assert_eq!(world.events(), [Event::Close(relay, relayed), Event::Ended(Box::new(record), EndReason::Closed)]);
}

#[test]
fn flow_rows_go_up_when_they_change_and_down_once() {
    let mut world = World::strict();
    let (mut client, relay) = world.allocated(1000);
    world.refresh(&mut client, Some(3600));
    world.events();
    let keys = keys(&client, relay, 0x4000, PEER);

    world.bind(&mut client, 0x4000, PEER);
    assert_eq!(world.events(), up(&world, keys, 300, [(0, 0); 2]), "as long as the permission");
    world.bind(&mut client, 0x4000, PEER);
    assert_eq!(world.events(), [], "the same rows again");

    world.channel(&client, 0x4000, b"abc");
    world.peer_sends(relay, PEER, b"defg");
    world.advance(seconds(200));
    world.permit(&mut client, &[PEER]);
    assert_eq!(world.events(), up(&world, keys, 300, [(1, 3), (1, 4)]), "counters are kept");
    world.permit(&mut client, &[OTHER_PEER]);
    assert_eq!(world.events(), [], "somebody else's permission");

    world.advance(seconds(250));
    world.permit(&mut client, &[PEER]);
    assert_eq!(world.events(), up(&world, keys, 150, [(1, 3), (1, 4)]), "no longer than the channel");

    world.advance(seconds(300));
    let mut over = up(&world, keys, 0, [(1, 3), (1, 4)]);
    for event in &mut over {
        let Event::FlowUp(_, row) = event else { unreachable!("rows go up") };
        row.expires = Mono(0);
    }
    assert_eq!(world.events(), over, "the permission is gone: the rows say so, and stay until the number is free");
    world.advance(seconds(149));
    assert_eq!(world.events(), []);
    world.advance(seconds(1));
    assert_eq!(world.events(), keys.map(Event::FlowDown), "when number and peer are free");
    assert_eq!(world.relay.usage().flows, 0);
}

#[test]
fn a_shorter_life_of_the_allocation_shortens_its_rows() {
    let mut world = World::strict();
    let (mut client, relay) = world.allocated(1000);
    world.refresh(&mut client, Some(3600));
    world.advance(seconds(3500));
    world.challenge(&mut client);
    world.events();
    world.bind(&mut client, 0x4000, PEER);
    let keys = keys(&client, relay, 0x4000, PEER);
    assert_eq!(world.events(), up(&world, keys, 100, [(0, 0); 2]));
    world.refresh(&mut client, None);
    assert_eq!(world.events(), up(&world, keys, 300, [(0, 0); 2]));
}

#[test]
fn an_end_takes_the_rows_down_first() {
    let mut world = World::new();
    let (mut client, relay) = world.allocated(1000);
    let keys = [keys(&client, relay, 0x4000, PEER), keys(&client, relay, 0x4001, OTHER_PEER)];
    world.bind(&mut client, 0x4001, OTHER_PEER);
    world.bind(&mut client, 0x4000, PEER);
    world.events();
    world.refresh(&mut client, Some(0));
    let events = world.events();
    assert_eq!(events[..4], keys.concat().into_iter().map(Event::FlowDown).collect::<Vec<_>>());
    assert!(matches!(events[4..], [Event::Close(closed, _), Event::Ended(_, EndReason::Deleted)] if closed == relay));
}

#[test]
fn data_and_binding_cause_no_event() {
    let mut world = World::new();
    let (mut client, relay) = world.allocated(1000);
    world.bind(&mut client, 0x4000, PEER);
    world.events();
    for _ in 0..100 {
        world.channel(&client, 0x4000, b"x");
        world.send(&client, PEER, b"x");
        world.peer_sends(relay, PEER, b"x");
        world.send(&client, OTHER_PEER, b"x");
        world.packet(&client.at, &[0xff; 30]);
    }
    assert_eq!(world.events(), []);
}

/// Random sizes over every path; the record of the end must say what was seen to be relayed.
#[test]
fn the_record_of_an_end_equals_what_was_relayed() {
    let mut world = World::new();
    let (mut client, relay) = world.allocated(1000);
    world.refresh(&mut client, Some(3600));
    world.bind(&mut client, 0x4000, PEER);
    world.permit(&mut client, &[OTHER_PEER]);
    let mut seen = Traffic::default();
    let mut state = 12_345_u32;
    for round in 0..2000_u32 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let data = vec![0; usize::try_from(state >> 22).unwrap()];
        let outcome = match (state >> 8) % 5 {
            0 => world.channel(&client, 0x4000, &data),
            1 => world.send(&client, OTHER_PEER, &data),
            2 => world.peer_sends(relay, PEER, &data),
            3 => world.peer_sends(relay, OTHER_PEER, &data),
            _ => world.send(&client, "9.9.9.9:7777", &data),
        };
        match outcome {
            Outcome::ToPeer { data, .. } | Outcome::ToSibling { data, .. } => {
                seen.sent_packets += 1;
                seen.sent_bytes += data.len() as u64;
            }
            Outcome::ToClient {
                received: Received::Channel { data, .. } | Received::Indication { data, .. }, ..
            } => {
                seen.received_packets += 1;
                seen.received_bytes += data.len() as u64;
            }
            Outcome::ToClient { received: Received::Icmp { .. }, .. } => {}
            Outcome::Discard(_) => {}
            other => panic!("data led to {other:?}"),
        }
        if round % 400 == 0 {
            world.advance(seconds(250));
            world.permit(&mut client, &[PEER, OTHER_PEER]);
            world.bind(&mut client, 0x4000, PEER);
        }
    }
    assert_eq!(world.relay.traffic(&client.at), Some(seen));
    world.refresh(&mut client, Some(0));
    assert_eq!(world.ended()[0].0.traffic, seen);
    assert!(seen.sent_packets > 1000 && seen.received_packets > 700);
}
