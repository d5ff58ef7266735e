//! Whether the relay leads into this machine or its networks.

use std::net::IpAddr;

use super::super::finding::{Finding, Kind, Severity};
use super::super::scope::Scope;
use super::Subject;

/// One address of each range that holds what nobody should reach.
const SAMPLES: [&str; 7] =
    ["127.0.0.1", "::1", "169.254.169.254", "10.255.255.254", "172.31.255.254", "192.168.255.254", "fd00::fefe"];

pub(super) fn check(subject: &Subject) -> Vec<Finding> {
    let interfaces = if_addrs::get_if_addrs().map(|all| all.iter().map(if_addrs::Interface::ip).collect());
    let interfaces: Vec<IpAddr> = interfaces.unwrap_or_default();
    let mut candidates: Vec<IpAddr> = SAMPLES.iter().filter_map(|text| text.parse().ok()).collect();
    candidates.extend(interfaces.into_iter().filter(|ip| Scope::of(*ip) < Scope::Global));
    candidates.sort_unstable();
    candidates.dedup();
    judged(candidates.into_iter().filter(|ip| subject.config.live.relay.peers.allows(*ip)).collect())
        .into_iter()
        .collect()
}

fn judged(open: Vec<IpAddr>) -> Option<Finding> {
    let near = open.iter().any(|ip| Scope::of(*ip) < Scope::Site);
    let list: Vec<String> = open.iter().map(ToString::to_string).collect();
    (!open.is_empty()).then(|| {
        let saw = format!("peers.allow lets clients reach {}", list.join(", "));
        let means = if near {
            "whoever has a credential sends UDP to this machine itself, or to the cloud's metadata service"
        } else {
            "whoever has a credential sends UDP to every machine of the private network"
        };
        let remedy = "allow single hosts instead of ranges, and leave loopback and link-local addresses denied; own relayed \
                      addresses need no entry";
        let severity = if near { Severity::Error } else { Severity::Warning };
        Kind::OpenRelay.found(saw, means, remedy).severity(severity)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_weighs_more() {
        let judge = |texts: &[&str]| judged(texts.iter().map(|text| text.parse().unwrap()).collect());
        assert_eq!(judge(&[]), None);
        assert_eq!(judge(&["10.0.0.1"]).unwrap().severity, Severity::Warning);
        assert_eq!(judge(&["10.0.0.1", "169.254.169.254"]).unwrap().severity, Severity::Error);
    }
}
