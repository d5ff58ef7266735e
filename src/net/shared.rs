//! What crosses threads: commands to workers, what workers publish, quotas, and sockets reserved for a token.
//! Every lock here is taken per command, per allocation or ten times a second, never per packet.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::control::Question;
use super::counters::Snapshot;
use super::quota::Ledger;
use super::stream::{Census, Connection};
use super::sys::{UdpSocket, Wake};
use crate::credentials::Revocations;
use crate::relay::{Evidence, Live, ReservationToken};

/// Questions that wait in one letter box.
const MOST_QUESTIONS: usize = 64;
/// Connections of other workers that wait in one letter box.
const MOST_HANDED: usize = 256;

/// Samples of credentials that wait for a diagnosis; more are forgotten.
const MOST_EVIDENCE: usize = 64;

/// What a worker may be told.
#[derive(Debug)]
pub(super) enum Command {
    SetLive(Arc<Live>),
    SetRevoked(Arc<Revocations>),
    Drain,
    Stop,
}

/// A worker's letter box. It holds the newest of each kind of command and a few questions, so it cannot overflow.
#[derive(Debug)]
pub(super) struct Mailbox {
    wake: Wake,
    live: Mutex<Arc<Live>>,
    revoked: Mutex<Arc<Revocations>>,
    letters: Mutex<Letters>,
    published: Mutex<Snapshot>,
}

/// What lies in a letter box.
#[derive(Debug, Default)]
pub(super) struct Letters {
    /// There is a newer `live`.
    pub(super) live: bool,
    /// There is a newer `revoked`.
    pub(super) revoked: bool,
    pub(super) drain: bool,
    pub(super) stop: bool,
    /// Ports of this worker's share that others gave back; never more than the share has.
    pub(super) returned: Vec<SocketAddr>,
    /// At most [`MOST_QUESTIONS`].
    pub(super) questions: Vec<Question>,
    /// Clients' connections that are this worker's, though another accepted them; at most [`MOST_HANDED`].
    pub(super) handed: Vec<Connection>,
}

impl Letters {
    /// Takes everything. That the worker drains, or stops, stays there for one that starts anew.
    fn take(&mut self) -> Letters {
        let lasting = Letters { drain: self.drain, stop: self.stop, ..Letters::default() };
        std::mem::replace(self, lasting)
    }
}

impl Mailbox {
    pub(super) fn new(live: Arc<Live>) -> io::Result<Mailbox> {
        Ok(Mailbox {
            wake: Wake::new()?,
            live: Mutex::new(live),
            revoked: Mutex::default(),
            letters: Mutex::default(),
            published: Mutex::default(),
        })
    }

    pub(super) fn send(&self, command: Command) {
        let mut letters = lock(&self.letters);
        match command {
            Command::SetLive(live) => {
                *lock(&self.live) = live;
                letters.live = true;
            }
            Command::SetRevoked(revoked) => {
                *lock(&self.revoked) = revoked;
                letters.revoked = true;
            }
            Command::Drain => letters.drain = true,
            Command::Stop => letters.stop = true,
        }
        drop(letters);
        self.wake.wake();
    }

    /// `false` when too many questions wait already.
    pub(super) fn ask(&self, question: Question) -> bool {
        let mut letters = lock(&self.letters);
        if letters.questions.len() >= MOST_QUESTIONS {
            return false;
        }
        letters.questions.push(question);
        drop(letters);
        self.wake.wake();
        true
    }

    /// `false` when too many connections wait already; this one is closed then.
    fn hand(&self, connection: Connection) -> bool {
        let mut letters = lock(&self.letters);
        if letters.handed.len() >= MOST_HANDED {
            return false;
        }
        letters.handed.push(connection);
        drop(letters);
        self.wake.wake();
        true
    }

    fn return_port(&self, address: SocketAddr) {
        lock(&self.letters).returned.push(address);
        self.wake.wake();
    }

    pub(super) fn wake(&self) -> &Wake {
        &self.wake
    }

    /// The newest rules.
    pub(super) fn live(&self) -> Arc<Live> {
        lock(&self.live).clone()
    }

    /// What is revoked.
    pub(super) fn revoked(&self) -> Arc<Revocations> {
        lock(&self.revoked).clone()
    }

    /// Empties the box.
    pub(super) fn take(&self) -> Letters {
        self.wake.drain();
        lock(&self.letters).take()
    }

    pub(super) fn publish(&self, snapshot: Snapshot) {
        *lock(&self.published) = snapshot;
    }

    pub(super) fn published(&self) -> Snapshot {
        *lock(&self.published)
    }
}

/// What all workers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) ledger: Arc<Ledger>,
    pub(super) census: Arc<Census>,
    /// Whether the log shortens addresses and user names.
    pub(super) shorten_log: Arc<AtomicBool>,
    mailboxes: Vec<Arc<Mailbox>>,
    /// Sockets bound by EVEN-PORT with R = 1, until their token comes to whichever worker, or their time is over.
    reserved: Mutex<HashMap<ReservationToken, (UdpSocket, SocketAddr)>>,
    /// At most [`MOST_EVIDENCE`].
    evidence: Mutex<Vec<Evidence>>,
}

impl Shared {
    pub(super) fn new(ledger: Ledger, census: Census, mailboxes: Vec<Arc<Mailbox>>) -> Shared {
        Shared {
            ledger: Arc::new(ledger),
            census: Arc::new(census),
            shorten_log: Arc::default(),
            mailboxes,
            reserved: Mutex::default(),
            evidence: Mutex::default(),
        }
    }

    /// Keeps a sample for whoever diagnoses; its engine sends few.
    pub(super) fn keep_evidence(&self, sample: Evidence) {
        let mut kept = lock(&self.evidence);
        if kept.len() < MOST_EVIDENCE {
            kept.push(sample);
        }
    }

    pub(super) fn take_evidence(&self) -> Vec<Evidence> {
        std::mem::take(&mut lock(&self.evidence))
    }

    pub(super) fn mailbox(&self, worker: usize) -> &Arc<Mailbox> {
        &self.mailboxes[worker]
    }

    pub(super) fn reserve(&self, token: ReservationToken, socket: UdpSocket, address: SocketAddr) {
        lock(&self.reserved).insert(token, (socket, address));
    }

    pub(super) fn claim(&self, token: ReservationToken) -> Option<(UdpSocket, SocketAddr)> {
        lock(&self.reserved).remove(&token)
    }

    /// Gives a client's connection to another worker; `false` when that cannot take it, and it is closed.
    pub(super) fn hand_over(&self, worker: usize, connection: Connection) -> bool {
        self.mailboxes.get(worker).is_some_and(|mailbox| mailbox.hand(connection))
    }

    /// Tells the worker whose share a port is of that it is free again.
    pub(super) fn return_port(&self, owner: usize, address: SocketAddr) {
        if let Some(mailbox) = self.mailboxes.get(owner) {
            mailbox.return_port(address);
        }
    }
}

/// A worker that panicked under a lock leaves nothing half done here, so the lock stays good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_starts_anew_is_told_again_what_lasts() {
        let returned = vec!["192.0.2.1:49152".parse().unwrap()];
        let mut letters = Letters { drain: true, live: true, returned, ..Letters::default() };
        let first = letters.take();
        assert!(first.drain && !first.stop && first.live && first.returned.len() == 1);
        letters.stop = true;
        for _ in 0..2 {
            let again = letters.take();
            assert!(again.drain && again.stop && !again.live && again.returned.is_empty());
        }
    }
}
