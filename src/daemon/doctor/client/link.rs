//! How messages travel to the server under test: datagrams, or frames on a TCP or TLS stream.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::super::trust::{Seen, Trust};
use super::super::uri::Transport;
use crate::wire::frame::LONGEST;
use crate::wire::{Frame, padding};

/// A byte stream of any kind.
pub(in super::super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// The way to a server.
pub(super) struct Link {
    pub(super) server: SocketAddr,
    pub(super) local: SocketAddr,
    /// The certificate that was shown, over TLS.
    pub(super) seen: Option<Seen>,
    carrier: Carrier,
}

enum Carrier {
    Datagrams(UdpSocket),
    Stream { reader: Mutex<Reader>, writer: Mutex<WriteHalf<Box<dyn Io>>> },
}

struct Reader {
    half: ReadHalf<Box<dyn Io>>,
    bytes: Vec<u8>,
    /// Whether a message has come.
    is_turn: bool,
}

/// Why there is no way.
#[derive(Debug)]
pub(super) enum OpenError {
    /// This machine has no route in that family.
    NoRoute(io::Error),
    /// Nobody accepted the connection.
    Connect(io::Error),
    /// Nobody accepted it in time.
    ConnectTimeout,
    /// The TLS handshake failed.
    Handshake(io::Error),
    /// The TLS handshake took too long.
    HandshakeTimeout,
}

impl Link {
    pub(super) async fn open(
        transport: Transport,
        server: SocketAddr,
        host: &str,
        trust: &Trust,
        patience: Duration,
    ) -> Result<Link, OpenError> {
        if transport == Transport::Udp {
            let socket = UdpSocket::bind(unspecified(server)).await.map_err(OpenError::NoRoute)?;
            let port = socket.local_addr().map_err(OpenError::NoRoute)?.port();
            let local = SocketAddr::new(local_ip(server).await.map_err(OpenError::NoRoute)?, port);
            return Ok(Link { server, local, seen: None, carrier: Carrier::Datagrams(socket) });
        }
        let connected = timeout(patience, TcpStream::connect(server)).await.map_err(|_| OpenError::ConnectTimeout)?;
        let stream = connected.map_err(|error| match error.kind() {
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable => OpenError::NoRoute(error),
            _ => OpenError::Connect(error),
        })?;
        let local = stream.local_addr().map_err(OpenError::Connect)?;
        // a frame is a message: none should wait for the next
        stream.set_nodelay(true).map_err(OpenError::Connect)?;
        let (stream, seen): (Box<dyn Io>, _) = match transport {
            Transport::Tls => {
                let shaken = timeout(patience, over_tls(stream, host, trust, Some(b"stun.turn"))).await;
                let (stream, seen) = shaken.map_err(|_| OpenError::HandshakeTimeout)?.map_err(OpenError::Handshake)?;
                (stream, seen)
            }
            Transport::Udp | Transport::Tcp => (Box::new(stream), None),
        };
        let (half, writer) = tokio::io::split(stream);
        let reader = Mutex::new(Reader { half, bytes: Vec::new(), is_turn: false });
        Ok(Link { server, local, seen, carrier: Carrier::Stream { reader, writer: Mutex::new(writer) } })
    }

    pub(super) fn is_stream(&self) -> bool {
        matches!(self.carrier, Carrier::Stream { .. })
    }

    pub(super) async fn send(&self, message: &[u8]) -> io::Result<()> {
        match &self.carrier {
            Carrier::Datagrams(socket) => socket.send_to(message, self.server).await.map(|_| ()),
            Carrier::Stream { writer, .. } => {
                let mut framed = message.to_vec();
                framed.resize(message.len() + padding(message.len()), 0);
                let mut writer = writer.lock().await;
                writer.write_all(&framed).await?;
                writer.flush().await
            }
        }
    }

    /// The next message and where it came from.
    pub(super) async fn receive(&self) -> io::Result<(Vec<u8>, SocketAddr)> {
        match &self.carrier {
            Carrier::Datagrams(socket) => {
                let mut buffer = vec![0; LONGEST];
                let (length, source) = socket.recv_from(&mut buffer).await?;
                buffer.truncate(length);
                Ok((buffer, source))
            }
            Carrier::Stream { reader, .. } => Ok((reader.lock().await.frame().await?, self.server)),
        }
    }
}

impl Reader {
    async fn frame(&mut self) -> io::Result<Vec<u8>> {
        loop {
            // to a parser the letters of HTTP are the head of a long ChannelData message
            if !self.is_turn && self.bytes.starts_with(b"HTTP/") {
                return Err(foreign(&self.bytes));
            }
            match Frame::first(&self.bytes, LONGEST) {
                Ok(Frame::Whole { length, padding }) => {
                    self.is_turn = true;
                    let message = self.bytes.iter().copied().take(length).collect();
                    self.bytes.drain(..length + padding);
                    return Ok(message);
                }
                Ok(Frame::Partial { .. }) => {}
                // the first bytes tell what it is instead
                Err(_) => return Err(foreign(&self.bytes)),
            }
            if self.half.read_buf(&mut self.bytes).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

fn foreign(bytes: &[u8]) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Foreign(bytes.to_vec()))
}

/// What a stream said that is neither STUN nor ChannelData.
#[derive(Debug)]
pub(super) struct Foreign(pub(super) Vec<u8>);

impl std::fmt::Display for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.as_slice() {
            [0x15 | 0x16, 3, ..] => f.write_str("the server answered in TLS"),
            bytes if bytes.starts_with(b"HTTP/") => f.write_str("the server answered in HTTP"),
            _ => f.write_str("the server answered with something that is neither STUN nor ChannelData"),
        }
    }
}

impl std::error::Error for Foreign {}

/// Speaks TLS; whatever the certificate is like, the verdict on it comes back.
pub(in super::super) async fn over_tls(
    stream: TcpStream,
    host: &str,
    trust: &Trust,
    alpn: Option<&[u8]>,
) -> io::Result<(Box<dyn Io>, Option<Seen>)> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let (config, witness) = trust.client(alpn).map_err(io::Error::other)?;
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    Ok((Box::new(stream), witness.seen()))
}

fn unspecified(server: SocketAddr) -> SocketAddr {
    match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// The address of this machine from which another one is reached; sends nothing.
pub(super) async fn local_ip(to: SocketAddr) -> io::Result<IpAddr> {
    let socket = UdpSocket::bind(unspecified(to)).await?;
    socket.connect(to).await?;
    Ok(socket.local_addr()?.ip())
}
