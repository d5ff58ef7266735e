//! The flow table: the one rule by which bound channels relay.
//!
//! A row says: a datagram that arrives at `local` from `remote` (on `channel`, or on none) leaves from `local'` to
//! `remote'` (on `channel'`, or on none). A channel binding is two rows. Rows have a fixed size and no pointers, so a
//! kernel program can later apply the identical row; nothing here may become policy (RFC 8656 §12.6, §12.7).

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

use hashbrown::HashMap;

use super::action::{FiveTuple, ListenerId, PeerAddr, RelayId, StreamId};
use super::clock::Mono;
use super::table::Seed;
use crate::wire::ChannelNumber;

/// One of the host's sockets: a listener, a connection of a stream listener, or a relay socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Local {
    /// A client's side.
    Client(ListenerId, Option<StreamId>),
    /// A peer's side.
    Relay(RelayId),
}

impl Local {
    /// A number that differs for different sockets; hashing one integer is cheaper than hashing an enum.
    fn bits(self) -> u64 {
        match self {
            Local::Client(listener, stream) => {
                let stream = stream.map_or(0, |stream| stream.0.get());
                (u64::from(listener.0) << 32) | u64::from(stream)
            }
            Local::Relay(relay) => (1 << 63) | u64::from(relay.0),
        }
    }
}

/// Where a datagram arrives, or where it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowKey {
    /// Our socket.
    pub local: Local,
    /// The other side's address, as the network knows it.
    pub remote: SocketAddr,
    /// The channel on the client's side; `None` on the peer's.
    pub channel: Option<ChannelNumber>,
}

impl FlowKey {
    /// The client's end of a channel.
    pub fn client(five_tuple: &FiveTuple, channel: ChannelNumber) -> FlowKey {
        FlowKey {
            local: Local::Client(five_tuple.listener, five_tuple.stream),
            remote: five_tuple.client,
            channel: Some(channel),
        }
    }

    /// The peer's end of a channel.
    pub fn peer(relay: RelayId, peer: PeerAddr) -> FlowKey {
        FlowKey { local: Local::Relay(relay), remote: peer.0, channel: None }
    }
}

impl Hash for FlowKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let ip = match self.remote.ip() {
            IpAddr::V4(v4) => u128::from(v4.to_bits()),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        let channel = u64::from(self.channel.map_or(0, |channel| channel.0));
        state.write_u128(ip);
        state.write_u64((self.local.bits() << 16) ^ (u64::from(self.remote.port()) << 16).rotate_left(16) ^ channel);
    }
}

/// What happens to a datagram that arrives at a [`FlowKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Where it leaves.
    pub to: FlowKey,
    /// The slot of the allocation it is counted for.
    pub allocation: u32,
    /// From this moment on the row relays nothing: the first of allocation, channel and permission to end.
    pub expires: Mono,
    /// Datagrams relayed by this row.
    pub packets: u64,
    /// Application bytes relayed by this row.
    pub bytes: u64,
}

/// All rows of one engine.
#[derive(Debug)]
pub(super) struct FlowTable {
    rows: HashMap<FlowKey, Flow, Seed>,
}

impl FlowTable {
    pub(super) fn new(seed: Seed) -> FlowTable {
        FlowTable { rows: HashMap::with_hasher(seed) }
    }

    /// The row for `key`, if one is in force.
    pub(super) fn in_force(&mut self, now: Mono, key: &FlowKey) -> Option<&mut Flow> {
        self.rows.get_mut(key).filter(|row| now < row.expires)
    }

    /// Writes both rows of a channel, keeping the counters of rows that are there.
    pub(super) fn bind(&mut self, client: FlowKey, peer: FlowKey, allocation: u32, expires: Mono) -> [Flow; 2] {
        [(client, peer), (peer, client)].map(|(key, to)| {
            let row = self.rows.entry(key).or_insert(Flow { to, allocation, expires, packets: 0, bytes: 0 });
            row.expires = expires;
            *row
        })
    }

    /// Removes a row and returns it for its counters.
    pub(super) fn unbind(&mut self, key: &FlowKey) -> Option<Flow> {
        self.rows.remove(key)
    }

    pub(super) fn get(&self, key: &FlowKey) -> Option<&Flow> {
        self.rows.get(key)
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }
}
