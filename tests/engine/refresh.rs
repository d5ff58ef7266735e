//! Refresh: an allocation lives on, or ends (RFC 8656 §8.2).

use turnwell::relay::{EndReason, Event};
use turnwell::wire::{AttributeType, Method};

use crate::harness::{World, seconds};

#[test]
fn refresh_sets_the_lifetime_anew_between_default_and_maximum() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(1000);
    for (asked, granted) in
        [(None, 600), (Some(1), 600), (Some(777), 777), (Some(3600), 3600), (Some(u32::MAX), 3600), (Some(601), 601)]
    {
        world.advance(seconds(100));
        let reply = world.refresh(&mut client, asked);
        assert_eq!((reply.code(), reply.lifetime()), (200, Some(granted)), "{asked:?}");
        assert_eq!(reply.kinds(), [AttributeType::LIFETIME, AttributeType::MESSAGE_INTEGRITY]);
        let deadline = world.relay.poll_timeout().unwrap();
        assert_eq!(deadline.since(world.now.mono).as_secs(), u64::from(granted));
    }
}

#[test]
fn a_repeated_refresh_is_answered_the_same() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(1000);
    let bytes = client.sign(Method::REFRESH, |w| {
        w.u32(AttributeType::LIFETIME, 900);
    });
    let first = world.packet(&client.at, &bytes);
    assert_eq!(world.packet(&client.at, &bytes), first);
    assert_eq!(first.reply().lifetime(), Some(900));
    assert_eq!(world.relay.usage().allocations, 1);
}

#[test]
fn lifetime_zero_ends_the_allocation_at_once() {
    let mut world = World::new();
    let (mut client, relay) = world.allocated(1000);
    world.events();
    let reply = world.refresh(&mut client, Some(0));
    assert_eq!((reply.code(), reply.lifetime()), (200, Some(0)));
    let events = world.events();
    let [Event::Close(closed, address), Event::Ended(record, EndReason::Deleted)] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!((*closed, *address), (relay, record.relayed));
    world.assert_empty();
}

/// RFC 8656 §8.3: the client takes a 437 to a deletion for a success.
#[test]
fn a_repeated_deletion_gets_437() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(1000);
    let bytes = client.sign(Method::REFRESH, |w| {
        w.u32(AttributeType::LIFETIME, 0);
    });
    assert_eq!(world.packet(&client.at, &bytes).reply().code(), 200);
    assert_eq!(world.packet(&client.at, &bytes).reply().code(), 437);
}

#[test]
fn the_family_of_a_refresh_must_be_the_allocations() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(1000);
    for (family, code) in [(1, 200), (2, 443)] {
        let reply = world.ask(&mut client, Method::REFRESH, |w| {
            w.attribute(AttributeType::REQUESTED_ADDRESS_FAMILY, &[family, 0, 0, 0]).u32(AttributeType::LIFETIME, 700);
        });
        assert_eq!(reply.code(), code);
    }
    let reply = world.ask(&mut client, Method::REFRESH, |w| {
        w.attribute(AttributeType::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0]).u32(AttributeType::LIFETIME, 0);
    });
    assert_eq!(reply.code(), 443, "nor is an allocation of another family deleted");
    assert_eq!(world.relay.usage().allocations, 1);
}
