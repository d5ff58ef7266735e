//! A data connection of a TCP allocation: one of this server with a peer, to which the client binds one of its own
//! (RFC 6062 §3).

use super::action::PeerAddr;
use super::clock::Mono;
use super::request::{Answer, Authenticated};
use super::table::Slot;

/// A connection with a peer.
pub(super) struct DataConnection {
    /// Whose.
    pub(super) allocation: Slot,
    /// As the client knows it.
    pub(super) peer: PeerAddr,
    /// As the network knows it: differs for our own relayed addresses behind a NAT.
    pub(super) wire: PeerAddr,
    /// The client asked for it; else the peer came by itself.
    pub(super) is_asked_for: bool,
    pub(super) stage: Stage,
}

/// How far a connection has come.
pub(super) enum Stage {
    /// The host connects to the peer; the client waits for the answer to its Connect.
    Connecting { answer: Answer<'static>, auth: Box<Authenticated>, until: Mono },
    /// It is established, and waits for a ConnectionBind.
    Pending { until: Mono },
    /// A connection of the client is bound to it.
    Bound,
}

impl Stage {
    /// When patience ends.
    pub(super) fn deadline(&self) -> Option<Mono> {
        match self {
            Stage::Connecting { until, .. } | Stage::Pending { until } => Some(*until),
            Stage::Bound => None,
        }
    }
}

impl std::fmt::Debug for DataConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataConnection").field("allocation", &self.allocation).field("peer", &self.peer).finish()
    }
}
