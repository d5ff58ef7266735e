//! Calls over bad networks: two clients, their translators, peers and the server on one virtual clock, thousands of
//! times. What must hold, whatever is lost, late, twice or gone:
//!
//! * no packet to a peer without a permission, and none withheld that has one;
//! * none to a client that it is not for;
//! * the counters are the packets;
//! * when the link has healed, everybody hears everybody again;
//! * in the end nothing is left of anything.
//!
//! `TURNWELL_SIM_SEEDS=10000 cargo test --test sim` tries so many seeds; `TURNWELL_SIM_SEED=7` runs one alone and tells
//! all that happens.

#![allow(clippy::disallowed_methods, reason = "the bans are for the core; the number of seeds is in the environment")]

mod caller;
mod ledger;
mod network;
mod payload;
mod world;

#[allow(dead_code, reason = "tests/engine uses all of it")]
#[path = "../engine/client.rs"]
mod client;
#[allow(dead_code, reason = "tests/engine uses all of it")]
#[path = "../engine/harness.rs"]
mod harness;
#[allow(dead_code, reason = "tests/engine uses all of it")]
#[path = "../common/peer_rule.rs"]
mod peer_rule;
#[path = "../common/random.rs"]
mod random;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// How many seeds are tried when nobody says so.
const SEEDS: u64 = 300;

/// What has to have been seen often, for the seeds to have shown anything.
const SEEN: [&str; 13] = [
    "start",
    "reboot",
    "to peer",
    "to client",
    "filtered",
    "NoAllocation",
    "NoPermission",
    "caller 200",
    "caller 403",
    "caller 437",
    "caller 438",
    "caller given up",
    "caller new mapping",
];

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
}

#[test]
fn calls_survive_what_networks_do() {
    let (seeds, trace) = match environment("TURNWELL_SIM_SEED") {
        Some(seed) => (seed..seed + 1, true),
        None => (0..environment("TURNWELL_SIM_SEEDS").unwrap_or(SEEDS), false),
    };
    let mut seen = BTreeMap::<String, u32>::new();
    for seed in seeds {
        match catch_unwind(AssertUnwindSafe(|| world::run(seed, trace))) {
            Ok(of_seed) => of_seed.into_iter().for_each(|(what, times)| *seen.entry(what).or_default() += times),
            Err(failure) => {
                println!("seed {seed} fails; alone: TURNWELL_SIM_SEED={seed} cargo test --test sim -- --nocapture");
                resume_unwind(failure);
            }
        }
    }
    println!("{seen:#?}");
    for what in SEEN.iter().filter(|_| !trace) {
        assert!(seen.get(*what).is_some_and(|times| *times >= 20), "{what} was hardly seen: {seen:?}");
    }
}

/// A seed is all there is to a run.
#[test]
fn a_seed_gives_the_same_run_again() {
    assert_eq!(world::run(5, false), world::run(5, false));
}
