//! Turnwell: a STUN and TURN server. The map, in the order in which a module may use the ones above it.

/// Bytes to borrowed views and back: STUN, ChannelData, integrity.
pub mod wire;

/// Secrets, users and keys: issue and verify in one place.
pub mod credentials;
