//! `[discovery]`: pairs of addresses for NAT behaviour discovery.

use std::net::{IpAddr, SocketAddr};

use super::file;
use super::problem::Fault;
use crate::relay::Discovery;

impl file::Discovery {
    /// One entry a family; none when it is off.
    pub(super) fn families(&self) -> Result<Vec<Discovery>, Fault> {
        if self.primary.len() != self.alternate.len() {
            return Err(Fault::new(
                "discovery.alternate",
                format!("there are {} of primary and {} of alternate", self.primary.len(), self.alternate.len()),
                "write one alternate for each primary, in the same order, or neither to switch discovery off",
            ));
        }
        let mut families: Vec<Discovery> = Vec::new();
        for (index, (primary, alternate)) in self.primary.iter().zip(&self.alternate).enumerate() {
            let family = Discovery { primary: primary.0, alternate: alternate.0 };
            check(index, &family)?;
            if families.iter().any(|other| other.primary.is_ipv4() == family.primary.is_ipv4()) {
                return Err(Fault::new(
                    format!("discovery.primary[{index}]"),
                    "there are two of this family",
                    "write at most one IPv4 and one IPv6 address",
                ));
            }
            families.push(family);
        }
        Ok(families)
    }
}

/// RFC 5780 §6: two addresses of this machine and two ports, all different.
fn check(index: usize, family: &Discovery) -> Result<(), Fault> {
    let (primary, alternate) = (family.primary, family.alternate);
    let wrong =
        |name: &str, what: String, remedy: &str| Err(Fault::new(format!("discovery.{name}[{index}]"), what, remedy));
    for (name, address) in [("primary", primary), ("alternate", alternate)] {
        if !is_one_address(address.ip()) {
            let remedy = "name an address of this machine; the NAT is told by relay.external";
            return wrong(name, format!("{} is not one address", address.ip()), remedy);
        }
        if address.port() == 0 {
            return wrong(name, "both addresses need the same ports, and port 0 is any".into(), "write a port");
        }
    }
    if primary.is_ipv4() != alternate.is_ipv4() {
        let what = format!("{primary} and {alternate} are of different families");
        return wrong("alternate", what, "write one entry per family");
    }
    if primary.ip() == alternate.ip() {
        let what = format!("both are {}", primary.ip());
        return wrong("alternate", what, "discovery needs a second address of this machine");
    }
    if primary.port() == alternate.port() {
        let what = format!("both have port {}", primary.port());
        return wrong("alternate", what, "discovery needs a second port, for example 3479");
    }
    Ok(())
}

fn is_one_address(ip: IpAddr) -> bool {
    !(ip.is_unspecified() || ip.is_multicast())
}

/// The listeners of discovery that are not there yet.
pub(super) fn missing(families: &[Discovery], listeners: &[SocketAddr]) -> Vec<SocketAddr> {
    let corners = families.iter().flat_map(Discovery::corners);
    corners.filter(|corner| !listeners.contains(corner)).collect()
}
