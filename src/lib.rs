//! Turnwell: a STUN and TURN server. The map, in the order in which a module may use the ones above it.

/// Bytes to borrowed views and back: STUN, ChannelData, integrity.
pub mod wire;

/// Secrets, users and keys: issue and verify in one place.
pub mod credentials;

/// RFC 8489 and RFC 8656 as a plain value: packet in, action out.
pub mod relay;

/// The kernel's copy of the flow rows; today always off.
pub mod fastpath;

/// Worker threads, sockets and system calls.
pub mod net;

/// Configuration, life cycle, HTTP API, logs and the command line.
pub mod daemon;
