//! One client's connection: what it has to say before it is a stream of messages (PROXY header, TLS), what it began to
//! send, and what waits to be written to it.

use std::io;

use super::census::Place;
use super::proxy::{self, Header};
use super::queue::{Queue, QueueLimits};
use super::raw::Raw;
use super::tls::{Handshake, Session, Tls};
use super::{Closing, StreamKind, Transport};
use crate::net::sys::TcpStream;
use crate::relay::{FiveTuple, Mono};

/// Read at a time before it is known what the connection is.
const GREETING: usize = 4096;
/// Sealed at a time, and written before more is.
const SEALED: usize = 64 * 1024;
/// What a partial message may keep when there is none.
const KEPT: usize = 4096;

/// An accepted connection.
#[derive(Debug)]
pub(in crate::net) struct Connection {
    pub(super) socket: TcpStream,
    /// The client's address is the one that a PROXY header names.
    pub(super) five_tuple: FiveTuple,
    kind: StreamKind,
    stage: Stage,
    session: Option<Session>,
    partial: Vec<u8>,
    pub(super) queue: Queue,
    place: Place,
    /// It is told of when it becomes writable.
    pub(super) watched: bool,
    /// It has something to write in this turn.
    pub(super) dirty: bool,
    began: Mono,
    /// When the last whole message came.
    heard: Option<Mono>,
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// A PROXY header.
    Header,
    /// The first of the client.
    Greeting,
    /// Messages, in plain text or sealed.
    Open,
}

/// What a flush left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    /// The kernel takes no more for now.
    Something,
}

impl Connection {
    pub(super) fn new(
        now: Mono,
        socket: TcpStream,
        five_tuple: FiveTuple,
        kind: StreamKind,
        place: Place,
        behind_proxy: bool,
    ) -> Connection {
        Connection {
            socket,
            five_tuple,
            kind,
            stage: if behind_proxy { Stage::Header } else { Stage::Greeting },
            session: None,
            partial: Vec::new(),
            queue: Queue::default(),
            place,
            watched: false,
            dirty: false,
            began: now,
            heard: None,
        }
    }

    /// When the connection began, or its last message came.
    pub(super) fn heard(&self) -> Result<Mono, Mono> {
        self.heard.ok_or(self.began)
    }

    /// What it was late with.
    pub(super) fn lateness(&self) -> Closing {
        match (self.stage, &self.session, self.heard) {
            (Stage::Header, _, _) => Closing::ProxyTimeout,
            (_, Some(session), _) if session.is_handshaking() => Closing::HandshakeTimeout,
            (_, _, None) => Closing::GreetingTimeout,
            (_, _, Some(_)) => Closing::Idle,
        }
    }

    /// Counts a connection whose client is known.
    pub(super) fn settle(&mut self) -> Result<(), Closing> {
        let counted = self.place.settle(self.five_tuple.client.ip());
        if counted { Ok(()) } else { Err(Closing::SourceFull) }
    }

    /// Reads once, and puts into `room` what was left of the last message with what follows it. Returns how many
    /// bytes those are; none when there is nothing new. `scratch` is for what is sealed.
    pub(super) fn receive(&mut self, scratch: &mut [u8], room: &mut [u8], tls: Option<&Tls>) -> Result<usize, Closing> {
        if self.stage != Stage::Open {
            return self.greet(scratch, room, tls);
        }
        let kept = self.partial.len();
        let Some((before, rest)) = room.split_at_mut_checked(kept) else { return Err(Closing::TooLong) };
        let length = match &mut self.session {
            None => read(&self.socket, rest.get_mut(..scratch.len()).unwrap_or_default())?,
            Some(session) => match read(&self.socket, scratch)? {
                None => None,
                Some(length) => Some(unseal(session, scratch.get(..length).unwrap_or_default(), rest)?),
            },
        };
        let Some(length) = length else { return Ok(0) };
        before.copy_from_slice(&self.partial);
        self.partial.clear();
        Ok(kept + length)
    }

    /// Keeps what is not to be taken yet, such as the beginning of a message.
    pub(in crate::net) fn keep(&mut self, partial: &[u8]) {
        if partial.is_empty() && self.partial.capacity() > KEPT {
            self.partial = Vec::new();
        }
        self.partial.extend_from_slice(partial);
    }

    /// Takes what was kept.
    pub(super) fn unread(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.partial)
    }

    /// What it is after a ConnectionBind, and what is still to be written to it.
    pub(in crate::net) fn into_raw(self) -> (Raw, Vec<u8>) {
        let queued = self.queue.bytes().to_vec();
        (Raw::new(self.socket, self.session, self.place), queued)
    }

    /// A whole message came.
    pub(super) fn hears(&mut self, now: Mono) {
        self.heard = Some(now);
    }

    /// Whether there is something of TLS's own to write, such as a handshake.
    pub(super) fn has_sealed(&self) -> bool {
        self.session.as_ref().is_some_and(|session| !session.sealed().is_empty())
    }

    /// What carries it.
    pub(super) fn transport(&self) -> Transport {
        if self.session.is_some() { Transport::Tls } else { Transport::Tcp }
    }

    /// Once, after a TLS handshake: how it went.
    pub(super) fn take_handshake(&mut self) -> Option<Handshake> {
        self.session.as_mut().and_then(Session::take_handshake)
    }

    /// Writes as much as the kernel takes.
    pub(super) fn flush(&mut self, now: Mono, limits: QueueLimits) -> Result<Left, Closing> {
        loop {
            if let Some(session) = &mut self.session
                && !session.sealed().is_empty()
            {
                let whole = session.sealed().len();
                let taken = write(&self.socket, session.sealed())?;
                session.written(taken);
                if taken < whole {
                    return Ok(Left::Something);
                }
            }
            self.queue.drop_late(now, limits);
            if self.queue.is_empty() {
                return Ok(Left::Nothing);
            }
            let bytes = self.queue.bytes();
            let taken = match &mut self.session {
                None => write(&self.socket, bytes)?,
                Some(session) => {
                    let chunk = bytes.get(..bytes.len().min(SEALED)).unwrap_or(bytes);
                    session.seal(chunk).map_err(|_| Closing::TlsFailed)?;
                    chunk.len()
                }
            };
            let whole = bytes.len();
            self.queue.written(taken);
            if self.session.is_none() && taken < whole {
                return Ok(Left::Something);
            }
        }
    }

    /// Says good-bye as far as that needs no waiting.
    pub(super) fn end(&mut self, now: Mono, limits: QueueLimits) {
        if self.flush(now, limits) == Ok(Left::Nothing)
            && let Some(session) = &mut self.session
        {
            session.end();
            let _ = write(&self.socket, session.sealed());
        }
    }

    /// The first bytes: whose connection it is, and whether it is sealed.
    fn greet(&mut self, scratch: &mut [u8], room: &mut [u8], tls: Option<&Tls>) -> Result<usize, Closing> {
        let scratch = scratch.get_mut(..GREETING).unwrap_or_default();
        let Some(length) = read(&self.socket, scratch)? else { return Ok(0) };
        self.partial.extend_from_slice(scratch.get(..length).unwrap_or_default());
        if self.stage == Stage::Header {
            match proxy::read(&self.partial) {
                Header::Partial => return Ok(0),
                Header::None => return Err(Closing::ProxyMissing),
                Header::Malformed => return Err(Closing::ProxyMalformed),
                Header::Whole { length, source } => {
                    self.partial.drain(..length);
                    self.five_tuple.client = source.unwrap_or(self.five_tuple.client);
                }
            }
            self.settle()?;
            self.stage = Stage::Greeting;
        } else if proxy::announced(&self.partial) {
            return Err(Closing::ProxyUntrusted);
        }
        let Some(first) = self.partial.first() else { return Ok(0) };
        if self.kind == StreamKind::Tls || (self.kind == StreamKind::Auto && *first == HANDSHAKE) {
            self.session = Some(tls.ok_or(Closing::TlsFailed)?.accept().map_err(|_| Closing::TlsFailed)?);
        }
        self.stage = Stage::Open;
        let raw = std::mem::take(&mut self.partial);
        match &mut self.session {
            Some(session) => unseal(session, &raw, room),
            None => {
                room.get_mut(..raw.len()).ok_or(Closing::TooLong)?.copy_from_slice(&raw);
                Ok(raw.len())
            }
        }
    }
}

/// The first byte of every TLS connection: a handshake record (RFC 8446 §5.1). No STUN message or ChannelData begins
/// with it: methods go up to 0xfff, so a first byte of 0x16 would be a method that nobody has.
const HANDSHAKE: u8 = 0x16;

fn unseal(session: &mut Session, raw: &[u8], room: &mut [u8]) -> Result<usize, Closing> {
    let failed = if session.is_handshaking() { Closing::HandshakeFailed } else { Closing::TlsFailed };
    let opened = session.open(raw, room).map_err(|_| failed)?;
    if opened.ended && opened.length == 0 { Err(Closing::ByClient) } else { Ok(opened.length) }
}

/// `None` when nothing has arrived.
fn read(socket: &TcpStream, buffer: &mut [u8]) -> Result<Option<usize>, Closing> {
    match socket.read(buffer) {
        Ok(0) => Err(Closing::ByClient),
        Ok(length) => Ok(Some(length)),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
            _ => Err(Closing::Broken),
        },
    }
}

/// How many bytes the kernel took; none when it takes none now.
fn write(socket: &TcpStream, bytes: &[u8]) -> Result<usize, Closing> {
    match socket.write(bytes) {
        Ok(length) => Ok(length),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(0),
            _ => Err(Closing::Broken),
        },
    }
}
