//! Random operations on the engine and on the naive model: every action must be the same, and at the end what is held.

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};

use turnwell::relay::IcmpError;

use crate::client::{channel_data, send_indication};
use crate::harness::addr;
use crate::naive::{Even, FIRST_STREAM, Rules};
use crate::operation::{CLIENTS, LIFETIMES, ODD_PEERS, Op, PEERS, PROOFS, Peer, Proof};
use crate::pair::run;

fn peer() -> impl Strategy<Value = Peer> {
    prop_oneof![
        6 => prop::sample::select(&PEERS).prop_map(Peer::Fixed),
        2 => prop::sample::select(&ODD_PEERS).prop_map(Peer::Fixed),
        4 => (0..CLIENTS).prop_map(Peer::Relayed),
    ]
}

fn number() -> impl Strategy<Value = u16> {
    prop_oneof![20 => 0x4000..0x4004_u16, 1 => prop::sample::select(vec![0x3fff, 0x4fff, 0x5000])]
}

/// Bytes that nobody signed; some of them are data.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        bytes(),
        (number(), bytes()).prop_map(|(number, data)| channel_data(number, &data)),
        (prop::sample::select(&PEERS), bytes()).prop_map(|(peer, data)| send_indication(addr(peer), &data)),
    ]
}

/// What is about connections, of clients on streams above all.
fn about_connections() -> impl Strategy<Value = Op> {
    let client = || prop_oneof![1 => 0..CLIENTS, 8 => FIRST_STREAM..CLIENTS];
    let bob = || prop::bool::weighted(0.05);
    let connection = || prop_oneof![4 => Just(0), 2 => 0..4_usize];
    let bytes = || prop_oneof![1 => Just(0), 1 => 0..1200_usize];
    prop_oneof![
        1 => (client(), bob(), prop::option::weighted(0.1, 0..4_usize))
            .prop_map(|(client, bob, token)| allocate_tcp(client, bob, token)),
        8 => (client(), bob(), peer()).prop_map(|(client, bob, peer)| Op::Connect { client, bob, peer }),
        6 => connection().prop_map(|connection| Op::Connected { connection }),
        1 => connection().prop_map(|connection| Op::Lost { connection }),
        4 => (client(), peer()).prop_map(|(client, peer)| Op::Accepted { client, peer }),
        6 => (client(), bob(), prop::bool::weighted(0.9), connection()).prop_map(
            |(client, bob, is_new, connection)| Op::BindConnection { client, bob, is_new, connection }
        ),
        4 => (connection(), bytes(), bytes())
            .prop_map(|(connection, up, down)| Op::Copied { connection, bytes: [up, down] }),
    ]
}

fn allocate_tcp(client: usize, bob: bool, token: Option<usize>) -> Op {
    Op::Allocate { client, bob, tcp: true, lifetime: None, even: Even::No, family: None, token }
}

/// Two clients relay TCP, and each may be connected to from the peers and from the other.
fn with_connections(ops: Vec<Op>) -> Vec<Op> {
    let permit = |client: usize| {
        let peers = vec![Peer::Fixed(PEERS[0]), Peer::Fixed(PEERS[2]), Peer::Relayed(CLIENTS - 1 - client % 2)];
        Op::Permit { client, bob: false, peers }
    };
    let close = Op::Close { client: FIRST_STREAM };
    let first = FIRST_STREAM..CLIENTS;
    [close]
        .into_iter()
        .chain(first.flat_map(|client| [allocate_tcp(client, false, None), permit(client)]))
        .chain(ops)
        .collect()
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let both = prop_oneof![3 => about_connections(), 1 => op()];
    prop_oneof![
        2 => prop::collection::vec(op(), 1..150),
        1 => prop::collection::vec(both, 1..100).prop_map(with_connections),
    ]
}

fn icmp_error() -> impl Strategy<Value = IcmpError> {
    (0..13_u8, 0..6_u8, any::<u32>()).prop_map(|(kind, code, mtu)| IcmpError { kind, code, mtu })
}

fn op() -> impl Strategy<Value = Op> {
    let client = || 0..CLIENTS;
    let bob = || prop::bool::weighted(0.05);
    let lifetime = || prop::option::of(prop::sample::select(&LIFETIMES));
    let even = prop_oneof![4 => Just(Even::No), 1 => Just(Even::Alone), 2 => Just(Even::Pair)];
    let family = prop_oneof![6 => Just(None), 1 => (1..=3_u8).prop_map(Some)];
    // The longest are more than an allocation may relay in a second, where that is limited.
    let length = || prop_oneof![4 => 0..40_usize, 1 => 900..1200_usize];
    prop_oneof![
        4 => prop_oneof![0..5_000_u64, 0..400_000_u64, Just(300_000), Just(30_000)]
            .prop_map(|milliseconds| Op::Advance { milliseconds }),
        4 => (client(), bob(), lifetime(), even, family, prop::option::weighted(0.2, 0..4_usize)).prop_map(
            |(client, bob, lifetime, even, family, token)| Op::Allocate {
                client, bob, tcp: false, lifetime, even, family, token
            }
        ),
        1 => client().prop_map(|client| Op::Retransmit { client }),
        2 => (client(), bob(), lifetime()).prop_map(|(client, bob, lifetime)| Op::Refresh { client, bob, lifetime }),
        5 => (client(), bob(), prop::collection::vec(peer(), 0..4))
            .prop_map(|(client, bob, peers)| Op::Permit { client, bob, peers }),
        6 => (client(), bob(), number(), peer())
            .prop_map(|(client, bob, number, peer)| Op::Bind { client, bob, number, peer }),
        6 => (client(), peer(), length()).prop_map(|(client, peer, length)| Op::Send { client, peer, length }),
        6 => (client(), 0x4000..0x4004_u16, length())
            .prop_map(|(client, number, length)| Op::ChannelData { client, number, length }),
        6 => (client(), peer(), length()).prop_map(|(client, peer, length)| Op::FromPeer { client, peer, length }),
        2 => (client(), noise()).prop_map(|(client, bytes)| Op::Noise { client, bytes }),
        1 => client().prop_map(|client| Op::Close { client }),
        1 => any::<bool>().prop_map(|denies| Op::SetDenies { denies }),
        3 => (any::<bool>(), prop::bool::weighted(0.3), prop::bool::weighted(0.8))
            .prop_map(|(denies, no_tcp, limits)| Op::SetRules { rules: Rules { denies, no_tcp, limits } }),
        1 => (client(), prop_oneof![9 => prop::sample::select(&PROOFS[..5]), 1 => Just(Proof::Wrong)])
            .prop_map(|(client, proof)| Op::Prove { client, proof }),
        3 => (client(), peer(), icmp_error()).prop_map(|(client, peer, error)| Op::Icmp { client, peer, error }),
        1 => (client(), 0..40_usize).prop_map(|(client, count)| Op::Flood { client, count }),
    ]
}

/// The same cases every time; says how often which outcome was seen.
fn run_all(punctual: bool) -> BTreeMap<String, u32> {
    let config = ProptestConfig {
        cases: 1500,
        rng_seed: RngSeed::Fixed(2024),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let seen = RefCell::new(BTreeMap::<String, u32>::new());
    let outcome = TestRunner::new(config).run(&ops(), |ops| {
        for outcome in run(punctual, ops) {
            *seen.borrow_mut().entry(outcome).or_default() += 1;
        }
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    seen.into_inner()
}

#[test]
fn the_engine_does_what_the_model_does() {
    let seen = run_all(true);
    for code in [200, 400, 401, 403, 437, 440, 441, 442, 443, 446, 508] {
        let times = seen.get(&code.to_string()).copied().unwrap_or(0);
        assert!(times >= 40, "{code} was seen {times} times: {seen:?}");
    }
    let discards = [
        "NoAllocation",
        "NoChannel",
        "NoPermission",
        "ForbiddenPeer",
        "PeerFamily",
        "UnknownRelay",
        "TcpAllocation",
        "AllocationBandwidth",
        "IcmpType",
        "ReplyBudget",
        "ConnectionLimit",
    ];
    let others = [
        "to peer",
        "channel",
        "indication",
        "hairpin channel",
        "hairpin indication",
        "ended",
        "noise is data",
        "icmp",
        "in budget",
        "connect",
        "accepted",
        "bound",
        "Connected",
        "NotConnected",
        "Attempt",
        "disconnected",
        "may copy [true, true]",
        "may copy [false, true]",
        "may copy [true, false]",
        "may copy [false, false]",
    ];
    for outcome in discards.into_iter().chain(others) {
        let times = seen.get(outcome).copied().unwrap_or(0);
        assert!(times >= 40, "{outcome} was seen {times} times: {seen:?}");
    }
}

/// The same with a host that heeds no deadline until the end.
#[test]
fn a_late_host_changes_nothing() {
    run_all(false);
}
