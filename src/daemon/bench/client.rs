//! One TURN client: its requests, what their answers mean, and the frames it sends (RFC 8656 §7, §9–§12).

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;

use super::account::Account;
use super::link::Link;
use crate::wire::{
    Algorithm, AttributeType, ChannelNumber, Class, IntegrityKey, Message, Method, TransactionId, Writer, channel,
};

/// A client with its way to the server and what the server told it.
pub(super) struct Client {
    pub(super) link: Link,
    pub(super) account: Rc<Account>,
    challenge: Option<Challenge>,
    /// XOR-RELAYED-ADDRESS, once there is an allocation.
    pub(super) relayed: Option<SocketAddr>,
    /// The address its packets go to.
    pub(super) peer: Option<SocketAddr>,
    /// Whether its socket is watched; a new one is not.
    pub(super) watched: bool,
}

struct Challenge {
    realm: Vec<u8>,
    nonce: Vec<u8>,
    key: IntegrityKey,
}

/// Something to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Binding,
    Allocate,
    Permission(SocketAddr),
    Channel(SocketAddr),
    /// Ends the allocation.
    Release,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Binding => "Binding",
            Step::Allocate => "Allocate",
            Step::Permission(_) => "CreatePermission",
            Step::Channel(_) => "ChannelBind",
            Step::Release => "Refresh",
        })
    }
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is done.
    Success,
    /// Ask again: there is a new challenge.
    Challenged,
    /// An error response.
    Refused(u16),
}

/// Every client has one peer, so that one channel does.
pub(super) const CHANNEL: ChannelNumber = ChannelNumber(0x4000);
/// REQUESTED-TRANSPORT: UDP, and three reserved bytes (RFC 8656 §18.7).
const RELAY_UDP: u32 = 17 << 24;

impl Client {
    pub(super) fn new(link: Link, account: Rc<Account>) -> Client {
        Client { link, account, challenge: None, relayed: None, peer: None, watched: false }
    }

    /// The same user towards the same peer, as a client that the server has not seen yet.
    pub(super) fn renewed(&self, link: Link) -> Client {
        Client { peer: self.peer, ..Client::new(link, Rc::clone(&self.account)) }
    }

    /// The request's bytes, signed as soon as there is a challenge.
    pub(super) fn request(&self, step: Step, id: TransactionId, out: &mut Vec<u8>) {
        out.clear();
        let method = match step {
            Step::Binding => Method::BINDING,
            Step::Allocate => Method::ALLOCATE,
            Step::Permission(_) => Method::CREATE_PERMISSION,
            Step::Channel(_) => Method::CHANNEL_BIND,
            Step::Release => Method::REFRESH,
        };
        let mut writer = Writer::new(out, Class::Request, method, id);
        match step {
            Step::Binding => {}
            Step::Allocate => {
                writer.u32(AttributeType::REQUESTED_TRANSPORT, RELAY_UDP);
            }
            Step::Permission(peer) => {
                writer.xor_address(AttributeType::XOR_PEER_ADDRESS, peer);
            }
            Step::Channel(peer) => {
                writer.u32(AttributeType::CHANNEL_NUMBER, u32::from(CHANNEL.0) << 16);
                writer.xor_address(AttributeType::XOR_PEER_ADDRESS, peer);
            }
            Step::Release => {
                writer.u32(AttributeType::LIFETIME, 0);
            }
        }
        if let Some(challenge) = &self.challenge {
            writer.attribute(AttributeType::USERNAME, self.account.username.as_bytes());
            writer.attribute(AttributeType::REALM, &challenge.realm);
            writer.attribute(AttributeType::NONCE, &challenge.nonce);
            writer.integrity(&challenge.key, Algorithm::Sha1);
        }
        writer.finish();
    }

    /// Takes what a response says. 401 is a challenge only to a request that was not signed (RFC 8489 §9.2.5).
    pub(super) fn answered(&mut self, message: &Message<'_>) -> Answer {
        let value = |kind| message.attributes().flatten().find(|attribute| attribute.kind == kind);
        if message.class() == Class::Success {
            if message.method() == Method::ALLOCATE {
                self.relayed = value(AttributeType::XOR_RELAYED_ADDRESS)
                    .and_then(|attribute| attribute.xor_address(message.transaction_id()).ok());
            }
            return Answer::Success;
        }
        let code = value(AttributeType::ERROR_CODE).and_then(|attribute| attribute.error_code().ok()).unwrap_or(0);
        let may_retry = code == 438 || (code == 401 && self.challenge.is_none());
        match (value(AttributeType::REALM), value(AttributeType::NONCE)) {
            (Some(realm), Some(nonce)) if may_retry => {
                let key = self.account.key(&String::from_utf8_lossy(realm.value));
                self.challenge = Some(Challenge { realm: realm.value.to_vec(), nonce: nonce.value.to_vec(), key });
                Answer::Challenged
            }
            _ => Answer::Refused(code),
        }
    }
}

/// A packet to `peer`: ChannelData, or a Send indication (RFC 8656 §11.1, §12.5).
pub(super) fn frame_to_peer(peer: SocketAddr, indication: bool, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    if indication {
        let mut writer = Writer::new(&mut out, Class::Indication, Method::SEND, TransactionId(*b"turnwellload"));
        writer.xor_address(AttributeType::XOR_PEER_ADDRESS, peer);
        writer.attribute(AttributeType::DATA, payload);
        writer.finish();
    } else {
        out.extend_from_slice(&channel::header(CHANNEL, u16::try_from(payload.len()).unwrap_or(u16::MAX)));
        out.extend_from_slice(payload);
    }
    out
}

/// What a client received: the payload that a peer sent.
pub(super) fn payload_from_server(frame: &[u8]) -> Option<&[u8]> {
    if let Some(data) = channel::ChannelData::parse(frame).filter(|data| data.channel == CHANNEL) {
        return Some(data.data);
    }
    let message = Message::parse(frame).ok()?;
    if (message.class(), message.method()) != (Class::Indication, Method::DATA) {
        return None;
    }
    message.attributes().flatten().find(|attribute| attribute.kind == AttributeType::DATA).map(|data| data.value)
}

#[cfg(test)]
mod tests {
    use super::super::args::Transport;
    use super::*;
    use crate::wire::ErrorCode;

    const ID: TransactionId = TransactionId([7; 12]);

    fn client() -> Client {
        let link = Link::open(Transport::Udp, "127.0.0.1:9".parse().unwrap(), None).unwrap();
        Client::new(link, Rc::new(Account::new("u".to_owned(), "p".to_owned())))
    }

    fn challenge(code: ErrorCode, nonce: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Writer::error(&mut out, Method::ALLOCATE, ID, code)
            .attribute(AttributeType::REALM, b"r")
            .attribute(AttributeType::NONCE, nonce)
            .finish();
        out
    }

    fn kinds(client: &Client, step: Step) -> Vec<AttributeType> {
        let mut out = Vec::new();
        client.request(step, ID, &mut out);
        Message::parse(&out).unwrap().attributes().map(|attribute| attribute.unwrap().kind).collect()
    }

    #[test]
    fn a_challenge_signs_what_follows() {
        let mut client = client();
        assert_eq!(kinds(&client, Step::Allocate), [AttributeType::REQUESTED_TRANSPORT]);
        let first = challenge(ErrorCode::Unauthenticated, b"one");
        assert_eq!(client.answered(&Message::parse(&first).unwrap()), Answer::Challenged);
        let signed = [
            AttributeType::LIFETIME,
            AttributeType::USERNAME,
            AttributeType::REALM,
            AttributeType::NONCE,
            AttributeType::MESSAGE_INTEGRITY,
        ];
        assert_eq!(kinds(&client, Step::Release), signed);
        assert_eq!(client.answered(&Message::parse(&first).unwrap()), Answer::Refused(401));
        let stale = challenge(ErrorCode::StaleNonce, b"two");
        assert_eq!(client.answered(&Message::parse(&stale).unwrap()), Answer::Challenged);
        assert_eq!(client.challenge.as_ref().unwrap().nonce, b"two");
    }

    #[test]
    fn success_brings_the_relayed_address() {
        let mut client = client();
        let mut out = Vec::new();
        let relayed = "192.0.2.7:50000".parse().unwrap();
        Writer::success(&mut out, Method::ALLOCATE, ID)
            .xor_address(AttributeType::XOR_RELAYED_ADDRESS, relayed)
            .finish();
        assert_eq!(client.answered(&Message::parse(&out).unwrap()), Answer::Success);
        assert_eq!(client.relayed, Some(relayed));
    }

    #[test]
    fn frames_carry_the_payload() {
        let peer = "192.0.2.1:9".parse().unwrap();
        let frame = frame_to_peer(peer, false, b"hello");
        assert_eq!(payload_from_server(&frame), Some(&b"hello"[..]));
        let frame = frame_to_peer(peer, true, b"hello");
        let message = Message::parse(&frame).unwrap();
        assert_eq!((message.class(), message.method()), (Class::Indication, Method::SEND));
        assert_eq!(frame.len(), 20 + 12 + 4 + 8);
        assert_eq!(payload_from_server(&frame), None);
        let mut data = Vec::new();
        Writer::new(&mut data, Class::Indication, Method::DATA, ID)
            .xor_address(AttributeType::XOR_PEER_ADDRESS, peer)
            .attribute(AttributeType::DATA, b"hello")
            .finish();
        assert_eq!(payload_from_server(&data), Some(&b"hello"[..]));
    }
}
