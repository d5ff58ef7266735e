//! A client's way to the server. The loops know frames; how frames become bytes on a socket is decided here, so
//! that a stream transport is one more variant.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustls::ClientConfig;

use super::args::Transport;
use super::stream::Stream;
use crate::net::sys::{MAX_SEGMENTED_BYTES, MAX_SEGMENTS, SendBatch, UdpOptions, UdpSocket, bind_udp, receive_one};

/// The largest datagram, or glued run of them.
pub(super) const LARGEST: usize = 65_536;
const BUFFER: usize = 4 << 20;

/// One client's connection.
#[derive(Debug)]
pub(super) enum Link {
    Udp(UdpSocket),
    Stream(Stream),
}

/// Frames of one size that arrived together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run<'a> {
    /// The first frame.
    pub(super) first: &'a [u8],
    /// How many there are.
    pub(super) count: u64,
}

impl Link {
    pub(super) fn open(transport: Transport, server: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> io::Result<Link> {
        match transport {
            Transport::Udp => {
                let any = match server {
                    SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                    SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
                };
                let socket = open_udp(any)?;
                socket.connect(server)?;
                Ok(Link::Udp(socket))
            }
            Transport::Tcp | Transport::Tls => Stream::open(server, tls).map(Link::Stream),
        }
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Link::Udp(socket) => socket.local_addr(),
            Link::Stream(stream) => stream.local_addr(),
        }
    }

    /// Sends the same frame `copies` times, in as few calls as possible, and returns how many were taken: fewer when
    /// the socket's buffer is full.
    pub(super) fn send(&self, scratch: &mut SendBatch, frame: &[u8], copies: usize) -> io::Result<usize> {
        match self {
            Link::Udp(socket) => send_copies(socket, scratch, [(None, frame)], copies),
            Link::Stream(stream) => stream.send(frame, copies),
        }
    }

    /// Receives what one call yields; `None` when there is nothing. `buffer` must hold [`LARGEST`] bytes.
    pub(super) fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<Run<'a>>> {
        match self {
            Link::Stream(stream) => stream.receive(buffer),
            Link::Udp(socket) => match receive_one(socket, buffer) {
                Ok(received) => {
                    let run = buffer.get(..received.length).unwrap_or_default();
                    let first = received.segments(run).next().unwrap_or_default();
                    let count = received.length.div_ceil(received.segment.max(1)).max(1);
                    Ok(Some(Run { first, count: count as u64 }))
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                Err(error) => Err(error),
            },
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Link::Udp(socket) => socket.as_fd(),
            Link::Stream(stream) => stream.as_fd(),
        }
    }
}

/// A socket with room for what the other side may send while this process is busy.
pub(super) fn open_udp(ip: IpAddr) -> io::Result<UdpSocket> {
    let options = UdpOptions { receive_buffer: BUFFER, send_buffer: BUFFER, gro: true, ..UdpOptions::default() };
    bind_udp(SocketAddr::new(ip, 0), options)
}

/// Sends each frame `copies` times to its destination, all in one batch; runs leave as one segmented message. Returns
/// how many frames the kernel took.
pub(super) fn send_copies<'a>(
    socket: &UdpSocket,
    scratch: &'a mut SendBatch,
    frames: impl IntoIterator<Item = (Option<SocketAddr>, &'a [u8])>,
    copies: usize,
) -> io::Result<usize> {
    let mut out = scratch.begin();
    let mut whole = copies;
    for (destination, frame) in frames {
        whole = (MAX_SEGMENTED_BYTES / frame.len().max(1)).clamp(1, MAX_SEGMENTS).min(copies);
        let mut left = copies;
        while left > 0 {
            let count = left.min(whole);
            let segment = if count > 1 { u16::try_from(frame.len()).ok() } else { None };
            out.message(destination, segment);
            for _ in 0..count {
                out.part(frame);
            }
            left -= count;
        }
    }
    let taken = match out.send(socket, 0) {
        Ok(taken) => taken,
        Err(error) if is_full(&error) => 0,
        Err(error) => return Err(error),
    };
    // Every frame's copies leave in messages of `whole`, and the rest in a shorter one.
    let per_frame = copies.div_ceil(whole.max(1)).max(1);
    Ok((taken / per_frame) * copies + (taken % per_frame) * whole)
}

/// The kernel cannot take more at the moment.
fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::ENOBUFS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_counted_whole_and_in_parts() {
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let peer = open_udp(localhost).unwrap();
        let link = Link::open(Transport::Udp, peer.local_addr().unwrap(), None).unwrap();
        let mut scratch = SendBatch::new();
        let mut buffer = vec![0; LARGEST];
        for copies in [1, 2, 64, 65, 130] {
            assert_eq!(link.send(&mut scratch, &[7; 100], copies).unwrap(), copies);
            let mut arrived = 0;
            while let Ok(received) = receive_one(&peer, &mut buffer) {
                arrived += received.length / 100;
            }
            assert_eq!(arrived, copies);
        }
    }

    #[test]
    fn a_glued_run_is_counted() {
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let peer = open_udp(localhost).unwrap();
        let link = Link::open(Transport::Udp, peer.local_addr().unwrap(), None).unwrap();
        let mut scratch = SendBatch::new();
        let mut buffer = vec![0; LARGEST];
        assert!(link.receive(&mut buffer).unwrap().is_none());
        let to = Some(link.local_addr().unwrap());
        assert_eq!(send_copies(&peer, &mut scratch, [(to, &b"abc"[..])], 5).unwrap(), 5);
        let mut count = 0;
        while let Some(run) = link.receive(&mut buffer).unwrap() {
            assert_eq!(run.first, b"abc");
            count += run.count;
        }
        assert_eq!(count, 5);
    }
}
