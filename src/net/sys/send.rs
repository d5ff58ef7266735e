//! Sending: any number of messages in as few calls as the kernel allows, gathered from borrowed parts.

use std::io;
use std::marker::PhantomData;
use std::mem::zeroed;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use super::address::RawAddress;
use super::control::{self, Control};
use super::udp::UdpSocket;
use super::{check, check_length};

/// The most datagrams one segmented message may have (the kernel's UDP_MAX_SEGMENTS; newer ones allow 128).
pub const MAX_SEGMENTS: usize = 64;
/// The most bytes one segmented message may have: what fits into an IPv4 datagram.
pub const MAX_SEGMENTED_BYTES: usize = 65_507;
/// The most parts a message may have (UIO_MAXIOV); the kernel refuses more with `EMSGSIZE`.
pub const MAX_PARTS: usize = 1024;

/// The most messages one sendmmsg takes (UIO_MAXIOV).
const MAX_MESSAGES: usize = 1024;

/// The memory in which messages are gathered, kept from one flush to the next so that nothing is allocated.
#[derive(Default)]
pub struct SendBatch {
    /// Pointers in here are set right before each call: the arrays they point into may move as they grow.
    headers: Vec<libc::mmsghdr>,
    parts: Vec<libc::iovec>,
    messages: Vec<Queued>,
}

/// What a header is made of.
struct Queued {
    destination: RawAddress,
    destination_length: libc::socklen_t,
    control: Control,
    control_length: usize,
    first_part: usize,
    parts: usize,
}

impl SendBatch {
    /// Nothing is allocated yet.
    pub fn new() -> SendBatch {
        SendBatch::default()
    }

    /// Begins to gather messages; what was gathered before is forgotten.
    pub fn begin<'a>(&'a mut self) -> Outgoing<'a> {
        self.headers.clear();
        self.parts.clear();
        self.messages.clear();
        Outgoing { batch: self, borrowed: PhantomData }
    }
}

// SAFETY: the pointers are only followed while an `Outgoing` borrows the batch; between two of them they are left
// over and never read.
unsafe impl Send for SendBatch {}

/// Messages that wait to be sent. What they are made of stays borrowed as long as this lives.
pub struct Outgoing<'a> {
    batch: &'a mut SendBatch,
    borrowed: PhantomData<&'a [u8]>,
}

impl<'a> Outgoing<'a> {
    /// Begins a message; a connected socket needs no destination. With `segment` the kernel cuts the message into
    /// datagrams of that size, of which the last may be shorter: at most [`MAX_SEGMENTS`] and
    /// [`MAX_SEGMENTED_BYTES`].
    pub fn message(&mut self, destination: Option<SocketAddr>, segment: Option<u16>) {
        let (destination, destination_length) = destination.map_or((RawAddress::zeroed(), 0), RawAddress::encode);
        let (control, control_length) = segment.map_or((Control::EMPTY, 0), control::segment);
        let first_part = self.batch.parts.len();
        self.batch.messages.push(Queued {
            destination,
            destination_length,
            control,
            control_length,
            first_part,
            parts: 0,
        });
    }

    /// Adds bytes to the message that was begun last. At most [`MAX_PARTS`] a message.
    pub fn part(&mut self, bytes: &'a [u8]) {
        self.add(libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() });
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.batch.messages.len()
    }

    /// There is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.batch.messages.is_empty()
    }

    /// Sends the messages from the `from`-th on, without waiting, and returns how many were taken: fewer than there
    /// are when a later one failed. An error is that of the `from`-th; go on at `from + 1` to skip it.
    pub fn send(&mut self, socket: &UdpSocket, from: usize) -> io::Result<usize> {
        let mut sent = 0;
        while from + sent < self.len() {
            let start = from + sent;
            let count = (self.len() - start).min(MAX_MESSAGES);
            match self.send_some(socket, start, count) {
                Ok(taken) => {
                    sent += taken;
                    if taken < count {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if sent == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(sent)
    }

    fn add(&mut self, part: libc::iovec) {
        debug_assert!(!self.batch.messages.is_empty(), "a part belongs to a message");
        self.batch.parts.push(part);
        if let Some(message) = self.batch.messages.last_mut() {
            message.parts += 1;
        }
    }

    fn send_some(&mut self, socket: &UdpSocket, start: usize, count: usize) -> io::Result<usize> {
        self.write_headers(start, count);
        let fd = socket.as_fd().as_raw_fd();
        let first = self.batch.headers.as_mut_ptr();
        if count == 1 {
            // SAFETY: `write_headers` has made one header whose pointers are to live memory: address and control
            // message in `messages`, the list of parts in `parts`, and each part borrowed for `'a`.
            check_length(unsafe { libc::sendmsg(fd, &(*first).msg_hdr, libc::MSG_DONTWAIT) })?;
            return Ok(1);
        }
        let length = u32::try_from(count).unwrap_or(1);
        // SAFETY: as above, for `count` headers.
        let taken = check(unsafe { libc::sendmmsg(fd, first, length, libc::MSG_DONTWAIT as _) })?;
        Ok(usize::try_from(taken).unwrap_or(0))
    }

    /// Puts the headers of `count` messages from `start` on at the beginning of `headers`.
    fn write_headers(&mut self, start: usize, count: usize) {
        let SendBatch { headers, parts, messages } = &mut *self.batch;
        headers.clear();
        let first_part = parts.as_mut_ptr();
        for message in messages.iter_mut().skip(start).take(count) {
            // SAFETY: a msghdr of zeros is a valid value: null pointers and zero lengths.
            let mut header: libc::msghdr = unsafe { zeroed() };
            if message.destination_length > 0 {
                header.msg_name = std::ptr::from_mut(&mut message.destination).cast();
                header.msg_namelen = message.destination_length;
            }
            if message.control_length > 0 {
                header.msg_control = std::ptr::from_mut(&mut message.control).cast();
                header.msg_controllen = message.control_length as _;
            }
            // SAFETY: `first_part` is at most the number of parts, so the pointer is inside the array or at its end.
            header.msg_iov = unsafe { first_part.add(message.first_part) };
            header.msg_iovlen = message.parts as _;
            headers.push(libc::mmsghdr { msg_hdr: header, msg_len: 0 });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::receive::receive_one;
    use super::super::udp::{UdpOptions, bind_udp};
    use super::super::{Epoll, Events, Interest};
    use super::*;

    fn socket() -> UdpSocket {
        let roomy = UdpOptions { receive_buffer: 4 << 20, ..UdpOptions::default() };
        bind_udp("127.0.0.1:0".parse().unwrap(), roomy).unwrap()
    }

    fn next(socket: &UdpSocket) -> Vec<u8> {
        let epoll = Epoll::new().unwrap();
        epoll.add(socket, 0, Interest::READ).unwrap();
        assert_eq!(epoll.wait(&mut Events::with_capacity(1), None).unwrap(), 1);
        let mut buffer = [0; 2000];
        let length = receive_one(socket, &mut buffer).unwrap().length;
        buffer[..length].to_vec()
    }

    #[test]
    fn parts_are_gathered_and_a_batch_can_be_used_again() {
        let (from, to) = (socket(), socket());
        let to_address = to.local_addr().unwrap();
        let mut batch = SendBatch::new();
        let heads: Vec<[u8; 30]> = (0..40).map(|number| [number; 30]).collect();
        for round in 0..3u8 {
            let body = vec![round; 5];
            let mut out = batch.begin();
            assert!(out.is_empty());
            for head in &heads {
                out.message(Some(to_address), None);
                out.part(head);
                out.part(&body);
            }
            out.message(Some(to_address), None);
            assert_eq!((out.len(), out.send(&from, 0).unwrap()), (41, 41));
            for head in &heads {
                assert_eq!(next(&to), [&head[..], &body].concat());
            }
            assert_eq!(next(&to), [0; 0]);
        }
    }

    #[test]
    fn a_refused_message_is_told_and_can_be_skipped() {
        let (from, to) = (socket(), socket());
        let to_address = Some(to.local_addr().unwrap());
        let long = vec![0; 70_000];
        let mut batch = SendBatch::new();
        let mut out = batch.begin();
        for bytes in [&b"first"[..], &long, b"second", b"third"] {
            out.message(to_address, None);
            out.part(bytes);
        }
        assert_eq!(out.send(&from, 0).unwrap(), 1);
        assert_eq!(out.send(&from, 1).unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));
        assert_eq!(out.send(&from, 2).unwrap(), 2);
        assert_eq!(out.send(&from, 4).unwrap(), 0);
        assert_eq!([next(&to), next(&to), next(&to)], [&b"first"[..], b"second", b"third"]);
    }

    #[test]
    fn a_segmented_message_may_have_a_header_before_each_body() {
        let (from, to) = (socket(), socket());
        let bodies = [&b"aaaa"[..], b"bbbb", b"cc"];
        let mut batch = SendBatch::new();
        let mut out = batch.begin();
        out.message(Some(to.local_addr().unwrap()), Some(6));
        for body in bodies {
            out.part(b"h:");
            out.part(body);
        }
        assert_eq!(out.send(&from, 0).unwrap(), 1);
        assert_eq!([next(&to), next(&to), next(&to)], [&b"h:aaaa"[..], b"h:bbbb", b"h:cc"]);
    }

    #[test]
    fn too_many_segments_or_parts_are_refused_without_harm() {
        let (from, to) = (socket(), socket());
        let to_address = Some(to.local_addr().unwrap());
        let body = [0; 1000];
        let mut batch = SendBatch::new();
        let mut out = batch.begin();
        out.message(to_address, Some(1));
        out.part(&body);
        out.message(to_address, None);
        for byte in body.iter().cycle().take(MAX_PARTS + 1) {
            out.part(std::slice::from_ref(byte));
        }
        out.message(to_address, None);
        out.part(b"well");
        assert_eq!(out.send(&from, 0).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert_eq!(out.send(&from, 1).unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));
        assert_eq!(out.send(&from, 2).unwrap(), 1);
        assert_eq!(next(&to), b"well");
    }

    #[test]
    fn more_messages_than_one_call_takes() {
        let (from, to) = (socket(), socket());
        let mut batch = SendBatch::new();
        let mut out = batch.begin();
        for _ in 0..2 * MAX_MESSAGES + 100 {
            out.message(Some(to.local_addr().unwrap()), None);
            out.part(b"x");
        }
        assert_eq!(out.send(&from, 0).unwrap(), 2 * MAX_MESSAGES + 100);
        // The receiver's buffer may be too small for all of them, and that is not what this is about.
        for _ in 0..100 {
            assert_eq!(next(&to), b"x");
        }
    }

    #[test]
    fn a_socket_without_a_peer_needs_a_destination() {
        let mut batch = SendBatch::new();
        let mut out = batch.begin();
        out.message(None, None);
        assert_eq!(out.send(&socket(), 0).unwrap_err().raw_os_error(), Some(libc::EDESTADDRREQ));
    }
}
