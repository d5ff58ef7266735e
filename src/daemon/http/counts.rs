//! What the API counts of itself. Labels are routes and statuses, of which there are few.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustls::HandshakeKind;

/// Counters of the API.
#[derive(Default)]
pub(super) struct Counts {
    requests: Mutex<BTreeMap<(String, u16), u64>>,
    issued: Mutex<BTreeMap<&'static str, u64>>,
    handshakes: [AtomicU64; Handshake::ALL.len()],
    reloads: Mutex<Reloads>,
}

/// What became of a TLS handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Handshake {
    Full,
    /// From an earlier session, without certificate and signature.
    Resumed,
    Failed,
    TimedOut,
}

impl Handshake {
    /// Each, in the order of their numbers.
    pub(super) const ALL: [Handshake; 4] =
        [Handshake::Full, Handshake::Resumed, Handshake::Failed, Handshake::TimedOut];

    /// One that went well.
    pub(super) fn of(kind: Option<HandshakeKind>) -> Handshake {
        if kind == Some(HandshakeKind::Resumed) { Handshake::Resumed } else { Handshake::Full }
    }

    /// The metric label.
    pub(super) fn label(self) -> &'static str {
        match self {
            Handshake::Full => "full",
            Handshake::Resumed => "resumed",
            Handshake::Failed => "failed",
            Handshake::TimedOut => "timed_out",
        }
    }

    fn index(self) -> usize {
        usize::from(self as u8)
    }
}

/// What came of reloads.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reloads {
    pub(super) good: u64,
    pub(super) refused: u64,
    /// Whether the last one was refused.
    pub(super) is_refused: bool,
}

impl Counts {
    /// A request that was answered; the route is its pattern, not its path.
    pub(super) fn answered(&self, route: &str, status: u16) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((route.to_owned(), status)).or_default() += 1;
    }

    pub(super) fn issued(&self, route: &'static str) {
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        *issued.entry(route).or_default() += 1;
    }

    pub(super) fn reloaded(&self, is_good: bool) {
        let mut reloads = self.reloads.lock().unwrap_or_else(PoisonError::into_inner);
        let count = if is_good { &mut reloads.good } else { &mut reloads.refused };
        *count += 1;
        reloads.is_refused = !is_good;
    }

    pub(super) fn reloads(&self) -> Reloads {
        *self.reloads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A TLS handshake is over.
    pub(super) fn shook_hands(&self, handshake: Handshake) {
        if let Some(count) = self.handshakes.get(handshake.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn handshakes(&self, handshake: Handshake) -> u64 {
        self.handshakes.get(handshake.index()).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    pub(super) fn requests(&self) -> BTreeMap<(String, u16), u64> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn all_issued(&self) -> BTreeMap<&'static str, u64> {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
