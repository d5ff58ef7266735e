//! Operations on the engine and on the naive model, read from bytes: `tests/engine/pair.rs` does and compares them.
//!
//! The first byte of an operation says which it is, by its low five bits; the numbers keep their meaning, a new
//! operation takes the next one. Of a client there are two bits more, and one for its second user.

use turnwell::relay::IcmpError;

use crate::naive::{Even, Rules};
use crate::operation::{CLIENTS, LIFETIMES, ODD_PEERS, Op, PEERS, PROOFS, Peer};
use crate::pair;

pub(crate) fn run(input: &[u8]) {
    let Some((first, rest)) = input.split_first() else { return };
    let mut bytes = Bytes(rest);
    let ops = std::iter::from_fn(|| bytes.op());
    pair::run(first & 1 == 0, ops);
}

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn many(&mut self, length: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken.to_vec()
    }

    /// The next operation; `None` at the end.
    fn op(&mut self) -> Option<Op> {
        let first = self.byte()?;
        let (client, bob) = (usize::from(first >> 5) % CLIENTS, first & 0x80 != 0);
        Some(match first & 0x1f {
            0 => Op::Advance { milliseconds: 40 * u64::from(self.byte()?) },
            1 => Op::Advance { milliseconds: 10_000 * u64::from(self.byte()?) },
            2 => self.allocate(client, bob, false)?,
            3 => Op::Retransmit { client },
            4 => Op::Refresh { client, bob, lifetime: self.lifetime()? },
            5 => {
                let count = self.byte()? % 4;
                Op::Permit { client, bob, peers: (0..count).map(|_| self.peer()).collect::<Option<_>>()? }
            }
            6 => Op::Bind { client, bob, number: self.number()?, peer: self.peer()? },
            7 => Op::Send { client, peer: self.peer()?, length: self.length()? },
            // Below 0x4000 it would not be ChannelData.
            8 => Op::ChannelData { client, number: self.number()?.max(0x4000), length: self.length()? },
            9 => Op::FromPeer { client, peer: self.peer()?, length: self.length()? },
            10 => Op::Close { client },
            11 => Op::SetDenies { denies: bob },
            12 => {
                let length = usize::from(self.byte()?);
                Op::Noise { client, bytes: self.many(length) }
            }
            13 => self.message(client)?,
            14 => Op::Prove { client, proof: PROOFS[usize::from(self.byte()?) % PROOFS.len()] },
            15 => self.allocate(client, bob, true)?,
            16 => Op::Connect { client, bob, peer: self.peer()? },
            17 => Op::Connected { connection: self.length()? },
            18 => Op::Lost { connection: self.length()? },
            19 => Op::Accepted { client, peer: self.peer()? },
            20 => {
                let byte = self.byte()?;
                Op::BindConnection { client, bob, is_new: byte & 1 == 0, connection: usize::from(byte >> 1) }
            }
            21 => Op::Copied { connection: self.length()?, bytes: [self.length()?, self.length()?] },
            22 => {
                let (peer, kind, code, mtu) = (self.peer()?, self.byte()?, self.byte()?, self.byte()?);
                Op::Icmp { client, peer, error: IcmpError { kind, code, mtu: 64 * u32::from(mtu) } }
            }
            23 => {
                let byte = self.byte()?;
                let rules = Rules { denies: byte & 1 != 0, no_tcp: byte & 2 != 0, limits: byte & 4 != 0 };
                Op::SetRules { rules }
            }
            24 => Op::Flood { client, count: self.length()? % 64 },
            _ => Op::Advance { milliseconds: 0 },
        })
    }

    fn allocate(&mut self, client: usize, bob: bool, tcp: bool) -> Option<Op> {
        let how = self.byte()?;
        let lifetime = self.lifetime()?;
        let even = [Even::No, Even::Alone, Even::Pair, Even::No][usize::from(how & 3)];
        let family = Some((how >> 2) & 3).filter(|family| *family != 0);
        let token = if how & 0x10 == 0 { None } else { Some(usize::from(how >> 5)) };
        Some(Op::Allocate { client, bob, tcp, lifetime, even, family, token })
    }

    /// Noise whose header is right: type and body of a STUN message.
    fn message(&mut self, client: usize) -> Option<Op> {
        let kind = [self.byte()? & 0x3f, self.byte()?];
        let length = self.byte()? & !3;
        let body = self.many(usize::from(length));
        let body = &body[..body.len() & !3];
        let length = u16::try_from(body.len()).ok()?.to_be_bytes();
        let bytes = [&kind, &length[..], &[0x21, 0x12, 0xa4, 0x42], &[9; 12], body].concat();
        Some(Op::Noise { client, bytes })
    }

    fn lifetime(&mut self) -> Option<Option<u32>> {
        let byte = self.byte()?;
        Some(LIFETIMES.get(usize::from(byte)).copied())
    }

    fn number(&mut self) -> Option<u16> {
        let byte = self.byte()?;
        Some(match byte {
            0xff => 0x3fff,
            0xfe => 0x4fff,
            0xfd => 0x5000,
            _ => 0x4000 + u16::from(byte % 4),
        })
    }

    fn peer(&mut self) -> Option<Peer> {
        let byte = usize::from(self.byte()?);
        let fixed = PEERS.iter().chain(&ODD_PEERS).nth(byte % 16);
        Some(fixed.map_or(Peer::Relayed(byte % CLIENTS), |peer| Peer::Fixed(peer)))
    }

    fn length(&mut self) -> Option<usize> {
        self.byte().map(usize::from)
    }
}
