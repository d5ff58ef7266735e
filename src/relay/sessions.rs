//! The operator's view of allocations: listing them page by page, ending one, ending what is revoked.
//!
//! A page is bounded so that no packet waits for a long list.

use std::net::SocketAddr;
use std::sync::Arc;

use super::Relay;
use super::action::{EndReason, FiveTuple, RelayId, Traffic, Transport};
use super::clock::{Mono, Now};
use crate::credentials::Revocations;

/// An allocation as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its relay socket; with `created` it names the allocation for as long as the engine lives.
    pub relay: RelayId,
    /// Who.
    pub user: Arc<str>,
    /// From where.
    pub client: FiveTuple,
    /// The relayed transport address that the client was told.
    pub relayed: SocketAddr,
    /// What it relays.
    pub transport: Transport,
    /// When it began.
    pub created: Mono,
    /// When it ends unless it is refreshed.
    pub expires: Mono,
    /// What went through up to now.
    pub traffic: Traffic,
    /// Permissions installed.
    pub permissions: usize,
    /// Channels bound.
    pub channels: usize,
    /// Connections with peers.
    pub connections: usize,
}

impl Relay {
    /// At most `most` allocations from a place on, and the place where the next page starts, if there is one. What
    /// begins or ends between two pages may be seen or not; nothing else is missed or seen twice.
    pub fn sessions(&self, from: usize, most: usize) -> (Vec<Session>, Option<usize>) {
        let mut page = Vec::new();
        for slot in self.table.slots_from(from) {
            if page.len() == most {
                return (page, Some(slot.index()));
            }
            let Some(allocation) = self.table.get(slot) else { continue };
            page.push(Session {
                relay: allocation.relayed.id,
                user: allocation.user.clone(),
                client: allocation.five_tuple,
                relayed: allocation.relayed.external,
                transport: allocation.transport,
                created: allocation.created,
                expires: allocation.expires,
                traffic: self.table.traffic(slot),
                permissions: allocation.permissions.len(),
                channels: allocation.channels.len(),
                connections: allocation.connections.len(),
            });
        }
        (page, None)
    }

    /// Ends one allocation, named as in [`Session`]. `false` when it has ended already.
    pub fn close_session(&mut self, relay: RelayId, created: Mono) -> bool {
        let Some(slot) = self.table.of_relay(relay) else { return false };
        if self.table.get(slot).is_none_or(|allocation| allocation.created != created) {
            return false;
        }
        self.end(slot, EndReason::Closed);
        true
    }

    /// From now on these credentials are refused, and the allocations made with them end.
    pub fn set_revoked(&mut self, now: Now, revoked: Arc<Revocations>) {
        self.revoked = revoked;
        if self.revoked.is_empty() {
            return;
        }
        for slot in self.table.slots() {
            let is_revoked = self.table.get(slot).is_some_and(|allocation| {
                self.revoked.contains(&allocation.username, &allocation.user, allocation.credential_expires, now.unix)
            });
            if is_revoked {
                self.end(slot, EndReason::Revoked);
            }
        }
    }
}
