//! Clients and peers come and go: sockets, allocations, permissions, channels.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Instant;

use super::account::{Account, accounts};
use super::args::Plan;
use super::client::{Client, Step};
use super::error::BenchError;
use super::link::{Link, open_udp};
use super::progress::Progress;
use super::transact::{self, Next, Outcome};
use crate::net::sys::{UdpSocket, raise_open_files};

/// Descriptors that are not sockets of clients and peers, generously.
const SPARE_FILES: u64 = 64;

/// A socket on the far side, shared by several clients.
pub(super) struct Peer {
    pub(super) socket: UdpSocket,
    pub(super) address: SocketAddr,
}

/// Opens a socket for each of `count` clients.
pub(super) fn open_clients(plan: &Plan, count: usize) -> Result<Vec<Client>, BenchError> {
    let wanted = count as u64 + u64::from(plan.args.peers) + SPARE_FILES;
    let allowed = raise_open_files(wanted).map_err(BenchError::system("setrlimit"))?;
    if allowed < wanted {
        return Err(BenchError::Usage(format!("so many clients need {wanted} open files, the limit is {allowed}")));
    }
    let accounts: Vec<Rc<Account>> = accounts(plan)?.into_iter().map(Rc::new).collect();
    let links = (0..count).map(|_| open_link(plan));
    links.zip(accounts.iter().cycle()).map(|(link, account)| Ok(Client::new(link?, Rc::clone(account)))).collect()
}

/// A new socket to the server.
pub(super) fn open_link(plan: &Plan) -> Result<Link, BenchError> {
    Link::open(plan.args.transport, plan.server, plan.tls.as_ref()).map_err(BenchError::system("a client's socket"))
}

/// Opens the peers' sockets where the server can reach them.
pub(super) fn open_peers(plan: &Plan, clients: &[Client]) -> Result<Vec<Peer>, BenchError> {
    let ip = peer_ip(plan, clients)?;
    let open = |_| {
        let socket = open_udp(ip)?;
        let address = socket.local_addr()?;
        Ok(Peer { socket, address })
    };
    (0..plan.args.peers).map(open).collect::<Result<_, _>>().map_err(BenchError::system("a peer's socket"))
}

fn peer_ip(plan: &Plan, clients: &[Client]) -> Result<IpAddr, BenchError> {
    match (plan.args.peer_address, clients.first()) {
        (Some(ip), _) => Ok(ip),
        (None, Some(client)) => Ok(client.link.local_addr().map_err(BenchError::system("getsockname"))?.ip()),
        (None, None) => Ok(plan.server.ip()),
    }
}

/// Deals the peers out to the clients.
pub(super) fn assign_peers(clients: &mut [Client], peers: &[Peer]) {
    for (client, peer) in clients.iter_mut().zip(peers.iter().cycle()) {
        client.peer = Some(peer.address);
    }
}

/// Makes each client the peer of its neighbour; all must have an allocation.
pub(super) fn assign_neighbours(clients: &mut [Client]) {
    for pair in clients.chunks_exact_mut(2) {
        if let [left, right] = pair {
            left.peer = right.relayed;
            right.peer = left.relayed;
        }
    }
}

/// An allocation for each client.
pub(super) fn allocate(plan: &Plan, clients: &mut [Client], progress: &mut Progress) -> Result<(), BenchError> {
    let mut retries = clients.len() + SPARE_RETRIES;
    steps(plan, clients, progress, "allocating", |client, last| match last {
        None => Ok(Some(Step::Allocate)),
        Some((_, Outcome::Refused(MISMATCH))) if retries > 0 => {
            retries -= 1;
            *client = client.renewed(open_link(plan)?);
            Ok(Some(Step::Allocate))
        }
        Some((step, outcome)) => outcome.expect(step, &plan.args.server).map(|()| None),
    })
}

/// The server still knows an earlier client of this address: another one is tried (RFC 8656 §7.4).
pub(super) const MISMATCH: u16 = 437;
const SPARE_RETRIES: usize = 100;

/// A permission, and unless indications are wanted a channel, for each client's peer.
pub(super) fn connect(plan: &Plan, clients: &mut [Client], progress: &mut Progress) -> Result<(), BenchError> {
    let indications = plan.args.indications;
    steps(plan, clients, progress, "connecting", |client, last| {
        if let Some((step, outcome)) = last {
            outcome.expect(step, &plan.args.server)?;
        }
        Ok(match (last, client.peer) {
            (None, Some(peer)) => Some(Step::Permission(peer)),
            (Some((Step::Permission(_), _)), Some(peer)) if !indications => Some(Step::Channel(peer)),
            (_, _) => None,
        })
    })
}

/// Ends every allocation. What the server says to that no longer matters.
pub(super) fn release(plan: &Plan, clients: &mut [Client]) -> Result<(), BenchError> {
    transact::run(clients, plan.args.parallel as usize, &mut |client, last| {
        Ok(if last.is_none() && client.relayed.is_some() { Next::Ask(Step::Release) } else { Next::Finish })
    })
}

/// Runs steps for every client and shows how many are through.
fn steps(
    plan: &Plan,
    clients: &mut [Client],
    progress: &mut Progress,
    what: &str,
    mut next: impl FnMut(&mut Client, Option<(Step, Outcome)>) -> Result<Option<Step>, BenchError>,
) -> Result<(), BenchError> {
    let (all, mut finished) = (clients.len(), 0);
    transact::run(clients, plan.args.parallel as usize, &mut |client, last| {
        if let Some(step) = next(client, last)? {
            return Ok(Next::Ask(step));
        }
        finished += 1;
        #[allow(clippy::cast_precision_loss, reason = "at most 50,000")]
        progress.show(Instant::now(), what, finished as f64 / all as f64, || format!("{finished} of {all}"));
        Ok(Next::Finish)
    })?;
    progress.clear();
    Ok(())
}
