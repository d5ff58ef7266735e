//! EVEN-PORT and RESERVATION-TOKEN: pairs of ports, and reservations that come back for certain.

use turnwell::relay::{Config, Event, OpenError, PortShare, RelayId, ReservationToken, Want, Why};
use turnwell::wire::{AttributeType, Method, Writer};

use crate::client::{Client, Reply, udp};
use crate::harness::{RELAY_V4, World, addr, config, live, seconds};

fn even(world: &mut World, client: &mut Client, flags: u8) -> Reply {
    world.ask(client, Method::ALLOCATE, |w| {
        udp(w);
        w.attribute(AttributeType::EVEN_PORT, &[flags]);
    })
}

fn with_token(token: ReservationToken) -> impl Fn(&mut Writer<'_>) {
    move |w| {
        udp(w);
        w.attribute(AttributeType::RESERVATION_TOKEN, &token.0);
    }
}

/// A world in which `client(1)` has reserved a port.
fn reserved() -> (World, Client, Reply, ReservationToken) {
    let mut world = World::new();
    let mut client = world.client(1);
    let reply = even(&mut world, &mut client, 0x80);
    let token = reply.token().unwrap();
    (world, client, reply, token)
}

#[test]
fn even_port_alone_gets_an_even_port_and_no_token() {
    let mut world = World::new();
    for port in 1..=50 {
        let mut client = world.client(port);
        let reply = even(&mut world, &mut client, 0x7f);
        assert_eq!((reply.relayed().port() % 2, reply.token()), (0, None));
    }
    let mut client = world.client(51);
    assert_eq!(even(&mut world, &mut client, 0).code(), 508, "odd ports are free, even ones are not");
    assert_eq!(world.allocate(&mut client).relayed().port() % 2, 1);
}

#[test]
fn even_port_with_reservation_takes_the_next_port_and_tells_a_token() {
    let (world, _, reply, token) = reserved();
    let next = std::net::SocketAddr::new(reply.relayed().ip(), reply.relayed().port() + 1);
    assert_eq!(reply.relayed().port() % 2, 0);
    assert_eq!(world.wants, [Want::Bind(reply.relayed()), Want::Reserve(next, token)]);
    let usage = world.relay.usage();
    assert_eq!((usage.ports, usage.reservations, usage.deadlines), (2, 1, 2));
    assert_eq!(
        reply.kinds()[..4],
        [
            AttributeType::XOR_RELAYED_ADDRESS,
            AttributeType::LIFETIME,
            AttributeType::RESERVATION_TOKEN,
            AttributeType::XOR_MAPPED_ADDRESS
        ]
    );
}

#[test]
fn a_retransmission_gets_the_same_token_and_reserves_nothing_more() {
    let mut world = World::new();
    let mut client = world.client(1);
    let bytes = client.sign(Method::ALLOCATE, |w| {
        udp(w);
        w.attribute(AttributeType::EVEN_PORT, &[0x80]);
    });
    let first = world.packet(&client.at, &bytes);
    assert_eq!(world.packet(&client.at, &bytes), first);
    assert_eq!(world.relay.usage().ports, 2);
}

#[test]
fn a_token_gets_the_reserved_port_even_for_another_user_on_another_address() {
    let (mut world, _, first, token) = reserved();
    let mut other = world.client_of("bob", "[2a00::5]:77");
    let reply = world.ask(&mut other, Method::ALLOCATE, with_token(token));
    assert_eq!(reply.relayed().port(), first.relayed().port() + 1);
    assert_eq!(reply.relayed().ip().to_string(), RELAY_V4);
    assert_eq!(world.wants.last(), Some(&Want::Claim(token)));
    assert_eq!((world.relay.usage().reservations, world.relay.usage().ports), (0, 2));
    world.refresh(&mut other, Some(0));
    assert_eq!(world.relay.usage().ports, 1, "and returns it");
}

#[test]
fn a_token_is_good_once() {
    let (mut world, _, _, token) = reserved();
    let mut second = world.client(2);
    assert_eq!(world.ask(&mut second, Method::ALLOCATE, with_token(token)).code(), 200);
    let mut third = world.client(3);
    assert_eq!(world.ask(&mut third, Method::ALLOCATE, with_token(token)).code(), 508);
    assert_eq!(world.last_refusal(), Some(Why::NoReservation));
}

#[test]
fn a_reservation_lasts_thirty_seconds_and_its_port_comes_back() {
    let (mut world, mut client, reply, token) = reserved();
    world.advance(seconds(30) - std::time::Duration::from_nanos(1));
    assert_eq!(world.relay.usage().reservations, 1);
    world.events();
    world.advance(std::time::Duration::from_nanos(1));
    let next = std::net::SocketAddr::new(reply.relayed().ip(), reply.relayed().port() + 1);
    assert_eq!(world.events(), [Event::Unreserve(token, next)]);
    assert_eq!((world.relay.usage().reservations, world.relay.usage().ports), (0, 1));
    let mut second = world.client(2);
    assert_eq!(world.ask(&mut second, Method::ALLOCATE, with_token(token)).code(), 508);
    world.refresh(&mut client, Some(0));
    world.assert_empty();
}

#[test]
fn a_reservation_outlives_the_allocation_that_made_it() {
    let (mut world, mut client, _, token) = reserved();
    world.refresh(&mut client, Some(0));
    assert_eq!(world.relay.usage().ports, 1);
    let mut second = world.client(2);
    assert_eq!(world.ask(&mut second, Method::ALLOCATE, with_token(token)).code(), 200);
    world.close(&second);
    world.assert_empty();
}

#[test]
fn a_claim_that_a_quota_refuses_leaves_the_reservation() {
    let (mut world, _, _, token) = reserved();
    let mut second = world.client(2);
    world.refusals.push_back(OpenError::UserQuota);
    assert_eq!(world.ask(&mut second, Method::ALLOCATE, with_token(token)).code(), 486);
    assert_eq!(world.relay.usage().reservations, 1);
    assert_eq!(world.ask(&mut second, Method::ALLOCATE, with_token(token)).code(), 200);
}

/// Two engines, one range: the port belongs to the first, the client that brings the token reached the second.
#[test]
fn a_token_claimed_at_another_engine_returns_its_port_to_the_owner() {
    let share = |index| Config { ports: PortShare { range: 50_000..=50_099, index, of: 2 }, ..config() };
    let mut owner = World::with(share(0), live());
    let mut first = owner.client(1);
    let reply = even(&mut owner, &mut first, 0x80);
    let token = reply.token().unwrap();
    let address = std::net::SocketAddr::new(reply.relayed().ip(), reply.relayed().port() + 1);

    let mut elsewhere = World::with(share(1), live());
    elsewhere.reserved.insert(token, owner.reserved.remove(&token).unwrap());
    let mut second = elsewhere.client(2);
    let claimed = elsewhere.ask(&mut second, Method::ALLOCATE, with_token(token));
    assert_eq!(claimed.relayed(), address);
    assert_eq!(elsewhere.relay.usage().ports, 0, "the port is the other engine's");

    owner.advance(seconds(30));
    assert!(owner.events().contains(&Event::Unreserve(token, address)));
    assert_eq!(owner.relay.usage().ports, 2, "claimed elsewhere: not free yet");
    let relay = elsewhere.last_relay();
    elsewhere.events();
    elsewhere.refresh(&mut second, Some(0));
    assert!(elsewhere.events().contains(&Event::Close(relay, address)));
    elsewhere.assert_empty();
    owner.relay.port_returned(address);
    assert_eq!(owner.relay.usage().ports, 1);
    owner.close(&first);
    owner.assert_empty();
}

#[test]
fn a_port_returned_twice_is_free_once() {
    let (mut world, client, reply, _) = reserved();
    world.advance(seconds(31));
    let next = std::net::SocketAddr::new(reply.relayed().ip(), reply.relayed().port() + 1);
    world.relay.port_returned(next);
    world.relay.port_returned(next);
    world.relay.port_returned(addr("198.51.100.7:9"));
    world.relay.port_returned(addr("1.2.3.4:50000"));
    assert_eq!(world.relay.usage().ports, 1);
    world.close(&client);
    world.assert_empty();
}

#[test]
fn when_the_next_port_is_in_use_both_are_given_up_and_another_pair_is_drawn() {
    let mut world = World::new();
    let mut client = world.client(1);
    let bytes = client.sign(Method::ALLOCATE, |w| {
        udp(w);
        w.attribute(AttributeType::EVEN_PORT, &[0x80]);
    });
    let pending = world.pending(&client.at, &bytes);
    let Want::Bind(first) = pending.want() else { panic!("{pending:?}") };
    let mut out = Vec::new();
    let opened = Ok(turnwell::relay::Opened::Relay(RelayId(1), first));
    let turnwell::relay::Action::Open(pending) = world.relay.opened(world.now, pending, opened, &mut out) else {
        panic!("the second port is to be reserved")
    };
    assert!(matches!(pending.want(), Want::Reserve(..)));
    let in_use = world.relay.opened(world.now, pending, Err(OpenError::InUse), &mut out);
    let turnwell::relay::Action::Open(pending) = in_use else { panic!("another pair is to be drawn") };
    assert_eq!(world.relay.usage().ports, 2, "only the new pair is taken");
    let reply = world.fulfil(pending).reply();
    assert_eq!(reply.code(), 200);
    assert!(world.events().contains(&Event::Close(RelayId(1), first)));
    world.close(&client);
    world.advance(seconds(30));
    world.assert_empty();
}

#[test]
fn any_other_failure_of_the_next_port_gives_up_both() {
    let mut world = World::new();
    let mut client = world.client(1);
    let bytes = client.sign(Method::ALLOCATE, |w| {
        udp(w);
        w.attribute(AttributeType::EVEN_PORT, &[0x80]);
    });
    let pending = world.pending(&client.at, &bytes);
    let Want::Bind(first) = pending.want() else { panic!("{pending:?}") };
    let mut out = Vec::new();
    let opened = Ok(turnwell::relay::Opened::Relay(RelayId(1), first));
    let action = world.relay.opened(world.now, pending, opened, &mut out);
    let turnwell::relay::Action::Open(pending) = action else { panic!("{action:?}") };
    world.refusals.push_back(OpenError::Unavailable);
    assert_eq!(world.fulfil(pending).reply().code(), 508);
    assert!(world.events().contains(&Event::Close(RelayId(1), first)));
    world.assert_empty();
}

#[test]
fn pairs_never_split_and_never_cross_the_end_of_the_range() {
    let mut world = World::with(Config { ports: PortShare::whole(50_001..=50_006), ..config() }, live());
    let mut clients: Vec<Client> = (1..=3).map(|port| world.client(port)).collect();
    let mut ports = Vec::new();
    for client in &mut clients[..2] {
        ports.push(even(&mut world, client, 0x80).relayed().port());
    }
    ports.sort_unstable();
    assert_eq!(ports, [50_002, 50_004]);
    assert_eq!(even(&mut world, &mut clients[2], 0x80).code(), 508);
    assert_eq!(even(&mut world, &mut clients[2], 0).relayed().port(), 50_006);
}

#[test]
fn ten_thousand_reservations_leave_the_pool_as_it_was() {
    let mut world = World::new();
    let mut client = world.client(1);
    for round in 0..10_000u32 {
        if round % 100 == 0 {
            world.challenge(&mut client);
        }
        assert_eq!(even(&mut world, &mut client, if round % 3 == 0 { 0 } else { 0x80 }).code(), 200, "{round}");
        world.refresh(&mut client, Some(0));
        world.advance(seconds(u64::from(round % 2) * 31));
        world.events();
    }
    world.advance(seconds(31));
    world.assert_empty();
}
