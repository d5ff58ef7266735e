//! The doctor as a client: every URL at every address of its host, tried by code that is not ours.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::finding::{Finding, Kind, shown};
use super::login::Login;
use super::report::{Outcome, Report};
use super::trust::Trust;
use super::uri::Uri;
use conn::Channel;
use link::Link;
use session::Caller;
use trial::{Plan, Reached};

mod conn;
mod judge;
mod link;
mod session;
mod trial;

pub(super) use link::{Io, over_tls};

/// A URL with who to be there.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) uri: Uri,
    pub(super) login: Option<Login>,
}

/// How to try.
pub(super) struct Means<'a> {
    pub(super) trust: &'a Trust,
    pub(super) patience: Duration,
    /// A shared secret that the server may have.
    pub(super) secret: Option<&'a str>,
}

/// Tries every target and reports.
pub(super) async fn run(targets: &[Target], means: &Means<'_>, report: &mut Report) {
    let mut hosts: BTreeMap<&str, Vec<(&Uri, SocketAddr, Reached)>> = BTreeMap::new();
    for target in targets {
        let uri = &target.uri;
        let addresses = match resolved(uri).await {
            Ok(addresses) => addresses,
            Err(error) => {
                report.step(shown(&uri.text), "resolve", Outcome::Failed(error.clone()));
                report.found(unresolved(uri, &error));
                continue;
            }
        };
        for server in addresses {
            let plan = Plan {
                uri,
                server,
                login: target.login.as_ref(),
                secret: means.secret,
                trust: means.trust,
                patience: means.patience,
            };
            let tried = trial::run(&plan).await;
            let subject = format!("{} at {}", shown(&uri.text), server.ip());
            tried.steps.into_iter().for_each(|(name, outcome)| report.step(subject.clone(), name, outcome));
            tried.findings.into_iter().for_each(|finding| report.found(finding.at(shown(&uri.text))));
            hosts.entry(&uri.host).or_default().push((uri, server, tried.reached));
        }
    }
    hosts.into_iter().flat_map(|(host, rows)| unreached(host, &rows)).for_each(|finding| report.found(finding));
}

/// The public addresses of this machine, one of each family that the STUN server has.
pub(super) async fn public_addresses(host: &str, trust: &Trust, patience: Duration) -> Result<Vec<IpAddr>, String> {
    let uri = Uri::parse(&format!("stun:{host}")).map_err(|wrong| wrong.what)?;
    let (mut found, mut error): (Vec<IpAddr>, _) = (Vec::new(), "no answer".to_owned());
    for server in resolved(&uri).await? {
        if found.iter().any(|known| known.is_ipv4() == server.is_ipv4()) {
            continue;
        }
        let link = Link::open(uri.transport, server, &uri.host, trust, patience).await;
        let caller = match link {
            Ok(link) => Caller::new(Channel::new(link, "", ""), None).await.map_err(|error| error.to_string()),
            Err(why) => Err(format!("{why:?}")),
        };
        match caller {
            Ok(caller) => found.extend(caller.binding(patience).await.map(|mapped| mapped.ip())),
            Err(why) => error = why,
        }
    }
    if found.is_empty() { Err(error) } else { Ok(found) }
}

/// Every address of the host, of either family, once.
async fn resolved(uri: &Uri) -> Result<Vec<SocketAddr>, String> {
    let found = tokio::net::lookup_host((uri.host.as_str(), uri.port)).await.map_err(|error| error.to_string())?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() { Err("the name has no address".into()) } else { Ok(addresses) }
}

fn unresolved(uri: &Uri, error: &str) -> Finding {
    Kind::Unreachable
        .found(
            format!("the name {} cannot be resolved: {}", shown(&uri.host), shown(error)),
            "clients do not find the server",
            "publish an A record, and an AAAA record if the server has IPv6, for the host of the URL",
        )
        .at(shown(&uri.text))
}

/// What did not answer: everything of a URL, or some of a host's addresses only.
fn unreached(host: &str, rows: &[(&Uri, SocketAddr, Reached)]) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut split = Vec::new();
    let mut urls: Vec<&Uri> = Vec::new();
    rows.iter().for_each(|(uri, ..)| {
        if !urls.contains(uri) {
            urls.push(uri);
        }
    });
    for uri in urls {
        let of_uri = || rows.iter().filter(|(other, ..)| *other == uri);
        let dead: Vec<String> = of_uri()
            .filter_map(|(_, server, reached)| match reached {
                Reached::No(why) => Some(format!("{}: {why}", server.ip())),
                Reached::Yes | Reached::NoRoute => None,
            })
            .collect();
        let alive: Vec<String> = of_uri()
            .filter(|(.., reached)| *reached == Reached::Yes)
            .map(|(_, server, _)| server.ip().to_string())
            .collect();
        match (dead.is_empty(), alive.is_empty()) {
            (true, _) => {}
            (false, false) => split.push((uri, dead, alive)),
            (false, true) => found.push(
                Kind::Unreachable
                    .found(
                        dead.join("; "),
                        format!("no client gets to the server over {} on port {}", uri.transport, uri.port),
                        "is it running and does it listen there (`ss -lntup`)? Is the port open in the firewall and the \
                        security group?",
                    )
                    .at(shown(&uri.text)),
            ),
        }
    }
    for (uri, dead, alive) in split {
        found.push(
            Kind::Family
                .found(
                    format!("{} answers at {}, but not at {}", shown(host), alive.join(", "), dead.join("; ")),
                    "clients that pick the dead address first lose seconds, or the server altogether",
                    "open the firewall for that family too and listen on it, or take its A or AAAA record away; \
                    behind load balancers let UDP and TCP lead to the same addresses",
                )
                .at(shown(&uri.text)),
        );
    }
    found
}
