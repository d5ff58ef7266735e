//! Random operations on the engine and on the naive model: every action must be the same, and at the end what is held.

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};

use crate::client::{channel_data, send_indication};
use crate::harness::addr;
use crate::naive::Even;
use crate::pair::{CLIENTS, LIFETIMES, ODD_PEERS, Op, PEERS, Peer, run};

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

fn op() -> impl Strategy<Value = Op> {
    let client = || 0..CLIENTS;
    let bob = || prop::bool::weighted(0.05);
    let lifetime = || prop::option::of(prop::sample::select(&LIFETIMES));
    let even = prop_oneof![4 => Just(Even::No), 1 => Just(Even::Alone), 2 => Just(Even::Pair)];
    let family = prop_oneof![6 => Just(None), 1 => (1..=3_u8).prop_map(Some)];
    let length = || 0..40_usize;
    prop_oneof![
        4 => prop_oneof![0..5_000_u64, 0..400_000_u64, Just(300_000), Just(30_000)]
            .prop_map(|milliseconds| Op::Advance { milliseconds }),
        4 => (client(), bob(), lifetime(), even, family, prop::option::weighted(0.2, 0..4_usize)).prop_map(
            |(client, bob, lifetime, even, family, token)| Op::Allocate { client, bob, lifetime, even, family, token }
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
    ]
}

/// The same cases every time; says how often which outcome was seen.
fn run_all(punctual: bool) -> BTreeMap<String, u32> {
    let config = ProptestConfig {
        cases: 700,
        rng_seed: RngSeed::Fixed(2024),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let seen = RefCell::new(BTreeMap::<String, u32>::new());
    let outcome = TestRunner::new(config).run(&prop::collection::vec(op(), 1..150), |ops| {
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
    for code in [200, 400, 403, 437, 440, 441, 443, 508] {
        let times = seen.get(&code.to_string()).copied().unwrap_or(0);
        assert!(times >= 40, "{code} was seen {times} times: {seen:?}");
    }
    for outcome in ["NoAllocation", "NoChannel", "NoPermission", "ForbiddenPeer", "PeerFamily", "UnknownRelay"]
        .into_iter()
        .chain(["to peer", "channel", "indication", "hairpin channel", "hairpin indication", "ended", "noise is data"])
    {
        let times = seen.get(outcome).copied().unwrap_or(0);
        assert!(times >= 40, "{outcome} was seen {times} times: {seen:?}");
    }
}

/// The same with a host that never calls `handle_timeout` until the end.
#[test]
fn a_late_host_changes_nothing() {
    run_all(false);
}
