//! TCP sockets: listeners that workers share a port by, and connections that never block.

use std::io::{self, Read};
use std::mem::size_of;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::address::{CAPACITY, RawAddress};
use super::check;

/// Connections that wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: libc::c_int = 4096;

/// How a TCP socket is opened. The default is a plain socket with the kernel's buffer sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpOptions {
    /// Several sockets may have this address; the kernel spreads connections over those that listen.
    pub reuse_port: bool,
    /// Bytes the kernel may queue towards one client; 0 leaves its default. Accepted connections inherit it.
    pub send_buffer: usize,
    /// A connection whose other side acknowledges nothing for so long is given up; `None` leaves the default.
    pub user_timeout: Option<Duration>,
}

/// A listening socket: non-blocking, closed on exec, of one address family.
#[derive(Debug)]
pub struct TcpListener {
    socket: Socket,
}

/// A connection: non-blocking, closed on exec, without Nagle's delay.
#[derive(Debug)]
pub struct TcpStream {
    socket: Socket,
}

/// Opens a socket that listens; port 0 is any free port.
pub fn listen_tcp(address: SocketAddr, options: TcpOptions) -> io::Result<TcpListener> {
    let socket = open(address, options)?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener { socket })
}

/// Begins a connection from one address to another. It is established, or has failed, when it becomes writable.
pub fn connect_tcp(from: SocketAddr, to: SocketAddr, options: TcpOptions) -> io::Result<TcpStream> {
    let socket = open(from, options)?;
    match socket.connect(&to.into()) {
        Ok(()) => Ok(TcpStream { socket }),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(TcpStream { socket }),
        Err(error) => Err(error),
    }
}

fn open(address: SocketAddr, options: TcpOptions) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restart need not wait for the connections of its predecessor to be forgotten.
    socket.set_reuse_address(true)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket.set_tcp_nodelay(true)?;
    if options.send_buffer > 0 {
        // Best effort: the kernel caps it.
        let _ = socket.set_send_buffer_size(options.send_buffer);
    }
    if options.user_timeout.is_some() {
        socket.set_tcp_user_timeout(options.user_timeout)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

impl TcpListener {
    /// The address it is bound to, with the real port.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()?.as_socket().ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))
    }

    /// From now on other sockets of this user may have the same address, if they ask to share it too.
    pub fn share_port(&self) -> io::Result<()> {
        self.socket.set_reuse_port(true)
    }

    /// The next connection that is established, and who made it.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let mut address = RawAddress::zeroed();
        let mut length = CAPACITY;
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        let pointer = std::ptr::from_mut(&mut address).cast();
        // SAFETY: the pointer is to `length` writable bytes, and `length` to the number of them.
        let fd = check(unsafe { libc::accept4(self.socket.as_raw_fd(), pointer, &raw mut length, flags) })?;
        // SAFETY: the call succeeded, so the descriptor is open and nobody else's.
        let socket = Socket::from(unsafe { OwnedFd::from_raw_fd(fd) });
        let address = address.decode(length).ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))?;
        Ok((TcpStream { socket }, address))
    }
}

impl TcpStream {
    /// The address it is bound to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()?.as_socket().ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))
    }

    /// Takes what has arrived; 0 when the other side has ended its half.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.socket).read(buffer)
    }

    /// Hands bytes to the kernel and returns how many it took.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.send_with_flags(bytes, libc::MSG_NOSIGNAL)
    }

    /// Ends our half: the other side reads to the end, and may go on sending.
    pub fn shutdown_write(&self) -> io::Result<()> {
        self.socket.shutdown(std::net::Shutdown::Write)
    }

    /// Whether a connection that was begun has failed; clears the error.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.socket.take_error()
    }

    /// Closing now tells the other side at once and keeps nothing in the kernel.
    pub fn abort_on_close(&self) {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        #[allow(clippy::cast_possible_truncation, reason = "eight bytes")]
        let length = size_of::<libc::linger>() as libc::socklen_t;
        let pointer = std::ptr::from_ref(&linger).cast();
        // SAFETY: the pointer is to a live structure of the announced length. A failure leaves an ordinary close.
        let _ =
            unsafe { libc::setsockopt(self.socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, pointer, length) };
    }
}

impl AsFd for TcpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsFd for TcpStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Epoll, Events, Interest};
    use super::*;

    fn any() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    fn wait(fd: impl AsFd, interest: Interest) {
        let epoll = Epoll::new().unwrap();
        epoll.add(fd, 0, interest).unwrap();
        assert_eq!(epoll.wait(&mut Events::with_capacity(1), None).unwrap(), 1);
    }

    #[test]
    fn a_connection_carries_bytes_both_ways_and_ends_by_halves() {
        let shared = TcpOptions { reuse_port: true, ..TcpOptions::default() };
        let listener = listen_tcp(any(), shared).unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let client = connect_tcp(any(), address, TcpOptions::default()).unwrap();
        wait(&listener, Interest::READ);
        let (server, _) = listener.accept().unwrap();
        wait(&client, Interest::WRITE);
        assert!(client.take_error().unwrap().is_none());
        assert_eq!(client.write(b"there").unwrap(), 5);
        client.shutdown_write().unwrap();
        wait(&server, Interest::READ);
        let mut buffer = [0; 16];
        assert_eq!(server.read(&mut buffer).unwrap(), 5);
        assert_eq!(server.read(&mut buffer).unwrap(), 0);
        assert_eq!(server.write(b"back").unwrap(), 4);
        wait(&client, Interest::READ);
        assert_eq!(client.read(&mut buffer).unwrap(), 4);
        server.abort_on_close();
        drop(server);
        wait(&client, Interest::READ);
        assert_eq!(client.read(&mut buffer).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn connections_leave_from_the_address_that_listens() {
        let listener = listen_tcp(any(), TcpOptions::default()).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = TcpOptions { reuse_port: true, ..TcpOptions::default() };
        let peers =
            [listen_tcp(any(), TcpOptions::default()).unwrap(), listen_tcp(any(), TcpOptions::default()).unwrap()];
        assert_eq!(listen_tcp(address, shared).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        listener.share_port().unwrap();
        for peer in &peers {
            let connection = connect_tcp(address, peer.local_addr().unwrap(), shared).unwrap();
            wait(peer, Interest::READ);
            assert_eq!(peer.accept().unwrap().1, address);
            assert_eq!(connection.local_addr().unwrap(), address);
        }
        let other = connect_tcp(any(), address, TcpOptions::default()).unwrap();
        wait(&listener, Interest::READ);
        assert_eq!(listener.accept().unwrap().1, other.local_addr().unwrap());
    }

    #[test]
    fn a_port_is_shared_only_when_all_agree() {
        let shared = TcpOptions { reuse_port: true, ..TcpOptions::default() };
        let first = listen_tcp(any(), shared).unwrap();
        let address = first.local_addr().unwrap();
        assert!(listen_tcp(address, shared).is_ok());
        assert_eq!(listen_tcp(address, TcpOptions::default()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
