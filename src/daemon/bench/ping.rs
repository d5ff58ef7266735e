//! One packet there and back for each client, timed: the peers send back what they receive.

use std::io;
use std::time::{Duration, Instant};

use super::args::{Pace, Plan};
use super::client::{Client, frame_to_peer, payload_from_server};
use super::error::BenchError;
use super::histogram::Histogram;
use super::link::LARGEST;
use super::progress::Progress;
use super::setup::Peer;
use crate::net::sys::{Epoll, Events, Interest, ReceiveBatch, SendBatch};

/// A packet that has not come back for so long is lost.
const PATIENCE: Duration = Duration::from_secs(1);
/// Tokens from here on are peers'.
const PEERS: u64 = 1 << 32;

/// What was counted in one stage.
pub(super) struct Trips {
    pub(super) offered: u64,
    pub(super) times: Histogram,
    pub(super) elapsed: Duration,
}

/// A client's one packet.
#[derive(Clone, Copy)]
struct Flight {
    /// The number that the packet carries; the next one when none is under way.
    number: u64,
    sent: Option<Instant>,
    /// When the next one is due.
    due: Instant,
}

/// Clients and peers that play.
pub(super) struct Game<'a> {
    plan: &'a Plan,
    clients: &'a [Client],
    peers: &'a [Peer],
    flights: Vec<Flight>,
    epoll: Epoll,
    events: Events,
    scratch: SendBatch,
    batch: ReceiveBatch,
    buffer: Vec<u8>,
    payload: Vec<u8>,
    trips: Trips,
}

impl<'a> Game<'a> {
    pub(super) fn new(plan: &'a Plan, clients: &'a [Client], peers: &'a [Peer]) -> Result<Game<'a>, BenchError> {
        let failed = BenchError::system("epoll");
        let epoll = Epoll::new().map_err(&failed)?;
        for (token, client) in (0..).zip(clients) {
            epoll.add(&client.link, token, Interest::READ).map_err(&failed)?;
        }
        for (token, peer) in (PEERS..).zip(peers) {
            epoll.add(&peer.socket, token, Interest::READ).map_err(&failed)?;
        }
        Ok(Game {
            flights: vec![Flight { number: 0, sent: None, due: Instant::now() }; clients.len()],
            plan,
            clients,
            peers,
            epoll,
            events: Events::with_capacity(512),
            scratch: SendBatch::new(),
            batch: ReceiveBatch::new(64, LARGEST),
            buffer: vec![0; LARGEST],
            payload: vec![0; usize::from(plan.args.payload)],
            trips: Trips::new(),
        })
    }

    /// Plays for `time`, but sends at most `packets`.
    pub(super) fn stage(&mut self, time: Duration, packets: u64, progress: &mut Progress) -> Result<Trips, BenchError> {
        let start = Instant::now();
        self.trips = Trips::new();
        self.stagger(start);
        let mut now = start;
        while now - start < time && (self.trips.offered < packets || self.is_under_way()) {
            self.serve(now, packets)?;
            self.receive(self.pause(now))?;
            now = Instant::now();
            let (share, count) = ((now - start).as_secs_f64() / time.as_secs_f64(), self.trips.times.count());
            progress.show(now, "ping-pong", share, || format!("{count} round trips"));
        }
        // The last ones under way: to be counted, not to be followed by others.
        while self.is_under_way() && now - start < time + PATIENCE {
            self.receive(Some(Duration::from_millis(10)))?;
            now = Instant::now();
        }
        progress.clear();
        self.trips.elapsed = now - start;
        Ok(std::mem::replace(&mut self.trips, Trips::new()))
    }

    /// With a rate, the clients take turns.
    fn stagger(&mut self, start: Instant) {
        let interval = self.interval();
        let count = u32::try_from(self.flights.len()).unwrap_or(u32::MAX).max(1);
        for (place, flight) in (0..).zip(&mut self.flights) {
            flight.sent = None;
            flight.due = start + interval / count * place;
        }
    }

    /// From one packet of a client to its next one.
    #[allow(clippy::cast_precision_loss, reason = "at most 50,000")]
    fn interval(&self) -> Duration {
        match self.plan.pace {
            Pace::Rate(rate) => Duration::from_secs_f64(self.clients.len() as f64 / rate),
            Pace::Window(_) => Duration::ZERO,
        }
    }

    fn is_under_way(&self) -> bool {
        self.flights.iter().any(|flight| flight.sent.is_some())
    }

    /// Sends the packets that are due and gives up those that do not come back.
    fn serve(&mut self, now: Instant, packets: u64) -> Result<(), BenchError> {
        let interval = self.interval();
        let indications = self.plan.args.indications;
        for (client, flight) in self.clients.iter().zip(&mut self.flights) {
            if flight.sent.is_some_and(|sent| now - sent > PATIENCE) {
                flight.sent = None;
                flight.number += 1;
            }
            let (Some(peer), None) = (client.peer, flight.sent) else { continue };
            if flight.due > now || self.trips.offered >= packets {
                continue;
            }
            if let Some(place) = self.payload.first_chunk_mut::<8>() {
                *place = flight.number.to_be_bytes();
            }
            let frame = frame_to_peer(peer, indications, &self.payload);
            flight.sent = Some(Instant::now());
            flight.due = flight.due.max(now) + interval;
            client.link.send(&mut self.scratch, &frame, 1).map_err(BenchError::system("sendmsg"))?;
            self.trips.offered += 1;
        }
        Ok(())
    }

    fn pause(&self, now: Instant) -> Option<Duration> {
        let idle = self.flights.iter().filter(|flight| flight.sent.is_none());
        let next = idle.map(|flight| flight.due.saturating_duration_since(now)).min();
        Some(next.unwrap_or(PATIENCE).min(Duration::from_millis(100)))
    }

    fn receive(&mut self, timeout: Option<Duration>) -> Result<(), BenchError> {
        let count = self.epoll.wait(&mut self.events, timeout).map_err(BenchError::system("epoll_wait"))?;
        for index in 0..count {
            let Some(event) = self.events.at(index) else { break };
            let done = match event.token.checked_sub(PEERS) {
                None => self.receive_at_client(event.token),
                Some(peer) => self.reflect(peer),
            };
            done.map_err(BenchError::system("recvmsg"))?;
        }
        Ok(())
    }

    fn receive_at_client(&mut self, token: u64) -> io::Result<()> {
        let index = usize::try_from(token).unwrap_or(usize::MAX);
        let (Some(client), Some(flight)) = (self.clients.get(index), self.flights.get_mut(index)) else {
            return Ok(());
        };
        let Some(run) = client.link.receive(&mut self.buffer)? else { return Ok(()) };
        let number = payload_from_server(run.first).and_then(|data| data.first_chunk::<8>());
        if let Some(sent) = flight.sent
            && number == Some(&flight.number.to_be_bytes())
        {
            self.trips.times.add(sent.elapsed());
            flight.sent = None;
            flight.number += 1;
        }
        Ok(())
    }

    fn reflect(&mut self, token: u64) -> io::Result<()> {
        let index = usize::try_from(token).unwrap_or(usize::MAX);
        let Some(peer) = self.peers.get(index) else { return Ok(()) };
        match self.batch.receive(&peer.socket) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        let mut out = self.scratch.begin();
        for (run, bytes) in (0..self.batch.len()).filter_map(|slot| self.batch.get(slot)) {
            for packet in run.segments(bytes) {
                out.message(Some(run.source), None);
                out.part(packet);
            }
        }
        out.send(&peer.socket, 0)?;
        Ok(())
    }
}

impl Trips {
    fn new() -> Trips {
        Trips { offered: 0, times: Histogram::new(), elapsed: Duration::ZERO }
    }
}
