//! The relay sockets of one worker, each bound to the relayed transport address of one allocation.

use std::io;
use std::net::SocketAddr;

use slab::Slab;

use super::outbox::RunHint;
use super::quota::Permit;
use super::sys::{Epoll, Interest, UdpOptions, UdpSocket, bind_udp};
use crate::relay::RelayId;

/// So many packets in a row to one peer make it worth a connected socket.
const HOT: u32 = 32;
/// For so many turns a new connected socket waits for what is in the first one. Then others keep that full.
const MOST_WAITS: u8 = 8;

/// What packets met on their way is told to clients, and they may be fragmented unless a client says otherwise
/// (RFC 8656 §11.5, §14).
const OPTIONS: UdpOptions =
    UdpOptions { reuse_port: false, receive_buffer: 0, send_buffer: 0, gro: true, errors: true, fragments: true };

/// A relay socket with what belongs to it.
#[derive(Debug)]
pub(super) struct RelaySocket {
    pub(super) socket: UdpSocket,
    /// The allocation's place in the quotas; comes back when the socket goes.
    pub(super) permit: Permit,
    /// The kernel's drop count when it was last told.
    pub(super) kernel_drops: u32,
    /// Where in the outbox packets out of, and from, this socket are gathered.
    pub(super) to_peer: RunHint,
    pub(super) to_client: RunHint,
    /// Whether the kernel takes segmented messages on this socket.
    pub(super) segments: bool,
    /// What was sent last from the unconnected socket must not be fragmented.
    dont_fragment: bool,
    /// To whom such a datagram went last.
    unfragmented: Option<SocketAddr>,
    /// To whom the last packets went, and how many in a row.
    last_peer: Option<(SocketAddr, u32)>,
    hot: Hot,
}

/// A second socket with the same address, connected to the one peer that most packets go to: the kernel then looks up
/// neither route nor neighbour for each of them. What this peer sends arrives there too.
#[derive(Debug)]
enum Hot {
    None,
    Peer {
        socket: UdpSocket,
        peer: SocketAddr,
        kernel_drops: u32,
        /// What the peer sent before this socket was there may still be in the first one: turns left to wait for it.
        waits: u8,
    },
    /// The kernel would not; it is not asked again for this relay socket.
    Refused,
}

impl RelaySocket {
    /// The socket to send to `peer` from, and the destination to name there. What must not be fragmented leaves the
    /// unconnected socket, which is told so first by [`RelaySocket::set_dont_fragment`].
    pub(super) fn route(&self, peer: SocketAddr) -> (&UdpSocket, Option<SocketAddr>) {
        match &self.hot {
            Hot::Peer { socket, peer: hot, .. } if *hot == peer && !self.dont_fragment => (socket, None),
            Hot::Peer { .. } | Hot::None | Hot::Refused => (&self.socket, Some(peer)),
        }
    }

    /// Whether what is sent next, to `peer`, must not be fragmented; a system call only when that changes.
    pub(super) fn set_dont_fragment(&mut self, on: bool, peer: SocketAddr) {
        if self.dont_fragment != on && self.socket.set_dont_fragment(on).is_ok() {
            self.dont_fragment = on;
        }
        if on {
            self.unfragmented = Some(peer);
        }
    }

    /// Whom an error is about: the kernel leaves out the port of what it found too long itself.
    pub(super) fn destination(&self, told: SocketAddr) -> SocketAddr {
        let last = self.unfragmented.filter(|last| told.port() == 0 && last.ip() == told.ip());
        last.unwrap_or(told)
    }

    /// The socket to read from, with its drop count: the connected one or the other.
    pub(super) fn reader(&mut self, hot: bool) -> Option<(&UdpSocket, &mut u32)> {
        match (&mut self.hot, hot) {
            (Hot::Peer { socket, kernel_drops, .. }, true) => Some((socket, kernel_drops)),
            (_, false) => Some((&self.socket, &mut self.kernel_drops)),
            (Hot::None | Hot::Refused, true) => None,
        }
    }

    /// Whether the first socket is to be read before the connected one, so that nothing of its peer is overtaken; asked
    /// once a turn.
    pub(super) fn waits(&mut self) -> bool {
        let Hot::Peer { waits, .. } = &mut self.hot else { return false };
        let left = waits.checked_sub(1);
        *waits = left.unwrap_or(0);
        left.is_some()
    }

    /// The first socket has nothing that is older than what the connected one has.
    pub(super) fn caught_up(&mut self) {
        if let Hot::Peer { waits, .. } = &mut self.hot {
            *waits = 0;
        }
    }

    /// Notes that packets go to `peer`; once that is steady, opens a socket that is connected to it.
    fn note(&mut self, epoll: &Epoll, id: RelayId, peer: SocketAddr, packets: usize) {
        let before = self.last_peer.filter(|(last, _)| *last == peer).map_or(0, |(_, count)| count);
        let count = before.saturating_add(u32::try_from(packets).unwrap_or(u32::MAX));
        self.last_peer = Some((peer, count));
        if count >= HOT && before < HOT && !matches!(self.hot, Hot::Refused) {
            self.hot = match connected(&self.socket, peer, epoll, id) {
                Ok(socket) => Hot::Peer { socket, peer, kernel_drops: 0, waits: MOST_WAITS },
                Err(_) => Hot::Refused,
            };
        }
    }
}

/// Opens the second socket. The first was bound for itself alone, so nobody else has the address; only then do both
/// allow it to be shared.
fn connected(socket: &UdpSocket, peer: SocketAddr, epoll: &Epoll, id: RelayId) -> io::Result<UdpSocket> {
    socket.share_port()?;
    let second = bind_udp(socket.local_addr()?, UdpOptions { reuse_port: true, ..OPTIONS })?;
    second.connect(peer)?;
    epoll.add(&second, super::worker::hot_token(id), Interest::READ)?;
    Ok(second)
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
            permit,
            kernel_drops: 0,
            to_peer: RunHint::default(),
            to_client: RunHint::default(),
            segments: true,
            dont_fragment: false,
            unfragmented: None,
            last_peer: None,
            hot: Hot::None,
        });
        Ok(id)
    }

    /// Notes that packets leave for a peer.
    pub(super) fn note(&mut self, epoll: &Epoll, id: RelayId, peer: SocketAddr, packets: usize) {
        if let Some(relay) = self.get_mut(id) {
            relay.note(epoll, id, peer, packets);
        }
    }

    /// Closes a socket; the kernel stops watching it with that.
    pub(super) fn remove(&mut self, id: RelayId) {
        self.sockets.try_remove(id.0 as usize);
    }
}

/// Binds a relay socket.
pub(super) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    bind_udp(address, OPTIONS)
}
