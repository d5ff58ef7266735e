//! A client with an allocation, over a real socket.

#![allow(dead_code, reason = "each binary uses its part")]

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use turnwell::wire::{Class, Message};

use crate::common::{self, Client};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Caller {
    pub(crate) client: Client,
    pub(crate) socket: UdpSocket,
    pub(crate) server: SocketAddr,
    pub(crate) relayed: SocketAddr,
}

impl Caller {
    /// Allocates at `server`, from the address of the same host that the server listens on.
    pub(crate) fn new(server: SocketAddr) -> Caller {
        let mut caller = Caller { client: Client::new(), socket: socket(server.ip()), server, relayed: server };
        let challenge = caller.ask(Client::allocate);
        caller.client.challenged(&challenge);
        let reply = caller.ask(Client::allocate);
        caller.relayed = common::relayed(&reply);
        caller
    }

    pub(crate) fn permit(&mut self, peer: SocketAddr) {
        assert!(common::is_success(&self.ask(|client| client.permit(peer))));
    }

    pub(crate) fn bind(&mut self, number: u16, peer: SocketAddr) {
        assert!(common::is_success(&self.ask(|client| client.bind(number, peer))));
    }

    /// Sends a request and waits for its response, past indications that come in between.
    pub(crate) fn ask(&mut self, request: impl FnOnce(&mut Client) -> Vec<u8>) -> Vec<u8> {
        let request = request(&mut self.client);
        self.send(&request);
        loop {
            let packet = self.receive();
            if Message::parse(&packet).is_ok_and(|message| message.class() != Class::Indication) {
                return packet;
            }
        }
    }

    pub(crate) fn send(&self, packet: &[u8]) {
        self.socket.send_to(packet, self.server).expect("a packet sent");
    }

    pub(crate) fn receive(&self) -> Vec<u8> {
        receive(&self.socket)
    }
}

/// A free port of an address, where receiving gives up some time.
pub(crate) fn socket(ip: IpAddr) -> UdpSocket {
    let socket = UdpSocket::bind((ip, 0)).expect("a free port");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    socket
}

/// The next datagram.
pub(crate) fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65_536];
    loop {
        match socket.recv(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            length => {
                buffer.truncate(length.expect("a datagram"));
                return buffer;
            }
        }
    }
}
