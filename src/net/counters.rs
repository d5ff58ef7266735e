//! What a worker counts, and what it publishes for others to read.

use std::ops::AddAssign;

use super::history::Durations;
use super::stream::Closing;
use crate::relay::{Tally, Usage};

/// What a worker's sockets went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetCounters {
    /// Datagrams, and messages on streams, from clients.
    pub client_datagrams: u64,
    /// Datagrams from peers.
    pub peer_datagrams: u64,
    /// Datagrams that the kernel dropped on listeners because they were not read in time.
    pub listener_kernel_drops: u64,
    /// Datagrams that the kernel dropped on relay sockets.
    pub relay_kernel_drops: u64,
    /// Datagrams handed to the kernel.
    pub sent: u64,
    /// Datagrams that the kernel had no room for.
    pub send_full: u64,
    /// Datagrams that the kernel refused: no route, a firewall, too long.
    pub send_failed: u64,
    /// Runs of datagrams sent by one segmented message.
    pub segmented: u64,
    /// Segmented messages that were refused and sent one by one.
    pub segmented_refused: u64,
    /// Datagrams too long for the receive buffer.
    pub truncated: u64,
    /// Connections that are open: a state, not a count.
    pub streams: u64,
    /// Connections accepted.
    pub streams_accepted: u64,
    /// Connections that could not be accepted: no descriptor, no memory.
    pub accepts_failed: u64,
    /// Connections closed, by [`Closing::index`].
    pub streams_closed: [u64; Closing::ALL.len()],
    /// TLS handshakes that went through with certificate and signature.
    pub tls_full: u64,
    /// TLS handshakes that went on from an earlier session.
    pub tls_resumed: u64,
    /// Messages queued towards clients on streams.
    pub stream_messages: u64,
    /// Relayed messages that were dropped because a client on a stream did not read them in time.
    pub stream_dropped: u64,
    /// Times this worker was started anew after a panic; its allocations were lost.
    pub restarts: u64,
}

/// Everything a worker publishes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The engine's counters.
    pub tally: Tally,
    /// What the engine holds.
    pub usage: Usage,
    /// The sockets' counters.
    pub net: NetCounters,
    /// How long ended allocations lasted.
    pub durations: Durations,
}

impl Snapshot {
    pub(super) fn plus(mut self, other: &Snapshot) -> Snapshot {
        self.tally.add(&other.tally);
        self.usage.add(&other.usage);
        self.net += other.net;
        self.durations.add(&other.durations);
        self
    }
}

impl NetCounters {
    /// Datagrams from either side.
    pub(super) fn datagrams(&self) -> u64 {
        self.client_datagrams + self.peer_datagrams
    }
}

impl NetCounters {
    pub(super) fn closed(&mut self, closing: Closing) {
        if let Some(place) = self.streams_closed.get_mut(closing.index()) {
            *place += 1;
        }
    }
}

impl AddAssign for NetCounters {
    fn add_assign(&mut self, other: NetCounters) {
        self.client_datagrams += other.client_datagrams;
        self.peer_datagrams += other.peer_datagrams;
        self.listener_kernel_drops += other.listener_kernel_drops;
        self.relay_kernel_drops += other.relay_kernel_drops;
        self.sent += other.sent;
        self.send_full += other.send_full;
        self.send_failed += other.send_failed;
        self.segmented += other.segmented;
        self.segmented_refused += other.segmented_refused;
        self.truncated += other.truncated;
        self.streams += other.streams;
        self.streams_accepted += other.streams_accepted;
        self.accepts_failed += other.accepts_failed;
        for (sum, more) in self.streams_closed.iter_mut().zip(other.streams_closed) {
            *sum += more;
        }
        self.tls_full += other.tls_full;
        self.tls_resumed += other.tls_resumed;
        self.stream_messages += other.stream_messages;
        self.stream_dropped += other.stream_dropped;
        self.restarts += other.restarts;
    }
}
