//! What may happen to engine and model alike: operations, and the clients, peers and proofs that they name.

use turnwell::relay::IcmpError;
use turnwell::wire::Algorithm;

use crate::client::Client;
use crate::naive::{Even, LISTENER, Rules};

pub(crate) const CLIENTS: usize = 4;

/// Peers that may be reached, `naive::DENIABLE` as long as it is not denied.
pub(crate) const PEERS: [&str; 4] = ["9.9.9.9:1", "9.9.9.9:2", "8.8.8.8:1", "1.1.1.1:1"];

/// Peers that may not be reached, are of the other family, or are our own.
pub(crate) const ODD_PEERS: [&str; 5] = ["10.0.0.1:1", "[2a00::9]:1", "[fe80::1]:1", "198.51.100.7:80", LISTENER];

/// Lifetimes at and around every bound.
pub(crate) const LIFETIMES: [u32; 7] = [0, 1, 600, 601, 900, 3600, u32::MAX];

/// What the engine offers: SHA-256, then MD5.
const OFFERED: [u8; 8] = [0, 2, 0, 0, 0, 1, 0, 0];

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// A client of RFC 5389: USERNAME, an MD5 key, MESSAGE-INTEGRITY.
    Old,
    /// USERHASH in place of USERNAME.
    OldHash,
    /// A SHA-256 key, and MESSAGE-INTEGRITY all the same.
    Sha1,
    /// A SHA-256 key and MESSAGE-INTEGRITY-SHA256.
    Sha256,
    /// The same with USERHASH.
    Sha256Hash,
    /// A wrong password.
    Wrong,
}

pub(crate) const PROOFS: [Proof; 6] =
    [Proof::Old, Proof::OldHash, Proof::Sha1, Proof::Sha256, Proof::Sha256Hash, Proof::Wrong];

impl Proof {
    pub(crate) fn of(self, client: &Client) -> Client {
        let modern = |algorithm, is_anonymous| Client { algorithm, is_anonymous, ..client.modern("pw", &OFFERED) };
        match self {
            Proof::Old => client.clone(),
            Proof::OldHash => Client { is_anonymous: true, ..client.clone() },
            Proof::Sha1 => modern(Algorithm::Sha1, false),
            Proof::Sha256 => modern(Algorithm::Sha256, false),
            Proof::Sha256Hash => modern(Algorithm::Sha256, true),
            Proof::Wrong => client.modern("wrong", &OFFERED),
        }
    }
}

/// A peer as the operations name it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peer {
    Fixed(&'static str),
    /// The relayed address of a client, or of nobody when it has none.
    Relayed(usize),
}

/// What may happen. `bob` is the other user of the same five-tuple.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Advance {
        milliseconds: u64,
    },
    Allocate {
        client: usize,
        bob: bool,
        tcp: bool,
        lifetime: Option<u32>,
        even: Even,
        family: Option<u8>,
        token: Option<usize>,
    },
    Retransmit {
        client: usize,
    },
    Refresh {
        client: usize,
        bob: bool,
        lifetime: Option<u32>,
    },
    Permit {
        client: usize,
        bob: bool,
        peers: Vec<Peer>,
    },
    Bind {
        client: usize,
        bob: bool,
        number: u16,
        peer: Peer,
    },
    Send {
        client: usize,
        peer: Peer,
        length: usize,
    },
    ChannelData {
        client: usize,
        number: u16,
        length: usize,
    },
    FromPeer {
        client: usize,
        peer: Peer,
        length: usize,
    },
    /// Bytes from where a client is, which nobody signed.
    Noise {
        client: usize,
        bytes: Vec<u8>,
    },
    Close {
        client: usize,
    },
    SetDenies {
        denies: bool,
    },
    SetRules {
        rules: Rules,
    },
    /// From now on the client proves itself like this.
    Prove {
        client: usize,
        proof: Proof,
    },
    /// An ICMP error about what a client's relay socket sent.
    Icmp {
        client: usize,
        peer: Peer,
        error: IcmpError,
    },
    /// So many Binding requests at once, while replies have a budget.
    Flood {
        client: usize,
        count: usize,
    },
    Connect {
        client: usize,
        bob: bool,
        peer: Peer,
    },
    /// The host has connected. Connections are counted from the last one back.
    Connected {
        connection: usize,
    },
    Lost {
        connection: usize,
    },
    /// A peer has connected to a client's relayed address.
    Accepted {
        client: usize,
        peer: Peer,
    },
    /// ConnectionBind on the client's five-tuple, or on a new stream of its own.
    BindConnection {
        client: usize,
        bob: bool,
        is_new: bool,
        connection: usize,
    },
    Copied {
        connection: usize,
        bytes: [usize; 2],
    },
}
