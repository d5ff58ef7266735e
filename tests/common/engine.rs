//! An engine with allocations, without sockets: the host opens whatever it wants opened.

#![allow(dead_code, reason = "each binary uses its part")]

use std::net::SocketAddr;
use std::sync::Arc;

use turnwell::relay::{
    Action, Config, DefaultFamily, FiveTuple, Limits, ListenerId, Live, Mono, Now, Opened, PortShare, Relay,
    RelayAddress, RelayId, Want,
};

use crate::common::{self, Client};

pub(crate) struct World {
    pub(crate) relay: Relay,
    pub(crate) now: Now,
    pub(crate) out: Vec<u8>,
    relays: u32,
}

/// An allocation.
pub(crate) struct Side {
    pub(crate) client: Client,
    pub(crate) at: FiveTuple,
    pub(crate) relay: RelayId,
    pub(crate) relayed: SocketAddr,
}

/// An engine with all ports of one relay address.
pub(crate) fn config(first_port: u16) -> Config {
    Config {
        listeners: vec!["192.0.2.1:3478".parse().expect("an address")],
        relays: vec![RelayAddress { local: "198.51.100.7".parse().expect("an address"), external: None }],
        ports: PortShare::whole(first_port..=65_535),
        default_family: DefaultFamily::Client,
        discovery: Vec::new(),
        seed: [1; 32],
        nonce_key: [2; 32],
    }
}

pub(crate) fn client_at(port: u16) -> FiveTuple {
    let client = SocketAddr::from(([100, 0, 0, 1], port));
    FiveTuple { client, listener: ListenerId(0), stream: None }
}

impl World {
    pub(crate) fn new() -> World {
        World::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> World {
        let now = Now { mono: Mono(1_000_000_000_000), unix: 1_700_000_000 };
        let live = Arc::new(Live { limits, ..(*common::live()).clone() });
        World { relay: Relay::new(config(1), live), now, out: Vec::with_capacity(64 * 1024), relays: 0 }
    }

    /// An allocation of the client with this port.
    pub(crate) fn allocate(&mut self, port: u16) -> Side {
        let (mut client, at) = (Client::new(), client_at(port));
        let challenge = self.ask(&at, &client.allocate());
        client.challenged(&challenge);
        let reply = self.ask(&at, &client.allocate());
        Side { client, at, relay: RelayId(self.relays), relayed: common::relayed(&reply) }
    }

    pub(crate) fn permit(&mut self, side: &mut Side, peer: SocketAddr) {
        let request = side.client.permit(peer);
        assert!(common::is_success(&self.ask(&side.at, &request)));
    }

    pub(crate) fn bind(&mut self, side: &mut Side, number: u16, peer: SocketAddr) {
        let request = side.client.bind(number, peer);
        assert!(common::is_success(&self.ask(&side.at, &request)));
    }

    fn ask(&mut self, from: &FiveTuple, request: &[u8]) -> Vec<u8> {
        self.out.clear();
        let mut action = self.relay.handle_client(self.now, from, request, &mut self.out);
        while let Action::Open(pending) = action {
            let Want::Bind(address) = pending.want() else { panic!("only sockets are opened") };
            self.relays += 1;
            let opened = Opened::Relay(RelayId(self.relays), address);
            action = self.relay.opened(self.now, pending, Ok(opened), &mut self.out);
        }
        while self.relay.poll_event().is_some() {}
        match action {
            Action::Reply { out } => self.out[out].to_vec(),
            other => panic!("no reply but {other:?}"),
        }
    }
}
