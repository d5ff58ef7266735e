//! How much may be relayed in a second, each way: by one allocation, and by all allocations of one user.
//!
//! An allocation's bucket is its own. A user's allocations may be with several engines, so what they share is kept by
//! the host, and every allocation draws from it in slices ahead of need: [`Event::Draw`] asks, `Relay::drawn` answers.
//! Packets themselves ask nobody. While there is no limit they cost one comparison.

use super::Relay;
use super::action::{Discard, Event, RelayId};
use super::clock::Mono;
use super::live::Limits;
use super::rate::{self, BytePrice};

/// A slice is what flows in during this part of a second …
const SLICES: u64 = 10;
/// … and never less than a few packets.
const LEAST_SLICE: u64 = 8 * 1024;
/// After an answer, or none, the next question waits for so many nanoseconds: 5 ms.
const PATIENCE: u64 = 5_000_000;

/// Which way data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client to a peer.
    ToPeer,
    /// From a peer to the client.
    ToClient,
}

impl Direction {
    /// Both.
    pub const ALL: [Direction; 2] = [Direction::ToPeer, Direction::ToClient];
}

/// The limits, ready to be applied.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bandwidth {
    is_limited: bool,
    of_allocation: Option<BytePrice>,
    of_user: Option<Slice>,
}

/// What an allocation draws at a time from its user's share.
#[derive(Clone, Copy, Debug)]
struct Slice {
    bytes: i64,
    bits_per_second: u64,
}

/// What an allocation has relayed lately.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Meter {
    to_peer: Gauge,
    to_client: Gauge,
}

#[derive(Clone, Copy, Debug, Default)]
struct Gauge {
    /// The allocation's own bucket, see `rate`.
    full_at: Mono,
    /// When more of the user's share may be asked for.
    ask_at: Mono,
    /// Bytes drawn from the user's share and not used yet; below zero what the last packet took too much.
    drawn: i64,
}

impl Bandwidth {
    pub(super) fn new(limits: &Limits) -> Bandwidth {
        let of_allocation = BytePrice::at(limits.allocation_bandwidth);
        let of_user = (limits.user_bandwidth != 0).then(|| {
            let bytes = (limits.user_bandwidth / 8 / SLICES).max(LEAST_SLICE);
            Slice { bytes: i64::try_from(bytes).unwrap_or(i64::MAX), bits_per_second: limits.user_bandwidth }
        });
        Bandwidth { is_limited: of_allocation.is_some() || of_user.is_some(), of_allocation, of_user }
    }

    #[inline]
    pub(super) fn is_limited(&self) -> bool {
        self.is_limited
    }
}

impl Meter {
    fn gauge(&mut self, direction: Direction) -> &mut Gauge {
        match direction {
            Direction::ToPeer => &mut self.to_peer,
            Direction::ToClient => &mut self.to_client,
        }
    }

    /// Whether a packet may pass; if so, it is counted.
    pub(super) fn admit(
        &mut self,
        limits: &Bandwidth,
        now: Mono,
        direction: Direction,
        bytes: usize,
    ) -> Result<(), Discard> {
        let gauge = self.gauge(direction);
        if limits.of_allocation.is_some() && !rate::has(gauge.full_at, now, rate::DEPTH) {
            return Err(Discard::AllocationBandwidth);
        }
        if limits.of_user.is_some() && gauge.drawn <= 0 {
            return Err(Discard::UserBandwidth);
        }
        self.charge(limits, now, direction, bytes as u64);
        Ok(())
    }

    /// Counts what passes.
    pub(super) fn charge(&mut self, limits: &Bandwidth, now: Mono, direction: Direction, bytes: u64) {
        let gauge = self.gauge(direction);
        if limits.of_user.is_some() {
            gauge.drawn = gauge.drawn.saturating_sub_unsigned(bytes);
        }
        if let Some(price) = limits.of_allocation {
            rate::take(&mut gauge.full_at, now, price.of(bytes));
        }
    }

    /// What to ask the host for, when the user's share is running out here. Seldom says anything.
    pub(super) fn wants(
        &mut self,
        limits: &Bandwidth,
        now: Mono,
        relay: RelayId,
        direction: Direction,
    ) -> Option<Event> {
        let slice = limits.of_user?;
        let gauge = self.gauge(direction);
        if gauge.drawn > slice.bytes / 2 || now < gauge.ask_at {
            return None;
        }
        gauge.ask_at = Mono(now.0.saturating_add(PATIENCE));
        let bytes = u64::try_from(slice.bytes.saturating_sub(gauge.drawn)).unwrap_or(0);
        Some(Event::Draw { relay, direction, bytes, bits_per_second: slice.bits_per_second })
    }
}

impl Relay {
    /// The host's answer to [`Event::Draw`]: so many bytes of the user's share are this allocation's, 0 when there are
    /// none for now.
    pub fn drawn(&mut self, relay: RelayId, direction: Direction, bytes: u64) {
        let slot = self.table.of_relay(relay);
        if let Some(allocation) = slot.and_then(|slot| self.table.get_mut(slot)) {
            let gauge = allocation.meter.gauge(direction);
            gauge.drawn = gauge.drawn.saturating_add_unsigned(bytes);
        }
    }
}
