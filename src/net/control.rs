//! What the control plane asks of running workers, from any thread: counters, sessions, commands.
//!
//! A question lies in the worker's letter box until its next turn; the answer is a call from the worker's thread. The
//! box holds few questions and each costs a worker little, so that no packet waits for an operator.

use std::fmt;
use std::sync::Arc;

use super::counters::Snapshot;
use super::history::History;
use super::shared::{Command, Mailbox};
use super::stream::{Streams, Transport};
use crate::credentials::Revocations;
use crate::relay::{Mono, Now, Relay, RelayId, Session};

/// Sessions on one page.
const PAGE: usize = 128;

/// Where the answer goes. It runs on the worker's thread and must not wait.
pub type Reply<T> = Box<dyn FnOnce(T) + Send>;

/// What a worker can be asked.
pub enum Question {
    /// Its allocations from a place on: 0, then what the page before names.
    Sessions(usize, Reply<Page>),
    /// To end an allocation; whether there was such a one.
    Close(RelayId, Mono, Reply<bool>),
    /// What its ended allocations came to.
    History(Reply<History>),
    /// Whether it is alive.
    Alive(Reply<()>),
}

/// Some of a worker's allocations.
#[derive(Clone, Debug)]
pub struct Page {
    /// When the worker looked.
    pub now: Mono,
    /// What it saw, and over what it reaches each client.
    pub sessions: Vec<(Session, Transport)>,
    /// Where the next page starts, if there is one.
    pub next: Option<usize>,
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Question::Sessions(..) => "Sessions",
            Question::Close(..) => "Close",
            Question::History(..) => "History",
            Question::Alive(..) => "Alive",
        })
    }
}

impl Question {
    pub(super) fn answer(self, now: Now, relay: &mut Relay, streams: &Streams, history: &History) {
        match self {
            Question::Sessions(from, reply) => {
                let (sessions, next) = relay.sessions(from, PAGE);
                let sessions = sessions.into_iter().map(|session| (streams.transport(&session.client), session));
                let sessions = sessions.map(|(transport, session)| (session, transport)).collect();
                reply(Page { now: now.mono, sessions, next });
            }
            Question::Close(id, created, reply) => reply(relay.close_session(id, created)),
            Question::History(reply) => reply(history.clone()),
            Question::Alive(reply) => reply(()),
        }
    }
}

/// A hold on running workers that outlives none of them.
#[derive(Clone, Debug, Default)]
pub struct Control {
    pub(super) mailboxes: Vec<Arc<Mailbox>>,
}

impl Control {
    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.mailboxes.len()
    }

    /// The counters of all workers together, at most a tenth of a second old.
    pub fn counters(&self) -> Snapshot {
        self.mailboxes.iter().fold(Snapshot::default(), |sum, mailbox| sum.plus(&mailbox.published()))
    }

    /// From now on new allocations are refused; the others live on.
    pub fn drain(&self) {
        for mailbox in &self.mailboxes {
            mailbox.send(Command::Drain);
        }
    }

    /// From now on these credentials are refused; allocations made with them end.
    pub fn set_revoked(&self, revoked: &Arc<Revocations>) {
        for mailbox in &self.mailboxes {
            mailbox.send(Command::SetRevoked(revoked.clone()));
        }
    }

    /// Asks one worker. `false` when there is no such worker or too many questions wait; then the reply is dropped.
    pub fn ask(&self, worker: usize, question: Question) -> bool {
        self.mailboxes.get(worker).is_some_and(|mailbox| mailbox.ask(question))
    }
}
