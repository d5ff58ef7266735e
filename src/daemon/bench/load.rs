//! Load in one or both directions: who sends, who counts what arrives, and how much may be under way.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::args::Pace;
use super::client::{Client, payload_from_server};
use super::error::BenchError;
use super::link::{LARGEST, Link, send_copies};
use super::progress::Progress;
use super::setup::Peer;
use crate::net::sys::{Epoll, Events, Interest, ReceiveBatch, SendBatch};
use crate::wire::{Class, Message, Method};

/// Bursts that are sent before arrivals are looked at again.
const BURSTS_A_TURN: u64 = 64;
/// When nothing has arrived for so long, what is under way is lost.
const PATIENCE: Duration = Duration::from_millis(200);
/// A wait at the end that brings nothing for so long is the last.
const LAST_WAIT: Duration = Duration::from_secs(1);
/// Tokens from here on are peers'.
const PEERS: u64 = 1 << 32;

/// What is expected at a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The payload, in ChannelData or a Data indication.
    Payload,
    /// A response of this class to this method.
    Response(Class, Method),
}

/// What was counted in one stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) offered: u64,
    pub(super) delivered: u64,
    /// Given up, so that others may be sent in their place.
    written_off: u64,
    /// From the first one offered to the last one delivered.
    pub(super) elapsed: Duration,
}

impl Tally {
    fn under_way(&self) -> u64 {
        self.offered.saturating_sub(self.delivered + self.written_off)
    }
}

/// A peer's sending side: the relayed addresses of its clients, and whose turn it is.
struct Sender<'a> {
    peer: &'a Peer,
    flows: Vec<SocketAddr>,
    next: usize,
}

/// A load that can be run in stages.
pub(super) struct Load<'a> {
    clients: &'a [Client],
    senders: Vec<Sender<'a>>,
    /// A frame for each client that sends; empty when none does.
    frames: Vec<Vec<u8>>,
    payload: &'a [u8],
    arrival: Arrival,
    down: bool,
    burst: usize,
    pace: Pace,
    next_client: usize,
    next_sender: usize,
    upwards: bool,
    epoll: Epoll,
    events: Events,
    scratch: SendBatch,
    batch: ReceiveBatch,
    buffer: Vec<u8>,
    tally: Tally,
    last_arrival: Instant,
}

/// What a load is made of.
pub(super) struct Parts<'a> {
    pub(super) clients: &'a [Client],
    pub(super) peers: &'a [Peer],
    pub(super) frames: Vec<Vec<u8>>,
    pub(super) payload: &'a [u8],
    pub(super) arrival: Arrival,
    /// Peers send, too.
    pub(super) down: bool,
    pub(super) burst: usize,
    pub(super) pace: Pace,
}

impl<'a> Load<'a> {
    pub(super) fn new(parts: Parts<'a>) -> Result<Load<'a>, BenchError> {
        let failed = BenchError::system("epoll");
        let Parts { clients, peers, frames, payload, arrival, down, burst, pace } = parts;
        let epoll = Epoll::new().map_err(&failed)?;
        for (token, client) in (0..).zip(clients) {
            epoll.add(&client.link, token, Interest::READ).map_err(&failed)?;
        }
        for (token, peer) in (PEERS..).zip(peers) {
            epoll.add(&peer.socket, token, Interest::READ).map_err(&failed)?;
        }
        let flows = |peer: &Peer| {
            let ours = clients.iter().filter(|client| client.peer == Some(peer.address));
            ours.filter_map(|client| client.relayed).collect()
        };
        Ok(Load {
            senders: peers.iter().map(|peer| Sender { peer, flows: flows(peer), next: 0 }).collect(),
            clients,
            upwards: !frames.is_empty(),
            frames,
            payload,
            arrival,
            down,
            burst,
            pace,
            next_client: 0,
            next_sender: 0,
            epoll,
            events: Events::with_capacity(512),
            scratch: SendBatch::new(),
            batch: ReceiveBatch::new(64, LARGEST),
            buffer: vec![0; LARGEST],
            tally: Tally::default(),
            last_arrival: Instant::now(),
        })
    }

    /// Sends for `time`, but not more than `packets`, then waits for what is still under way.
    pub(super) fn stage(
        &mut self,
        what: &str,
        time: Duration,
        packets: u64,
        progress: &mut Progress,
    ) -> Result<Tally, BenchError> {
        self.tally = Tally::default();
        let start = Instant::now();
        self.last_arrival = start;
        let mut now = start;
        while now - start < time && self.tally.offered < packets {
            let allowed = self.allowed(now - start).min((packets - self.tally.offered).div_ceil(self.burst as u64));
            let sent = self.send(allowed.min(BURSTS_A_TURN))?;
            self.receive(self.pause(now - start, sent, allowed))?;
            now = Instant::now();
            self.write_off(now);
            let share = (now - start).as_secs_f64() / time.as_secs_f64();
            let delivered = self.tally.delivered;
            progress.show(now, what, share, || format!("{delivered} delivered"));
        }
        // Until a wait brings nothing: what has arrived is read, however late this program itself came to its turn.
        while self.tally.delivered < self.tally.offered && self.receive(Some(LAST_WAIT))? > 0 {}
        progress.clear();
        self.tally.elapsed = self.last_arrival - start;
        Ok(self.tally)
    }

    /// How many bursts may be sent now.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts")]
    fn allowed(&self, elapsed: Duration) -> u64 {
        let packets = match self.pace {
            Pace::Window(window) => window.saturating_sub(self.tally.under_way()),
            Pace::Rate(rate) => ((rate * elapsed.as_secs_f64()) as u64).saturating_sub(self.tally.offered),
        };
        packets / self.burst as u64
    }

    /// How long to wait for arrivals: not at all when there is more to send.
    #[allow(clippy::cast_precision_loss, reason = "counts")]
    fn pause(&self, elapsed: Duration, sent: u64, allowed: u64) -> Option<Duration> {
        if sent > 0 && allowed * self.burst as u64 > sent {
            return Some(Duration::ZERO);
        }
        match self.pace {
            Pace::Window(_) if sent < allowed * self.burst as u64 => Some(Duration::from_millis(1)),
            Pace::Window(_) => Some(PATIENCE / 2),
            Pace::Rate(rate) => {
                let due = (self.tally.offered + self.burst as u64) as f64 / rate;
                Some(Duration::from_secs_f64((due - elapsed.as_secs_f64()).clamp(0.0, 0.1)))
            }
        }
    }

    fn write_off(&mut self, now: Instant) {
        if self.tally.under_way() > 0 && now - self.last_arrival > PATIENCE {
            self.tally.written_off += self.tally.under_way();
            self.last_arrival = now;
        }
    }

    /// Sends so many bursts, in turns up and down when both are wanted, and returns how many packets were taken.
    fn send(&mut self, bursts: u64) -> Result<u64, BenchError> {
        let (up, down) = match (!self.frames.is_empty(), self.down) {
            (true, true) => {
                self.upwards = !self.upwards;
                let half = bursts / 2;
                if self.upwards { (bursts - half, half) } else { (half, bursts - half) }
            }
            (up, _) => {
                if up {
                    (bursts, 0)
                } else {
                    (0, bursts)
                }
            }
        };
        let sent = self.send_up(up)? + self.send_down(down)?;
        self.tally.offered += sent;
        Ok(sent)
    }

    fn send_up(&mut self, bursts: u64) -> Result<u64, BenchError> {
        let mut sent = 0;
        for _ in 0..bursts {
            let index = self.next_client;
            let (Some(client), Some(frame)) = (self.clients.get(index), self.frames.get(index)) else { break };
            self.next_client = (index + 1) % self.clients.len();
            sent += client.link.send(&mut self.scratch, frame, self.burst).map_err(BenchError::system("sendmsg"))?;
        }
        Ok(sent as u64)
    }

    fn send_down(&mut self, bursts: u64) -> Result<u64, BenchError> {
        let count = self.senders.len().max(1);
        let Some(sender) = self.senders.get_mut(self.next_sender).filter(|_| bursts > 0) else { return Ok(0) };
        self.next_sender = (self.next_sender + 1) % count;
        if sender.flows.is_empty() {
            return Ok(0);
        }
        let wanted = usize::try_from(bursts).unwrap_or(usize::MAX).min(sender.flows.len());
        let turn = sender.flows.iter().cycle().skip(sender.next).take(wanted);
        sender.next = (sender.next + wanted) % sender.flows.len();
        let frames = turn.map(|relayed| (Some(*relayed), self.payload));
        let sent = send_copies(&sender.peer.socket, &mut self.scratch, frames, self.burst);
        Ok(sent.map_err(BenchError::system("sendmmsg"))? as u64)
    }

    /// Waits for arrivals and takes one call's worth from every socket that has some; says how many had.
    fn receive(&mut self, timeout: Option<Duration>) -> Result<usize, BenchError> {
        let count = self.epoll.wait(&mut self.events, timeout).map_err(BenchError::system("epoll_wait"))?;
        let before = self.tally.delivered;
        for index in 0..count {
            let Some(event) = self.events.at(index) else { break };
            let arrived = match event.token.checked_sub(PEERS) {
                None => self.receive_at_client(event.token),
                Some(peer) => self.receive_at_peer(peer),
            };
            self.tally.delivered += arrived.map_err(BenchError::system("recvmsg"))?;
        }
        if self.tally.delivered > before {
            self.last_arrival = Instant::now();
        }
        Ok(count)
    }

    fn receive_at_client(&mut self, token: u64) -> io::Result<u64> {
        let index = usize::try_from(token).unwrap_or(usize::MAX);
        let Some(client) = self.clients.get(index) else { return Ok(0) };
        let Some(run) = Link::receive(&client.link, &mut self.buffer)? else { return Ok(0) };
        let ours = match self.arrival {
            Arrival::Payload => payload_from_server(run.first) == Some(self.payload),
            Arrival::Response(class, method) => {
                Message::parse(run.first).is_ok_and(|message| (message.class(), message.method()) == (class, method))
            }
        };
        Ok(if ours { run.count } else { 0 })
    }

    fn receive_at_peer(&mut self, token: u64) -> io::Result<u64> {
        let index = usize::try_from(token).unwrap_or(usize::MAX);
        let Some(sender) = self.senders.get(index) else { return Ok(0) };
        match self.batch.receive(&sender.peer.socket) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(error),
        }
        let runs = (0..self.batch.len()).filter_map(|slot| self.batch.get(slot));
        let ours = runs.filter(|(run, bytes)| run.segments(bytes).next() == Some(self.payload));
        Ok(ours.map(|(run, _)| run.length.div_ceil(run.segment.max(1)) as u64).sum())
    }
}
