//! `turn-client-proto` over real sockets: an independent client for UDP, TCP and TLS, TCP relaying and both families.
//!
//! A thread per socket hands over what arrives; the client itself runs where the test does. Its TLS reads at most
//! 2048 bytes a call, so tests send less than that at once and chunks are handed over in pieces.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use turn_client_proto::api::{Transmit, TurnConfig, TurnEvent, TurnPeerData, TurnPollRet, TurnRecvRet};
use turn_client_proto::prelude::{DelayedTransmitBuild, TurnClientApi};
use turn_client_proto::tcp::TurnClientTcp;
use turn_client_proto::types::{Instant as Now, TransportType, TurnCredentials};
use turn_client_proto::udp::TurnClientUdp;
use turn_client_rustls::TurnClientRustls;

use crate::sessions::Server;
use crate::support::{Dev, PATIENCE};
use crate::tls;

turn_client_proto::impl_client!(
    pub(crate) Client,
    (Udp, TurnClientUdp),
    (Tcp, TurnClientTcp),
    (Tls, TurnClientRustls)
);

/// How the client reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Udp,
    Tcp,
    Tls,
}

/// A client with its sockets, and what it has told.
pub(crate) struct Oracle {
    client: Client,
    udp: Option<UdpSocket>,
    streams: HashMap<SocketAddr, TcpStream>,
    arrived: mpsc::Receiver<(SocketAddr, Vec<u8>)>,
    arrives: mpsc::Sender<(SocketAddr, Vec<u8>)>,
    began: Instant,
    events: Vec<TurnEvent>,
    data: Vec<(TransportType, SocketAddr, Vec<u8>)>,
    /// Connections that the server closed.
    closed: usize,
    /// The allocation has ended.
    over: bool,
}

/// What the client may ask for, with a credential of the API.
pub(crate) fn config(dev: &Dev) -> TurnConfig {
    let minted = Server::of(dev).mint("alice");
    let text = |name: &str| minted[name].as_str().expect("a text");
    TurnConfig::new(TurnCredentials::new(text("username"), text("password")))
}

impl Oracle {
    /// A client that reaches the listener of this family; it allocates at once.
    pub(crate) fn start(dev: &Dev, way: Way, v6: bool, config: TurnConfig) -> Oracle {
        let name = match way {
            Way::Udp => "listen",
            Way::Tcp => "tcp",
            Way::Tls => "tls",
        };
        let listeners = dev.ready[name].as_array().expect("listeners");
        let addresses = listeners.iter().filter_map(|text| text.as_str()?.parse::<SocketAddr>().ok());
        let server = { addresses }.find(|address| address.is_ipv6() == v6).expect("a listener of the family");
        match way {
            Way::Udp => Oracle::start_udp(server, config),
            Way::Tcp | Way::Tls => {
                let (arrives, arrived) = mpsc::channel();
                let (local, stream) = connect(server, &arrives);
                let client = if way == Way::Tcp {
                    Client::Tcp(TurnClientTcp::allocate(local, server, config))
                } else {
                    let name = ServerName::try_from("localhost").expect("a name");
                    Client::Tls(TurnClientRustls::allocate(local, server, config, name, trusting(dev)))
                };
                let streams = HashMap::from([(local, stream)]);
                Oracle { streams, ..Oracle::new(client, None, arrived, arrives) }
            }
        }
    }

    /// A client of a server over UDP.
    pub(crate) fn start_udp(server: SocketAddr, config: TurnConfig) -> Oracle {
        let (arrives, arrived) = mpsc::channel();
        let socket = UdpSocket::bind(SocketAddr::new(server.ip(), 0)).expect("a socket");
        socket.connect(server).expect("a way to the server");
        let local = socket.local_addr().expect("its address");
        let (reader, sender) = (socket.try_clone().expect("the socket again"), arrives.clone());
        thread::spawn(move || {
            let mut packet = [0; 65_536];
            while let Ok(length) = reader.recv(&mut packet) {
                if sender.send((local, packet[..length].to_vec())).is_err() {
                    return;
                }
            }
        });
        let client = Client::Udp(TurnClientUdp::allocate(local, server, config));
        Oracle::new(client, Some(socket), arrived, arrives)
    }

    fn new(
        client: Client,
        udp: Option<UdpSocket>,
        arrived: mpsc::Receiver<(SocketAddr, Vec<u8>)>,
        arrives: mpsc::Sender<(SocketAddr, Vec<u8>)>,
    ) -> Oracle {
        let (streams, events, data) = (HashMap::new(), Vec::new(), Vec::new());
        Oracle { client, udp, streams, arrived, arrives, began: Instant::now(), events, data, closed: 0, over: false }
    }

    /// The relayed addresses, once there are so many.
    #[track_caller]
    pub(crate) fn relayed(&mut self, count: usize) -> Vec<SocketAddr> {
        self.until("an allocation", |oracle| {
            let failed = |event: &TurnEvent| matches!(event, TurnEvent::AllocationCreateFailed(_));
            assert!(!oracle.events.iter().any(failed), "{:?}", oracle.events);
            let relayed: Vec<SocketAddr> = oracle.client.relayed_addresses().map(|(_, address)| address).collect();
            (relayed.len() == count).then_some(relayed)
        })
    }

    #[track_caller]
    pub(crate) fn permit(&mut self, transport: TransportType, peer: SocketAddr) {
        let now = self.now();
        self.client.create_permission(transport, peer.ip(), now).expect("a request");
        self.until("a permission", |oracle| oracle.client.have_permission(transport, peer.ip()).then_some(()));
    }

    #[track_caller]
    pub(crate) fn bind(&mut self, peer: SocketAddr) {
        let now = self.now();
        self.client.bind_channel(TransportType::Udp, peer, now).expect("a request");
        self.until("a channel", |oracle| {
            let bound = |event: &TurnEvent| matches!(event, TurnEvent::ChannelCreated(_, at) if *at == peer);
            oracle.events.iter().any(bound).then_some(())
        });
    }

    /// Asks for a connection to a peer and binds one of its own to it. `false` when the server could not connect.
    #[track_caller]
    pub(crate) fn connect(&mut self, peer: SocketAddr) -> bool {
        let now = self.now();
        self.client.tcp_connect(peer, now).expect("a request");
        self.connected(peer)
    }

    /// Waits until a connection with a peer is there, whoever began it.
    #[track_caller]
    pub(crate) fn connected(&mut self, peer: SocketAddr) -> bool {
        self.until("a connection", |oracle| {
            let at = oracle.events.iter().position(|event| match event {
                TurnEvent::TcpConnected(at) | TurnEvent::TcpConnectFailed(at) => *at == peer,
                _ => false,
            })?;
            Some(matches!(oracle.events.remove(at), TurnEvent::TcpConnected(_)))
        })
    }

    #[track_caller]
    pub(crate) fn send(&mut self, transport: TransportType, peer: SocketAddr, data: &[u8]) {
        let now = self.now();
        let sent = self.client.send_to(transport, peer, data, now).expect("a way to the peer");
        if let Some(transmit) = sent {
            let (from, bytes) = (transmit.from, transmit.data.build());
            self.write(from, &bytes);
        }
        self.pump(Duration::ZERO);
    }

    /// The next data of a peer: of a datagram, or at least so many bytes of a stream.
    #[track_caller]
    pub(crate) fn receive(&mut self, peer: SocketAddr, least: usize) -> Vec<u8> {
        let mut received = Vec::new();
        self.until("data", |oracle| {
            while received.len() < least
                && let Some(at) = oracle.data.iter().position(|(_, from, _)| *from == peer)
            {
                received.extend_from_slice(&oracle.data.remove(at).2);
            }
            (received.len() >= least).then_some(())
        });
        received
    }

    /// Ends the allocation.
    #[track_caller]
    pub(crate) fn delete(&mut self) {
        let now = self.now();
        self.client.delete(now).expect("a request");
        self.until("an end", |oracle| oracle.over.then_some(()));
    }

    /// Waits until so many connections were closed by the server.
    #[track_caller]
    pub(crate) fn closed(&mut self, count: usize) {
        self.until("a closed connection", |oracle| (oracle.closed >= count).then_some(()));
    }

    #[track_caller]
    fn until<T>(&mut self, what: &str, mut ready: impl FnMut(&mut Oracle) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = ready(self) {
                return found;
            }
            assert!(start.elapsed() < PATIENCE, "no {what}; told so far: {:?}", self.events);
            self.pump(Duration::from_secs(1));
        }
    }

    /// Sends what is to be sent, and takes what arrives within a time.
    fn pump(&mut self, within: Duration) {
        let mut wait = within;
        loop {
            let now = self.now();
            while let Some(transmit) = self.client.poll_transmit(now) {
                self.write(transmit.from, &transmit.data);
            }
            match self.client.poll(now) {
                TurnPollRet::WaitUntil(until) => match until.checked_duration_since(now) {
                    Some(left) if !left.is_zero() => {
                        wait = wait.min(left);
                        break;
                    }
                    _ => {}
                },
                TurnPollRet::AllocateTcpSocket { id, socket, peer_addr } => {
                    let (local, stream) = connect(socket.to, &self.arrives);
                    self.streams.insert(local, stream);
                    let taken = self.client.allocated_tcp_socket(id, socket, peer_addr, Some(local), now);
                    taken.expect("the socket that it wanted");
                }
                TurnPollRet::TcpClose { local_addr, .. } => drop(self.streams.remove(&local_addr)),
                TurnPollRet::Closed => {
                    self.over = true;
                    wait = Duration::ZERO;
                    break;
                }
            }
        }
        while let Some(event) = self.client.poll_event() {
            self.events.push(event);
        }
        if let Ok((local, bytes)) = self.arrived.recv_timeout(wait) {
            self.take(local, &bytes);
        }
        while let Some(event) = self.client.poll_event() {
            self.events.push(event);
        }
    }

    fn take(&mut self, local: SocketAddr, bytes: &[u8]) {
        let (transport, server, now) = (self.client.transport(), self.client.remote_addr(), self.now());
        if bytes.is_empty() {
            self.closed += 1;
            self.client.tcp_closed(local, server, now);
            return;
        }
        match self.client.recv(Transmit::new(bytes, transport, server, local), now) {
            TurnRecvRet::PeerData(data) => self.keep(&data),
            TurnRecvRet::Handled | TurnRecvRet::PeerIcmp { .. } => {}
            TurnRecvRet::Ignored(bytes) => panic!("not understood at {local}: {:x?}", bytes.data),
        }
        while let Some(data) = self.client.poll_recv(now) {
            self.keep(&data);
        }
    }

    fn keep<T: AsRef<[u8]> + std::fmt::Debug>(&mut self, data: &TurnPeerData<T>) {
        self.data.push((data.transport, data.peer, data.data().to_vec()));
    }

    fn write(&mut self, from: SocketAddr, bytes: &[u8]) {
        match (&self.udp, self.streams.get_mut(&from)) {
            (Some(socket), _) => drop(socket.send(bytes).expect("a datagram sent")),
            (None, Some(stream)) => stream.write_all(bytes).expect("bytes written"),
            (None, None) => panic!("no socket {from}"),
        }
    }

    fn now(&self) -> Now {
        Now::from_nanos(i64::try_from(self.began.elapsed().as_nanos()).expect("a short test"))
    }
}

/// Opens a connection and reads it until its end, which is told as no bytes.
fn connect(server: SocketAddr, arrives: &mpsc::Sender<(SocketAddr, Vec<u8>)>) -> (SocketAddr, TcpStream) {
    let stream = TcpStream::connect(server).expect("a connection");
    stream.set_nodelay(true).expect("no delay");
    let local = stream.local_addr().expect("its address");
    let (mut reader, arrives) = (stream.try_clone().expect("the connection again"), arrives.clone());
    thread::spawn(move || {
        let mut bytes = [0; 1024];
        loop {
            let length = reader.read(&mut bytes).unwrap_or(0);
            if arrives.send((local, bytes[..length].to_vec())).is_err() || length == 0 {
                return;
            }
        }
    });
    (local, stream)
}

fn trusting(dev: &Dev) -> Arc<ClientConfig> {
    let root = std::fs::read(dev.text("certificate")).expect("the certificate");
    Arc::new(tls::config(&root, &[]))
}
