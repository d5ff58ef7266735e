//! The permissions and channels of one allocation, from RFC 8656 §9 and §12 with lists and loops: what the models of
//! `tests/engine` and `tests/sim` share. Nothing here looks into the engine.

use std::net::{IpAddr, SocketAddr};

use crate::harness::{RELAY_V4, RELAY_V6};

/// Milliseconds since the world began.
pub(crate) type Time = u64;
pub(crate) const SECOND: Time = 1000;

struct Permission {
    ip: IpAddr,
    expires: Time,
}

struct Channel {
    number: u16,
    peer: SocketAddr,
    expires: Time,
}

/// The peers of an allocation. What has lapsed is skipped by its time.
#[derive(Default)]
pub(crate) struct Peers {
    permissions: Vec<Permission>,
    channels: Vec<Channel>,
}

impl Peers {
    /// Where a channel leads.
    pub(crate) fn peer_of(&self, now: Time, number: u16) -> Option<SocketAddr> {
        let bound = self.channels.iter().find(|channel| channel.number == number && now < channel.expires);
        bound.map(|channel| channel.peer)
    }

    /// The channel to a peer.
    pub(crate) fn channel_to(&self, now: Time, peer: SocketAddr) -> Option<u16> {
        let bound = self.channels.iter().find(|channel| channel.peer == peer && now < channel.expires);
        bound.map(|channel| channel.number)
    }

    pub(crate) fn permits(&self, now: Time, ip: IpAddr) -> bool {
        self.permissions.iter().any(|permission| permission.ip == ip && now < permission.expires)
    }

    /// Whether a number and a peer belong to others: a channel that lapsed keeps both for five minutes.
    pub(crate) fn conflict(&self, now: Time, number: u16, peer: SocketAddr) -> bool {
        let differs = |channel: &Channel| (channel.number == number) != (channel.peer == peer);
        self.channels.iter().any(|channel| is_held(now, channel) && differs(channel))
    }

    /// How many permissions there would be with these too.
    pub(crate) fn permissions_with(&self, now: Time, ips: impl Iterator<Item = IpAddr>) -> usize {
        let own = self.permissions.iter().filter(|permission| now < permission.expires).map(|permission| permission.ip);
        let mut all: Vec<_> = own.chain(ips).collect();
        all.sort_unstable();
        all.dedup();
        all.len()
    }

    /// How many channels there would be with this number too; held ones count.
    pub(crate) fn channels_with(&self, now: Time, number: u16) -> usize {
        let is_new = self.channels.iter().all(|channel| !is_held(now, channel) || channel.number != number);
        self.channels(now) + usize::from(is_new)
    }

    /// Channels, held ones included.
    pub(crate) fn channels(&self, now: Time) -> usize {
        self.channels.iter().filter(|channel| is_held(now, channel)).count()
    }

    /// A permission lasts 300 s; with `keeps`, at least as long as the channels of its address.
    pub(crate) fn permit(&mut self, now: Time, ip: IpAddr, keeps: bool) {
        let of_ip = self.channels.iter().filter(|channel| keeps && channel.peer.ip() == ip);
        let expires = of_ip.map(|channel| channel.expires).fold(now + 300 * SECOND, Time::max);
        self.permissions.retain(|permission| permission.ip != ip);
        self.permissions.push(Permission { ip, expires });
    }

    /// A channel lasts 600 s, and is a permission as well.
    pub(crate) fn bind(&mut self, now: Time, number: u16, peer: SocketAddr, keeps: bool) {
        self.channels.retain(|channel| channel.number != number && channel.peer != peer);
        self.channels.push(Channel { number, peer, expires: now + 600 * SECOND });
        self.permit(now, peer.ip(), keeps);
    }

    /// The operator forbids an address: what it had is gone.
    pub(crate) fn forbid(&mut self, ip: IpAddr) {
        self.permissions.retain(|permission| permission.ip != ip);
        self.channels.retain(|channel| channel.peer.ip() != ip);
    }
}

fn is_held(now: Time, channel: &Channel) -> bool {
    now < channel.expires + 300 * SECOND
}

/// Whether an address is where relay sockets are.
pub(crate) fn is_relay(ip: IpAddr) -> bool {
    [RELAY_V4, RELAY_V6].contains(&ip.to_string().as_str())
}
