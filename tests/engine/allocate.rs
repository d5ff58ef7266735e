//! Allocate: what is granted, the five-tuple in use, ports, families, quotas (RFC 8656 §7.2).

use std::collections::HashSet;

use turnwell::relay::{Config, DefaultFamily, Event, OpenError, Opened, PortShare, RelayAddress, Want, Why};
use turnwell::wire::{AttributeType, Method, Writer};

use crate::client::udp;
use crate::harness::{Outcome, RELAY_V4, RELAY_V6, World, addr, config, live};

fn asking(lifetime: u32) -> impl Fn(&mut Writer<'_>) {
    move |w| {
        udp(w);
        w.u32(AttributeType::LIFETIME, lifetime);
    }
}

fn family(family: u8) -> impl Fn(&mut Writer<'_>) {
    move |w| {
        udp(w);
        w.attribute(AttributeType::REQUESTED_ADDRESS_FAMILY, &[family, 0, 0, 0]);
    }
}

#[test]
fn success_tells_relayed_address_lifetime_and_reflexive_address() {
    let mut world = World::new();
    let mut client = world.client(1000);
    let reply = world.allocate(&mut client);
    assert_eq!(reply.code(), 200);
    assert_eq!(
        reply.kinds(),
        [
            AttributeType::XOR_RELAYED_ADDRESS,
            AttributeType::LIFETIME,
            AttributeType::XOR_MAPPED_ADDRESS,
            AttributeType::MESSAGE_INTEGRITY
        ]
    );
    assert_eq!((reply.lifetime(), reply.mapped()), (Some(600), client.at.client));
    assert_eq!(world.wants, [Want::Bind(reply.relayed())]);
    assert_eq!(reply.relayed().ip().to_string(), RELAY_V4);
    assert!((50_000..=50_099).contains(&reply.relayed().port()));
    let usage = world.relay.usage();
    assert_eq!((usage.allocations, usage.ports, usage.deadlines, usage.flows), (1, 1, 1, 0));
}

#[test]
fn lifetime_is_clamped_between_default_and_maximum() {
    for (asked, granted) in [(0, 600), (1, 600), (600, 600), (601, 601), (3600, 3600), (3601, 3600), (u32::MAX, 3600)] {
        let mut world = World::new();
        let mut client = world.client(1000);
        let reply = world.ask(&mut client, Method::ALLOCATE, asking(asked));
        assert_eq!(reply.lifetime(), Some(granted), "{asked}");
        let deadline = world.relay.poll_timeout().unwrap();
        assert_eq!(deadline.since(world.now.mono).as_secs(), u64::from(granted));
    }
}

#[test]
fn used_five_tuple_gets_437() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(1000);
    assert_eq!(world.allocate(&mut client).code(), 437);
    assert_eq!(world.last_refusal(), Some(Why::AlreadyAllocated));
    assert_eq!(world.wants.len(), 1, "nothing is bound for a refused request");
}

#[test]
fn a_retransmitted_allocate_gets_the_same_answer() {
    let mut world = World::new();
    let mut client = world.client(1000);
    let bytes = client.sign(Method::ALLOCATE, asking(1800));
    let first = world.packet(&client.at, &bytes);
    world.advance(crate::harness::seconds(7));
    assert_eq!(world.refresh(&mut client, Some(3600)).code(), 200);
    let Outcome::Reply(reply) = &first else { panic!("{first:?}") };
    assert_eq!((reply.code(), reply.lifetime()), (200, Some(1800)));
    assert_eq!(world.packet(&client.at, &bytes), first);
    assert_eq!((world.wants.len(), world.relay.usage().allocations), (1, 1));
    let deadline = world.relay.poll_timeout().unwrap();
    assert_eq!(deadline.since(world.now.mono).as_secs(), 3600, "and changes nothing");
}

#[test]
fn a_retransmission_by_another_user_gets_437() {
    let mut world = World::new();
    let mut client = world.client(1000);
    let bob = client.as_user("bob", "pw");
    let first = client.sign(Method::ALLOCATE, udp);
    assert_eq!(world.packet(&client.at, &first).reply().code(), 200);
    let mut forged = Vec::new();
    let id = turnwell::wire::TransactionId(first[8..20].try_into().unwrap());
    let mut writer = Writer::new(&mut forged, turnwell::wire::Class::Request, Method::ALLOCATE, id);
    udp(&mut writer);
    bob.prove(&mut writer);
    let reply = world.packet(&bob.at, &forged).reply();
    assert_eq!((reply.code(), reply.bytes_of(AttributeType::XOR_RELAYED_ADDRESS)), (437, None));
}

/// A host may let a second packet in before it kept the promise of the first: the first one opened has it.
#[test]
fn of_two_allocates_in_the_same_turn_one_gets_437_and_its_port_is_returned() {
    let mut world = World::new();
    let mut client = world.client(1000);
    let [one, two] = [client.sign(Method::ALLOCATE, udp), client.sign(Method::ALLOCATE, udp)];
    let (one, two) = (world.pending(&client.at, &one), world.pending(&client.at, &two));
    assert_eq!(world.relay.usage().ports, 2);
    assert_eq!(world.fulfil(two).reply().code(), 200);
    world.events();
    let reply = world.fulfil(one).reply();
    assert_eq!(reply.code(), 437);
    let Want::Bind(address) = world.wants[1] else { panic!("{:?}", world.wants) };
    let lost = world.last_relay();
    assert!(world.events().contains(&Event::Close(lost, address)));
    assert_eq!((world.relay.usage().allocations, world.relay.usage().ports), (1, 1));
}

#[test]
fn a_new_allocation_may_follow_at_once_on_the_same_five_tuple() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(1000);
    assert_eq!(world.refresh(&mut client, Some(0)).code(), 200);
    world.allocate_ok(&mut client);
}

#[test]
fn an_allocation_gets_the_family_of_its_connection_unless_it_asks() {
    let mut world = World::new();
    let mut v4 = world.client(1000);
    let mut v6 = world.client_of("alice", "[2a00::77]:1000");
    assert!(world.allocate(&mut v4).relayed().is_ipv4());
    assert_eq!(world.allocate(&mut v6).relayed().ip().to_string(), RELAY_V6);
    let mut v4 = world.client(1001);
    let mut v6 = world.client_of("alice", "[2a00::77]:1001");
    assert!(world.ask(&mut v4, Method::ALLOCATE, family(2)).relayed().is_ipv6());
    assert!(world.ask(&mut v6, Method::ALLOCATE, family(1)).relayed().is_ipv4());
}

#[test]
fn by_the_letter_an_allocation_without_a_family_is_ipv4() {
    let mut world = World::with(Config { default_family: DefaultFamily::Ipv4, ..config() }, live());
    let mut v6 = world.client_of("alice", "[2a00::77]:1000");
    assert!(world.allocate(&mut v6).relayed().is_ipv4());
}

#[test]
fn a_family_without_a_relay_address_gets_440() {
    let relays = vec![RelayAddress { local: RELAY_V4.parse().unwrap(), external: None }];
    let mut world = World::with(Config { relays, ..config() }, live());
    let mut v6 = world.client_of("alice", "[2a00::77]:1000");
    assert_eq!(world.ask(&mut v6, Method::ALLOCATE, family(2)).code(), 440);
    assert!(world.allocate(&mut v6).relayed().is_ipv4(), "unasked, what there is");
}

#[test]
fn a_server_without_ipv4_relays_ipv6_or_says_it_has_none() {
    let relays = vec![RelayAddress { local: RELAY_V6.parse().unwrap(), external: None }];
    let mut world = World::with(Config { relays, ..config() }, live());
    let mut v6 = world.client_of("alice", "[2a00::77]:1000");
    assert!(world.allocate(&mut v6).relayed().is_ipv6());
    let mut v4 = world.client(1000);
    assert_eq!(world.ask(&mut v4, Method::ALLOCATE, family(1)).code(), 440);
    assert_eq!(world.allocate(&mut v4).code(), 440, "RFC 8656 §7.2 (7): no IPv4 here");
    assert!(world.ask(&mut v4, Method::ALLOCATE, family(2)).relayed().is_ipv6());
}

#[test]
fn without_relay_addresses_the_one_that_was_reached_relays() {
    let mut world = World::with(Config { relays: vec![], ..config() }, live());
    let mut v4 = world.client(1000);
    assert_eq!(world.allocate(&mut v4).relayed().ip(), addr("192.0.2.1:0").ip());
}

#[test]
fn dont_fragment_is_understood() {
    let mut world = World::new();
    let mut client = world.client(1000);
    let reply = world.ask(&mut client, Method::ALLOCATE, |w| {
        udp(w);
        w.attribute(AttributeType::DONT_FRAGMENT, b"");
    });
    assert_eq!(reply.code(), 200);
}

#[test]
fn every_port_is_used_once_then_508_and_a_freed_one_is_granted_again() {
    let mut world = World::with(Config { ports: PortShare::whole(50_001..=50_010), ..config() }, live());
    let mut clients: Vec<_> = (1..=10).map(|port| world.client(port)).collect();
    let ports: HashSet<u16> = clients.iter_mut().map(|client| world.allocate(client).relayed().port()).collect();
    assert_eq!(ports.len(), 10);
    let mut eleventh = world.client(11);
    assert_eq!(world.allocate(&mut eleventh).code(), 508);
    assert_eq!(world.last_refusal(), Some(Why::NoPort));
    world.refresh(&mut clients[3], Some(0));
    assert_eq!(world.allocate(&mut eleventh).code(), 200);
    for client in clients.iter().chain([&eleventh]) {
        world.close(client);
    }
    world.assert_empty();
}

#[test]
fn ports_are_not_drawn_in_an_order_that_the_last_one_tells() {
    let mut world = World::with(Config { ports: PortShare::whole(20_000..=60_000), ..config() }, live());
    let ports: Vec<i32> = (1..=50)
        .map(|port| {
            let mut client = world.client(port);
            i32::from(world.allocate(&mut client).relayed().port())
        })
        .collect();
    let steps: HashSet<i32> = ports.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(steps.len() > 45, "{ports:?}");
}

#[test]
fn a_port_that_others_hold_is_replaced_by_another_draw() {
    let mut world = World::new();
    let mut client = world.client(1000);
    world.refusals.extend([OpenError::InUse; 5]);
    let reply = world.allocate(&mut client);
    assert_eq!(reply.code(), 200);
    assert_eq!(world.wants.len(), 6);
    assert_eq!(world.wants[5], Want::Bind(reply.relayed()));
    assert_eq!(world.relay.usage().ports, 1, "the ports that were tried are free again");
}

#[test]
fn after_seventeen_ports_in_use_the_answer_is_508() {
    let mut world = World::new();
    let mut client = world.client(1000);
    world.refusals.extend([OpenError::InUse; 100]);
    assert_eq!(world.allocate(&mut client).code(), 508);
    assert_eq!((world.wants.len(), world.last_refusal()), (17, Some(Why::NoPort)));
    world.assert_empty();
}

#[test]
fn an_answer_of_the_host_that_fits_no_want_is_508_and_leaks_nothing() {
    let mut world = World::new();
    let mut client = world.client(1000);
    let bytes = client.sign(Method::ALLOCATE, udp);
    let pending = world.pending(&client.at, &bytes);
    let mut out = Vec::new();
    let action = world.relay.opened(world.now, pending, Ok(Opened::Reserved), &mut out);
    assert!(matches!(action, turnwell::relay::Action::Reply { .. }));
    world.close(&client);
    world.assert_empty();
}

#[test]
fn shares_of_the_port_range_do_not_overlap() {
    let mut drawn = HashSet::new();
    for index in 0..3 {
        let ports = PortShare { range: 50_000..=50_011, index, of: 3 };
        let mut world = World::with(Config { ports, ..config() }, live());
        for port in 1..=4 {
            let mut client = world.client(port);
            assert!(drawn.insert(world.allocate(&mut client).relayed().port()));
        }
        let mut fifth = world.client(5);
        assert_eq!(world.allocate(&mut fifth).code(), 508);
    }
    assert_eq!(drawn.len(), 12);
}
