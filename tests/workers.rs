//! What several workers have to agree on: whose a relay port is, and how much a user may relay.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "the bans are for the core")]

#[path = "common/caller.rs"]
mod caller;
mod common;

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

use caller::{Caller, receive, socket};
use turnwell::net::{self, Server};
use turnwell::relay::{Discard, Limits, Live, PeerPolicy, RelayAddress};

/// The one address that is relayed on, and only relayed ports of it may be reached: it is loopback.
const RELAY: &str = "127.0.0.3";

fn start(live: Live) -> Server {
    let config = net::Config {
        relays: vec![RelayAddress { local: RELAY.parse().expect("an address"), external: None }],
        ..common::net_config("127.0.0.1:0", 4)
    };
    net::start(config, Arc::new(live)).expect("running workers")
}

/// Eight clients on four workers, each to each: whoever has a relay port is reached, on whichever worker; another
/// service of this machine with a port of that range is not.
#[test]
fn a_relay_port_is_a_peer_while_any_worker_has_an_allocation_there_and_not_otherwise() {
    let server = start(Live { peers: PeerPolicy::default(), ..(*common::live()).clone() });
    let to = server.listening()[0];
    let mut callers: Vec<Caller> = (0..8).map(|_| Caller::new(to)).collect();
    let relayed: Vec<SocketAddr> = callers.iter().map(|caller| caller.relayed).collect();
    callers.iter_mut().for_each(|caller| caller.permit(relayed[0]));
    for from in &callers {
        for (at, other) in callers.iter().enumerate() {
            let text = format!("{} for {at}", from.relayed);
            from.send(&common::send_indication(other.relayed, text.as_bytes()));
            assert_eq!(common::data(&receive(&other.socket)), text.as_bytes());
        }
    }

    let free = (20_000..30_000).find_map(|port| UdpSocket::bind((RELAY, port)).ok()).expect("a free port");
    let service = free.local_addr().expect("its address");
    for caller in &callers {
        caller.send(&common::send_indication(service, b"into the machine"));
    }
    let is_refused = |counters: &net::Snapshot| counters.tally.discards[Discard::NotRelayed.index()] == 8;
    common::until(&server, is_refused);
    free.set_nonblocking(true).expect("a socket that does not wait");
    assert_eq!(free.recv_from(&mut [0; 100]).expect_err("nothing there").kind(), ErrorKind::WouldBlock);

    // The same for a port that was relayed until now.
    let gone = callers.remove(0);
    let Caller { mut client, socket, .. } = gone;
    socket.send_to(&client.release(), to).expect("a request sent");
    assert!(common::is_success(&receive(&socket)));
    common::until(&server, |counters| counters.usage.allocations == 7);
    for caller in &callers {
        caller.send(&common::send_indication(relayed[0], b"into the void"));
    }
    common::until(&server, |counters| counters.tally.discards[Discard::NotRelayed.index()] == 15);
    server.stop();
}

/// Twelve allocations of one user on four workers send as fast as they can: together they relay what one user may,
/// however long it takes, and every packet is either relayed or counted as over his limit.
#[test]
fn all_allocations_of_a_user_relay_together_what_one_user_may() {
    const BYTES_A_SECOND: u64 = 100_000;
    const PACKET: [u8; 1000] = [7; 1000];
    let limits = Limits { user_bandwidth: BYTES_A_SECOND * 8, ..Limits::default() };
    let server = start(Live {
        limits,
        peers: PeerPolicy::new(&["127.0.0.0/8".parse().expect("a range")], &[]),
        ..(*common::live()).clone()
    });
    let peer = socket([127, 0, 0, 1].into());
    let at = peer.local_addr().expect("its address");
    let start = Instant::now();
    let mut callers: Vec<Caller> = (0..12).map(|_| Caller::new(server.listening()[0])).collect();
    callers.iter_mut().for_each(|caller| caller.permit(at));
    let packet = common::send_indication(at, &PACKET);
    let mut sent = 0;
    for _ in 0..100 {
        callers.iter().for_each(|caller| caller.send(&packet));
        sent += 12;
        // One at a time through the kernel, so that none is lost there.
        let over = Discard::UserBandwidth.index();
        common::until(&server, |counters| counters.tally.sent_packets + counters.tally.discards[over] == sent);
    }
    let most = BYTES_A_SECOND * (start.elapsed().as_secs() + 2);
    let counters = server.counters();
    // Each allocation may end with one packet more than it had drawn.
    assert!(counters.tally.sent_bytes <= most + 12 * 1000, "{} bytes of at most {most}", counters.tally.sent_bytes);
    assert!(counters.tally.sent_bytes >= BYTES_A_SECOND / 2, "{} bytes", counters.tally.sent_bytes);
    server.stop();
}
