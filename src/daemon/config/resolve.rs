//! What the values of each section mean: every section converts itself and reports the first thing wrong with it.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use super::Expiry;
use super::api_key::hexadecimal;
use super::file;
use super::problem::Fault;
use super::secret::Places;
use super::units::{PortRange, SecretText};
use crate::credentials::{Credentials, Secret};
use crate::net::Quotas;
use crate::relay::{ChannelNumbers, DefaultFamily, Lifetimes, Limits, PeerPolicy, RelayAddress, TcpRelaying};

const LONGEST_HOST: usize = 253;
const MOST_WORKERS: usize = 1024;

impl file::Server {
    pub(super) fn realm(&self) -> Result<&str, Fault> {
        // RFC 8489 §14.9: fewer than 128 characters
        let fits = (1..128).contains(&self.realm.chars().count()) && !self.realm.chars().any(char::is_control);
        let wrong = || {
            Fault::new(
                "server.realm",
                "the realm is empty, too long or has control characters",
                "write 1 to 127 printable characters, usually a domain name",
            )
        };
        fits.then_some(self.realm.as_str()).ok_or_else(wrong)
    }

    pub(super) fn workers(&self) -> Result<usize, Fault> {
        match self.workers {
            0 => Ok(std::thread::available_parallelism().map_or(1, usize::from)),
            count if count <= MOST_WORKERS => Ok(count),
            count => Err(Fault::new(
                "server.workers",
                format!("{count} workers are more than {MOST_WORKERS}"),
                "write 0 for one per core",
            )),
        }
    }

    pub(super) fn public_host(&self) -> Result<Option<String>, Fault> {
        let host = self.public_host.as_str();
        if host.is_empty() {
            return Ok(None);
        }
        let name = |host: &str| {
            host.len() <= LONGEST_HOST && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        if host.parse::<IpAddr>().is_ok() || name(host) {
            return Ok(Some(host.to_owned()));
        }
        Err(Fault::new(
            "server.public-host",
            format!("{host:?} is neither a host name nor an IP address"),
            "write the bare name, for example \"turn.example.org\"; scheme and port are added from the listeners",
        ))
    }
}

impl file::Listen {
    pub(super) fn udp(&self) -> Result<Vec<SocketAddr>, Fault> {
        let listeners: Vec<SocketAddr> = self.udp.iter().map(|endpoint| endpoint.0).collect();
        if listeners.is_empty() {
            return Err(Fault::new(
                "listen.udp",
                "there is no listener",
                "name at least one address with a port, for example [\"0.0.0.0:3478\"]",
            ));
        }
        without_overlap("listen.udp", listeners)
    }

    pub(super) fn buffers(&self) -> (usize, usize) {
        // Size holds at most i32::MAX
        (self.receive_buffer.bytes() as usize, self.send_buffer.bytes() as usize)
    }
}

/// Refuses a listener that is named twice or that a wildcard listener already covers. Port 0 never collides.
pub(super) fn without_overlap(key: &str, listeners: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Fault> {
    for (index, listener) in listeners.iter().enumerate().filter(|(_, listener)| listener.port() != 0) {
        let covers = |other: &&SocketAddr| {
            let same_address = other.ip() == listener.ip();
            let wildcard = (other.ip().is_unspecified() || listener.ip().is_unspecified())
                && other.is_ipv4() == listener.is_ipv4();
            other.port() == listener.port() && (same_address || wildcard)
        };
        if let Some(other) = listeners[..index].iter().find(covers) {
            return Err(Fault::new(
                format!("{key}[{index}]"),
                format!("{listener} is already covered by {other}"),
                "remove one of the two",
            ));
        }
    }
    Ok(listeners)
}

impl file::Relay {
    /// The ports, at least one for each worker.
    pub(super) fn ports(&self, workers: usize) -> Result<RangeInclusive<u16>, Fault> {
        let range = self.ports.range();
        if range.len() >= workers {
            return Ok(range);
        }
        let what = format!("{} ports are too few for {workers} workers", range.len());
        Err(Fault::new("relay.ports", what, "widen relay.ports or lower server.workers"))
    }

    /// The relay addresses with their public counterparts. Without `addresses`, those that `external` maps are the
    /// relay addresses.
    pub(super) fn relays(&self) -> Result<Vec<RelayAddress>, Fault> {
        let mapped = self.external()?;
        let listed: Vec<IpAddr> = self.addresses.iter().map(|address| address.0).collect();
        let mut seen = HashSet::new();
        for (index, address) in listed.iter().enumerate() {
            let wrong = |what: &str, remedy: &str| {
                Err(Fault::new(format!("relay.addresses[{index}]"), format!("{address} {what}"), remedy))
            };
            if address.is_unspecified() || address.is_multicast() {
                return wrong(
                    "cannot be relayed on",
                    "name an address of this machine, or none at all to relay on the address that the client reached",
                );
            }
            if !seen.insert(address) {
                return wrong("is named twice", "remove one of the two");
            }
        }
        if listed.is_empty() {
            return Ok(mapped
                .into_iter()
                .map(|(local, public)| RelayAddress { local, external: Some(public) })
                .collect());
        }
        if let Some(index) = mapped.iter().position(|(local, _)| !listed.contains(local)) {
            let local = mapped[index].0;
            return Err(Fault::new(
                format!("relay.external[{index}].local"),
                format!("{local} is not one of relay.addresses"),
                format!("add \"{local}\" to relay.addresses, or leave relay.addresses out"),
            ));
        }
        let public = |local: IpAddr| mapped.iter().find(|(address, _)| *address == local).map(|(_, public)| *public);
        Ok(listed.into_iter().map(|local| RelayAddress { local, external: public(local) }).collect())
    }

    /// What is relayed beside datagrams.
    pub(super) fn tcp(&self) -> TcpRelaying {
        TcpRelaying { enabled: self.tcp, peer_ports: self.tcp_peer_ports.iter().map(PortRange::range).collect() }
    }

    fn external(&self) -> Result<Vec<(IpAddr, IpAddr)>, Fault> {
        let mut seen = HashSet::new();
        let check = |(index, entry): (usize, &file::External)| {
            let (local, public) = (entry.local.0, entry.public.0);
            let wrong = |name: &str, what: String, remedy: &str| {
                Err(Fault::new(format!("relay.external[{index}].{name}"), what, remedy))
            };
            if local.is_ipv4() != public.is_ipv4() {
                return wrong(
                    "public",
                    format!("{public} and {local} are of different families"),
                    "write one entry per family",
                );
            }
            if public.is_unspecified() || public.is_multicast() || public.is_loopback() {
                return wrong(
                    "public",
                    format!("{public} is not an address that clients can reach"),
                    "write the address that the NAT shows to the rest of the world",
                );
            }
            if local.is_unspecified() {
                return wrong(
                    "local",
                    format!("{local} stands for every address"),
                    "name the one address of this machine that the NAT maps",
                );
            }
            if !seen.insert(local) {
                return wrong("local", format!("{local} is mapped twice"), "remove one of the two");
            }
            Ok((local, public))
        };
        self.external.iter().enumerate().map(check).collect()
    }
}

impl From<file::DefaultFamily> for DefaultFamily {
    fn from(family: file::DefaultFamily) -> DefaultFamily {
        match family {
            file::DefaultFamily::Client => DefaultFamily::Client,
            file::DefaultFamily::Ipv4 => DefaultFamily::Ipv4,
        }
    }
}

impl From<file::ChannelNumbers> for ChannelNumbers {
    fn from(numbers: file::ChannelNumbers) -> ChannelNumbers {
        match numbers {
            file::ChannelNumbers::Rfc8656 => ChannelNumbers::Rfc8656,
            file::ChannelNumbers::Rfc5766 => ChannelNumbers::Rfc5766,
        }
    }
}

impl file::Credentials {
    pub(super) fn credentials(&self, realm: &str, places: &Places) -> Result<Credentials, Fault> {
        let mut credentials = Credentials::new(realm);
        let from_files = places.read_all("credentials.secret-files", &self.secret_files)?;
        for (index, text) in self.secrets.iter().chain(&from_files).enumerate() {
            let empty = |_| {
                Fault::new(
                    format!("credentials.secrets[{index}]"),
                    "the secret is empty",
                    "use a random one, for example from `openssl rand -hex 32`",
                )
            };
            credentials.add_secret(Secret::new(text.expose()).map_err(empty)?);
        }
        let mut names = HashSet::new();
        for (index, user) in self.users.iter().enumerate() {
            if !names.insert(&user.name) {
                return Err(Fault::new(
                    format!("credentials.users[{index}].name"),
                    "there are two users of this name",
                    "remove one of the two",
                ));
            }
            user.add_to(&mut credentials, &format!("credentials.users[{index}]"))?;
        }
        Ok(credentials)
    }

    /// Whether the file itself holds a secret, so that it must not be open to everybody.
    pub(super) fn has_secret(&self) -> bool {
        !self.secrets.is_empty() || !self.users.is_empty()
    }
}

impl file::User {
    fn add_to(&self, credentials: &mut Credentials, key: &str) -> Result<(), Fault> {
        // RFC 8489 §14.3: fewer than 509 bytes
        if self.name.is_empty() || self.name.len() > 508 || self.name.chars().any(char::is_control) {
            return Err(Fault::new(
                format!("{key}.name"),
                "the name is empty, longer than 508 bytes or has control characters",
                "write a shorter printable name",
            ));
        }
        if let Some(relayed) = self.tcp {
            credentials.set_tcp(&self.name, relayed);
        }
        match (&self.password, &self.key, &self.key_sha256) {
            (Some(password), None, None) if password.expose().is_empty() => {
                Err(Fault::new(format!("{key}.password"), "the password is empty", "write a password"))
            }
            (Some(password), None, None) => {
                credentials.add_user(&self.name, password.expose());
                Ok(())
            }
            (None, Some(md5), None) => {
                credentials.add_user_key(&self.name, user_key(md5, key, "key", "md5sum")?);
                Ok(())
            }
            (None, Some(md5), Some(sha256)) => {
                let md5 = user_key(md5, key, "key", "md5sum")?;
                credentials.add_user_keys(&self.name, md5, user_key(sha256, key, "key-sha256", "sha256sum")?);
                Ok(())
            }
            (Some(_), ..) | (None, None, None) => Err(Fault::new(
                key,
                "a user has either a password or a key",
                "give exactly one of `password` and `key`",
            )),
            (None, None, Some(_)) => Err(Fault::new(
                format!("{key}.key-sha256"),
                "most clients know MD5 only",
                "give `key` beside it, or `password` instead of both",
            )),
        }
    }
}

/// A key of a static user in hexadecimal digits.
fn user_key<const N: usize>(digits: &SecretText, user: &str, name: &str, tool: &str) -> Result<[u8; N], Fault> {
    let wrong = || {
        Fault::new(
            format!("{user}.{name}"),
            format!("the key is not {} hexadecimal digits", 2 * N),
            format!("write the output of `printf %s NAME:REALM:PASSWORD | {tool}`"),
        )
    };
    hexadecimal(digits.expose()).ok_or_else(wrong)
}

impl From<file::Expiry> for Expiry {
    fn from(expiry: file::Expiry) -> Expiry {
        match expiry {
            file::Expiry::Allocate => Expiry::Allocate,
            file::Expiry::Strict => Expiry::Strict,
        }
    }
}

impl file::Lifetimes {
    pub(super) fn lifetimes(&self) -> Result<Lifetimes, Fault> {
        let all = [
            ("default", self.default),
            ("maximum", self.maximum),
            ("permission", self.permission),
            ("channel", self.channel),
            ("nonce", self.nonce),
        ];
        if let Some((name, _)) = all.iter().find(|(_, period)| period.duration().is_zero()) {
            return Err(Fault::new(format!("lifetimes.{name}"), "the lifetime is zero", "write at least \"1s\""));
        }
        if self.default.duration() > self.maximum.duration() {
            let what = format!("{} is more than lifetimes.maximum, which is {}", self.default, self.maximum);
            return Err(Fault::new("lifetimes.default", what, "lower the one or raise the other"));
        }
        Ok(Lifetimes {
            default: self.default.duration(),
            maximum: self.maximum.duration(),
            permission: self.permission.duration(),
            channel: self.channel.duration(),
            nonce: self.nonce.duration(),
            ..Lifetimes::default()
        })
    }
}

impl file::Limits {
    pub(super) fn quotas(&self) -> Quotas {
        Quotas { per_user: self.allocations_per_user, per_source: self.allocations_per_source, total: self.allocations }
    }

    pub(super) fn per_allocation(&self) -> Result<Limits, Fault> {
        let all = [("permissions", self.permissions), ("channels", self.channels), ("connections", self.connections)];
        for (name, count) in all {
            if count == 0 {
                return Err(Fault::new(
                    format!("limits.{name}"),
                    "with none, nothing can be relayed",
                    "write at least 1",
                ));
            }
        }
        Ok(Limits {
            permissions: self.permissions,
            channels: self.channels,
            connections: self.connections,
            allocation_bandwidth: self.bandwidth_per_allocation.bits(),
            user_bandwidth: self.bandwidth_per_user.bits(),
            unauthenticated_replies: self.unauthenticated_replies,
        })
    }
}

impl file::Peers {
    pub(super) fn policy(&self) -> PeerPolicy {
        let nets = |ranges: &[super::units::Cidr]| ranges.iter().map(|range| range.0).collect::<Vec<_>>();
        PeerPolicy::new(&nets(&self.allow), &nets(&self.deny))
    }
}
