//! UDP sockets and their options.

use std::io;
use std::mem::size_of;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use socket2::{Domain, Protocol, Socket, Type};

use super::check;

/// How a UDP socket is opened. The default is a plain socket with the kernel's buffer sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UdpOptions {
    /// Several sockets may have this address; the kernel spreads datagrams over them by source and destination.
    pub reuse_port: bool,
    /// Bytes the kernel may queue for reading; 0 leaves its default. As near as the kernel allows.
    pub receive_buffer: usize,
    /// Bytes the kernel may queue for sending; 0 leaves its default. As near as the kernel allows.
    pub send_buffer: usize,
    /// Runs of datagrams from one source may arrive glued together. Receive buffers must then have 64 KiB.
    pub gro: bool,
    /// ICMP errors about what was sent are kept for [`super::receive_error`], and epoll tells of them.
    pub errors: bool,
    /// IPv4 datagrams leave without the DF bit, so that routers may fragment them, and no ICMP message makes this
    /// machine do so: see [`UdpSocket::set_dont_fragment`].
    pub fragments: bool,
}

/// An open UDP socket: non-blocking, closed on exec, of one address family, reporting its drops.
#[derive(Debug)]
pub struct UdpSocket {
    socket: Socket,
    ipv6: bool,
    gro: bool,
}

/// Opens a socket and binds it; port 0 is any free port.
pub fn bind_udp(address: SocketAddr, options: UdpOptions) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    set(&socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)?;
    set_buffer(&socket, options.receive_buffer, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF);
    set_buffer(&socket, options.send_buffer, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF);
    let gro = options.gro && set(&socket, libc::SOL_UDP, libc::UDP_GRO, 1).is_ok();
    let socket = UdpSocket { socket, ipv6: address.is_ipv6(), gro };
    if options.errors {
        socket.set_ip((libc::IPPROTO_IP, libc::IP_RECVERR), (libc::IPPROTO_IPV6, libc::IPV6_RECVERR), 1)?;
    }
    if options.fragments {
        socket.set_dont_fragment(false)?;
    }
    socket.socket.bind(&address.into())?;
    Ok(socket)
}

impl UdpSocket {
    /// The address it is bound to, with the real port.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()?.as_socket().ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))
    }

    /// Only datagrams from `peer` arrive from now on, and sends need no destination.
    pub fn connect(&self, peer: SocketAddr) -> io::Result<()> {
        self.socket.connect(&peer.into())
    }

    /// From now on other sockets of this user may have the same address, if they ask to share it too.
    pub fn share_port(&self) -> io::Result<()> {
        self.socket.set_reuse_port(true)
    }

    /// What happens to datagrams sent from now on that are too long for the path. `true`: IPv4 ones have the DF bit,
    /// and of either family those known to be too long are refused. `false`: IPv4 ones have no DF bit; IPv6 ones are
    /// fragmented to what the path is known to take.
    pub fn set_dont_fragment(&self, on: bool) -> io::Result<()> {
        // Without DF the path's MTU is left to the routers: a forged ICMP message cannot lower it.
        let value = match (on, self.ipv6) {
            (true, _) => libc::IP_PMTUDISC_DO,
            (false, false) => libc::IP_PMTUDISC_OMIT,
            (false, true) => libc::IPV6_PMTUDISC_WANT,
        };
        let names = ((libc::IPPROTO_IP, libc::IP_MTU_DISCOVER), (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER));
        self.set_ip(names.0, names.1, value)
    }

    /// Sets the option of the socket's own family.
    fn set_ip(
        &self,
        v4: (libc::c_int, libc::c_int),
        v6: (libc::c_int, libc::c_int),
        value: libc::c_int,
    ) -> io::Result<()> {
        let (level, name) = if self.ipv6 { v6 } else { v4 };
        set(&self.socket, level, name, value)
    }

    /// Whether the kernel glues datagrams together here.
    pub fn has_gro(&self) -> bool {
        self.gro
    }

    /// Takes and clears the error that an ICMP message left, so that the descriptor stops being ready for it.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.socket.take_error()
    }

    /// How many bytes the kernel may queue for reading; it counts its own overhead in.
    pub fn receive_buffer(&self) -> io::Result<usize> {
        self.socket.recv_buffer_size()
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<UdpSocket> for OwnedFd {
    fn from(socket: UdpSocket) -> OwnedFd {
        socket.socket.into()
    }
}

/// Past the system's limit when the process may, up to it when it may not.
fn set_buffer(socket: &Socket, size: usize, force: libc::c_int, plain: libc::c_int) {
    let size = libc::c_int::try_from(size).unwrap_or(libc::c_int::MAX);
    if size > 0 && set(socket, libc::SOL_SOCKET, force, size).is_err() {
        // Best effort: a smaller buffer than wanted still works, and drops are counted.
        let _ = set(socket, libc::SOL_SOCKET, plain, size);
    }
}

fn set(socket: &Socket, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let pointer = std::ptr::from_ref(&value).cast();
    #[allow(clippy::cast_possible_truncation, reason = "four bytes")]
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the pointer is to a live integer of the announced length.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, pointer, length) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().unwrap(), 0)
    }

    #[test]
    fn port_zero_becomes_a_real_port() {
        let socket = bind_udp(any("127.0.0.1"), UdpOptions::default()).unwrap();
        let address = socket.local_addr().unwrap();
        assert_eq!(address.ip(), any("127.0.0.1").ip());
        assert_ne!(address.port(), 0);
        assert!(!socket.has_gro());
    }

    #[test]
    fn an_address_can_be_shared_only_when_all_agree() {
        let shared = UdpOptions { reuse_port: true, ..UdpOptions::default() };
        let first = bind_udp(any("127.0.0.1"), shared).unwrap();
        let address = first.local_addr().unwrap();
        assert!(bind_udp(address, shared).is_ok());
        assert_eq!(bind_udp(address, UdpOptions::default()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_foreign_address_is_refused() {
        let error = bind_udp(any("192.0.2.1"), UdpOptions::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    }

    #[test]
    fn a_v6_wildcard_leaves_v4_alone() {
        let Ok(v6) = bind_udp(any("::"), UdpOptions::default()) else { return };
        let port = v6.local_addr().unwrap().port();
        assert!(bind_udp(SocketAddr::new(any("0.0.0.0").ip(), port), UdpOptions::default()).is_ok());
    }

    #[test]
    fn buffers_grow_as_asked_within_the_limit() {
        let small = UdpOptions { receive_buffer: 65536, send_buffer: 65536, ..UdpOptions::default() };
        let socket = bind_udp(any("127.0.0.1"), small).unwrap();
        assert_eq!(socket.receive_buffer().unwrap(), 2 * 65536);
        let huge = UdpOptions { receive_buffer: usize::MAX, ..UdpOptions::default() };
        assert!(bind_udp(any("127.0.0.1"), huge).is_ok());
    }
}
