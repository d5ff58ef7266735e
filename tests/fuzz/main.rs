//! The fuzz targets without a fuzzer: every input that is committed under `fuzz/corpus` goes through the function that
//! `scripts/fuzz` calls with inputs of its own. A finding becomes a file there, and so a test for good.

#![allow(clippy::disallowed_methods, reason = "the bans are for the core; the corpora are files")]

mod attributes;
mod engine;
mod frames;
mod wire;

// What the engine's target shares with the engine's tests.
#[allow(dead_code, reason = "tests/engine uses all of it")]
#[path = "../engine/client.rs"]
mod client;
#[allow(dead_code, reason = "tests/engine uses all of it")]
#[path = "../engine/harness.rs"]
mod harness;
#[path = "../engine/naive.rs"]
mod naive;
#[path = "../engine/naive_tcp.rs"]
mod naive_tcp;
#[path = "../engine/operation.rs"]
mod operation;
#[path = "../engine/pair.rs"]
mod pair;
#[path = "../engine/pair_tcp.rs"]
mod pair_tcp;
#[path = "../common/peer_rule.rs"]
mod peer_rule;

use std::path::Path;

/// Fewer files than this, and somebody has lost a corpus.
const LEAST: usize = 5;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut paths: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in &paths {
        // Shown when the input fails.
        println!("{}", path.display());
        run(&std::fs::read(path).unwrap());
    }
    assert!(paths.len() >= LEAST, "{} files in {}", paths.len(), folder.display());
}

#[test]
fn the_corpus_of_wire_passes() {
    replay("wire", wire::run);
}

#[test]
fn the_corpus_of_frames_passes() {
    replay("frames", frames::run);
}

#[test]
fn the_corpus_of_engine_passes() {
    replay("engine", engine::run);
}
