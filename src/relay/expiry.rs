//! The one expiry queue: one entry an item, taken out exactly when the item goes.

use std::collections::BTreeSet;

use super::action::{ConnectionId, ReservationToken};
use super::clock::Mono;

/// What a deadline belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Item {
    /// The slot of an allocation; its deadline is the first of its own, its permissions' and its channels'.
    Allocation(u32),
    /// A reservation.
    Reservation([u8; 8]),
    /// A connection with a peer that is not bound yet.
    Connection(u32),
}

impl From<ReservationToken> for Item {
    fn from(token: ReservationToken) -> Item {
        Item::Reservation(token.0)
    }
}

impl From<ConnectionId> for Item {
    fn from(id: ConnectionId) -> Item {
        Item::Connection(id.0)
    }
}

/// Deadlines in order. An item that is to fire earlier or later is taken out and put in again.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    queue: BTreeSet<(Mono, Item)>,
}

impl Expiry {
    pub(super) fn insert(&mut self, at: Mono, item: Item) {
        self.queue.insert((at, item));
    }

    pub(super) fn remove(&mut self, at: Mono, item: Item) {
        self.queue.remove(&(at, item));
    }

    /// The next deadline.
    pub(super) fn first(&self) -> Option<Mono> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Takes out one item whose deadline has come.
    pub(super) fn pop(&mut self, now: Mono) -> Option<Item> {
        self.queue.first().filter(|(at, _)| *at <= now)?;
        self.queue.pop_first().map(|(_, item)| item)
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
}
