//! One worker: receive, ask the engine, send; then what is rare.

mod errors;
mod peers;
mod streams;
mod tcp;

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, error};

use super::clock::Clock;
use super::counters::{NetCounters, Population, Snapshot};
use super::history::History;
use super::journal::Journal;
use super::outbox::{Body, Buffers, Outbox, RunHint, Target};
use super::relays::{self, Relays};
use super::rhythm::{REST, Rhythm};
use super::shared::{Mailbox, Shared};
use super::stream::{Listening, StreamConfig, Streams};
use super::sys::{Epoll, Events, Interest, ReceiveBatch, UdpSocket, precise_sleeps};
use super::tcp::{LISTENERS, TcpRelays, listens};
use crate::fastpath::FastPath;
use crate::relay::{
    self, Action, Direction, Event, FiveTuple, ListenerId, Mono, Now, OpenError, Opened, PeerAddr, PendingAllocation,
    Relay, RelayId, Transport, Want,
};

/// The longest run that UDP_GRO glues together, and the longest datagram there is.
const LONGEST: usize = 65_536;
/// Datagrams, or runs, taken from a listener by one call.
const SLOTS: usize = 32;
/// Calls a listener gets before the others have their turn.
const CALLS: usize = 4;
/// Room for what relay sockets bring in one turn before it has to be sent.
const ARENA: usize = 512 * 1024;
/// Up to so many ready sockets, reading one empty costs less than another wait.
const FEW: usize = 4;
/// So many messages share the cost of their system call well enough. More would only let the other side run out of
/// work and sleep meanwhile, and what was received grow cold in the cache.
const ENOUGH: usize = 8;
/// Sockets reported by one wait.
const EVENTS: usize = 256;
/// How old published counters may be.
const PUBLISH: Duration = Duration::from_millis(50);

const WAKE: u64 = u64::MAX;
const LISTENER: u64 = 1 << 32;
const HOT: u64 = 1 << 62;

/// The epoll token of a relay socket: its number, below those of listeners.
pub(super) fn relay_token(id: RelayId) -> u64 {
    u64::from(id.0)
}

/// The epoll token of the connected socket beside a relay socket.
pub(super) fn hot_token(id: RelayId) -> u64 {
    HOT | u64::from(id.0)
}

/// What outlives a worker's panic: its listeners and what it is built from.
pub(super) struct Seat {
    pub(super) index: usize,
    pub(super) listeners: Vec<UdpSocket>,
    pub(super) streams: Vec<Listening>,
    pub(super) stream_config: StreamConfig,
    pub(super) engine: relay::Config,
    pub(super) shared: Arc<Shared>,
    pub(super) clock: Clock,
}

/// Runs a worker until it is told to stop. A panic costs this worker's allocations, not the daemon.
pub(super) fn run(seat: &Seat) {
    // Best effort: without it a rest takes a little longer.
    let _ = precise_sleeps();
    let mut restarts = 0;
    loop {
        let worker = || Worker::new(seat, restarts).and_then(|mut worker| worker.serve());
        match catch_unwind(AssertUnwindSafe(worker)) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => {
                error!(worker = seat.index, %error, "worker ended: its epoll instance failed");
                return;
            }
            Err(_) => {
                restarts += 1;
                error!(worker = seat.index, restarts, "worker panicked and starts anew; its allocations are lost");
                // It reads again what it was told.
                seat.shared.mailbox(seat.index).wake().wake();
            }
        }
    }
}

struct Worker<'a> {
    core: Core<'a>,
    batch: ReceiveBatch,
    arena: Vec<u8>,
    arena_used: usize,
    listener_drops: Vec<u32>,
    published: Mono,
    dirty: bool,
    rhythm: Rhythm,
    /// A listener was left with datagrams to read.
    backlog: bool,
}

/// Everything but the receive buffers, so that those can be read while this is changed.
struct Core<'a> {
    seat: &'a Seat,
    epoll: Epoll,
    relay: Relay,
    relays: Relays,
    outbox: Outbox,
    streams: Streams,
    tcp: TcpRelays,
    fastpath: FastPath,
    counters: NetCounters,
    population: Population,
    history: History,
    journal: Journal,
}

impl<'a> Worker<'a> {
    fn new(seat: &'a Seat, restarts: u64) -> io::Result<Worker<'a>> {
        let epoll = Epoll::new()?;
        let mailbox = seat.shared.mailbox(seat.index);
        epoll.add(mailbox.wake(), WAKE, Interest::READ)?;
        for (number, listener) in seat.listeners.iter().enumerate() {
            epoll.add(listener, LISTENER + number as u64, Interest::READ)?;
        }
        let mut relay = Relay::new(seat.engine.clone(), mailbox.live());
        relay.set_revoked(seat.clock.now(), mailbox.revoked());
        let core = Core {
            seat,
            epoll,
            relay,
            relays: Relays::default(),
            outbox: Outbox::new(),
            streams: Streams::new(seat.stream_config.clone(), seat.shared.census.clone()),
            tcp: TcpRelays::default(),
            fastpath: FastPath::Off,
            counters: NetCounters { restarts, ..NetCounters::default() },
            population: Population::default(),
            history: History::default(),
            journal: Journal::new(seat.shared.shorten_log.clone()),
        };
        core.watch_streams()?;
        Ok(Worker {
            core,
            batch: ReceiveBatch::new(SLOTS, LONGEST),
            arena: vec![0; ARENA],
            arena_used: 0,
            listener_drops: vec![0; seat.listeners.len()],
            published: Mono(0),
            dirty: true,
            rhythm: Rhythm::default(),
            backlog: false,
        })
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let clock = self.core.seat.clock;
        loop {
            let mut before = clock.now().mono;
            if self.rhythm.rests() {
                rest();
                before = clock.now().mono;
            }
            let ready = self.core.epoll.wait(&mut events, self.timeout(before))?;
            let now = clock.now();
            let packets = self.core.counters.datagrams();
            self.backlog = false;
            let mut stop = false;
            for event in events.iter() {
                if event.error {
                    self.receive_errors(now, event.token);
                }
                match event.token {
                    WAKE => stop = self.read_letters(),
                    token if token >= HOT => self.receive_from_hot(now, RelayId(token as u32), ready <= FEW),
                    token if token >= LISTENERS => self.core.tcp_event(now, event),
                    token if token >= streams::STREAMS => self.stream_event(now, event),
                    token if token >= LISTENER => self.receive_from_clients(now, (token - LISTENER) as usize),
                    token => {
                        self.receive_from_peer(now, RelayId(token as u32), false, ready <= FEW);
                    }
                }
                if self.core.outbox.messages() >= ENOUGH {
                    self.flush();
                }
            }
            self.flush();
            let packets = self.core.counters.datagrams() - packets;
            self.rhythm.turned(now.mono.since(before), packets, self.backlog || ready == EVENTS);
            if self.core.relay.poll_timeout().is_some_and(|deadline| deadline <= now.mono) {
                self.core.relay.handle_timeout(now);
            }
            self.core.settle_tcp(now);
            // Some events write to streams, and connections that end cause others.
            self.core.carry_out_events();
            self.core.settle_streams(now);
            self.core.carry_out_events();
            // Whoever waits for the last allocation to end wants no older figures.
            self.publish(now.mono, stop || self.core.relay.is_draining());
            if stop {
                return Ok(());
            }
        }
    }

    /// Until the engine's next deadline, or until counters are to be published; for ever when nothing is to be done.
    fn timeout(&self, now: Mono) -> Option<Duration> {
        let engine = self.core.relay.poll_timeout().map(|deadline| deadline.since(now));
        let publish = self.dirty.then_some(PUBLISH);
        let streams = self.core.streams.poll_timeout().map(|deadline| deadline.since(now));
        let tcp = self.core.tcp.poll_timeout().map(|deadline| deadline.since(now));
        [engine, publish, streams, tcp].into_iter().flatten().min()
    }

    /// Takes commands. `true` when the worker is to stop.
    fn read_letters(&mut self) -> bool {
        let mailbox = self.mailbox().clone();
        let letters = mailbox.take();
        if letters.live {
            self.core.relay.set_live(mailbox.live());
        }
        if letters.drain {
            self.core.relay.drain();
        }
        if letters.revoked {
            self.core.relay.set_revoked(self.core.seat.clock.now(), mailbox.revoked());
        }
        for question in letters.questions {
            let Core { seat, relay, streams, history, .. } = &mut self.core;
            question.answer(seat.clock.now(), relay, streams, history);
        }
        for address in letters.returned {
            self.core.relay.port_returned(address);
        }
        for connection in letters.handed {
            self.adopt(self.core.seat.clock.now(), connection);
        }
        letters.stop
    }

    fn mailbox(&self) -> &Arc<Mailbox> {
        self.core.seat.shared.mailbox(self.core.seat.index)
    }

    fn receive_from_clients(&mut self, now: Now, number: usize) {
        let seat = self.core.seat;
        let Some(socket) = seat.listeners.get(number) else { return };
        let listener = ListenerId(u16::try_from(number).unwrap_or(u16::MAX));
        for _ in 0..CALLS {
            let received = match self.batch.receive(socket) {
                Ok(received) => received,
                Err(error) => {
                    self.read_failed(&error, socket);
                    return;
                }
            };
            for slot in 0..received {
                self.client_slot(now, listener, slot);
            }
            self.flush();
            if received < self.batch.capacity() {
                return;
            }
        }
        self.backlog = true;
    }

    /// One datagram of a client, or one run that the kernel glued together.
    fn client_slot(&mut self, now: Now, listener: ListenerId, slot: usize) {
        let Some((received, bytes)) = self.batch.get(slot) else { return };
        if let Some(drops) = received.kernel_drops
            && let Some(known) = self.listener_drops.get_mut(usize::from(listener.0))
        {
            self.core.counters.listener_kernel_drops += u64::from(drops.wrapping_sub(*known));
            *known = drops;
        }
        if received.truncated {
            self.core.counters.truncated += 1;
            return;
        }
        let from = FiveTuple { client: received.source, listener, stream: None };
        let mut offset = 0;
        for packet in received.segments(bytes) {
            self.core.counters.client_datagrams += 1;
            let action = self.core.relay.handle_client(now, &from, packet, &mut self.core.outbox.bytes);
            if let Some(action) = self.core.divert(now.mono, action, packet) {
                self.core.act_for_client(now, &from, action, slot, offset);
            }
            offset += packet.len();
        }
    }

    fn read_failed(&mut self, error: &io::Error, socket: &UdpSocket) {
        if error.kind() != io::ErrorKind::WouldBlock {
            debug!(worker = self.core.seat.index, %error, "listener read failed");
            let _ = socket.take_error();
        }
    }

    fn flush(&mut self) {
        let Core { outbox, relays, counters, seat, epoll, .. } = &mut self.core;
        let buffers = Buffers { batch: &self.batch, arena: &self.arena };
        outbox.flush(&seat.listeners, relays, epoll, buffers, counters);
        self.arena_used = 0;
    }

    fn publish(&mut self, now: Mono, at_once: bool) {
        self.dirty = !at_once && now.since(self.published) < PUBLISH;
        if !self.dirty {
            self.published = now;
            self.mailbox().publish(Snapshot {
                tally: *self.core.relay.tally(),
                usage: self.core.relay.usage(),
                net: self.core.counters,
                population: self.core.population,
                durations: self.core.history.durations,
                draining: usize::from(self.core.relay.is_draining()),
            });
        }
    }
}

impl Core<'_> {
    /// Carries out what a client's packet caused; the packet stands at `offset` of a slot.
    fn act_for_client(&mut self, now: Now, from: &FiveTuple, action: Action, slot: usize, offset: usize) {
        match action {
            Action::Discard(_) => {}
            Action::Reply { out } => {
                let target = Target::Client(from.listener, from.client);
                self.outbox.push(target, out, Body::None, 0, &mut RunHint::default());
            }
            Action::ReplyFrom { listener, client, out } => {
                let target = Target::Client(listener, client);
                self.outbox.push(target, out, Body::None, 0, &mut RunHint::default());
            }
            Action::ToPeer { relay: id, peer, payload, dont_fragment } => {
                let Some(relay) = self.relays.get_mut(id) else { return };
                let body = Body::Slot(slot, offset + payload.start..offset + payload.end);
                self.outbox.push(Target::Peer(id, peer.0, dont_fragment), 0..0, body, 0, &mut relay.to_peer);
            }
            Action::ToSibling { relay, peer, payload } => {
                if let Some(action) = self.sibling(relay, peer, payload) {
                    self.act_for_client(now, from, action, slot, offset);
                }
            }
            Action::ToClient { client, out, payload, padding } => {
                let body = Body::Slot(slot, offset + payload.start..offset + payload.end);
                self.outbox.push_next(Target::Client(client.listener, client.client), out, body, padding);
            }
            Action::Open(pending) => {
                let outcome = self.fulfil(&pending);
                let action = self.relay.opened(now, pending, outcome, &mut self.outbox.bytes);
                self.act_for_client(now, from, action, slot, offset);
            }
            // Connections are for clients on streams.
            Action::Connect { .. } | Action::Bind { .. } | Action::HandOver { .. } => {}
        }
    }

    /// A packet for a relay port of this server goes out if an allocation of another worker has it.
    fn sibling(&mut self, relay: RelayId, peer: PeerAddr, payload: Range<usize>) -> Option<Action> {
        if self.seat.shared.ledger.is_relayed(Transport::Udp, peer.0) {
            return Some(Action::ToPeer { relay, peer, payload, dont_fragment: false });
        }
        self.relay.stray();
        None
    }

    /// Gives an allocation a slice of what its user may relay.
    fn draw(&mut self, id: RelayId, direction: Direction, bytes: u64, bits_per_second: u64) {
        let now = self.seat.clock.now().mono;
        let permit = match listens(id) {
            true => self.tcp.permit(id),
            false => self.relays.get_mut(id).map(|relay| &relay.permit),
        };
        if let Some(permit) = permit {
            let drawn = permit.share().draw(now, direction, bytes, bits_per_second);
            self.relay.drawn(id, direction, drawn);
        }
    }

    /// Keeps the promise of an allocation: a place in the quotas, then a socket.
    fn fulfil(&mut self, pending: &PendingAllocation) -> Result<Opened, OpenError> {
        let shared = &self.seat.shared;
        let permit = || shared.ledger.acquire(pending.user(), pending.client().client.ip());
        match pending.want() {
            Want::Bind(address) => {
                let permit = permit()?;
                let socket = relays::bind(address).map_err(|error| self.refused(&error, address))?;
                let id = self.relays.insert(&self.epoll, socket, permit.at(Transport::Udp, address));
                id.map(|id| Opened::Relay(id, address)).map_err(|error| self.refused(&error, address))
            }
            Want::Listen(address) => {
                let permit = permit()?;
                let id = self.tcp.listen(&self.epoll, address, permit.at(Transport::Tcp, address));
                id.map(|id| Opened::Relay(id, address)).map_err(|error| self.refused(&error, address))
            }
            Want::Reserve(address, token) => {
                let socket = relays::bind(address).map_err(|error| self.refused(&error, address))?;
                shared.reserve(token, socket, address);
                Ok(Opened::Reserved)
            }
            Want::Claim(token) => {
                let permit = permit()?;
                let (socket, address) = shared.claim(token).ok_or(OpenError::NoReservation)?;
                let id = self.relays.insert(&self.epoll, socket, permit.at(Transport::Udp, address));
                id.map(|id| Opened::Relay(id, address)).map_err(|error| {
                    self.give_back(address);
                    self.refused(&error, address)
                })
            }
        }
    }

    fn refused(&mut self, error: &io::Error, address: SocketAddr) -> OpenError {
        if error.kind() == io::ErrorKind::AddrInUse {
            return OpenError::InUse;
        }
        self.journal.unopened(self.seat.clock.now().mono, error, address);
        OpenError::Unavailable
    }

    /// The worker whose share a port is of.
    fn owner(&self, address: SocketAddr) -> usize {
        usize::from(self.relay.share().owner(address.port()))
    }

    /// A reserved port that is in use no longer goes to whose share it is of.
    fn give_back(&mut self, address: SocketAddr) {
        let owner = self.owner(address);
        if owner == self.seat.index {
            self.relay.port_returned(address);
        } else {
            self.seat.shared.return_port(owner, address);
        }
    }

    fn carry_out_events(&mut self) {
        while let Some(event) = self.relay.poll_event() {
            match event {
                Event::FlowUp(key, flow) => self.fastpath.up(&key, &flow),
                Event::FlowDown(key) => self.fastpath.down(&key),
                Event::Close(id, address) => {
                    match listens(id) {
                        true => self.tcp.close(id),
                        false => self.relays.remove(id),
                    }
                    // The engine has taken back a port of its own share already.
                    let owner = self.owner(address);
                    if owner != self.seat.index {
                        self.seat.shared.return_port(owner, address);
                    }
                }
                Event::Unreserve(token, _) => {
                    if let Some((_, address)) = self.seat.shared.claim(token) {
                        self.give_back(address);
                    }
                }
                Event::Draw { relay, direction, bytes, bits_per_second } => {
                    self.draw(relay, direction, bytes, bits_per_second);
                }
                Event::Started(record) => {
                    let transport = self.streams.transport(&record.client);
                    self.population.began(transport, &record);
                    self.journal.began(self.seat.clock.now().mono, &record, transport);
                }
                Event::Ended(record, reason) => {
                    let (now, transport) = (self.seat.clock.now().mono, self.streams.transport(&record.client));
                    self.population.ended(transport, &record);
                    self.history.ended(&record, now);
                    self.journal.ended(now, &record, reason, transport);
                }
                Event::Evidence(sample) => self.seat.shared.keep_evidence(*sample),
                Event::Control(client, bytes) => {
                    if let Some(id) = client.stream {
                        self.streams.reply(id, &bytes, &mut self.counters);
                    }
                }
                Event::Disconnect(id) => self.tcp.disconnect(id),
                Event::Refused(refusal) => {
                    self.journal.refused(self.seat.clock.now().mono, &refusal);
                }
            }
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "the one place where letting time pass is the point, see `rhythm`")]
fn rest() {
    std::thread::sleep(REST);
}
