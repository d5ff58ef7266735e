//! What ends by itself, to the nanosecond, and that a late host does no harm.

use std::time::Duration;

use turnwell::relay::{Discard, EndReason, Event};

use crate::harness::{Outcome, PEER, World, seconds};

const TICK: Duration = Duration::from_nanos(1);

#[test]
fn an_allocation_ends_exactly_at_its_time() {
    let mut world = World::new();
    let (mut client, relay) = world.allocated(1000);
    world.permit(&mut client, &[PEER]);
    world.advance(seconds(400));
    world.permit(&mut client, &[PEER]);
    world.advance(seconds(200) - TICK);
    assert!(matches!(world.send(&client, PEER, b"x"), Outcome::ToPeer { .. }));
    world.events();
    world.advance(TICK);
    let events = world.events();
    assert!(
        matches!(events.as_slice(), [Event::Close(closed, _), Event::Ended(_, EndReason::Expired)] if *closed == relay),
        "{events:?}"
    );
    assert_eq!(world.send(&client, PEER, b"x"), Outcome::Discard(Discard::NoAllocation));
    assert_eq!(world.peer_sends(relay, PEER, b"x"), Outcome::Discard(Discard::UnknownRelay));
    assert_eq!(world.refresh(&mut client, None).code(), 437);
    world.assert_empty();
}

#[test]
fn everything_of_an_allocation_goes_with_it() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(1000);
    for number in 0..50 {
        assert_eq!(world.bind(&mut client, 0x4000 + number, &format!("1.1.1.{number}:1")).code(), 200);
    }
    assert_eq!(world.relay.usage().flows, 100);
    world.advance(seconds(600));
    world.assert_empty();
}

#[test]
fn poll_timeout_is_the_first_thing_that_ends() {
    let mut world = World::strict();
    let (mut client, _) = world.allocated(1000);
    let start = world.now.mono;
    let next = |world: &World| world.relay.poll_timeout().unwrap().since(start).as_secs();
    assert_eq!(next(&world), 600);
    world.advance(seconds(10));
    world.permit(&mut client, &[PEER]);
    assert_eq!(next(&world), 310, "the permission");
    world.refresh(&mut client, Some(3600));
    world.bind(&mut client, 0x4000, PEER);
    world.advance(seconds(300));
    assert_eq!(next(&world), 910, "the end of the channel's hold");
    world.advance(seconds(600));
    assert_eq!(next(&world), 3610, "the allocation");
    assert_eq!(world.relay.usage().deadlines, 1);
}

#[test]
fn calling_handle_timeout_early_or_often_changes_nothing() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(1000);
    world.bind(&mut client, 0x4000, PEER);
    let (usage, deadline) = (world.relay.usage(), world.relay.poll_timeout());
    for _ in 0..100 {
        world.relay.handle_timeout(world.now);
    }
    assert_eq!((world.relay.usage(), world.relay.poll_timeout()), (usage, deadline));
}

/// A host that is behind with `handle_timeout`: what has ended is over all the same.
#[test]
fn a_late_host_revives_nothing() {
    let mut world = World::new();
    world.punctual = false;
    let (mut client, relay) = world.allocated(1000);
    world.bind(&mut client, 0x4000, PEER);
    world.advance(seconds(500));
    world.permit(&mut client, &[PEER]);
    world.advance(seconds(100));
    assert_eq!(world.send(&client, PEER, b"x"), Outcome::Discard(Discard::NoAllocation));
    assert_eq!(world.channel(&client, 0x4000, b"x"), Outcome::Discard(Discard::NoAllocation));
    assert_eq!(world.peer_sends(relay, PEER, b"x"), Outcome::Discard(Discard::UnknownRelay));
    assert_eq!(world.permit(&mut client, &[PEER]).code(), 437);
    assert_eq!(world.refresh(&mut client, None).code(), 437);
    assert_eq!(world.ended().len(), 1, "the first request found it out");
    world.assert_empty();
}

#[test]
fn a_late_host_keeps_no_five_tuple_from_its_client() {
    let mut world = World::new();
    world.punctual = false;
    let (mut client, _) = world.allocated(1000);
    world.advance(seconds(600));
    assert_eq!(world.allocate(&mut client).code(), 200);
    assert_eq!(world.relay.usage().allocations, 1);
}

#[test]
fn a_late_host_holds_no_number_longer() {
    let mut world = World::new();
    world.punctual = false;
    let (mut client, _) = world.allocated(1000);
    world.refresh(&mut client, Some(3600));
    world.bind(&mut client, 0x4000, PEER);
    world.advance(seconds(900));
    assert_eq!(world.bind(&mut client, 0x4001, PEER).code(), 200);
    assert_eq!(world.relay.usage().flows, 2);
}

#[test]
fn thousands_of_allocations_end_each_at_its_own_time() {
    let config = turnwell::relay::Config {
        ports: turnwell::relay::PortShare::whole(10_000..=60_000),
        ..crate::harness::config()
    };
    let mut world = World::with(config, crate::harness::live());
    for port in 1..=3000 {
        world.advance(Duration::from_millis(100));
        let (mut client, _) = world.allocated(port);
        world.permit(&mut client, &[PEER]);
    }
    for left in (0..3000).rev() {
        let deadline = world.relay.poll_timeout().unwrap();
        let ends = world.relay.usage().allocations == left + 1;
        assert!(ends);
        while world.relay.usage().allocations > left {
            let deadline = world.relay.poll_timeout().unwrap();
            world.advance(deadline.since(world.now.mono));
        }
        assert!(world.now.mono >= deadline);
    }
    world.assert_empty();
}
