//! A client's connection over TCP or TLS: frames become bytes and back (RFC 8656 §12.5).

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use super::link::Run;
use super::seal::Seal;
use crate::net::sys::{Epoll, Events, Interest, TcpOptions, TcpStream, connect_tcp};
use crate::wire::{Frame, frame, padding};

/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection with what it has begun to send and to receive.
#[derive(Debug)]
pub(super) struct Stream {
    socket: TcpStream,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Accepted by [`Stream::send`], not yet by the kernel.
    unsent: Vec<u8>,
    /// The same before it is sealed.
    plain: Vec<u8>,
    seal: Option<Seal>,
    /// The beginning of a frame.
    partial: Vec<u8>,
}

impl Stream {
    /// Connects, shakes hands if it is for TLS, and waits until that is done.
    pub(super) fn open(server: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> io::Result<Stream> {
        let any = match server {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let socket = connect_tcp(SocketAddr::new(any, 0), server, TcpOptions::default())?;
        let epoll = Epoll::new()?;
        epoll.add(&socket, 0, Interest::WRITE)?;
        if epoll.wait(&mut Events::with_capacity(1), Some(PATIENCE))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        let seal = tls.map(|tls| Seal::new(tls, server)).transpose()?;
        let stream = Stream { socket, state: RefCell::new(State { seal, ..State::default() }) };
        stream.shake_hands(&epoll)?;
        Ok(stream)
    }

    fn shake_hands(&self, epoll: &Epoll) -> io::Result<()> {
        let State { unsent, seal: Some(seal), .. } = &mut *self.state.borrow_mut() else { return Ok(()) };
        epoll.modify(&self.socket, 0, Interest::READ)?;
        loop {
            seal.seal(&[], unsent)?;
            // A handshake fits into the buffer of a new socket.
            self.flush(unsent)?;
            if !seal.is_handshaking() {
                return Ok(());
            }
            if epoll.wait(&mut Events::with_capacity(1), Some(PATIENCE))? == 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
            seal.read(&self.socket, &mut [])?;
        }
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Sends a frame `copies` times, padded. What was begun is finished first; while that cannot be, none is taken.
    pub(super) fn send(&self, frame: &[u8], copies: usize) -> io::Result<usize> {
        let State { unsent, plain, seal, .. } = &mut *self.state.borrow_mut();
        self.flush(unsent)?;
        if !unsent.is_empty() {
            return Ok(0);
        }
        let frames = if seal.is_some() { &mut *plain } else { &mut *unsent };
        for _ in 0..copies {
            frames.extend_from_slice(frame);
            frames.resize(frames.len() + padding(frame.len()), 0);
        }
        if let Some(seal) = seal {
            seal.seal(plain, unsent)?;
            plain.clear();
        }
        self.flush(unsent)?;
        Ok(copies)
    }

    /// Receives what one call yields, in `buffer`: the first whole frame, and how many there are with it.
    pub(super) fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<Run<'a>>> {
        let State { partial, seal, .. } = &mut *self.state.borrow_mut();
        let kept = partial.len();
        let Some((before, rest)) = buffer.split_at_mut_checked(kept) else {
            return Err(io::ErrorKind::OutOfMemory.into());
        };
        let read = match seal {
            None => self.socket.read(rest).and_then(|length| match length {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                length => Ok(length),
            }),
            Some(seal) => seal.read(&self.socket, rest),
        };
        let length = match read {
            Ok(length) => kept + length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        before.copy_from_slice(partial);
        partial.clear();
        let received = buffer.get(..length).unwrap_or_default();
        let (mut at, mut count, mut first) = (0, 0, 0);
        loop {
            let rest = received.get(at..).unwrap_or_default();
            match Frame::first(rest, frame::LONGEST) {
                Ok(Frame::Whole { length, padding }) => {
                    first = if count == 0 { length } else { first };
                    count += 1;
                    at += length + padding;
                }
                Ok(Frame::Partial { .. }) => {
                    partial.extend_from_slice(rest);
                    break;
                }
                Err(_) => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
        let first = received.get(..first).unwrap_or_default();
        Ok((count > 0).then_some(Run { first, count }))
    }

    fn flush(&self, unsent: &mut Vec<u8>) -> io::Result<()> {
        match self.socket.write(unsent) {
            Ok(taken) => {
                unsent.drain(..taken);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::sys::listen_tcp;

    #[test]
    fn frames_are_padded_on_the_way_and_counted_in_pieces() {
        let listener = listen_tcp("127.0.0.1:0".parse().unwrap(), TcpOptions::default()).unwrap();
        let stream = Stream::open(listener.local_addr().unwrap(), None).unwrap();
        let (server, _) = listener.accept().unwrap();
        let ready = |fd: BorrowedFd<'_>| {
            let epoll = Epoll::new().unwrap();
            epoll.add(fd, 0, Interest::READ).unwrap();
            assert_eq!(epoll.wait(&mut Events::with_capacity(1), Some(PATIENCE)).unwrap(), 1);
        };
        let frame = [0x40, 0, 0, 3, b'a', b'b', b'c'];
        assert_eq!(stream.send(&frame, 5).unwrap(), 5);
        ready(server.as_fd());
        let mut bytes = [0; 100];
        let length = server.read(&mut bytes).unwrap();
        assert_eq!(bytes[..length], [&frame[..], &[0]].concat().repeat(5));

        let mut buffer = vec![0; 1000];
        assert!(stream.receive(&mut buffer).unwrap().is_none());
        let (mut count, mut sent) = (0, 0);
        for piece in bytes[..length].chunks(13) {
            sent += server.write(piece).unwrap();
            ready(stream.as_fd());
            if let Some(run) = stream.receive(&mut buffer).unwrap() {
                assert_eq!(run.first, frame);
                count += run.count;
            }
        }
        assert_eq!((count, sent), (5, 40));
    }
}
