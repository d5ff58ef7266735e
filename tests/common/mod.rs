//! The least of a TURN client, for tests and benchmarks that are about packets and not about requests.

#![allow(dead_code, reason = "each binary uses its part")]

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use turnwell::credentials::Credentials;
use turnwell::net::{self, Quotas, StreamConfig, StreamLimits};
use turnwell::relay::{DefaultFamily, Live, PeerPolicy};
use turnwell::wire::{
    Algorithm, AttributeType, ChannelNumber, Class, IntegrityKey, Message, Method, TransactionId, Writer, channel,
};

const REALM: &str = "example.org";
const USER: &str = "user";
const KEY: [u8; 16] = [7; 16];

/// Where a program knows this user: what its configuration has to say.
pub(crate) const USERS: &str = "[server]\nrealm = \"example.org\"\n[credentials]\nusers = [{ name = \"user\", key = \"07070707070707070707070707070707\" }]\n";

/// Rules under which every [`Client`] may allocate, and reach the peers of a test as well as public ones.
pub(crate) fn live() -> Arc<Live> {
    let mut credentials = Credentials::new(REALM);
    credentials.add_user_key(USER, KEY);
    let allowed = ["127.0.0.0/8", "10.0.0.0/8"].map(|range| range.parse().expect("a range"));
    Arc::new(Live { peers: PeerPolicy::new(&allowed, &[]), ..Live::new(Arc::new(credentials)) })
}

/// Workers that listen here and relay where they listen.
pub(crate) fn net_config(listen: &str, workers: usize) -> net::Config {
    let limits = StreamLimits {
        total: 0,
        per_source: 0,
        opening: Duration::from_secs(10),
        idle: Duration::from_secs(60),
        queue_bytes: 65_536,
        queue_delay: Duration::from_secs(1),
    };
    net::Config {
        udp: vec![listen.parse().expect("an address")],
        streams: Vec::new(),
        stream_config: StreamConfig { limits, proxies: Vec::new(), tls: None },
        relays: Vec::new(),
        relay_ports: 20_000..=29_999,
        workers,
        default_family: DefaultFamily::Client,
        discovery: Vec::new(),
        receive_buffer: 0,
        send_buffer: 0,
        quotas: Quotas::default(),
    }
}

/// Makes signed requests.
pub(crate) struct Client {
    key: IntegrityKey,
    nonce: Vec<u8>,
    transactions: u32,
}

impl Client {
    pub(crate) fn new() -> Client {
        Client { key: IntegrityKey::new(&KEY), nonce: b"none yet".to_vec(), transactions: 0 }
    }

    /// Allocate; the first one is answered with a challenge, see [`Client::challenged`].
    pub(crate) fn allocate(&mut self) -> Vec<u8> {
        self.request(Method::ALLOCATE, |writer| {
            writer.attribute(AttributeType::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
        })
    }

    /// Allocate with EVEN-PORT; with `reserve`, the next port is kept for whoever brings the token.
    pub(crate) fn allocate_even(&mut self, reserve: bool) -> Vec<u8> {
        self.request(Method::ALLOCATE, |writer| {
            writer
                .attribute(AttributeType::REQUESTED_TRANSPORT, &[17, 0, 0, 0])
                .attribute(AttributeType::EVEN_PORT, &[u8::from(reserve) << 7]);
        })
    }

    /// Allocate with the port that a token stands for.
    pub(crate) fn allocate_reserved(&mut self, token: &[u8]) -> Vec<u8> {
        self.request(Method::ALLOCATE, |writer| {
            writer
                .attribute(AttributeType::REQUESTED_TRANSPORT, &[17, 0, 0, 0])
                .attribute(AttributeType::RESERVATION_TOKEN, token);
        })
    }

    /// Refresh with LIFETIME 0: the allocation ends.
    pub(crate) fn release(&mut self) -> Vec<u8> {
        self.request(Method::REFRESH, |writer| {
            writer.u32(AttributeType::LIFETIME, 0);
        })
    }

    pub(crate) fn permit(&mut self, peer: SocketAddr) -> Vec<u8> {
        self.request(Method::CREATE_PERMISSION, |writer| {
            writer.xor_address(AttributeType::XOR_PEER_ADDRESS, peer);
        })
    }

    pub(crate) fn bind(&mut self, number: u16, peer: SocketAddr) -> Vec<u8> {
        self.request(Method::CHANNEL_BIND, |writer| {
            writer
                .u32(AttributeType::CHANNEL_NUMBER, u32::from(number) << 16)
                .xor_address(AttributeType::XOR_PEER_ADDRESS, peer);
        })
    }

    /// Allocate for TCP relaying.
    pub(crate) fn allocate_tcp(&mut self) -> Vec<u8> {
        self.request(Method::ALLOCATE, |writer| {
            writer.attribute(AttributeType::REQUESTED_TRANSPORT, &[6, 0, 0, 0]);
        })
    }

    pub(crate) fn connect(&mut self, peer: SocketAddr) -> Vec<u8> {
        self.request(Method::CONNECT, |writer| {
            writer.xor_address(AttributeType::XOR_PEER_ADDRESS, peer);
        })
    }

    pub(crate) fn bind_connection(&mut self, connection: u32) -> Vec<u8> {
        self.request(Method::CONNECTION_BIND, |writer| {
            writer.u32(AttributeType::CONNECTION_ID, connection);
        })
    }

    /// Refresh with a lifetime of 0: the end.
    pub(crate) fn delete(&mut self) -> Vec<u8> {
        self.request(Method::REFRESH, |writer| {
            writer.u32(AttributeType::LIFETIME, 0);
        })
    }

    /// Takes the nonce out of a challenge.
    pub(crate) fn challenged(&mut self, reply: &[u8]) {
        self.nonce = attribute(reply, AttributeType::NONCE).expect("a nonce");
    }

    fn request(&mut self, method: Method, attributes: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        self.transactions += 1;
        let mut id = [0; 12];
        id[8..].copy_from_slice(&self.transactions.to_be_bytes());
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, Class::Request, method, TransactionId(id));
        attributes(&mut writer);
        writer
            .attribute(AttributeType::USERNAME, USER.as_bytes())
            .attribute(AttributeType::REALM, REALM.as_bytes())
            .attribute(AttributeType::NONCE, &self.nonce)
            .integrity(&self.key, Algorithm::Sha1);
        writer.finish();
        bytes
    }
}

pub(crate) fn binding() -> Vec<u8> {
    let mut bytes = Vec::new();
    Writer::new(&mut bytes, Class::Request, Method::BINDING, TransactionId([1; 12])).finish();
    bytes
}

pub(crate) fn bare_allocate() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, Class::Request, Method::ALLOCATE, TransactionId([1; 12]));
    writer.attribute(AttributeType::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
    writer.finish();
    bytes
}

pub(crate) fn send_indication(peer: SocketAddr, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, Class::Indication, Method::SEND, TransactionId([5; 12]));
    writer.xor_address(AttributeType::XOR_PEER_ADDRESS, peer).attribute(AttributeType::DATA, data);
    writer.finish();
    bytes
}

pub(crate) fn channel_data(number: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).expect("short data");
    [&channel::header(ChannelNumber(number), length), data].concat()
}

/// What somebody sends who has no credential: every kind of packet that costs the server something. The last two are
/// not answered.
pub(crate) fn forgeries() -> Vec<Vec<u8>> {
    let signed = |method, nonce: &[u8]| {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, Class::Request, method, TransactionId([3; 12]));
        writer
            .attribute(AttributeType::REQUESTED_TRANSPORT, &[17, 0, 0, 0])
            .attribute(AttributeType::USERNAME, USER.as_bytes())
            .attribute(AttributeType::REALM, REALM.as_bytes())
            .attribute(AttributeType::NONCE, nonce)
            .integrity(&IntegrityKey::new(&[1; 16]), Algorithm::Sha1);
        writer.finish();
        bytes
    };
    let mut refresh = Vec::new();
    Writer::new(&mut refresh, Class::Request, Method::REFRESH, TransactionId([4; 12]))
        .u32(AttributeType::LIFETIME, 600);
    vec![
        bare_allocate(),
        signed(Method::ALLOCATE, b"AAAAAAAAAAAAAAAA"),
        signed(Method::CREATE_PERMISSION, b"obMatJos2AAAAAAAAAAAAAAAAAAAAAAA"),
        refresh,
        binding(),
        send_indication(SocketAddr::from(([9, 9, 9, 9], 5000)), &[7; 100]),
        channel_data(0x4001, &[7; 100]),
    ]
}

/// How many of [`forgeries`] are not answered.
pub(crate) const SILENT: usize = 2;

/// Says past the capture of output that something is not tested here. With CI=true that is a failure: nothing may be left
/// out there.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{why}");
    io::stderr().write_all(format!("!!!! skipped: {why}\n").as_bytes()).expect("standard error");
}

/// The counters, as soon as they are so. Between two looks at them every worker has had a turn.
#[allow(clippy::disallowed_methods, reason = "not the core; somebody who waits must give up at some time")]
pub(crate) fn until(server: &net::Server, is_so: impl Fn(&net::Snapshot) -> bool) -> net::Snapshot {
    const PATIENCE: Duration = Duration::from_secs(60);
    let (control, start) = (server.control(), Instant::now());
    loop {
        let counters = server.counters();
        if is_so(&counters) {
            return counters;
        }
        assert!(start.elapsed() < PATIENCE, "{counters:?}");
        for worker in 0..control.workers() {
            let (tell, told) = mpsc::channel();
            let question = net::Question::Alive(Box::new(move |()| tell.send(()).expect("who asked waits")));
            assert!(control.ask(worker, question), "too many questions");
            told.recv_timeout(PATIENCE).expect("a worker that lives");
        }
    }
}

/// The relayed address in an Allocate response.
pub(crate) fn relayed(reply: &[u8]) -> SocketAddr {
    let message = Message::parse(reply).expect("a message");
    let mut attributes = message.attributes().map_while(Result::ok);
    let found = attributes.find(|attribute| attribute.kind == AttributeType::XOR_RELAYED_ADDRESS);
    found.expect("a relayed address").xor_address(message.transaction_id()).expect("an address")
}

/// The token in an Allocate response.
pub(crate) fn token(reply: &[u8]) -> Option<Vec<u8>> {
    attribute(reply, AttributeType::RESERVATION_TOKEN)
}

/// What was relayed to a client, as ChannelData or as a Data indication.
pub(crate) fn data(packet: &[u8]) -> Vec<u8> {
    match channel::ChannelData::parse(packet) {
        Some(found) if packet.first().is_some_and(|first| *first >= 0x40) => found.data.to_vec(),
        _ => attribute(packet, AttributeType::DATA).expect("data"),
    }
}

pub(crate) fn is_success(reply: &[u8]) -> bool {
    Message::parse(reply).is_ok_and(|message| message.class() == Class::Success)
}

/// The code of an error response.
pub(crate) fn error_code(reply: &[u8]) -> Option<u16> {
    let message = Message::parse(reply).ok()?;
    let mut attributes = message.attributes().map_while(Result::ok);
    attributes.find(|attribute| attribute.kind == AttributeType::ERROR_CODE)?.error_code().ok()
}

/// CONNECTION-ID of a Connect response or a ConnectionAttempt.
pub(crate) fn connection(message: &[u8]) -> Option<u32> {
    let bytes = attribute(message, AttributeType::CONNECTION_ID)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

fn attribute(packet: &[u8], kind: AttributeType) -> Option<Vec<u8>> {
    let message = Message::parse(packet).ok()?;
    let mut attributes = message.attributes().map_while(Result::ok);
    attributes.find(|attribute| attribute.kind == kind).map(|attribute| attribute.value.to_vec())
}
