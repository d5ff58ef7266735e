//! The TLS of a client's connection: bytes in, bytes out. Any certificate will do, there is nothing to hide.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use crate::net::sys::TcpStream;

/// Sealed bytes read at a time.
const RAW: usize = 32 * 1024;
/// Application data sealed at a time.
const CHUNK: usize = 16 * 1024;

/// One connection's TLS state.
#[derive(Debug)]
pub(super) struct Seal {
    tls: Box<ClientConnection>,
    raw: Vec<u8>,
}

impl Seal {
    pub(super) fn new(config: &Arc<ClientConfig>, server: SocketAddr) -> io::Result<Seal> {
        let name = ServerName::IpAddress(server.ip().into());
        let tls = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        Ok(Seal { tls: Box::new(tls), raw: vec![0; RAW] })
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// Seals what is to be sent; there is something of TLS's own to send, too.
    pub(super) fn seal(&mut self, plain: &[u8], sealed: &mut Vec<u8>) -> io::Result<()> {
        self.collect(sealed)?;
        for chunk in plain.chunks(CHUNK) {
            self.tls.writer().write_all(chunk)?;
            self.collect(sealed)?;
        }
        Ok(())
    }

    fn collect(&mut self, sealed: &mut Vec<u8>) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(sealed)?;
        }
        Ok(())
    }

    /// Reads once from the socket; the application bytes in it stand at the beginning of `room`, which has room for
    /// all that one read can bring. None may be whole yet.
    pub(super) fn read(&mut self, socket: &TcpStream, room: &mut [u8]) -> io::Result<usize> {
        let length = socket.read(&mut self.raw)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (mut raw, mut opened) = (self.raw.get(..length).unwrap_or_default(), 0);
        while !raw.is_empty() {
            self.tls.read_tls(&mut raw)?;
            self.tls.process_new_packets().map_err(io::Error::other)?;
            while let Some(rest) = room.get_mut(opened..).filter(|rest| !rest.is_empty()) {
                match self.tls.reader().read(rest) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(length) => opened += length,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(opened)
    }
}
