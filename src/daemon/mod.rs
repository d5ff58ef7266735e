//! The daemon around the relay: configuration, commands, HTTP API, logs, start and stop.
//!
//! The control plane runs on the main thread in one tokio runtime; packets never pass through here. Start order:
//! `cli` reads the configuration, `lifecycle` starts the workers, binds the API, reports readiness and waits for a
//! signal.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "what the core must not have belongs here")]

use std::time::SystemTime;

pub use cli::main;

pub mod bench;
mod cli;
pub mod config;
#[cfg(feature = "doctor")]
mod decode;
mod diagnosis;
#[cfg(feature = "doctor")]
mod doctor;
mod exit;
mod given;
mod http;
mod ice;
mod import;
mod lifecycle;
mod log;
mod reload;
mod revoked;
mod systemd;
mod trust;
mod watch;

/// The time in seconds since 1970.
fn unix_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
