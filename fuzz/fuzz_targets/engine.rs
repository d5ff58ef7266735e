#![no_main]
#![allow(dead_code, reason = "tests/engine uses all of it")]

#[path = "../../tests/engine/client.rs"]
mod client;
#[path = "../../tests/fuzz/engine.rs"]
mod engine;
#[path = "../../tests/engine/harness.rs"]
mod harness;
#[path = "../../tests/engine/naive.rs"]
mod naive;
#[path = "../../tests/engine/naive_tcp.rs"]
mod naive_tcp;
#[path = "../../tests/engine/operation.rs"]
mod operation;
#[path = "../../tests/engine/pair.rs"]
mod pair;
#[path = "../../tests/engine/pair_tcp.rs"]
mod pair_tcp;
#[path = "../../tests/common/peer_rule.rs"]
mod peer_rule;

libfuzzer_sys::fuzz_target!(|input: &[u8]| engine::run(input));
