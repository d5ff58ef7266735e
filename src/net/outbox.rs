//! What one loop turn produces, gathered so that it leaves in as few system calls as the kernel allows.
//!
//! Datagrams of equal size from one socket to one destination form a run, which leaves as one segmented message
//! (UDP_SEGMENT). Nothing is copied: headers stand in the engine's buffer, payloads where they were received.
//! Runs leave in the order in which they began, and a refused run is resent one by one on the spot, so the order
//! within a flow is kept.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;

use super::counters::NetCounters;
use super::relays::Relays;
use super::sys::{
    Epoll, MAX_SEGMENTED_BYTES, MAX_SEGMENTS, Outgoing, ReceiveBatch, SendBatch, UdpSocket, may_be_of_earlier,
};
use crate::relay::{ListenerId, RelayId};

/// How many clients without segmentation are remembered; beyond it the memory is emptied and learnt anew.
const MOST_REFUSED: usize = 1024;

/// From which socket to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Client(ListenerId, SocketAddr),
    /// Out of a relay socket; with `true` it must not be fragmented.
    Peer(RelayId, SocketAddr, bool),
}

/// Where a payload stands until the flush.
#[derive(Clone, Debug)]
pub(super) enum Body {
    None,
    /// In a slot of the batch that was received from a listener.
    Slot(usize, Range<usize>),
    /// In the arena that relay sockets are received into.
    Arena(Range<usize>),
}

/// Remembers where the last run of a flow is, so that interleaved flows still form runs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RunHint {
    turn: u32,
    run: u32,
}

/// One datagram.
#[derive(Debug)]
struct Entry {
    head: Range<usize>,
    body: Body,
    padding: u8,
    next: Option<u32>,
}

/// Datagrams that can leave as one message.
#[derive(Debug)]
struct Run {
    target: Target,
    first: u32,
    last: u32,
    count: usize,
    segment: usize,
    total: usize,
    /// Only the last datagram of a segmented message may be shorter than the others.
    open: bool,
}

impl Run {
    fn takes(&self, target: Target, length: usize) -> bool {
        self.open
            && self.target == target
            && (1..=self.segment).contains(&length)
            && self.count < MAX_SEGMENTS
            && self.total + length <= MAX_SEGMENTED_BYTES
    }
}

/// The datagrams of a turn.
pub(super) struct Outbox {
    /// What the engine writes.
    pub(super) bytes: Vec<u8>,
    entries: Vec<Entry>,
    runs: Vec<Run>,
    turn: u32,
    tail: RunHint,
    batch: SendBatch,
    singles: SendBatch,
    /// Which run each gathered message is of, or none when it is one datagram.
    owners: Vec<(u32, bool)>,
    refused: std::collections::HashSet<SocketAddr>,
}

/// What the flush reads payloads from.
#[derive(Clone, Copy)]
pub(super) struct Buffers<'a> {
    pub(super) batch: &'a ReceiveBatch,
    pub(super) arena: &'a [u8],
}

impl Outbox {
    pub(super) fn new() -> Outbox {
        Outbox {
            bytes: Vec::with_capacity(64 * 1024),
            entries: Vec::with_capacity(512),
            runs: Vec::with_capacity(512),
            turn: 1,
            tail: RunHint::default(),
            batch: SendBatch::new(),
            singles: SendBatch::new(),
            owners: Vec::with_capacity(512),
            refused: std::collections::HashSet::new(),
        }
    }

    /// Adds a datagram: `head`, a range of `bytes`, then the payload, then `padding` zero bytes. With a hint it may
    /// join the run that the hint remembers.
    pub(super) fn push(&mut self, target: Target, head: Range<usize>, body: Body, padding: u8, hint: &mut RunHint) {
        let length = head.len() + body.len() + usize::from(padding);
        let number = index(self.entries.len());
        self.entries.push(Entry { head, body, padding, next: None });
        if hint.turn == self.turn
            && let Some(run) = self.runs.get_mut(hint.run as usize)
            && run.takes(target, length)
        {
            if let Some(last) = self.entries.get_mut(run.last as usize) {
                last.next = Some(number);
            }
            run.last = number;
            run.count += 1;
            run.total += length;
            run.open = length == run.segment;
            return;
        }
        *hint = RunHint { turn: self.turn, run: index(self.runs.len()) };
        let run = Run { target, first: number, last: number, count: 1, segment: length, total: length, open: true };
        self.runs.push(run);
    }

    /// As [`Outbox::push`], joining the run before it where that fits.
    pub(super) fn push_next(&mut self, target: Target, head: Range<usize>, body: Body, padding: u8) {
        let mut hint = self.tail;
        self.push(target, head, body, padding, &mut hint);
        self.tail = hint;
    }

    /// How many messages wait; a run is one.
    pub(super) fn messages(&self) -> usize {
        self.runs.len()
    }

    /// Sends everything and forgets it.
    pub(super) fn flush(
        &mut self,
        listeners: &[UdpSocket],
        relays: &mut Relays,
        epoll: &Epoll,
        buffers: Buffers<'_>,
        counters: &mut NetCounters,
    ) {
        if self.runs.is_empty() {
            self.bytes.clear();
            return;
        }
        for (number, socket) in listeners.iter().enumerate() {
            self.flush_listener(ListenerId(u16::try_from(number).unwrap_or(u16::MAX)), socket, buffers, counters);
        }
        self.flush_relays(relays, epoll, buffers, counters);
        self.entries.clear();
        self.runs.clear();
        self.bytes.clear();
        self.turn = self.turn.wrapping_add(1);
    }

    /// Everything towards clients of one listener in one call.
    fn flush_listener(
        &mut self,
        listener: ListenerId,
        socket: &UdpSocket,
        buffers: Buffers<'_>,
        counters: &mut NetCounters,
    ) {
        let parts = Parts { bytes: &self.bytes, entries: &self.entries, buffers };
        let mut out = self.batch.begin();
        self.owners.clear();
        for (number, run) in self.runs.iter().enumerate() {
            let Target::Client(of, address) = run.target else { continue };
            if of != listener {
                continue;
            }
            let segmented = run.count > 1 && !self.refused.contains(&address);
            let messages = parts.gather(run, segmented, Some(address), &mut out);
            self.owners.extend(std::iter::repeat_n((index(number), segmented), messages));
        }
        let mut at = 0;
        while let Some((run, segmented)) = self.owners.get(at).copied() {
            match out.send(socket, at) {
                Ok(taken) => {
                    let sent = self.owners.get(at..at + taken).unwrap_or_default();
                    count_sent(sent, &self.runs, counters);
                    at += taken.max(1);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let left = self.owners.get(at..).unwrap_or_default();
                    counters.send_full += datagrams(left, &self.runs);
                    break;
                }
                Err(_) => {
                    if let Some(run) = self.runs.get(run as usize).filter(|_| segmented) {
                        let (Target::Client(_, address) | Target::Peer(_, address, _)) = run.target;
                        remember(&mut self.refused, address);
                        parts.send_singly(run, socket, Some(address), &mut self.singles, counters);
                    } else {
                        counters.send_failed += 1;
                    }
                    at += 1;
                }
            }
        }
    }

    /// Every relay socket has one destination's run at a time, so one message is one call.
    fn flush_relays(&mut self, relays: &mut Relays, epoll: &Epoll, buffers: Buffers<'_>, counters: &mut NetCounters) {
        let parts = Parts { bytes: &self.bytes, entries: &self.entries, buffers };
        for run in &self.runs {
            let Target::Peer(id, peer, dont_fragment) = run.target else { continue };
            relays.note(epoll, id, peer, run.count);
            let Some(relay) = relays.get_mut(id) else { continue };
            relay.set_dont_fragment(dont_fragment, peer);
            let (socket, destination) = relay.route(peer);
            if run.count > 1 && !relay.segments {
                parts.send_singly(run, socket, destination, &mut self.singles, counters);
                continue;
            }
            let mut out = self.batch.begin();
            parts.gather(run, run.count > 1, destination, &mut out);
            // A socket first tells of an ICMP error that an earlier packet met, and then sends.
            let sent = match out.send(socket, 0) {
                Err(error) if may_be_of_earlier(&error, dont_fragment) => out.send(socket, 0),
                sent => sent,
            };
            match sent {
                Ok(_) => {
                    counters.sent += run.count as u64;
                    counters.segmented += u64::from(run.count > 1);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => counters.send_full += run.count as u64,
                Err(_) if run.count > 1 => {
                    parts.send_singly(run, socket, destination, &mut self.singles, counters);
                    relay.segments = false;
                }
                Err(_) => counters.send_failed += 1,
            }
        }
    }
}

impl Body {
    fn len(&self) -> usize {
        match self {
            Body::None => 0,
            Body::Slot(_, range) | Body::Arena(range) => range.len(),
        }
    }
}

/// What datagrams are made of.
#[derive(Clone, Copy)]
struct Parts<'a> {
    bytes: &'a [u8],
    entries: &'a [Entry],
    buffers: Buffers<'a>,
}

impl<'a> Parts<'a> {
    /// Adds a run to `out`, as one message or as one a datagram, and returns how many messages that are.
    fn gather(&self, run: &Run, segmented: bool, destination: Option<SocketAddr>, out: &mut Outgoing<'a>) -> usize {
        if segmented {
            out.message(destination, u16::try_from(run.segment).ok());
        }
        for entry in self.datagrams(run) {
            if !segmented {
                out.message(destination, None);
            }
            self.add(entry, out);
        }
        if segmented { 1 } else { run.count }
    }

    fn add(&self, entry: &Entry, out: &mut Outgoing<'a>) {
        const ZEROS: &[u8] = &[0; 3];
        let body = match &entry.body {
            Body::None => None,
            Body::Slot(slot, range) => self.buffers.batch.get(*slot).and_then(|(_, bytes)| bytes.get(range.clone())),
            Body::Arena(range) => self.buffers.arena.get(range.clone()),
        };
        let head = self.bytes.get(entry.head.clone());
        let padding = ZEROS.get(..usize::from(entry.padding));
        for part in [head, body, padding].into_iter().flatten().filter(|part| !part.is_empty()) {
            out.part(part);
        }
    }

    fn datagrams(&self, run: &Run) -> impl Iterator<Item = &'a Entry> {
        let entries = self.entries;
        let first = entries.get(run.first as usize);
        std::iter::successors(first, move |entry| entries.get(entry.next? as usize))
    }

    /// Sends a run's datagrams one by one: what the kernel will not segment still arrives.
    fn send_singly(
        &self,
        run: &Run,
        socket: &UdpSocket,
        destination: Option<SocketAddr>,
        batch: &mut SendBatch,
        counters: &mut NetCounters,
    ) {
        counters.segmented_refused += 1;
        let mut out = batch.begin();
        let messages = self.gather(run, false, destination, &mut out);
        let mut at = 0;
        while at < messages {
            match out.send(socket, at) {
                Ok(taken) => {
                    counters.sent += taken as u64;
                    at += taken.max(1);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    counters.send_full += (messages - at) as u64;
                    break;
                }
                Err(_) => {
                    counters.send_failed += 1;
                    at += 1;
                }
            }
        }
    }
}

/// How many datagrams gathered messages stand for.
fn datagrams(owners: &[(u32, bool)], runs: &[Run]) -> u64 {
    let count = |(run, segmented): &(u32, bool)| match segmented {
        true => runs.get(*run as usize).map_or(0, |run| run.count),
        false => 1,
    };
    owners.iter().map(|owner| count(owner) as u64).sum()
}

fn count_sent(owners: &[(u32, bool)], runs: &[Run], counters: &mut NetCounters) {
    counters.sent += datagrams(owners, runs);
    counters.segmented += owners.iter().filter(|(_, segmented)| *segmented).count() as u64;
}

fn remember(refused: &mut std::collections::HashSet<SocketAddr>, address: SocketAddr) {
    if refused.len() >= MOST_REFUSED {
        refused.clear();
    }
    refused.insert(address);
}

/// A turn never gathers four billion datagrams: every receive buffer is smaller.
fn index(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
