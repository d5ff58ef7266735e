//! What systemd is told (sd_notify(3)): ready, reloading, stopping, a status in words, and that the workers live.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

pub(super) use sd_notify::NotifyState;
use tracing::{error, warn};

use crate::net::{Control, Question, Reply};

/// Pings in the time after which systemd gives the server up: one may be late.
const BEATS: u32 = 3;

/// Tells systemd, if it listens.
pub(super) fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "systemd could not be notified");
    }
}

/// A reload begins; `READY=1` ends it.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}

/// `WATCHDOG=1` for as long as every worker answers. A worker that hangs silences it, and systemd starts the server
/// anew.
#[derive(Debug)]
pub(super) struct Watchdog {
    /// How often; none when systemd does not watch.
    pub(super) every: Option<Duration>,
    /// Workers that answered since the last beat; none before the first.
    answered: Option<Arc<AtomicUsize>>,
}

impl Watchdog {
    /// As `WatchdogSec=` says.
    pub(super) fn from_environment() -> Watchdog {
        Watchdog { every: sd_notify::watchdog_enabled().map(|time| time / BEATS), answered: None }
    }

    /// Pings systemd when every worker has answered the last question, and asks the next one.
    pub(super) fn beat(&mut self, workers: &Control) {
        if self.is_alive(workers.workers(), |worker, reply| workers.ask(worker, Question::Alive(reply))) {
            notify(&[NotifyState::Watchdog]);
        } else {
            error!("a worker does not answer; systemd is not told that all is well");
        }
    }

    fn is_alive(&mut self, workers: usize, mut ask: impl FnMut(usize, Reply<()>) -> bool) -> bool {
        let answered = Arc::new(AtomicUsize::new(0));
        for worker in 0..workers {
            let answered = answered.clone();
            let reply = move |()| {
                answered.fetch_add(1, Ordering::Relaxed);
            };
            ask(worker, Box::new(reply));
        }
        let before = self.answered.replace(answered);
        before.is_none_or(|answered| answered.load(Ordering::Relaxed) == workers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_silent_worker_is_enough_and_one_answer_heals() {
        let mut watchdog = Watchdog { every: None, answered: None };
        let mut beat = |answers: &dyn Fn(usize) -> bool| {
            watchdog.is_alive(2, |worker, reply| {
                if answers(worker) {
                    reply(());
                }
                true
            })
        };
        assert!(beat(&|_| true), "nothing was asked before");
        assert!(beat(&|worker| worker == 0));
        assert!(!beat(&|_| true));
        assert!(beat(&|_| true));
    }
}
