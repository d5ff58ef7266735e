//! Every allocation with its indexes, flow rows and deadlines: the only place where they change, so that none can
//! outlive another.

use std::collections::VecDeque;
use std::net::SocketAddr;

use hashbrown::HashMap;
use slab::Slab;

use super::action::{ConnectionId, Discard, EndReason, Event, FiveTuple, RelayId, Traffic, Transport};
use super::allocation::{Allocation, Channel};
use super::bandwidth::{Bandwidth, Direction};
use super::clock::Mono;
use super::connection::{DataConnection, Stage};
use super::expiry::{Expiry, Item};
use super::flow::{Flow, FlowKey, FlowTable, Local};

/// The hasher of every table: its seed is the engine's secret, since the keys are an attacker's choice.
pub(super) type Seed = foldhash::fast::FixedState;

/// The slot of an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(pub(super) u32);

impl Slot {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// All allocations.
#[derive(Debug)]
pub(super) struct Table {
    allocations: Slab<Allocation>,
    by_client: HashMap<FiveTuple, Slot, Seed>,
    by_relay: HashMap<RelayId, Slot, Seed>,
    by_local: HashMap<SocketAddr, RelayId, Seed>,
    flows: FlowTable,
    connections: HashMap<ConnectionId, DataConnection, Seed>,
    pub(super) expiry: Expiry,
    pub(super) events: VecDeque<Event>,
}

impl Table {
    pub(super) fn new(seed: u64) -> Table {
        let seed = || Seed::with_seed(seed);
        Table {
            allocations: Slab::new(),
            by_client: HashMap::with_hasher(seed()),
            by_relay: HashMap::with_hasher(seed()),
            by_local: HashMap::with_hasher(seed()),
            flows: FlowTable::new(seed()),
            connections: HashMap::with_hasher(seed()),
            expiry: Expiry::default(),
            events: VecDeque::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.allocations.len()
    }

    pub(super) fn flows_len(&self) -> usize {
        self.flows.len()
    }

    pub(super) fn connections_len(&self) -> usize {
        self.connections.len()
    }

    /// The allocation of the other family with the same five-tuple.
    pub(super) fn twin(&self, slot: Slot) -> Option<Slot> {
        self.get(slot)?.twin
    }

    /// The allocation of a client; of two, either.
    pub(super) fn of_client(&self, five_tuple: &FiveTuple) -> Option<Slot> {
        self.by_client.get(five_tuple).copied()
    }

    /// The allocation of a relay socket.
    pub(super) fn of_relay(&self, relay: RelayId) -> Option<Slot> {
        self.by_relay.get(&relay).copied()
    }

    /// The relay socket of this engine for datagrams that is bound to an address.
    pub(super) fn relay_at(&self, local: SocketAddr) -> Option<RelayId> {
        self.by_local.get(&local).copied()
    }

    /// Whether the allocation has time left: a host may be late with `handle_timeout`.
    pub(super) fn has_time(&self, now: Mono, slot: Slot) -> bool {
        self.get(slot).is_some_and(|allocation| now < allocation.expires)
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Allocation> {
        self.allocations.get(slot.index())
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Allocation> {
        self.allocations.get_mut(slot.index())
    }

    pub(super) fn slots(&self) -> Vec<Slot> {
        self.allocations.iter().filter_map(|(index, _)| u32::try_from(index).ok().map(Slot)).collect()
    }

    /// The slots in use from a place on.
    pub(super) fn slots_from(&self, from: usize) -> impl Iterator<Item = Slot> {
        let used = move |index: &usize| self.allocations.contains(*index);
        (from..self.allocations.capacity()).filter(used).filter_map(|index| u32::try_from(index).ok().map(Slot))
    }

    /// Adds an allocation to every index.
    pub(super) fn insert(&mut self, mut allocation: Allocation) -> Option<Slot> {
        let slot = Slot(u32::try_from(self.allocations.vacant_key()).ok()?);
        allocation.queued = allocation.deadline();
        self.expiry.insert(allocation.queued, Item::Allocation(slot.0));
        match self.by_client.get(&allocation.five_tuple).copied() {
            Some(first) => {
                allocation.twin = Some(first);
                if let Some(first) = self.allocations.get_mut(first.index()) {
                    first.twin = Some(slot);
                }
            }
            None => {
                self.by_client.insert(allocation.five_tuple, slot);
            }
        }
        self.by_relay.insert(allocation.relayed.id, slot);
        if allocation.transport == Transport::Udp {
            self.by_local.insert(allocation.relayed.local, allocation.relayed.id);
        }
        self.events.push_back(Event::Started(allocation.record(Traffic::default())));
        self.allocations.insert(allocation);
        Some(slot)
    }

    /// Removes an allocation from everything; its relay socket is to be closed.
    pub(super) fn remove(&mut self, slot: Slot, reason: EndReason) -> Option<Allocation> {
        let mut allocation = self.allocations.try_remove(slot.index())?;
        self.expiry.remove(allocation.queued, Item::Allocation(slot.0));
        match allocation.twin {
            Some(twin) => {
                self.by_client.insert(allocation.five_tuple, twin);
                if let Some(twin) = self.allocations.get_mut(twin.index()) {
                    twin.twin = None;
                }
            }
            None => {
                self.by_client.remove(&allocation.five_tuple);
            }
        }
        self.by_relay.remove(&allocation.relayed.id);
        self.by_local.remove(&allocation.relayed.local);
        for id in std::mem::take(&mut allocation.connections) {
            self.disconnect(id);
            self.events.push_back(Event::Disconnect(id));
        }
        for channel in std::mem::take(&mut allocation.channels) {
            let keys = allocation.flow_keys(&channel);
            unbind(&mut self.flows, &mut self.events, &mut allocation.traffic, keys);
        }
        self.events.push_back(Event::Close(allocation.relayed.id, allocation.relayed.local));
        self.events.push_back(Event::Ended(allocation.record(allocation.traffic), reason));
        Some(allocation)
    }

    /// A connection with a peer.
    pub(super) fn connection(&self, id: ConnectionId) -> Option<&DataConnection> {
        self.connections.get(&id)
    }

    /// Every connection, in order.
    pub(super) fn connection_ids(&self) -> Vec<ConnectionId> {
        self.allocations.iter().flat_map(|(_, allocation)| allocation.connections.iter().copied()).collect()
    }

    /// Adds a connection to its allocation.
    pub(super) fn connect(&mut self, id: ConnectionId, connection: DataConnection) {
        if let Some(until) = connection.stage.deadline() {
            self.expiry.insert(until, Item::from(id));
        }
        if let Some(allocation) = self.allocations.get_mut(connection.allocation.index()) {
            allocation.connections.push(id);
        }
        self.connections.insert(id, connection);
    }

    /// A connection has come to another stage; returns the one before.
    pub(super) fn advance(&mut self, id: ConnectionId, stage: Stage) -> Option<Stage> {
        let connection = self.connections.get_mut(&id)?;
        if let Some(until) = connection.stage.deadline() {
            self.expiry.remove(until, Item::from(id));
        }
        if let Some(until) = stage.deadline() {
            self.expiry.insert(until, Item::from(id));
        }
        Some(std::mem::replace(&mut connection.stage, stage))
    }

    /// Removes a connection from everything.
    pub(super) fn disconnect(&mut self, id: ConnectionId) -> Option<DataConnection> {
        let connection = self.connections.remove(&id)?;
        if let Some(until) = connection.stage.deadline() {
            self.expiry.remove(until, Item::from(id));
        }
        if let Some(allocation) = self.allocations.get_mut(connection.allocation.index()) {
            allocation.connections.retain(|other| *other != id);
        }
        Some(connection)
    }

    /// Applies the flow row for `key`, if one is in force, to a datagram with `bytes` of application data.
    pub(super) fn relay(
        &mut self,
        now: Mono,
        key: &FlowKey,
        bytes: usize,
        limits: &Bandwidth,
    ) -> Result<Option<&FlowKey>, Discard> {
        let Some(row) = self.flows.in_force(now, key) else { return Ok(None) };
        if limits.is_limited()
            && let Some(allocation) = self.allocations.get_mut(Slot(row.allocation).index())
        {
            admit(allocation, &mut self.events, now, limits, (direction(&row.to), bytes))?;
        }
        row.packets += 1;
        row.bytes += bytes as u64;
        Ok(Some(&row.to))
    }

    /// Whether an allocation may relay a datagram outside of any flow row; if so, it is counted as relayed.
    pub(super) fn admit(
        &mut self,
        now: Mono,
        slot: Slot,
        direction: Direction,
        bytes: usize,
        limits: &Bandwidth,
    ) -> Result<(), Discard> {
        let allocation = self.allocations.get_mut(slot.index()).ok_or(Discard::NoAllocation)?;
        if limits.is_limited() {
            admit(allocation, &mut self.events, now, limits, (direction, bytes))?;
        }
        let traffic = &mut allocation.traffic;
        let (packets, sum) = match direction {
            Direction::ToPeer => (&mut traffic.sent_packets, &mut traffic.sent_bytes),
            Direction::ToClient => (&mut traffic.received_packets, &mut traffic.received_bytes),
        };
        *packets += 1;
        *sum += bytes as u64;
        Ok(())
    }

    /// Whether an allocation may relay more over its connections now.
    pub(super) fn may_relay(&mut self, now: Mono, slot: Slot, direction: Direction, limits: &Bandwidth) -> bool {
        if !limits.is_limited() {
            return true;
        }
        let Some(allocation) = self.allocations.get_mut(slot.index()) else { return false };
        admit(allocation, &mut self.events, now, limits, (direction, 0)).is_ok()
    }

    /// Counts what went over a connection; what was read at once is a packet.
    pub(super) fn relayed(&mut self, now: Mono, slot: Slot, direction: Direction, bytes: u64, limits: &Bandwidth) {
        let Some(allocation) = self.allocations.get_mut(slot.index()).filter(|_| bytes > 0) else { return };
        if limits.is_limited() {
            allocation.meter.charge(limits, now, direction, bytes);
        }
        let traffic = &mut allocation.traffic;
        let (packets, sum) = match direction {
            Direction::ToPeer => (&mut traffic.sent_packets, &mut traffic.sent_bytes),
            Direction::ToClient => (&mut traffic.received_packets, &mut traffic.received_bytes),
        };
        *packets += 1;
        *sum += bytes;
    }

    /// Asks for an allocation's first slices of what its user may relay, so that they are there before its packets.
    pub(super) fn ask_for_share(&mut self, slot: Slot, limits: &Bandwidth) {
        let Some(allocation) = self.allocations.get_mut(slot.index()) else { return };
        let relay = allocation.relayed.id;
        let meter = &mut allocation.meter;
        let wants = Direction::ALL.into_iter().filter_map(|direction| meter.wants(limits, Mono(0), relay, direction));
        self.events.extend(wants);
    }

    /// Brings an allocation's flow rows and its place in the queue up to date after a change to it.
    pub(super) fn settle(&mut self, slot: Slot) {
        let Some(allocation) = self.allocations.get_mut(slot.index()) else { return };
        for channel in &allocation.channels {
            let [client, peer] = allocation.flow_keys(channel);
            let expires = allocation.flow_expires(channel);
            if self.flows.get(&client).is_none_or(|row| row.expires != expires) {
                let [up, down] = self.flows.bind(client, peer, slot.0, expires);
                self.events.push_back(Event::FlowUp(client, up));
                self.events.push_back(Event::FlowUp(peer, down));
            }
        }
        let deadline = allocation.deadline();
        if deadline != allocation.queued {
            self.expiry.remove(allocation.queued, Item::Allocation(slot.0));
            self.expiry.insert(deadline, Item::Allocation(slot.0));
            allocation.queued = deadline;
        }
    }

    /// Drops what has lapsed, and the allocation itself when its own time has come. Called when the queue fired.
    pub(super) fn lapse(&mut self, slot: Slot, now: Mono) -> Option<Allocation> {
        let allocation = self.allocations.get_mut(slot.index())?;
        // The queue gave its entry up.
        allocation.queued = Mono(u64::MAX);
        if now >= allocation.expires {
            return self.remove(slot, EndReason::Expired);
        }
        self.retain(slot, |permission| now < permission.expires, |channel| now < channel.held);
        None
    }

    /// Keeps only the permissions and channels that pass; the rows of the others go with them. The caller settles.
    pub(super) fn retain(
        &mut self,
        slot: Slot,
        permission: impl Fn(&super::allocation::Permission) -> bool,
        channel: impl Fn(&Channel) -> bool,
    ) {
        let Some(allocation) = self.allocations.get_mut(slot.index()) else { return };
        allocation.permissions.retain(|item| permission(item));
        let (kept, gone): (Vec<Channel>, Vec<Channel>) =
            std::mem::take(&mut allocation.channels).into_iter().partition(|item| channel(item));
        allocation.channels = kept;
        for channel in gone {
            let keys = allocation.flow_keys(&channel);
            unbind(&mut self.flows, &mut self.events, &mut allocation.traffic, keys);
        }
    }

    /// An allocation's traffic up to now.
    pub(super) fn traffic(&self, slot: Slot) -> Traffic {
        let Some(allocation) = self.get(slot) else { return Traffic::default() };
        let mut traffic = allocation.traffic;
        for channel in &allocation.channels {
            let [client, peer] = allocation.flow_keys(channel);
            count(&mut traffic, [self.flows.get(&client), self.flows.get(&peer)]);
        }
        traffic
    }
}

/// Which way a row relays.
fn direction(to: &FlowKey) -> Direction {
    match to.local {
        Local::Relay(_) => Direction::ToPeer,
        Local::Client(..) => Direction::ToClient,
    }
}

/// Kept out of line, so that it costs nothing where nothing is limited.
#[inline(never)]
fn admit(
    allocation: &mut Allocation,
    events: &mut VecDeque<Event>,
    now: Mono,
    limits: &Bandwidth,
    (direction, bytes): (Direction, usize),
) -> Result<(), Discard> {
    let admitted = allocation.meter.admit(limits, now, direction, bytes);
    events.extend(allocation.meter.wants(limits, now, allocation.relayed.id, direction));
    admitted
}

/// Removes both rows of a channel and adds what they counted to `traffic`.
fn unbind(flows: &mut FlowTable, events: &mut VecDeque<Event>, traffic: &mut Traffic, keys: [FlowKey; 2]) {
    let [up, down] = keys.map(|key| {
        let row = flows.unbind(&key);
        if row.is_some() {
            events.push_back(Event::FlowDown(key));
        }
        row
    });
    count(traffic, [up.as_ref(), down.as_ref()]);
}

/// Adds the counters of the client's and the peer's row.
fn count(traffic: &mut Traffic, [up, down]: [Option<&Flow>; 2]) {
    traffic.sent_packets += up.map_or(0, |row| row.packets);
    traffic.sent_bytes += up.map_or(0, |row| row.bytes);
    traffic.received_packets += down.map_or(0, |row| row.packets);
    traffic.received_bytes += down.map_or(0, |row| row.bytes);
}
