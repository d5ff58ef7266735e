//! The error queue of a UDP socket: what ICMP, or this machine itself, said about datagrams that were sent.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use super::address::{self, RawAddress};
use super::check_length;
use super::udp::UdpSocket;

/// Why a datagram did not arrive. A datagram that this machine itself found too long for the path counts as one that
/// a router refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendError {
    /// Where it was to go. The port is 0 where this machine found a datagram of an unconnected socket too long.
    pub destination: SocketAddr,
    /// The type of the ICMP message; of ICMPv6 when the destination is an IPv6 address.
    pub kind: u8,
    /// Its code.
    pub code: u8,
    /// Of messages about a datagram that is too long, the MTU of the next hop in bytes.
    pub mtu: u32,
}

/// Takes the next error from the queue of a socket that was opened with [`super::UdpOptions::errors`], without waiting.
/// `WouldBlock` when there is none; `None` for an entry that is about something else.
pub fn receive_error(socket: &UdpSocket) -> io::Result<Option<SendError>> {
    let mut raw = RawAddress::zeroed();
    let mut room = Room([0; ROOM]);
    // SAFETY: a msghdr of zeros is a valid value: null pointers and zero lengths.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_name = std::ptr::from_mut(&mut raw).cast();
    header.msg_namelen = address::CAPACITY;
    header.msg_control = std::ptr::from_mut(&mut room).cast();
    header.msg_controllen = ROOM as _;
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    // SAFETY: every pointer of the header is to a live buffer of the announced length that nothing else uses now.
    check_length(unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &mut header, flags) })?;
    // SAFETY: recvmsg has just filled the control buffer up to the length that it wrote to the header.
    let extended = unsafe { extended(&header) };
    Ok(extended.zip(raw.decode(header.msg_namelen)).and_then(|(error, destination)| described(&error, destination)))
}

/// Whether a send that failed so may have told of a datagram sent earlier, so that it is worth another try. One that
/// must not be fragmented may be too long itself.
pub fn may_be_of_earlier(error: &io::Error, dont_fragment: bool) -> bool {
    let is_too_long = error.raw_os_error() == Some(libc::EMSGSIZE);
    error.kind() != io::ErrorKind::WouldBlock && !(dont_fragment && is_too_long)
}

/// Room for a `sock_extended_err`, the offender's address behind it, and what other options add.
const ROOM: usize = 256;

#[repr(C, align(8))]
struct Room([u8; ROOM]);

/// The description of the error among the control messages.
///
/// # Safety
/// `msg_control` must point to `msg_controllen` initialised bytes that are aligned for a `cmsghdr`.
#[allow(clippy::unnecessary_cast, reason = "cmsg_len is not a usize in every C library")]
unsafe fn extended(header: &libc::msghdr) -> Option<libc::sock_extended_err> {
    // SAFETY: the caller promises a valid control buffer; the macro checks its length.
    let mut at = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !at.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return null or a header that lies wholly inside the buffer.
        let (message, data) = unsafe { (&*at, libc::CMSG_DATA(at)) };
        let is_error = matches!(
            (message.cmsg_level, message.cmsg_type),
            (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
        );
        #[allow(clippy::cast_possible_truncation, reason = "sixteen bytes")]
        // SAFETY: CMSG_LEN only computes.
        let needed = unsafe { libc::CMSG_LEN(size_of::<libc::sock_extended_err>() as _) } as usize;
        if is_error && message.cmsg_len as usize >= needed {
            // SAFETY: the structure is inside the buffer, see above; alignment does not matter to this read, and every
            // bit pattern is a valid value of its integers.
            return Some(unsafe { data.cast::<libc::sock_extended_err>().read_unaligned() });
        }
        // SAFETY: `at` is a header inside the buffer of `header`.
        at = unsafe { libc::CMSG_NXTHDR(header, at) };
    }
    None
}

fn described(error: &libc::sock_extended_err, destination: SocketAddr) -> Option<SendError> {
    let (kind, code) = match error.ee_origin {
        libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6 => (error.ee_type, error.ee_code),
        libc::SO_EE_ORIGIN_LOCAL if u32::try_from(libc::EMSGSIZE) == Ok(error.ee_errno) => match destination {
            SocketAddr::V4(_) => (3, 4),
            SocketAddr::V6(_) => (2, 0),
        },
        _ => return None,
    };
    Some(SendError { destination, kind, code, mtu: error.ee_info })
}

#[cfg(test)]
mod tests {
    use super::super::udp::{UdpOptions, bind_udp};
    use super::super::{Epoll, Events, Interest, SendBatch};
    use super::*;

    fn socket(ip: &str) -> Option<UdpSocket> {
        let options = UdpOptions { errors: true, ..UdpOptions::default() };
        bind_udp(SocketAddr::new(ip.parse().unwrap(), 0), options).ok()
    }

    fn send(from: &UdpSocket, to: SocketAddr, bytes: &[u8]) -> io::Result<usize> {
        let mut batch = SendBatch::new();
        let mut out = batch.begin();
        out.message(Some(to), None);
        out.part(bytes);
        out.send(from, 0)
    }

    #[test]
    fn a_closed_port_is_told_with_its_address() {
        for (ip, kind, code) in [("127.0.0.1", 3, 3), ("::1", 1, 4)] {
            let (Some(from), Some(closed)) = (socket(ip), socket(ip)) else {
                println!("{ip} cannot be bound here: not tested");
                continue;
            };
            let destination = closed.local_addr().unwrap();
            drop(closed);
            assert_eq!(receive_error(&from).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            send(&from, destination, b"anybody there?").unwrap();
            let (epoll, mut events) = (Epoll::new().unwrap(), Events::with_capacity(1));
            epoll.add(&from, 7, Interest::READ).unwrap();
            assert_eq!(epoll.wait(&mut events, None).unwrap(), 1);
            assert!(events.at(0).unwrap().error);
            let found = receive_error(&from).unwrap();
            assert_eq!(found, Some(SendError { destination, kind, code, mtu: 0 }));
            assert!(receive_error(&from).is_err());
            assert!(from.take_error().unwrap().is_none(), "reading the queue clears the error");
            assert_eq!(epoll.wait(&mut events, Some(std::time::Duration::ZERO)).unwrap(), 0);
        }
    }

    #[test]
    fn what_is_too_long_for_the_path_is_told_only_when_it_must_not_be_fragmented() {
        for (ip, kind, code) in [("127.0.0.1", 3, 4), ("::1", 2, 0)] {
            let (Some(from), Some(to)) = (socket(ip), socket(ip)) else { continue };
            let destination = to.local_addr().unwrap();
            // The loopback interface takes 65,536 bytes: with its headers this datagram has more on IPv6 alone.
            let long = [0; 65_507];
            from.set_dont_fragment(false).unwrap();
            assert_eq!(send(&from, destination, &long).unwrap(), 1);
            from.set_dont_fragment(true).unwrap();
            let sent = send(&from, destination, &long);
            if let Err(error) = sent {
                assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
                assert!(!may_be_of_earlier(&error, true) && may_be_of_earlier(&error, false));
                let found = receive_error(&from).unwrap().unwrap();
                assert_eq!((found.destination.ip(), found.kind, found.code), (destination.ip(), kind, code));
                assert!(found.mtu > 0);
            } else {
                assert_eq!(ip, "127.0.0.1");
            }
        }
    }
}
