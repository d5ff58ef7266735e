//! A TURN client small enough to be read at once: it signs requests and reads answers.

use std::net::SocketAddr;

use md5::{Digest, Md5};
use sha2::Sha256;
use turnwell::relay::{FiveTuple, ListenerId, ReservationToken};
use turnwell::wire::integrity::verify_fingerprint;
use turnwell::wire::{
    Algorithm, Attribute, AttributeType, ChannelData, ChannelNumber, Class, IntegrityKey, Kind, Message, Method,
    TransactionId, Writer,
};

pub(crate) const REALM: &str = "example.org";

/// RFC 8489 §9.2.2, not through `credentials`: a second opinion.
pub(crate) fn long_term_key(username: &str, realm: &str, password: &str) -> IntegrityKey {
    IntegrityKey::new(&Md5::digest(format!("{username}:{realm}:{password}")))
}

/// One client on one five-tuple.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) at: FiveTuple,
    pub(crate) username: String,
    pub(crate) realm: String,
    pub(crate) key: IntegrityKey,
    pub(crate) nonce: Vec<u8>,
    pub(crate) algorithm: Algorithm,
    /// PASSWORD-ALGORITHMS and PASSWORD-ALGORITHM as they are sent; a client of RFC 5389 has neither.
    pub(crate) algorithms: Option<Vec<u8>>,
    pub(crate) chosen: Option<Vec<u8>>,
    /// USERHASH stands in place of USERNAME.
    pub(crate) is_anonymous: bool,
    pub(crate) transactions: u64,
}

impl Client {
    pub(crate) fn new(address: &str, username: &str, password: &str) -> Client {
        let client: SocketAddr = address.parse().unwrap();
        let listener = ListenerId(u16::from(client.is_ipv6()));
        Client {
            at: FiveTuple { client, listener, stream: None },
            username: username.into(),
            realm: REALM.into(),
            key: long_term_key(username, REALM, password),
            nonce: b"none yet".to_vec(),
            algorithm: Algorithm::Sha1,
            algorithms: None,
            chosen: None,
            is_anonymous: false,
            transactions: 0,
        }
    }

    /// Another identity on the same five-tuple, with the same nonce.
    pub(crate) fn as_user(&self, username: &str, password: &str) -> Client {
        let key = long_term_key(username, &self.realm, password);
        Client { username: username.into(), key, transactions: self.transactions + 1000, ..self.clone() }
    }

    pub(crate) fn next_id(&mut self) -> TransactionId {
        self.transactions += 1;
        let mut id = [0; 12];
        id[..2].copy_from_slice(&self.at.client.port().to_be_bytes());
        id[4..].copy_from_slice(&self.transactions.to_be_bytes());
        TransactionId(id)
    }

    /// A request as the RFC wants it: its attributes, then USERNAME, REALM, NONCE, then the integrity.
    pub(crate) fn sign(&mut self, method: Method, attributes: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, Class::Request, method, self.next_id());
        attributes(&mut writer);
        self.prove(&mut writer);
        writer.finish();
        bytes
    }

    /// The attributes that authenticate a request.
    pub(crate) fn prove(&self, writer: &mut Writer<'_>) {
        if self.is_anonymous {
            let hash = Sha256::digest(format!("{}:{}", self.username, self.realm));
            writer.attribute(AttributeType::USERHASH, &hash);
        } else {
            writer.attribute(AttributeType::USERNAME, self.username.as_bytes());
        }
        writer.attribute(AttributeType::REALM, self.realm.as_bytes()).attribute(AttributeType::NONCE, &self.nonce);
        let said =
            [(AttributeType::PASSWORD_ALGORITHMS, &self.algorithms), (AttributeType::PASSWORD_ALGORITHM, &self.chosen)];
        for (kind, value) in said {
            if let Some(value) = value {
                writer.attribute(kind, value);
            }
        }
        writer.integrity(&self.key, self.algorithm);
    }

    /// The same client as one of RFC 8489 that has read this list and chose SHA-256.
    pub(crate) fn modern(&self, password: &str, algorithms: &[u8]) -> Client {
        let key = Sha256::digest(format!("{}:{}:{password}", self.username, self.realm));
        Client {
            key: IntegrityKey::new(&key),
            algorithm: Algorithm::Sha256,
            algorithms: Some(algorithms.to_vec()),
            chosen: Some(vec![0, 2, 0, 0]),
            transactions: self.transactions + 1000,
            ..self.clone()
        }
    }

    /// A request without any credential.
    pub(crate) fn bare(&mut self, method: Method) -> Vec<u8> {
        let mut bytes = Vec::new();
        udp(&mut Writer::new(&mut bytes, Class::Request, method, self.next_id()));
        bytes
    }
}

/// REQUESTED-TRANSPORT for UDP, without which nothing is allocated.
pub(crate) fn udp(writer: &mut Writer<'_>) {
    writer.attribute(AttributeType::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
}

pub(crate) fn send_indication(peer: SocketAddr, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Writer::new(&mut bytes, Class::Indication, Method::SEND, TransactionId([5; 12]))
        .xor_address(AttributeType::XOR_PEER_ADDRESS, peer)
        .attribute(AttributeType::DATA, data);
    bytes
}

pub(crate) fn channel_data(number: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap();
    [&turnwell::wire::channel::header(ChannelNumber(number), length), data].concat()
}

/// A response, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) bytes: Vec<u8>,
}

impl Reply {
    pub(crate) fn message(&self) -> Message<'_> {
        Message::parse(&self.bytes).expect("what the engine writes parses")
    }

    pub(crate) fn id(&self) -> TransactionId {
        self.message().transaction_id()
    }

    pub(crate) fn attributes(&self) -> Vec<Attribute<'_>> {
        self.message().attributes().map(|attribute| attribute.expect("well formed")).collect()
    }

    pub(crate) fn kinds(&self) -> Vec<AttributeType> {
        self.attributes().iter().map(|attribute| attribute.kind).collect()
    }

    pub(crate) fn find(&self, kind: AttributeType) -> Option<Attribute<'_>> {
        self.attributes().into_iter().find(|attribute| attribute.kind == kind)
    }

    /// 200 for a success response.
    pub(crate) fn code(&self) -> u16 {
        match self.message().class() {
            Class::Success => 200,
            Class::Error => self.find(AttributeType::ERROR_CODE).unwrap().error_code().unwrap(),
            other => panic!("a reply of class {other:?}"),
        }
    }

    pub(crate) fn lifetime(&self) -> Option<u32> {
        self.find(AttributeType::LIFETIME).map(|attribute| attribute.u32().unwrap())
    }

    fn xor(&self, kind: AttributeType) -> Option<SocketAddr> {
        self.find(kind).map(|attribute| attribute.xor_address(self.id()).unwrap())
    }

    pub(crate) fn relayed(&self) -> SocketAddr {
        self.xor(AttributeType::XOR_RELAYED_ADDRESS).unwrap()
    }

    pub(crate) fn mapped(&self) -> SocketAddr {
        self.xor(AttributeType::XOR_MAPPED_ADDRESS).unwrap()
    }

    pub(crate) fn token(&self) -> Option<ReservationToken> {
        self.find(AttributeType::RESERVATION_TOKEN)
            .map(|attribute| ReservationToken(attribute.value.try_into().unwrap()))
    }

    pub(crate) fn bytes_of(&self, kind: AttributeType) -> Option<Vec<u8>> {
        self.find(kind).map(|attribute| attribute.value.to_vec())
    }

    pub(crate) fn unknown(&self) -> Vec<AttributeType> {
        let value = self.bytes_of(AttributeType::UNKNOWN_ATTRIBUTES).unwrap_or_default();
        value.chunks(2).map(|pair| AttributeType(u16::from_be_bytes(pair.try_into().unwrap()))).collect()
    }

    /// The algorithm of the signature, which must verify; `None` for an unsigned reply.
    pub(crate) fn signature(&self, key: &IntegrityKey) -> Option<Algorithm> {
        let sha1 = self.find(AttributeType::MESSAGE_INTEGRITY).map(|found| (found, Algorithm::Sha1));
        let sha256 = self.find(AttributeType::MESSAGE_INTEGRITY_SHA256).map(|found| (found, Algorithm::Sha256));
        assert!(sha1.is_none() || sha256.is_none(), "signed twice");
        let (attribute, algorithm) = sha1.or(sha256)?;
        assert!(key.verify(&self.bytes, &attribute), "signed with another key");
        Some(algorithm)
    }

    pub(crate) fn has_fingerprint(&self) -> bool {
        let found = self.find(AttributeType::FINGERPRINT);
        assert!(found.is_none_or(|attribute| verify_fingerprint(&self.bytes, &attribute)), "wrong FINGERPRINT");
        found.is_some()
    }
}

/// What a client reads from relayed bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Channel {
        number: u16,
        data: Vec<u8>,
    },
    Indication {
        peer: SocketAddr,
        data: Vec<u8>,
    },
    /// A Data indication with the value of ICMP.
    Icmp {
        peer: SocketAddr,
        value: [u8; 8],
    },
}

impl Received {
    pub(crate) fn read(bytes: &[u8]) -> Received {
        if Kind::of(bytes) == Kind::ChannelData {
            let message = ChannelData::parse(bytes).expect("well-formed ChannelData");
            assert_eq!(bytes.len(), 4 + message.data.len(), "ChannelData over UDP has no padding");
            return Received::Channel { number: message.channel.0, data: message.data.to_vec() };
        }
        let message = Message::parse(bytes).expect("a well-formed indication");
        assert_eq!((message.class(), message.method()), (Class::Indication, Method::DATA));
        let attributes: Vec<_> = message.attributes().map(Result::unwrap).collect();
        let [peer, data] = attributes.as_slice() else { panic!("a Data indication has two attributes") };
        assert_eq!(peer.kind, AttributeType::XOR_PEER_ADDRESS);
        if data.kind == AttributeType::ICMP {
            let peer = peer.xor_address(message.transaction_id()).unwrap();
            return Received::Icmp { peer, value: data.value.try_into().unwrap() };
        }
        assert_eq!(data.kind, AttributeType::DATA);
        let padding = &bytes[data.offset + 4 + data.value.len()..];
        assert!(padding.iter().all(|byte| *byte == 0));
        let peer = peer.xor_address(message.transaction_id()).unwrap();
        Received::Indication { peer, data: data.value.to_vec() }
    }
}
