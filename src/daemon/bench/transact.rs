//! Requests of many clients at a time: retransmission (RFC 8489 §6.2.1), challenges, bounded parallelism.

use std::time::{Duration, Instant};

use super::client::{Answer, Client, Step};
use super::error::BenchError;
use super::link::LARGEST;
use crate::net::sys::{Epoll, Events, Interest, SendBatch};
use crate::wire::{Class, Message, TransactionId};

/// The first wait for an answer; it doubles each time, so that the last of [`TRIES`] ends after 6.3 s.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const TRIES: u32 = 6;
/// Challenges in a row that are believed.
const CHALLENGES: u32 = 3;
/// How often resends are looked for.
const TICK: Duration = Duration::from_millis(10);

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    Refused(u16),
    Silent,
}

impl Outcome {
    /// Turns anything but success into the error that ends the run.
    pub(super) fn expect(self, step: Step, server: &str) -> Result<(), BenchError> {
        let server = server.to_owned();
        match self {
            Outcome::Done => Ok(()),
            Outcome::Refused(code) => Err(BenchError::Refused { server, step, code }),
            Outcome::Silent => Err(BenchError::Silent { server, step }),
        }
    }
}

/// What a client does next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Next {
    Ask(Step),
    /// Nothing before this time; then it is asked again.
    Wait(Instant),
    /// The client is done and another one may begin.
    Finish,
}

/// What decides a client's steps: told how the last one ended (`None`: there was none), it says what is next.
pub(super) type Script<'s> = dyn FnMut(&mut Client, Option<(Step, Outcome)>) -> Result<Next, BenchError> + 's;

/// Runs the script for every client, at most `parallel` of them at a time.
pub(super) fn run(clients: &mut [Client], parallel: usize, script: &mut Script<'_>) -> Result<(), BenchError> {
    let mut exchange = Exchange::new(clients, script)?;
    let mut events = Events::with_capacity(256);
    let mut next_tick = Instant::now() + TICK;
    loop {
        while exchange.active.len() < parallel && exchange.started < exchange.clients.len() {
            exchange.start()?;
        }
        if exchange.active.is_empty() {
            return Ok(());
        }
        exchange.epoll.wait(&mut events, Some(TICK)).map_err(BenchError::system("epoll_wait"))?;
        for event in events.iter() {
            exchange.readable(usize::try_from(event.token).unwrap_or(usize::MAX))?;
        }
        let now = Instant::now();
        if now >= next_tick {
            exchange.resume(now)?;
            exchange.resend(now)?;
            next_tick = now + TICK;
        }
    }
}

/// A request that waits for its answer.
struct Pending {
    step: Step,
    id: TransactionId,
    bytes: Vec<u8>,
    resend_at: Instant,
    wait: Duration,
    tries: u32,
    challenges: u32,
    answered: bool,
}

struct Exchange<'a, 's> {
    clients: &'a mut [Client],
    script: &'a mut Script<'s>,
    pending: Vec<Option<Pending>>,
    active: Vec<usize>,
    waiting: Vec<(usize, Instant)>,
    started: usize,
    epoll: Epoll,
    ids: Ids,
    scratch: SendBatch,
    buffer: Vec<u8>,
}

impl<'a, 's> Exchange<'a, 's> {
    fn new(clients: &'a mut [Client], script: &'a mut Script<'s>) -> Result<Self, BenchError> {
        for client in clients.iter_mut() {
            client.watched = false;
        }
        Ok(Exchange {
            pending: clients.iter().map(|_| None).collect(),
            clients,
            script,
            active: Vec::new(),
            waiting: Vec::new(),
            started: 0,
            epoll: Epoll::new().map_err(BenchError::system("epoll_create"))?,
            ids: Ids::new()?,
            scratch: SendBatch::new(),
            buffer: vec![0; LARGEST],
        })
    }

    /// Begins with the next client.
    fn start(&mut self) -> Result<(), BenchError> {
        let index = self.started;
        self.started += 1;
        self.active.push(index);
        self.advance(index, None)
    }

    /// Asks the script what is next and sends it.
    fn advance(&mut self, index: usize, last: Option<(Step, Outcome)>) -> Result<(), BenchError> {
        let Some(client) = self.clients.get_mut(index) else { return Ok(()) };
        let step = match (self.script)(client, last)? {
            Next::Ask(step) => step,
            Next::Wait(until) => {
                self.waiting.push((index, until));
                return Ok(());
            }
            Next::Finish => {
                self.active.retain(|active| *active != index);
                if client.watched {
                    client.watched = false;
                    self.epoll.remove(&client.link).map_err(BenchError::system("epoll_ctl"))?;
                }
                return Ok(());
            }
        };
        if !client.watched {
            client.watched = true;
            self.epoll.add(&client.link, index as u64, Interest::READ).map_err(BenchError::system("epoll_ctl"))?;
        }
        self.ask(index, step, 0)
    }

    fn ask(&mut self, index: usize, step: Step, challenges: u32) -> Result<(), BenchError> {
        let (Some(client), Some(place)) = (self.clients.get(index), self.pending.get_mut(index)) else {
            return Ok(());
        };
        let mut bytes = place.take().map(|old| old.bytes).unwrap_or_default();
        let id = self.ids.next();
        client.request(step, id, &mut bytes);
        send(client, &mut self.scratch, &bytes)?;
        let resend_at = Instant::now() + FIRST_WAIT;
        *place = Some(Pending { step, id, bytes, resend_at, wait: FIRST_WAIT, tries: 1, challenges, answered: false });
        Ok(())
    }

    fn readable(&mut self, index: usize) -> Result<(), BenchError> {
        let Some(client) = self.clients.get_mut(index) else { return Ok(()) };
        let run = match client.link.receive(&mut self.buffer) {
            Ok(run) => run,
            // Nobody listens there; a server that is still starting may later.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => None,
            Err(error) => return Err(BenchError::system("recvmsg")(error)),
        };
        let Some(message) = run.and_then(|run| Message::parse(run.first).ok()) else { return Ok(()) };
        let Some(pending) = self.pending.get_mut(index) else { return Ok(()) };
        let ours = |pending: &&mut Pending| pending.id == message.transaction_id();
        let Some(pending) = pending.as_mut().filter(ours) else { return Ok(()) };
        if !matches!(message.class(), Class::Success | Class::Error) {
            return Ok(());
        }
        let (step, challenges) = (pending.step, pending.challenges);
        let outcome = match client.answered(&message) {
            Answer::Challenged if challenges < CHALLENGES => return self.ask(index, step, challenges + 1),
            Answer::Challenged => Outcome::Refused(438),
            Answer::Success => Outcome::Done,
            Answer::Refused(code) => Outcome::Refused(code),
        };
        // An answer that comes twice must not end the next step, nor is this request sent again.
        pending.id = TransactionId([0; 12]);
        pending.answered = true;
        self.advance(index, Some((step, outcome)))
    }

    fn resume(&mut self, now: Instant) -> Result<(), BenchError> {
        let due: Vec<usize> = self.waiting.iter().filter(|(_, until)| *until <= now).map(|(index, _)| *index).collect();
        self.waiting.retain(|(_, until)| *until > now);
        due.into_iter().try_for_each(|index| self.advance(index, None))
    }

    fn resend(&mut self, now: Instant) -> Result<(), BenchError> {
        for index in self.active.clone() {
            let Some(Some(pending)) = self.pending.get_mut(index) else { continue };
            if pending.answered || pending.resend_at > now {
                continue;
            }
            if pending.tries >= TRIES {
                let step = pending.step;
                pending.answered = true;
                self.advance(index, Some((step, Outcome::Silent)))?;
                continue;
            }
            pending.tries += 1;
            pending.wait *= 2;
            pending.resend_at = now + pending.wait;
            if let Some(client) = self.clients.get(index) {
                send(client, &mut self.scratch, &pending.bytes)?;
            }
        }
        Ok(())
    }
}

/// A request that the kernel does not take, or that nobody received, is sent again later.
fn send(client: &Client, scratch: &mut SendBatch, bytes: &[u8]) -> Result<(), BenchError> {
    match client.link.send(scratch, bytes, 1) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(BenchError::system("sendmsg")(error)),
    }
}

/// Transaction ids that no earlier run used: 64 random bits and a counter.
pub(super) struct Ids {
    prefix: [u8; 8],
    count: u32,
}

impl Ids {
    pub(super) fn new() -> Result<Ids, BenchError> {
        let mut prefix = [0; 8];
        getrandom::fill(&mut prefix).map_err(|error| BenchError::System {
            what: "getrandom",
            error: std::io::Error::other(error.to_string()),
        })?;
        Ok(Ids { prefix, count: 0 })
    }

    pub(super) fn next(&mut self) -> TransactionId {
        self.count = self.count.wrapping_add(1);
        let mut id = [0; 12];
        let (random, counter) = id.split_at_mut(8);
        random.copy_from_slice(&self.prefix);
        counter.copy_from_slice(&self.count.to_be_bytes());
        TransactionId(id)
    }
}
