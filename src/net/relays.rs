//! The relay sockets of one worker, each bound to the relayed transport address of one allocation.

use std::io;
use std::net::SocketAddr;

use slab::Slab;

use super::outbox::RunHint;
use super::quota::Permit;
use super::sys::{Epoll, Interest, UdpOptions, UdpSocket, bind_udp};
use crate::relay::RelayId;

/// A relay socket with what belongs to it.
#[derive(Debug)]
pub(super) struct RelaySocket {
    pub(super) socket: UdpSocket,
    /// The allocation's place in the quotas; comes back when the socket goes.
    _permit: Permit,
    /// The kernel's drop count when it was last told.
    pub(super) kernel_drops: u32,
    /// Where in the outbox packets out of, and from, this socket are gathered.
    pub(super) to_peer: RunHint,
    pub(super) to_client: RunHint,
    /// Whether the kernel takes segmented messages on this socket.
    pub(super) segments: bool,
}

/// All relay sockets of a worker; a slot's number is the engine's [`RelayId`].
#[derive(Debug, Default)]
pub(super) struct Relays {
    sockets: Slab<RelaySocket>,
}

impl Relays {
    pub(super) fn get_mut(&mut self, id: RelayId) -> Option<&mut RelaySocket> {
        self.sockets.get_mut(id.0 as usize)
    }

    /// Takes a bound socket in and watches it under its number.
    pub(super) fn insert(&mut self, epoll: &Epoll, socket: UdpSocket, permit: Permit) -> io::Result<RelayId> {
        let entry = self.sockets.vacant_entry();
        let id = RelayId(u32::try_from(entry.key()).map_err(io::Error::other)?);
        epoll.add(&socket, super::worker::relay_token(id), Interest::READ)?;
        entry.insert(RelaySocket {
            socket,
            _permit: permit,
            kernel_drops: 0,
            to_peer: RunHint::default(),
            to_client: RunHint::default(),
            segments: true,
        });
        Ok(id)
    }

    /// Closes a socket; the kernel stops watching it with that.
    pub(super) fn remove(&mut self, id: RelayId) {
        self.sockets.try_remove(id.0 as usize);
    }
}

/// Binds a relay socket.
pub(super) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    bind_udp(address, UdpOptions { gro: true, ..UdpOptions::default() })
}
