//! Whether the machine's limits fit what the configuration promises.

use std::fs;

use super::super::finding::{Finding, Kind};
use super::Subject;
use crate::net::sys;

/// Descriptors that are no relay sockets and no connections, generously.
const SPARE: u64 = 256;

/// `served` is how many files the running server may open, where one told.
pub(super) fn check(subject: &Subject, served: Option<u64>) -> Vec<Finding> {
    let fixed = &subject.config.fixed;
    let allocations = u64::from(subject.file.limits.allocations);
    let connections = u64::from(subject.file.streams.connections);
    let addresses = fixed.relays.len().max(1) as u64;
    let ports = fixed.relay_ports.len() as u64 * addresses;
    // A server that will be started from here has the limit of this process.
    let files = match served {
        Some(limit) => Some(("the server", limit)),
        None => sys::hard_limit_of_open_files().ok().map(|limit| ("this process", limit)),
    };
    let tracked = number("/proc/sys/net/netfilter/nf_conntrack_max");
    [
        ports_found(ports, allocations),
        files_found(files, allocations.min(ports), connections),
        conntrack_found(tracked, allocations),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn ports_found(ports: u64, allocations: u64) -> Option<Finding> {
    (allocations > ports).then(|| {
        Kind::Limits
            .found(
                format!("relay.ports and relay.addresses give {ports} relayed addresses, limits.allocations promises {allocations}"),
                "every allocation beyond that is refused with 508 (Insufficient Capacity)",
                "widen relay.ports, add relay.addresses, or lower limits.allocations to what there is",
            )
            .at("relay.ports")
    })
}

/// An allocation takes a descriptor, and with a busy peer a second one.
fn files_found(files: Option<(&str, u64)>, allocations: u64, connections: u64) -> Option<Finding> {
    let needed = 2 * allocations + connections + SPARE;
    let (who, files) = files.filter(|(_, files)| *files < needed)?;
    Some(Kind::Limits.found(
        format!("{who} may open {files} files; {allocations} allocations and {connections} connections need {needed}"),
        "what is beyond is refused with 508, and connections are not accepted",
        "LimitNOFILE=1048576 in the systemd unit (the one that comes with Turnwell has it), or `ulimit -n`",
    ))
}

fn conntrack_found(tracked: Option<u64>, allocations: u64) -> Option<Finding> {
    let needed = 2 * allocations;
    let tracked = tracked.filter(|tracked| *tracked < needed)?;
    Some(Kind::Limits.found(
        format!("the firewall tracks {tracked} connections at most (nf_conntrack_max); {allocations} allocations need {needed}"),
        "when the table is full the kernel drops packets of new calls",
        "`sysctl net.netfilter.nf_conntrack_max=262144`, or a notrack rule for the relay ports",
    ))
}

pub(super) fn buffers(subject: &Subject) -> Vec<Finding> {
    let fixed = &subject.config.fixed;
    let asked = [
        ("listen.receive-buffer", fixed.receive_buffer, "rmem_max"),
        ("listen.send-buffer", fixed.send_buffer, "wmem_max"),
    ];
    let short = |(key, wanted, name): (&str, usize, &str)| {
        let granted = number(&format!("/proc/sys/net/core/{name}"))?;
        ((wanted as u64) > granted).then(|| {
            Kind::Buffers
                .found(
                    format!("{key} asks for {wanted} bytes, net.core.{name} grants {granted}"),
                    "bursts overflow the smaller buffer, and those packets are lost",
                    format!("`sysctl net.core.{name}={wanted}`, and the same line in /etc/sysctl.d/turnwell.conf"),
                )
                .at(key)
        })
    };
    asked.into_iter().filter_map(short).collect()
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_compared_with_what_is_promised() {
        assert!(ports_found(100, 16_000).is_some_and(|found| found.saw.contains("100") && found.saw.contains("16000")));
        assert_eq!(ports_found(16_384, 16_000), None);
        assert_eq!(ports_found(100, 0), None, "no limit promises nothing");
        assert!(
            files_found(Some(("the server", 1024)), 16_000, 16_000)
                .is_some_and(|found| found.saw.contains("the server"))
        );
        assert_eq!(files_found(Some(("the server", 1 << 20)), 16_000, 16_000), None);
        assert!(conntrack_found(Some(1000), 16_000).is_some());
        assert_eq!(conntrack_found(None, 16_000), None, "nothing is tracked");
    }
}
