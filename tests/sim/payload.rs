//! What is relayed: it says who sent it, whom it is for, at which address, and when.

use std::net::SocketAddr;

use crate::network::Time;

/// An end of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Party {
    Caller(usize),
    Peer(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Payload {
    pub(crate) from: Party,
    pub(crate) to: Party,
    /// Where it was sent: a relayed address for a caller, its own for a peer.
    pub(crate) address: SocketAddr,
    pub(crate) sent: Time,
}

impl Payload {
    /// Readable bytes, so that a trace is; with a tail that makes them of any length.
    pub(crate) fn encode(&self, tail: usize) -> Vec<u8> {
        let name = |party| match party {
            Party::Caller(at) => format!("caller {at}"),
            Party::Peer(at) => format!("peer {at}"),
        };
        let Payload { from, to, address, sent } = *self;
        format!("{}|{}|{address}|{sent}|{}", name(from), name(to), ".".repeat(tail)).into_bytes()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Payload {
        let text = std::str::from_utf8(bytes).expect("data arrives as it was sent");
        let mut fields = text.split('|');
        let mut field = || fields.next().expect("data arrives whole");
        let party = |text: &str| {
            let (kind, at) = text.split_once(' ').unwrap();
            let at = at.parse().unwrap();
            if kind == "caller" { Party::Caller(at) } else { Party::Peer(at) }
        };
        let (from, to) = (party(field()), party(field()));
        Payload { from, to, address: field().parse().unwrap(), sent: field().parse().unwrap() }
    }
}
