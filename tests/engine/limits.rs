//! Bandwidth of allocations and users, and how many replies a source gets before it has shown that its address is its
//! own.

use std::sync::Arc;

use turnwell::credentials::Credentials;
use turnwell::relay::{Config, Direction, Discard, Event, Limits, Live, PortShare, RelayId, Traffic};
use turnwell::wire::{AttributeType, Class, Method, TransactionId, Writer};

use crate::client::{Client, REALM, channel_data, udp};
use crate::harness::{OTHER_PEER, Outcome, PEER, World, addr, config, live, seconds};

const UP: Direction = Direction::ToPeer;
const DOWN: Direction = Direction::ToClient;
/// 10,000 bytes a second.
const RATE: u64 = 80_000;
const PACKET: [u8; 500] = [7; 500];

fn world(limits: Limits) -> World {
    World::with(config(), Live { limits, ..live() })
}

fn per_allocation() -> World {
    world(Limits { allocation_bandwidth: RATE, ..Limits::default() })
}

fn per_user() -> World {
    world(Limits { user_bandwidth: RATE, ..Limits::default() })
}

/// An allocation with a permission for one peer and a channel to another.
fn allocated(world: &mut World, port: u16) -> (Client, RelayId) {
    let (mut client, relay) = world.allocated(port);
    assert_eq!(world.permit(&mut client, &[PEER]).code(), 200);
    assert_eq!(world.bind(&mut client, 0x4000, OTHER_PEER).code(), 200);
    (client, relay)
}

/// How many packets of so many pass, and why the others do not.
fn passed(count: usize, mut packet: impl FnMut() -> Outcome) -> (usize, Option<Discard>) {
    let mut reason = None;
    let passed = (0..count).filter(|_| match packet() {
        Outcome::Discard(why) => {
            reason = Some(why);
            false
        }
        _ => true,
    });
    (passed.count(), reason)
}

#[test]
fn an_allocation_relays_a_second_at_once_and_its_rate_from_then_on_each_way() {
    let mut world = per_allocation();
    let (client, relay) = allocated(&mut world, 1);
    let over = Some(Discard::AllocationBandwidth);
    // 20 packets of 500 bytes are a second's, and one more may begin while anything is left.
    assert_eq!(passed(100, || world.channel(&client, 0x4000, &PACKET)), (21, over));
    assert_eq!(passed(10, || world.send(&client, PEER, &PACKET)), (0, over), "indications count as well");
    assert_eq!(passed(100, || world.peer_sends(relay, PEER, &PACKET)), (21, over), "the other way has its own");
    assert_eq!(passed(10, || world.peer_sends(relay, OTHER_PEER, &PACKET)), (0, over));
    world.advance(seconds(10));
    assert_eq!(passed(100, || world.peer_sends(relay, OTHER_PEER, &PACKET)), (21, over), "it never holds more");
    world.advance(std::time::Duration::from_millis(500));
    assert_eq!(passed(100, || world.peer_sends(relay, OTHER_PEER, &PACKET)), (10, over));
    let (other, _) = allocated(&mut world, 2);
    assert_eq!(passed(100, || world.send(&other, PEER, &PACKET)), (21, over), "and every allocation");
}

#[test]
fn what_is_over_the_limit_is_not_counted_as_relayed() {
    let mut world = per_allocation();
    let (client, relay) = allocated(&mut world, 1);
    let (sent, _) = passed(50, || world.channel(&client, 0x4000, &PACKET));
    let (more, _) = passed(50, || world.send(&client, PEER, &PACKET));
    let (received, _) = passed(50, || world.peer_sends(relay, PEER, &PACKET));
    let (again, _) = passed(50, || world.peer_sends(relay, OTHER_PEER, &PACKET));
    assert_eq!((sent, more, received, again), (21, 0, 21, 0));
    let traffic = Traffic { sent_packets: 21, sent_bytes: 10_500, received_packets: 21, received_bytes: 10_500 };
    assert_eq!(world.relay.traffic(&client.at), Some(traffic));
    let tally = world.relay.tally();
    assert_eq!((tally.sent_packets, tally.received_packets), (21, 21));
    assert_eq!(tally.discards[Discard::AllocationBandwidth.index()], 4 * 50 - 42);
}

/// On its way through this server a packet counts for both of its allocations.
#[test]
fn a_packet_between_two_allocations_counts_for_both() {
    let mut world = per_allocation();
    let (mut one, mut two) = (world.client(1), world.client(2));
    let first = world.allocate(&mut one).relayed().to_string();
    let second = world.allocate(&mut two).relayed().to_string();
    let relay = world.last_relay();
    world.permit(&mut one, &[&second]);
    world.permit(&mut two, &[&first]);
    assert_eq!(passed(30, || world.peer_sends(relay, &first, &PACKET)).0, 21, "the second is full");
    let over = (0, Some(Discard::AllocationBandwidth));
    assert_eq!(passed(10, || world.send(&one, &second, &PACKET)), over);
    assert_eq!(passed(10, || world.send(&two, &first, &PACKET)).0, 10);
}

#[test]
fn a_limit_comes_and_goes_by_a_reload() {
    let mut world = World::new();
    let (client, _) = allocated(&mut world, 1);
    assert_eq!(passed(100, || world.channel(&client, 0x4000, &PACKET)), (100, None));
    let limits = Limits { allocation_bandwidth: RATE, ..Limits::default() };
    world.set_live(Live { limits, ..live() });
    assert_eq!(passed(100, || world.channel(&client, 0x4000, &PACKET)), (21, Some(Discard::AllocationBandwidth)));
    world.set_live(live());
    assert_eq!(passed(100, || world.channel(&client, 0x4000, &PACKET)), (100, None));
    assert_eq!(passed(100, || world.send(&client, PEER, &PACKET)), (100, None));
}

/// What the engine asked of the user's share since the last call.
fn draws(world: &mut World) -> Vec<(RelayId, Direction, u64)> {
    let draws = world.events().into_iter().filter_map(|event| match event {
        Event::Draw { relay, direction, bytes, bits_per_second } => {
            assert_eq!(bits_per_second, RATE);
            Some((relay, direction, bytes))
        }
        _ => None,
    });
    draws.collect()
}

#[test]
fn an_allocation_draws_from_its_users_share_ahead_of_need() {
    let mut world = per_user();
    let (client, relay) = allocated(&mut world, 1);
    let slice = 8 * 1024;
    assert_eq!(draws(&mut world), [(relay, UP, slice), (relay, DOWN, slice)], "before the first packet");
    let over = Some(Discard::UserBandwidth);
    assert_eq!(passed(5, || world.channel(&client, 0x4000, &PACKET)), (0, over), "nothing is there yet");
    assert_eq!(draws(&mut world), [(relay, UP, slice)]);
    world.relay.drawn(relay, UP, slice);
    assert_eq!(passed(8, || world.channel(&client, 0x4000, &PACKET)), (8, None));
    assert_eq!(draws(&mut world), []);
    world.advance(seconds(1));
    // The ninth leaves less than half of the slice.
    assert_eq!(passed(1, || world.send(&client, PEER, &PACKET)), (1, None));
    assert_eq!(draws(&mut world), [(relay, UP, 4500)]);
    assert_eq!(passed(100, || world.channel(&client, 0x4000, &PACKET)), (8, over), "one packet may take too much");
    assert_eq!(draws(&mut world), [], "the host has not had time to answer");
    world.relay.drawn(relay, UP, 0);
    world.advance(seconds(1));
    assert_eq!(passed(100, || world.channel(&client, 0x4000, &PACKET)), (0, over));
    assert_eq!(draws(&mut world), [(relay, UP, 8500)], "what was taken too much is paid back");
    world.relay.drawn(relay, UP, 8500);
    assert_eq!(passed(100, || world.channel(&client, 0x4000, &PACKET)).0, 17);
    assert_eq!(passed(5, || world.peer_sends(relay, PEER, &PACKET)), (0, over), "the other way has its own");
    world.relay.drawn(relay, DOWN, slice);
    assert_eq!(passed(5, || world.peer_sends(relay, PEER, &PACKET)), (5, None));
}

#[test]
fn running_allocations_draw_as_soon_as_there_is_a_limit() {
    let mut world = World::new();
    let (_, one) = world.allocated(1);
    let (_, two) = world.allocated(2);
    assert_eq!(draws(&mut world), []);
    world.set_live(Live { limits: Limits { user_bandwidth: RATE, ..Limits::default() }, ..live() });
    let asked: Vec<_> = draws(&mut world).into_iter().map(|(relay, direction, _)| (relay, direction)).collect();
    assert_eq!(asked, [(one, UP), (one, DOWN), (two, UP), (two, DOWN)]);
    world.relay.drawn(RelayId(7), UP, 1);
}

/// So many replies a second, 2 × so many and one more at once.
fn replies(per_second: u32) -> World {
    world(Limits { unauthenticated_replies: per_second, ..Limits::default() })
}

fn binding(unknown: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, Class::Request, Method::BINDING, TransactionId([1; 12]));
    if unknown {
        writer.attribute(AttributeType(0x7fff), &[]);
    }
    bytes
}

/// Every request that is answered though nobody has shown that its source address is his own.
fn unproven() -> Vec<(&'static str, u16, Vec<u8>)> {
    let mut client = Client::new("100.0.0.1:1", "alice", "pw");
    let bare = |method| Client::new("100.0.0.1:1", "alice", "pw").bare(method);
    let mut malformed = Vec::new();
    let mut writer = Writer::new(&mut malformed, Class::Request, Method::ALLOCATE, TransactionId([2; 12]));
    udp(&mut writer);
    writer.integrity(&client.key, client.algorithm);
    vec![
        ("Binding", 200, binding(false)),
        ("Binding with an unknown attribute", 420, binding(true)),
        ("the first Allocate", 401, bare(Method::ALLOCATE)),
        ("Refresh without integrity", 401, bare(Method::REFRESH)),
        ("CreatePermission without integrity", 401, bare(Method::CREATE_PERMISSION)),
        ("ChannelBind without integrity", 401, bare(Method::CHANNEL_BIND)),
        ("integrity without a name", 400, malformed),
        ("a forged nonce", 438, client.sign(Method::ALLOCATE, udp)),
    ]
}

#[test]
fn every_unauthenticated_reply_takes_from_the_budget_of_its_source() {
    for (what, code, bytes) in unproven() {
        let mut world = replies(10);
        let from = Client::new("100.0.0.1:1", "alice", "pw").at;
        assert_eq!(world.packet(&from, &bytes).reply().code(), code, "{what}");
        let (passed, reason) = passed(100, || world.packet(&from, &bytes));
        assert_eq!((passed, reason), (20, Some(Discard::ReplyBudget)), "{what}");
        assert_eq!(world.relay.tally().discards[Discard::ReplyBudget.index()], 80, "{what}");
        for (other, _, bytes) in unproven() {
            let muted = world.packet(&from, &bytes);
            assert_eq!(muted, Outcome::Discard(Discard::ReplyBudget), "{other} after {what}");
        }
        world.advance(seconds(1));
        assert_eq!(self::passed(100, || world.packet(&from, &bytes)).0, 10, "{what}");
    }
}

#[test]
fn whoever_has_a_good_nonce_is_always_answered() {
    let mut world = replies(1);
    let mut alice = world.client(1);
    let from = alice.at;
    let _ = passed(100, || world.packet(&from, &binding(false)));
    assert_eq!(world.packet(&from, &binding(false)), Outcome::Discard(Discard::ReplyBudget));
    let relay = world.allocate_ok(&mut alice);
    for _ in 0..20 {
        assert_eq!(world.permit(&mut alice, &[PEER]).code(), 200);
        assert_eq!(world.bind(&mut alice, 0x4000, OTHER_PEER).code(), 200);
        assert_eq!(world.refresh(&mut alice, Some(600)).code(), 200);
        assert_eq!(world.allocate(&mut alice).code(), 437, "nor is what is refused");
        assert!(matches!(world.send(&alice, PEER, b"x"), Outcome::ToPeer { .. }));
        assert!(matches!(world.peer_sends(relay, PEER, b"x"), Outcome::ToClient { .. }));
    }
    // A wrong password behind a good nonce is told so: the address is no forgery.
    let mut mallory = Client { nonce: alice.nonce.clone(), ..Client::new("100.0.0.1:1", "mallory", "pw") };
    let forged = mallory.sign(Method::REFRESH, |_| ());
    assert_eq!(passed(20, || world.packet(&from, &forged)), (20, None));
    assert_eq!(world.packet(&from, &forged).reply().code(), 401);
}

/// A hundred thousand users behind one address: those who are in are not hurt by those who knock.
#[test]
fn users_behind_one_address_share_its_budget_and_no_other() {
    let mut world = replies(100);
    let knocking = |world: &mut World, ip: &str| {
        passed(1000, || world.packet(&Client::new(&format!("{ip}:{}", 1000), "alice", "pw").at, &binding(false))).0
    };
    let mut alice = world.client(7);
    world.allocate_ok(&mut alice);
    assert_eq!(knocking(&mut world, "100.0.0.1"), 200);
    assert_eq!(world.refresh(&mut alice, Some(600)).code(), 200);
    assert_eq!(knocking(&mut world, "100.0.0.2"), 201);
}

#[test]
fn a_server_without_credentials_has_the_same_budget() {
    let limits = Limits { unauthenticated_replies: 10, ..Limits::default() };
    let live = Live { limits, ..Live::new(Arc::new(Credentials::new(REALM))) };
    let mut world = World::with(config(), live);
    let mut client = Client::new("100.0.0.1:1", "alice", "pw");
    let bytes = client.bare(Method::ALLOCATE);
    assert_eq!(world.packet(&client.at, &bytes).reply().code(), 403);
    assert_eq!(passed(100, || world.packet(&client.at, &bytes)), (20, Some(Discard::ReplyBudget)));
    let channel = channel_data(0x4000, b"x");
    assert_eq!(world.packet(&client.at, &channel), Outcome::Discard(Discard::NoAllocation), "which is not answered");
}

#[test]
fn engines_share_a_sources_budget_and_a_reload_changes_it() {
    let ports = PortShare { range: 50_000..=50_099, index: 0, of: 4 };
    let limits = Limits { unauthenticated_replies: 100, ..Limits::default() };
    let mut world = World::with(Config { ports, ..config() }, Live { limits, ..live() });
    let from = Client::new("100.0.0.1:1", "alice", "pw").at;
    assert_eq!(passed(1000, || world.packet(&from, &binding(false))).0, 51);
    world.set_live(live());
    assert_eq!(passed(1000, || world.packet(&from, &binding(false))).0, 1000);
    world.set_live(Live { limits, ..live() });
    assert_eq!(passed(1000, || world.packet(&from, &binding(false))).0, 0);
    assert_eq!(addr(PEER).port(), 5000);
}
