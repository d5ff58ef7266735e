//! Two connections as one: what comes from the client goes to the peer, and the other way round, as it stands.
//!
//! A way holds at most what one read brought. While that waits for its receiver nothing more is read, so the sender's
//! own window closes: backpressure from one end to the other. Either half may end while the other goes on.

use std::io;

use crate::net::stream::{RAW_ROOM, Raw, quiet};
use crate::net::sys::{Epoll, Interest, TcpStream};

/// Reads of one way before others have their turn.
const READS: usize = 4;
/// Bytes read at a time.
const READ: usize = 64 * 1024;

/// A client's connection with the peer's that it is bound to.
#[derive(Debug)]
pub(super) struct Pipe {
    client: Raw,
    peer: TcpStream,
    up: Way,
    down: Way,
    client_watch: Interest,
    peer_watch: Interest,
    /// It is in the queue of those that wait to be allowed more.
    pub(super) queued: bool,
}

/// One direction.
#[derive(Debug, Default)]
struct Way {
    waiting: Vec<u8>,
    /// What stands before is written.
    start: usize,
    /// The sender has ended its half.
    ended: bool,
    /// The receiver knows.
    told: bool,
    /// Nothing is read for now: more than may be relayed came.
    held: bool,
}

/// Bytes that were moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) to_peer: u64,
    pub(super) to_client: u64,
}

/// What all pipes of a worker read into.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    sealed: Vec<u8>,
    room: Vec<u8>,
}

impl Scratch {
    /// Nothing is held before the first pipe.
    fn ready(&mut self) {
        self.sealed.resize(READ, 0);
        self.room.resize(RAW_ROOM, 0);
    }
}

impl Pipe {
    /// `to_client` and `to_peer` are to be written first.
    pub(super) fn new(client: Raw, peer: TcpStream, to_client: Vec<u8>, to_peer: Vec<u8>) -> Pipe {
        Pipe {
            client,
            peer,
            up: Way { waiting: to_peer, ..Way::default() },
            down: Way { waiting: to_client, ..Way::default() },
            client_watch: Interest::NONE,
            peer_watch: Interest::NONE,
            queued: false,
        }
    }

    /// Moves what can be moved now; `allowed` says whether more may be read of the client, and of the peer.
    pub(super) fn pump(&mut self, scratch: &mut Scratch, allowed: [bool; 2]) -> io::Result<Moved> {
        scratch.ready();
        [self.up.held, self.down.held] = allowed.map(|allowed| !allowed);
        Ok(Moved { to_peer: self.pump_up(scratch)?, to_client: self.pump_down(scratch)? })
    }

    /// Whether something is not read because it may not be relayed yet.
    pub(super) fn is_held(&self) -> bool {
        (self.up.held && !self.up.ended) || (self.down.held && !self.down.ended)
    }

    /// Both halves have ended.
    pub(super) fn is_over(&self) -> bool {
        self.up.told && self.down.told
    }

    /// Has itself told of what can be done next. Whoever cannot be read from or written to now is not watched: the
    /// kernel reports the end of both halves whatever one asks for.
    pub(super) fn watch(&mut self, epoll: &Epoll, client_token: u64, peer_token: u64) -> io::Result<()> {
        let up_free = self.up.is_empty();
        let down_free = self.down.is_empty() && !self.client.wants_write();
        let client = interest(up_free && !self.up.ended && !self.up.held, !down_free);
        let peer = interest(down_free && !self.down.ended && !self.down.held, !up_free);
        set_watch(epoll, &self.client, client_token, &mut self.client_watch, client)?;
        set_watch(epoll, &self.peer, peer_token, &mut self.peer_watch, peer)
    }

    /// Something broke: both sides are told when this is dropped.
    pub(super) fn abort_on_close(&self) {
        self.client.abort_on_close();
        self.peer.abort_on_close();
    }

    fn pump_up(&mut self, scratch: &mut Scratch) -> io::Result<u64> {
        let Pipe { client, peer, up, .. } = self;
        let (mut moved, mut reads) = (0, 0);
        while up.flush(|bytes| write(peer, bytes))? {
            if up.ended {
                if !up.told {
                    peer.shutdown_write()?;
                    up.told = true;
                }
                break;
            }
            if reads == READS || up.held {
                break;
            }
            reads += 1;
            let Some(got) = client.read(&mut scratch.sealed, &mut scratch.room)? else { break };
            moved += got.length as u64;
            up.ended = got.ended;
            up.push(scratch.room.get(..got.length).unwrap_or_default(), |bytes| write(peer, bytes))?;
        }
        Ok(moved)
    }

    fn pump_down(&mut self, scratch: &mut Scratch) -> io::Result<u64> {
        let Pipe { client, peer, down, .. } = self;
        let (mut moved, mut reads) = (0, 0);
        while down.flush(|bytes| client.write(bytes))? && client.flush()? {
            if down.ended {
                down.told = down.told || client.end()?;
                break;
            }
            if reads == READS || down.held {
                break;
            }
            reads += 1;
            let room = scratch.room.get_mut(..READ).unwrap_or_default();
            let Some(length) = quiet(peer.read(room))? else { break };
            moved += length as u64;
            down.ended = length == 0;
            down.push(scratch.room.get(..length).unwrap_or_default(), |bytes| client.write(bytes))?;
        }
        Ok(moved)
    }
}

impl Way {
    fn is_empty(&self) -> bool {
        self.start == self.waiting.len()
    }

    /// Writes what waits. `false` when some of it still does.
    fn flush(&mut self, mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<bool> {
        while let Some(rest) = self.waiting.get(self.start..).filter(|rest| !rest.is_empty()) {
            match write(rest)? {
                0 => return Ok(false),
                taken => self.start += taken,
            }
        }
        self.start = 0;
        self.waiting = Vec::new();
        Ok(true)
    }

    /// Writes what can be written and keeps the rest; nothing waits yet.
    fn push(&mut self, mut bytes: &[u8], mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<()> {
        while !bytes.is_empty() {
            match write(bytes)? {
                0 => break,
                taken => bytes = bytes.get(taken..).unwrap_or_default(),
            }
        }
        self.waiting.extend_from_slice(bytes);
        Ok(())
    }
}

fn write(socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    Ok(quiet(socket.write(bytes))?.unwrap_or(0))
}

fn interest(read: bool, write: bool) -> Interest {
    match (read, write) {
        (false, false) => Interest::NONE,
        (true, false) => Interest::READ,
        (false, true) => Interest::WRITE,
        (true, true) => Interest::BOTH,
    }
}

fn set_watch(
    epoll: &Epoll,
    fd: impl std::os::fd::AsFd,
    token: u64,
    now: &mut Interest,
    next: Interest,
) -> io::Result<()> {
    match (*now == Interest::NONE, next == Interest::NONE) {
        (true, true) => {}
        (true, false) => epoll.add(fd, token, next)?,
        (false, true) => epoll.remove(fd)?,
        (false, false) if *now != next => epoll.modify(fd, token, next)?,
        (false, false) => {}
    }
    *now = next;
    Ok(())
}
