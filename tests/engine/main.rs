//! The engine as input → exact actions on a virtual clock: no socket, no thread, no time passes.

mod allocate;
mod authentication;
mod binding;
mod channel;
mod client;
mod connecting;
mod credentials;
mod data;
mod discovery;
mod dual;
mod errors;
mod events;
mod evidence;
mod expiry;
mod features;
mod hairpin;
mod harness;
mod icmp;
mod isolation;
mod limits;
mod model;
mod naive;
mod naive_tcp;
mod noise;
mod operation;
mod oracle;
mod pair;
mod pair_tcp;
mod peers;
mod permission;
mod redirect;
mod refresh;
mod reload;
mod reservation;
mod tcp;

#[path = "../common/peer_rule.rs"]
mod peer_rule;
#[path = "../common/random.rs"]
mod random;
