//! The engine without the daemon: TURN over blocking `std::net::UdpSocket`s, in about 60 lines.
//!
//! `serve` is all that a host does: it feeds packets with the time, carries out the one action that comes back, and
//! polls the rare events. `client` is a small TURN client that sends a datagram through it and gets it back.

#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "a host owns what the engine must not")]

mod client;

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use turnwell::credentials::{Credentials, Secret};
use turnwell::relay::*;

struct Host {
    engine: Relay,
    server: UdpSocket,
    relays: HashMap<RelayId, UdpSocket>,
    opened: u32,
}

impl Host {
    fn serve(mut self) -> std::io::Result<()> {
        let (start, mut packet, mut out) = (Instant::now(), [0; 65_536], Vec::new());
        self.server.set_read_timeout(Some(Duration::from_millis(5)))?;
        loop {
            let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
            let now = Now { mono: Mono(0).after(start.elapsed()), unix };
            out.clear();
            if let Ok((length, client)) = self.server.recv_from(&mut packet) {
                let from = FiveTuple { client, listener: ListenerId(0), stream: None };
                let action = self.engine.handle_client(now, &from, &packet[..length], &mut out);
                self.act(now, client, action, &packet, &mut out);
            }
            for id in self.relays.keys().copied().collect::<Vec<_>>() {
                while let Ok((length, peer)) = self.relays[&id].recv_from(&mut packet) {
                    let action = self.engine.handle_peer(now, id, PeerAddr(peer), &packet[..length], &mut out);
                    self.act(now, peer, action, &packet, &mut out);
                }
            }
            self.engine.handle_timeout(now);
            while let Some(event) = self.engine.poll_event() {
                if let Event::Close(id, _) = event {
                    self.relays.remove(&id);
                }
            }
        }
    }

    fn act(&mut self, now: Now, source: SocketAddr, action: Action, packet: &[u8], out: &mut Vec<u8>) {
        // UDP may lose a datagram anywhere, here too.
        let _ = match action {
            // There is one listener, so no answer leaves from another; one engine, so none has a sibling.
            Action::Discard(_) | Action::ReplyFrom { .. } | Action::ToSibling { .. } => Ok(0),
            Action::Reply { out: reply } => self.server.send_to(&out[reply], source),
            Action::ToPeer { relay, peer, payload, .. } => self.relays[&relay].send_to(&packet[payload], peer.0),
            Action::ToClient { client, out: head, payload, padding } => {
                let whole = [&out[head], &packet[payload], &[0; 3][..usize::from(padding)]].concat();
                self.server.send_to(&whole, client.client)
            }
            Action::Open(pending) => {
                let outcome = self.open(pending.want());
                let action = self.engine.opened(now, pending, outcome, out);
                return self.act(now, source, action, packet, out);
            }
            // TCP relaying is off unless `Live::tcp` says otherwise.
            Action::Connect { .. } | Action::Bind { .. } | Action::HandOver { .. } => Ok(0),
        };
    }

    fn open(&mut self, want: Want) -> Result<Opened, OpenError> {
        let Want::Bind(address) = want else { return Err(OpenError::Unavailable) };
        let socket = UdpSocket::bind(address).map_err(|_| OpenError::InUse)?;
        socket.set_nonblocking(true).map_err(|_| OpenError::Unavailable)?;
        self.opened += 1;
        self.relays.insert(RelayId(self.opened), socket);
        Ok(Opened::Relay(RelayId(self.opened), address))
    }
}

fn main() -> std::io::Result<()> {
    let mut credentials = Credentials::new("example");
    credentials.add_secret(Secret::new("a secret that the app shares").expect("it is not empty"));
    let issued = credentials.issue(Some("alice"), u64::from(u32::MAX)).expect("the name is good");
    let mut live = Live::new(Arc::new(credentials));
    live.peers = PeerPolicy::new(&["127.0.0.0/8".parse().expect("a range")], &[]);

    let server = UdpSocket::bind("127.0.0.1:0")?;
    let address = server.local_addr()?;
    let config = Config {
        listeners: vec![address],
        relays: Vec::new(),
        ports: PortShare::whole(49_152..=65_535),
        default_family: DefaultFamily::Client,
        discovery: Vec::new(),
        seed: random(),
        nonce_key: random(),
    };
    let engine = Relay::new(config, Arc::new(live));
    let host = Host { engine, server, relays: HashMap::new(), opened: 0 };
    std::thread::spawn(|| host.serve());
    client::relay_a_datagram(address, &issued)
}

/// Ports and nonces must not be guessed.
fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the system has random bytes");
    bytes
}
