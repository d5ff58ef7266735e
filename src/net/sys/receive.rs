//! Receiving: many datagrams per call into slots that are set up once, or one into the caller's buffer.

use std::io;
use std::mem::zeroed;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;

use super::address::{self, NOWHERE, RawAddress};
use super::control::{self, Control};
use super::udp::UdpSocket;
use super::{check, check_length};

/// What the kernel said about a datagram, or about a run of them that it glued together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// How many bytes were written to the buffer.
    pub length: usize,
    /// Who sent them.
    pub source: SocketAddr,
    /// The length of each datagram of a glued run, of which only the last may be shorter; `length` when there is one.
    pub segment: usize,
    /// Datagrams this socket has dropped since it exists, by the kernel's count; absent while there are none.
    pub kernel_drops: Option<u32>,
    /// The buffer was too small; the rest is lost.
    pub truncated: bool,
}

impl Received {
    const NOTHING: Received = Received { length: 0, source: NOWHERE, segment: 0, kernel_drops: None, truncated: false };

    /// The datagrams in `bytes`, which are those that were received: one when nothing was glued together, even if it
    /// is empty.
    pub fn segments<'a>(&self, bytes: &'a [u8]) -> Segments<'a> {
        Segments { rest: Some(bytes), size: self.segment.max(1) }
    }
}

/// Walks the datagrams of a glued run.
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    rest: Option<&'a [u8]>,
    size: usize,
}

impl<'a> Iterator for Segments<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        let (first, rest) = rest.split_at(rest.len().min(self.size));
        self.rest = (!rest.is_empty()).then_some(rest);
        Some(first)
    }
}

/// Receives one datagram, or one glued run, without waiting. `WouldBlock` when there is none.
pub fn receive_one(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    let mut raw = RawAddress::zeroed();
    let mut room = Control::EMPTY;
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut header = empty_header();
    header.msg_name = std::ptr::from_mut(&mut raw).cast();
    header.msg_namelen = address::CAPACITY;
    header.msg_iov = &mut part;
    header.msg_iovlen = 1;
    header.msg_control = std::ptr::from_mut(&mut room).cast();
    header.msg_controllen = control::CAPACITY as _;
    // SAFETY: every pointer of the header is to a live buffer of the announced length that nothing else uses now.
    let length = check_length(unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &mut header, libc::MSG_DONTWAIT) })?;
    // SAFETY: recvmsg has just filled the header and the buffers it points to, which are still there.
    Ok(unsafe { described(&header, &raw, length.min(buffer.len())) })
}

/// Slots for many datagrams. The memory is reserved at once, but pages of it exist only where datagrams were.
pub struct ReceiveBatch {
    memory: Owned<u8>,
    headers: Owned<libc::mmsghdr>,
    /// The headers point into these two, into `parts` and into `memory`.
    addresses: Owned<RawAddress>,
    controls: Owned<Control>,
    /// Never read: it keeps what the headers point to alive.
    #[allow(dead_code, reason = "owned for the kernel")]
    parts: Owned<libc::iovec>,
    received: Vec<Received>,
    stride: usize,
    slot_size: usize,
    /// Slots that the last call wrote to, whose headers must be reset before the next one.
    used: usize,
    filled: usize,
}

impl ReceiveBatch {
    /// `slots` slots (1 to 1024) that each take a datagram, or a glued run, of up to `slot_size` bytes.
    pub fn new(slots: usize, slot_size: usize) -> ReceiveBatch {
        let slots = slots.clamp(1, 1024);
        let stride = stride(slot_size);
        let batch = ReceiveBatch {
            memory: Owned::new(vec![0u8; slots * stride]),
            headers: Owned::new(vec![libc::mmsghdr { msg_hdr: empty_header(), msg_len: 0 }; slots]),
            addresses: Owned::new(vec![RawAddress::zeroed(); slots]),
            controls: Owned::new(vec![Control::EMPTY; slots]),
            parts: Owned::new(vec![libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; slots]),
            received: vec![Received::NOTHING; slots],
            stride,
            slot_size,
            used: slots,
            filled: 0,
        };
        for slot in 0..slots {
            // SAFETY: `slot` is below the length of all four arrays and `slot * stride + slot_size` is at
            // most the length of the memory, so that every pointer made and written through stays inside its array.
            unsafe {
                let part = batch.parts.at(slot);
                part.write(libc::iovec {
                    iov_base: batch.memory.at(slot * stride).cast().as_ptr(),
                    iov_len: slot_size,
                });
                let header = &raw mut (*batch.headers.at(slot).as_ptr()).msg_hdr;
                (*header).msg_name = batch.addresses.at(slot).cast().as_ptr();
                (*header).msg_iov = part.as_ptr();
                (*header).msg_iovlen = 1;
                (*header).msg_control = batch.controls.at(slot).cast().as_ptr();
            }
        }
        batch
    }

    /// Receives what is there, up to the number of slots, without waiting, and returns how many slots are filled.
    /// What the last call received is gone. `WouldBlock` when there is nothing.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.filled = 0;
        self.reset_headers();
        let slots = self.received.len();
        // SAFETY: each of the `slots` headers points to an address, a control buffer and a slot of memory of the
        // announced lengths, all owned by `self`, which is borrowed for writing: nobody else reads or writes them.
        let result = unsafe {
            libc::recvmmsg(
                socket.as_fd().as_raw_fd(),
                self.headers.first(),
                u32::try_from(slots).unwrap_or(1),
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(check(result)?).unwrap_or(0).min(slots);
        self.used = (count + 1).min(slots);
        for (slot, received) in self.received.iter_mut().enumerate().take(count) {
            // SAFETY: `slot` is below the arrays' lengths; recvmmsg has filled this header and its buffers.
            *received = unsafe {
                let header = &*self.headers.at(slot).as_ptr();
                let length = (header.msg_len as usize).min(self.slot_size);
                described(&header.msg_hdr, &*self.addresses.at(slot).as_ptr(), length)
            };
        }
        self.filled = count;
        Ok(count)
    }

    /// The `slot`-th datagram, or glued run, of the last call; `None` when it received fewer.
    pub fn get(&self, slot: usize) -> Option<(&Received, &[u8])> {
        let received = self.received.get(..self.filled)?.get(slot)?;
        // SAFETY: the slot exists, its datagram has at most `slot_size` bytes, and the
        // memory was initialised with zeros. The kernel writes to it only inside `receive`, which borrows `self`
        // for writing.
        let bytes = unsafe { std::slice::from_raw_parts(self.memory.at(slot * self.stride).as_ptr(), received.length) };
        Some((received, bytes))
    }

    /// How many slots the last call filled.
    pub fn len(&self) -> usize {
        self.filled
    }

    /// The last call received nothing.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// How many slots there are; a call that fills all of them has probably left some datagrams behind.
    pub fn capacity(&self) -> usize {
        self.received.len()
    }

    /// The kernel overwrites the capacities with lengths, in the slots it fills.
    fn reset_headers(&mut self) {
        for slot in 0..self.used {
            // SAFETY: `used` is at most the number of slots.
            let header = unsafe { &mut (*self.headers.at(slot).as_ptr()).msg_hdr };
            header.msg_namelen = address::CAPACITY;
            header.msg_controllen = control::CAPACITY as _;
        }
    }
}

/// The distance between slots: whole pages and five cache lines, so that the first lines of all slots do not fall
/// into the same few sets of the cache.
fn stride(slot_size: usize) -> usize {
    const PAGE: usize = 4096;
    const LINE: usize = 64;
    slot_size.next_multiple_of(PAGE) + 5 * LINE
}

/// # Safety
/// `header`, with its control buffer, must have been filled by `recvmsg` or `recvmmsg`, and `raw` be its address.
unsafe fn described(header: &libc::msghdr, raw: &RawAddress, length: usize) -> Received {
    // SAFETY: the kernel has filled the control buffer up to the length it wrote to the header.
    let told = unsafe { control::read(header) };
    Received {
        length,
        source: raw.decode(header.msg_namelen).unwrap_or(NOWHERE),
        segment: told.segment.unwrap_or(length),
        kernel_drops: told.kernel_drops,
        truncated: header.msg_flags & libc::MSG_TRUNC != 0,
    }
}

fn empty_header() -> libc::msghdr {
    // SAFETY: a msghdr of zeros is a valid value: null pointers and zero lengths.
    unsafe { zeroed() }
}

/// A heap array that is only reached through its raw pointer, so that the kernel, and headers that point into it,
/// may keep addresses of its items. It never moves.
struct Owned<T> {
    first: NonNull<T>,
    length: usize,
}

impl<T> Owned<T> {
    fn new(items: Vec<T>) -> Owned<T> {
        let items = Box::leak(items.into_boxed_slice());
        Owned { length: items.len(), first: NonNull::from(items).cast() }
    }

    fn first(&self) -> *mut T {
        self.first.as_ptr()
    }

    /// # Safety
    /// `index` must be below the length.
    unsafe fn at(&self, index: usize) -> NonNull<T> {
        debug_assert!(index < self.length);
        // SAFETY: the item is inside the allocation.
        unsafe { self.first.add(index) }
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: `new` has taken exactly this slice out of a box, and nothing else frees it.
        drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(self.first.as_ptr(), self.length)) });
    }
}

// SAFETY: the array is owned and is reached only through its owner. Its items are integers, and pointers into
// sibling arrays that move to another thread together with it.
unsafe impl<T> Send for Owned<T> {}

#[cfg(test)]
mod tests {
    use super::super::send::SendBatch;
    use super::super::udp::{UdpOptions, bind_udp};
    use super::super::{Epoll, Events, Interest};
    use super::*;

    fn socket(ip: &str, gro: bool) -> UdpSocket {
        bind_udp(SocketAddr::new(ip.parse().unwrap(), 0), UdpOptions { gro, ..UdpOptions::default() }).unwrap()
    }

    /// The loopback addresses this machine has.
    fn loopbacks() -> impl Iterator<Item = &'static str> {
        ["127.0.0.1", "::1"].into_iter().filter(|ip| {
            let address = SocketAddr::new(ip.parse().unwrap(), 0);
            let there = bind_udp(address, UdpOptions::default()).is_ok();
            if !there {
                println!("{ip} cannot be bound here: not tested");
            }
            there
        })
    }

    fn send(from: &UdpSocket, to: &UdpSocket, segment: Option<u16>, bytes: &[u8]) {
        let mut batch = SendBatch::new();
        let mut out = batch.begin();
        out.message(Some(to.local_addr().unwrap()), segment);
        out.part(bytes);
        assert_eq!(out.send(from, 0).unwrap(), 1);
    }

    fn until_readable(socket: &UdpSocket) {
        let epoll = Epoll::new().unwrap();
        epoll.add(socket, 0, Interest::READ).unwrap();
        assert_eq!(epoll.wait(&mut Events::with_capacity(1), None).unwrap(), 1);
    }

    #[test]
    fn a_batch_takes_what_is_there_in_order() {
        for ip in loopbacks() {
            let (from, to) = (socket(ip, false), socket(ip, false));
            let mut batch = ReceiveBatch::new(4, 100);
            assert_eq!(batch.receive(&to).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            for number in 0..5u8 {
                send(&from, &to, None, &vec![number; usize::from(number)]);
            }
            for (expected, first) in [(4, 0u8), (1, 4)] {
                until_readable(&to);
                assert_eq!(batch.receive(&to).unwrap(), expected);
                assert_eq!(batch.len(), expected);
                for (slot, number) in (0..expected).zip(first..) {
                    let (received, bytes) = batch.get(slot).unwrap();
                    assert_eq!(bytes, vec![number; usize::from(number)]);
                    assert_eq!(received.source, from.local_addr().unwrap());
                    assert_eq!((received.length, received.segment), (bytes.len(), bytes.len()));
                    assert_eq!((received.truncated, received.kernel_drops), (false, None));
                    assert_eq!(received.segments(bytes).collect::<Vec<_>>(), [bytes]);
                }
                assert!(batch.get(expected).is_none());
            }
            assert!(batch.receive(&to).is_err());
            assert!(batch.is_empty() && batch.get(0).is_none());
        }
    }

    #[test]
    fn what_was_sent_segmented_arrives_glued() {
        for ip in loopbacks() {
            let (from, to) = (socket(ip, false), socket(ip, true));
            assert!(to.has_gro());
            let bytes: Vec<u8> = (0..1000u32).map(|at| at.to_be_bytes()[3]).collect();
            send(&from, &to, Some(300), &bytes);
            send(&from, &to, Some(300), &bytes);
            let mut batch = ReceiveBatch::new(8, 65536);
            until_readable(&to);
            batch.receive(&to).unwrap();
            let (received, glued) = batch.get(0).unwrap();
            assert_eq!((received.length, received.segment), (1000, 300));
            let segments: Vec<_> = received.segments(glued).collect();
            assert_eq!(segments, [&bytes[..300], &bytes[300..600], &bytes[600..900], &bytes[900..]]);
            let mut buffer = vec![0; 65536];
            if batch.len() == 1 {
                assert_eq!(receive_one(&to, &mut buffer).unwrap().segment, 300);
            }
        }
    }

    #[test]
    fn without_gro_segments_arrive_one_by_one() {
        let (from, to) = (socket("127.0.0.1", false), socket("127.0.0.1", false));
        send(&from, &to, Some(400), &[7; 1000]);
        let mut buffer = [0; 2000];
        for length in [400, 400, 200] {
            until_readable(&to);
            let received = receive_one(&to, &mut buffer).unwrap();
            assert_eq!((received.length, received.segment), (length, length));
        }
        assert_eq!(receive_one(&to, &mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn too_small_a_buffer_is_told() {
        let (from, to) = (socket("127.0.0.1", false), socket("127.0.0.1", false));
        let mut batch = ReceiveBatch::new(2, 10);
        let mut buffer = [0; 10];
        for length in [10, 11] {
            send(&from, &to, None, &vec![1; length]);
            send(&from, &to, None, &vec![2; length]);
            until_readable(&to);
            let one = receive_one(&to, &mut buffer).unwrap();
            batch.receive(&to).unwrap();
            let (many, bytes) = batch.get(0).unwrap();
            assert_eq!((one.length, one.truncated), (10, length > 10));
            assert_eq!((many.length, many.truncated), (10, length > 10));
            assert_eq!((buffer, bytes), ([1; 10], &[2; 10][..]));
        }
    }

    #[test]
    fn drops_are_counted_by_the_kernel() {
        let small = UdpOptions { receive_buffer: 1, ..UdpOptions::default() };
        let to = bind_udp("127.0.0.1:0".parse().unwrap(), small).unwrap();
        let from = socket("127.0.0.1", false);
        let mut buffer = [0; 1500];
        for _ in 0..100 {
            send(&from, &to, None, &[0; 1000]);
        }
        while receive_one(&to, &mut buffer).is_ok() {}
        send(&from, &to, None, &[0; 1000]);
        until_readable(&to);
        let drops = receive_one(&to, &mut buffer).unwrap().kernel_drops.unwrap();
        assert!((1..=100).contains(&drops), "{drops}");
    }

    #[test]
    fn an_icmp_error_ends_up_at_the_connected_socket() {
        let (from, to) = (socket("127.0.0.1", false), socket("127.0.0.1", false));
        from.connect(to.local_addr().unwrap()).unwrap();
        drop(to);
        let mut batch = SendBatch::new();
        let mut out = batch.begin();
        out.message(None, None);
        out.part(b"x");
        out.send(&from, 0).unwrap();
        until_readable(&from);
        let error = receive_one(&from, &mut [0; 10]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn slots_spread_over_the_cache() {
        let sets: std::collections::BTreeSet<_> = (0..32).map(|slot| slot * stride(65536) / 64 % 64).collect();
        assert_eq!(sets.len(), 32);
    }
}
