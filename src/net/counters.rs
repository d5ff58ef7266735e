//! What a worker counts, and what it publishes for others to read.

use std::net::SocketAddr;
use std::ops::AddAssign;

use super::history::Durations;
use super::stream::{Closing, Transport};
use crate::relay::{Record, Tally, Usage};

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

/// Allocations by what carries their clients' messages and by the family of their relayed addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Population {
    /// In the order of [`Population::KINDS`].
    counts: [Count; Population::KINDS.len()],
}

/// The family of a relayed address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    fn of(address: SocketAddr) -> Family {
        if address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
    }

    /// Its name in labels.
    pub fn label(self) -> &'static str {
        match self {
            Family::Ipv4 => "ipv4",
            Family::Ipv6 => "ipv6",
        }
    }
}

/// How many allocations of a kind there have been.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Those that began.
    pub begun: u64,
    /// Those of them that have ended.
    pub ended: u64,
}

impl Population {
    const KINDS: [(Transport, Family); 6] = [
        (Transport::Udp, Family::Ipv4),
        (Transport::Udp, Family::Ipv6),
        (Transport::Tcp, Family::Ipv4),
        (Transport::Tcp, Family::Ipv6),
        (Transport::Tls, Family::Ipv4),
        (Transport::Tls, Family::Ipv6),
    ];

    /// Each kind with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Transport, Family, Count)> {
        Population::KINDS.into_iter().zip(self.counts).map(|((transport, family), count)| (transport, family, count))
    }

    pub(super) fn began(&mut self, transport: Transport, record: &Record) {
        if let Some(count) = self.of(transport, record) {
            count.begun += 1;
        }
    }

    pub(super) fn ended(&mut self, transport: Transport, record: &Record) {
        if let Some(count) = self.of(transport, record) {
            count.ended += 1;
        }
    }

    fn of(&mut self, transport: Transport, record: &Record) -> Option<&mut Count> {
        let kind = (transport, Family::of(record.relayed));
        let mut kinds = Population::KINDS.iter().zip(&mut self.counts);
        kinds.find(|(known, _)| **known == kind).map(|(_, count)| count)
    }

    fn add(&mut self, other: &Population) {
        for (sum, more) in self.counts.iter_mut().zip(other.counts) {
            sum.begun += more.begun;
            sum.ended += more.ended;
        }
    }
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
    /// The allocations by kind.
    pub population: Population,
    /// How long ended allocations lasted.
    pub durations: Durations,
    /// How many workers make no new allocations any more.
    pub draining: usize,
}

impl Snapshot {
    pub(super) fn plus(mut self, other: &Snapshot) -> Snapshot {
        self.tally.add(&other.tally);
        self.usage.add(&other.usage);
        self.net += other.net;
        self.population.add(&other.population);
        self.durations.add(&other.durations);
        self.draining += other.draining;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::{FiveTuple, ListenerId, Mono, Traffic};

    fn record(relayed: &str) -> Record {
        let client = FiveTuple { client: "192.0.2.1:5".parse().unwrap(), listener: ListenerId(0), stream: None };
        let relayed = relayed.parse().unwrap();
        Record { user: "a".into(), client, relayed, created: Mono(0), traffic: Traffic::default() }
    }

    #[test]
    fn allocations_are_counted_by_transport_and_relayed_family() {
        let (v4, v6) = (record("192.0.2.7:50000"), record("[2001:db8::7]:50000"));
        let mut one = Population::default();
        one.began(Transport::Udp, &v4);
        one.began(Transport::Tls, &v6);
        let mut other = Population::default();
        other.began(Transport::Tls, &v6);
        other.ended(Transport::Tls, &v6);
        one.add(&other);
        let found: Vec<_> = one.iter().filter(|(.., count)| *count != Count::default()).collect();
        assert_eq!(
            found,
            [
                (Transport::Udp, Family::Ipv4, Count { begun: 1, ended: 0 }),
                (Transport::Tls, Family::Ipv6, Count { begun: 2, ended: 1 }),
            ]
        );
        assert_eq!(one.iter().count(), 6);
    }
}
