//! A client's connection after its ConnectionBind: no messages any more, but bytes, in plain text or sealed, whose two
//! halves end apart (RFC 6062 §5.4).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::READ;
use super::census::Place;
use super::tls::Session;
use crate::net::sys::TcpStream;

/// Room for everything that one read can become: what is read, and what TLS still held.
pub(in crate::net) const RAW_ROOM: usize = 2 * READ;

/// The connection.
#[derive(Debug)]
pub(in crate::net) struct Raw {
    socket: TcpStream,
    session: Option<Session>,
    /// TLS has said that nothing follows.
    has_ended: bool,
    _place: Place,
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::net) struct Got {
    /// Bytes at the beginning of the room.
    pub(in crate::net) length: usize,
    /// Nothing follows.
    pub(in crate::net) ended: bool,
}

impl Raw {
    pub(super) fn new(socket: TcpStream, session: Option<Session>, place: Place) -> Raw {
        Raw { socket, session, has_ended: false, _place: place }
    }

    /// Reads once; `None` when nothing has arrived. `room` has [`RAW_ROOM`] bytes, `scratch` is for what is sealed.
    pub(in crate::net) fn read(&mut self, scratch: &mut [u8], room: &mut [u8]) -> io::Result<Option<Got>> {
        let Some(session) = &mut self.session else {
            let length = quiet(self.socket.read(room.get_mut(..READ).unwrap_or_default()))?;
            return Ok(length.map(|length| Got { length, ended: length == 0 }));
        };
        let Some(length) = quiet(self.socket.read(scratch))? else { return Ok(None) };
        if length == 0 {
            return Ok(Some(Got { length, ended: true }));
        }
        let opened = session.open(scratch.get(..length).unwrap_or_default(), room).map_err(io::Error::other)?;
        Ok(Some(Got { length: opened.length, ended: opened.ended }))
    }

    /// Takes bytes to write and returns how many; what TLS has taken may still have to be flushed.
    pub(in crate::net) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.flush()? {
            return Ok(0);
        }
        let Some(session) = &mut self.session else {
            return Ok(quiet(self.socket.write(bytes))?.unwrap_or(0));
        };
        session.seal(bytes)?;
        self.flush()?;
        Ok(bytes.len())
    }

    /// Writes what TLS has sealed. `false` when the kernel takes no more for now.
    pub(in crate::net) fn flush(&mut self) -> io::Result<bool> {
        let Some(session) = &mut self.session else { return Ok(true) };
        while !session.sealed().is_empty() {
            match quiet(self.socket.write(session.sealed()))? {
                Some(taken) => session.written(taken),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Whether something sealed waits to be written.
    pub(in crate::net) fn wants_write(&self) -> bool {
        self.session.as_ref().is_some_and(|session| !session.sealed().is_empty())
    }

    /// Says that nothing follows; the client may go on sending. `false` when that has to wait.
    pub(in crate::net) fn end(&mut self) -> io::Result<bool> {
        if let Some(session) = self.session.as_mut().filter(|_| !self.has_ended) {
            session.end();
        }
        self.has_ended = true;
        let flushed = self.flush()?;
        if flushed {
            self.socket.shutdown_write()?;
        }
        Ok(flushed)
    }

    /// Closing now tells the client that something broke.
    pub(in crate::net) fn abort_on_close(&self) {
        self.socket.abort_on_close();
    }
}

impl AsFd for Raw {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// `None` when the call would have had to wait.
pub(in crate::net) fn quiet(outcome: io::Result<usize>) -> io::Result<Option<usize>> {
    match outcome {
        Ok(length) => Ok(Some(length)),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
            _ => Err(error),
        },
    }
}
