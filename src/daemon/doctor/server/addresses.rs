//! Whether the relay addresses are those that others reach.

use std::net::IpAddr;

use super::super::client;
use super::super::finding::{Finding, Kind, Severity, shown};
use super::super::report::{Outcome, Report};
use super::super::scope::Scope;
use super::{Subject, Way};

/// This machine's public addresses, if the operator named a server to ask.
pub(super) async fn probed(way: &Way<'_>, report: &mut Report) -> Vec<IpAddr> {
    let Some(host) = way.stun else { return Vec::new() };
    match client::public_addresses(host, way.trust, way.patience).await {
        Ok(found) => {
            let list: Vec<String> = found.iter().map(ToString::to_string).collect();
            report.step("this machine", "public", Outcome::Passed(list.join(", ")));
            found
        }
        Err(error) => {
            report.step("this machine", "public", Outcome::Failed(format!("{}: {error}", shown(host))));
            Vec::new()
        }
    }
}

pub(super) fn check(subject: &Subject, public: &[IpAddr]) -> Vec<Finding> {
    let fixed = &subject.config.fixed;
    let mine: Vec<IpAddr> =
        if_addrs::get_if_addrs().map(|all| all.iter().map(if_addrs::Interface::ip).collect()).unwrap_or_default();
    let mut found: Vec<Finding> = Vec::new();
    for relay in fixed.relays.iter().filter(|relay| !mine.contains(&relay.local)) {
        let saw =
            format!("relay.external or relay.addresses names {}, which no interface of this machine has", relay.local);
        let remedy = "name the address that `ip address` shows; the public one goes into `public`";
        found.push(Kind::ExternalAddress.found(saw, "the server does not start", remedy));
    }
    // pairs of the address on this machine and the one that others are told
    let told: Vec<(IpAddr, IpAddr)> = if fixed.relays.is_empty() {
        let listeners = fixed.net().map(|net| net.udp).unwrap_or_default();
        listeners.iter().map(|listener| (listener.ip(), listener.ip())).collect()
    } else {
        fixed.relays.iter().map(|relay| (relay.local, relay.external.unwrap_or(relay.local))).collect()
    };
    if found.is_empty() {
        found.extend(contradicted(&told, public));
    }
    if found.is_empty() && public.is_empty() {
        found.extend(unmapped(&told, subject.config.live.mint.public_host.as_deref()));
    }
    found
}

/// The public address is another one than clients are told.
fn contradicted(told: &[(IpAddr, IpAddr)], public: &[IpAddr]) -> Option<Finding> {
    let wrong = public.iter().find(|ip| {
        let of_family = told.iter().any(|(_, told)| told.is_ipv4() == ip.is_ipv4());
        of_family && !told.iter().any(|(_, told)| told == *ip)
    })?;
    let of_family =
        |(local, told): &&(IpAddr, IpAddr)| local.is_ipv4() == wrong.is_ipv4() && Scope::of(*told) > Scope::Machine;
    let (local, other) = told.iter().find(of_family).copied().unwrap_or((*wrong, *wrong));
    let saw = format!("others see this machine as {wrong}, but it relays at {other}");
    let means = "peers get an address as a candidate that does not lead here; calls that need the relay fail";
    let remedy = format!("relay.external = [{{ local = \"{local}\", public = \"{wrong}\" }}]");
    Some(Kind::ExternalAddress.found(saw, means, remedy))
}

/// Only private addresses, with no word of a NAT.
fn unmapped(told: &[(IpAddr, IpAddr)], public_host: Option<&str>) -> Option<Finding> {
    let literal: Option<IpAddr> = public_host.and_then(|host| host.parse().ok());
    if let Some(ip) = literal.filter(|ip| Scope::of(*ip) == Scope::Global)
        && !told.iter().any(|(_, told)| *told == ip)
    {
        return contradicted(told, &[ip]).map(|finding| Finding {
            saw: format!("server.public-host is {ip}, but the server relays elsewhere: {}", list(told)),
            ..finding
        });
    }
    let widest =
        told.iter().filter(|(_, told)| Scope::of(*told) > Scope::Machine).max_by_key(|(_, told)| Scope::of(*told))?;
    if Scope::of(widest.1) == Scope::Global {
        return None;
    }
    let saw = format!("every relay address is private ({}) and relay.external maps none", list(told));
    let means = "from the Internet nobody reaches them; if all clients and peers stand in this network, all is well";
    let remedy = format!(
        "behind a NAT set relay.external = [{{ local = \"{}\", public = \"PUBLIC ADDRESS\" }}]; --stun HOST finds the latter",
        widest.0
    );
    let finding = Kind::ExternalAddress.found(saw, means, remedy);
    // a name for the public says that clients come from outside
    let is_public = public_host.is_some() && literal.is_none();
    Some(finding.severity(if is_public { Severity::Warning } else { Severity::Note }))
}

fn list(told: &[(IpAddr, IpAddr)]) -> String {
    let wider = told.iter().filter(|(_, told)| Scope::of(*told) > Scope::Machine);
    wider.map(|(_, told)| told.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(all: &[(&str, &str)]) -> Vec<(IpAddr, IpAddr)> {
        all.iter().map(|(local, told)| (local.parse().unwrap(), told.parse().unwrap())).collect()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_public_address_that_nobody_is_told_is_an_error_with_both() {
        let told = pairs(&[("10.0.0.2", "10.0.0.2")]);
        let found = contradicted(&told, &[ip("9.9.9.9")]).unwrap();
        assert!(found.saw.contains("9.9.9.9") && found.saw.contains("10.0.0.2"), "{found:?}");
        assert!(found.remedy.contains("local = \"10.0.0.2\", public = \"9.9.9.9\""), "{found:?}");
        assert_eq!(contradicted(&pairs(&[("10.0.0.2", "9.9.9.9")]), &[ip("9.9.9.9")]), None);
        assert_eq!(contradicted(&told, &[ip("2600::1")]), None, "nothing is said of a family that is not served");
    }

    #[test]
    fn private_addresses_without_a_mapping_weigh_by_what_clients_are_told() {
        let told = pairs(&[("127.0.0.1", "127.0.0.1"), ("10.0.0.2", "10.0.0.2")]);
        assert_eq!(unmapped(&told, None).unwrap().severity, Severity::Note);
        assert_eq!(unmapped(&told, Some("turn.example.org")).unwrap().severity, Severity::Warning);
        assert_eq!(unmapped(&told, Some("9.9.9.9")).unwrap().severity, Severity::Error);
        assert_eq!(unmapped(&told, Some("10.0.0.2")).unwrap().severity, Severity::Note);
        assert_eq!(unmapped(&pairs(&[("10.0.0.2", "9.9.9.9")]), Some("turn.example.org")), None);
        assert_eq!(unmapped(&pairs(&[("127.0.0.1", "127.0.0.1")]), None), None, "a server for this machine only");
    }
}
