//! The engine's own counters: plain numbers, read by the host.

use super::action::{Discard, Refusal, Why};
use super::peers::PeerClass;
use crate::credentials::AuthFailure;
use crate::wire::{ErrorCode, Method};

/// The methods that are told apart in counters; the last row is for all others.
pub const METHODS: [(Method, &str); 7] = [
    (Method::BINDING, "binding"),
    (Method::ALLOCATE, "allocate"),
    (Method::REFRESH, "refresh"),
    (Method::CREATE_PERMISSION, "create_permission"),
    (Method::CHANNEL_BIND, "channel_bind"),
    (Method::CONNECT, "connect"),
    (Method::CONNECTION_BIND, "connection_bind"),
];

/// The codes that are told apart in counters; the first stands for success.
pub const CODES: [u16; 17] = [200, 300, 400, 401, 403, 420, 437, 438, 440, 441, 442, 443, 446, 447, 486, 500, 508];

/// Everything counted since the engine began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Datagrams that led nowhere, by [`Discard::index`].
    pub discards: [u64; Discard::ALL.len()],
    /// Responses, by method (in the order of [`METHODS`], then others) and code (in the order of [`CODES`]).
    pub responses: [[u64; CODES.len()]; METHODS.len() + 1],
    /// First answers to clients that do not know the realm and nonce yet: no failures.
    pub challenges: u64,
    /// Time-limited credentials that were right but too old.
    pub auth_expired: u64,
    /// Known users whose message integrity did not match.
    pub auth_bad_integrity: u64,
    /// Users that nobody knows.
    pub auth_unknown_user: u64,
    /// Nonces too old or of another client.
    pub auth_stale_nonce: u64,
    /// Credentials that were right but revoked.
    pub auth_revoked: u64,
    /// Requests on somebody else's allocation, or with a realm that is not ours.
    pub auth_wrong_user: u64,
    /// Allocations refused because the user has as many as he may have.
    pub quota_user: u64,
    /// Allocations refused because the source address has as many as it may have.
    pub quota_source: u64,
    /// Allocations, permissions, channels and connections refused because there are as many as there may be.
    pub quota_capacity: u64,
    /// Allocations refused because no relay port was free.
    pub quota_ports: u64,
    /// Permissions, channels and connections refused because the peer may not be reached, by [`PeerClass::index`].
    pub peers_forbidden: [u64; PeerClass::ALL.len()],
    /// Allocations begun.
    pub allocations: u64,
    /// ICMP errors told to clients.
    pub icmp_errors: u64,
    /// Connections made with peers because clients asked for them.
    pub connections_asked_for: u64,
    /// Connections that peers made.
    pub connections_accepted: u64,
    /// Packets relayed from clients to peers.
    pub sent_packets: u64,
    /// Application bytes of those.
    pub sent_bytes: u64,
    /// Packets relayed from peers to clients.
    pub received_packets: u64,
    /// Application bytes of those.
    pub received_bytes: u64,
}

impl Tally {
    /// Adds another engine's counters.
    pub fn add(&mut self, other: &Tally) {
        for (sum, more) in self.discards.iter_mut().zip(other.discards) {
            *sum += more;
        }
        for (row, other) in self.responses.iter_mut().zip(other.responses) {
            for (sum, more) in row.iter_mut().zip(other) {
                *sum += more;
            }
        }
        self.challenges += other.challenges;
        self.auth_expired += other.auth_expired;
        self.auth_bad_integrity += other.auth_bad_integrity;
        self.auth_unknown_user += other.auth_unknown_user;
        self.auth_stale_nonce += other.auth_stale_nonce;
        self.auth_revoked += other.auth_revoked;
        self.auth_wrong_user += other.auth_wrong_user;
        self.quota_user += other.quota_user;
        self.quota_source += other.quota_source;
        self.quota_capacity += other.quota_capacity;
        self.quota_ports += other.quota_ports;
        for (sum, more) in self.peers_forbidden.iter_mut().zip(other.peers_forbidden) {
            *sum += more;
        }
        self.allocations += other.allocations;
        self.icmp_errors += other.icmp_errors;
        self.connections_asked_for += other.connections_asked_for;
        self.connections_accepted += other.connections_accepted;
        self.sent_packets += other.sent_packets;
        self.sent_bytes += other.sent_bytes;
        self.received_packets += other.received_packets;
        self.received_bytes += other.received_bytes;
    }

    pub(super) fn response(&mut self, method: Method, code: Option<ErrorCode>) {
        let row = METHODS.iter().position(|(known, _)| *known == method).unwrap_or(METHODS.len());
        let number = code.map_or(200, ErrorCode::number);
        let column = CODES.iter().position(|known| *known == number);
        let place = column.and_then(|column| self.responses.get_mut(row)?.get_mut(column));
        if let Some(place) = place {
            *place += 1;
        }
    }

    pub(super) fn refusal(&mut self, refusal: &Refusal) {
        self.response(refusal.method, Some(refusal.code));
        match refusal.why {
            Why::Challenge => self.challenges += 1,
            Why::StaleNonce => self.auth_stale_nonce += 1,
            Why::Auth(AuthFailure::Expired { .. }) => self.auth_expired += 1,
            Why::Auth(AuthFailure::BadIntegrity) => self.auth_bad_integrity += 1,
            Why::Auth(AuthFailure::UnknownUser) => self.auth_unknown_user += 1,
            Why::Auth(AuthFailure::Revoked) => self.auth_revoked += 1,
            Why::WrongRealm | Why::WrongUser => self.auth_wrong_user += 1,
            Why::UserQuota => self.quota_user += 1,
            Why::SourceQuota => self.quota_source += 1,
            Why::Capacity => self.quota_capacity += 1,
            Why::NoPort => self.quota_ports += 1,
            Why::ForbiddenPeer(class) => {
                if let Some(place) = self.peers_forbidden.get_mut(class.index()) {
                    *place += 1;
                }
            }
            Why::NoCredentials
            | Why::Malformed
            | Why::Unknown
            | Why::AlreadyAllocated
            | Why::NoAllocation
            | Why::Unsupported
            | Why::ForbiddenTransport
            | Why::ChannelConflict
            | Why::NoReservation
            | Why::Connected
            | Why::NotConnected
            | Why::Draining
            | Why::Redirected
            | Why::Host => {}
        }
    }

    pub(super) fn discard(&mut self, reason: Discard) {
        if let Some(place) = self.discards.get_mut(reason.index()) {
            *place += 1;
        }
    }
}
