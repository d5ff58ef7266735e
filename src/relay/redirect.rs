//! Try Alternate: new clients are sent to another server (RFC 8489 §10, RFC 8656 §7.2).

use std::net::SocketAddr;

use crate::wire::{AddressFamily, AttributeType, TransactionId, Writer};

/// The servers that new clients are sent to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alternates {
    /// Where they are; of several of one family a client is told one.
    pub servers: Vec<SocketAddr>,
    /// The name in their certificate, where it differs from this server's.
    pub domain: Option<Box<str>>,
    /// When clients are sent there.
    pub redirect: Redirect,
}

/// When new clients are sent away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Redirect {
    /// While this server drains.
    #[default]
    Draining,
    /// Always: this server only points to others.
    Always,
}

impl Alternates {
    /// Whether a client is sent away. There has to be a server of its own family: it may have no other.
    pub(super) fn apply(&self, client: SocketAddr, draining: bool) -> bool {
        let is_time = draining || self.redirect == Redirect::Always;
        is_time && self.of(AddressFamily::of(client.ip())).next().is_some()
    }

    /// One server of the client's family, then one of the other if there is one. The transaction's random bits choose.
    pub(super) fn write(&self, client: SocketAddr, id: TransactionId, writer: &mut Writer<'_>) {
        let own = AddressFamily::of(client.ip());
        let other = match own {
            AddressFamily::Ipv4 => AddressFamily::Ipv6,
            AddressFamily::Ipv6 => AddressFamily::Ipv4,
        };
        let chance = id.0.iter().map(|byte| usize::from(*byte)).sum::<usize>();
        for family in [own, other] {
            let count = self.of(family).count().max(1);
            if let Some(server) = self.of(family).nth(chance % count) {
                writer.address(AttributeType::ALTERNATE_SERVER, server);
            }
        }
        if let Some(domain) = &self.domain {
            writer.attribute(AttributeType::ALTERNATE_DOMAIN, domain.as_bytes());
        }
    }

    fn of(&self, family: AddressFamily) -> impl Iterator<Item = SocketAddr> {
        self.servers.iter().copied().filter(move |server| AddressFamily::of(server.ip()) == family)
    }
}
