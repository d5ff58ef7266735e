//! TLS 1.2 and 1.3 without input or output of its own (RFC 8489 §6.2.3, RFC 7443): bytes in, bytes out.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{HandshakeKind, ServerConfig, ServerConnection};

use super::certificate::Certificate;

/// What a client may ask for; one that asks for nothing is welcome, as browsers do (RFC 7443 §2).
const ALPN: [&[u8]; 2] = [b"stun.turn", b"stun.nat-discovery"];
/// What the HTTP API speaks.
const HTTP: [&[u8]; 1] = [b"http/1.1"];
/// Application data sealed at a time.
const CHUNK: usize = 16 * 1024;
/// A buffer that has grown beyond this is given back to the system as soon as it is empty.
const KEPT: usize = 4 * 1024;

/// The TLS side of all listeners: one certificate, which can be replaced while connections live on, and the keys of
/// session tickets.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    current: Arc<Current>,
}

/// The certificate that new connections are shown.
#[derive(Debug)]
struct Current(Mutex<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl Tls {
    /// For STUN and TURN, starting with this certificate.
    pub fn new(certificate: &Certificate) -> Result<Tls, rustls::Error> {
        Tls::with_alpn(certificate, &ALPN)
    }

    /// For HTTP, starting with this certificate.
    pub fn for_http(certificate: &Certificate) -> Result<Tls, rustls::Error> {
        Tls::with_alpn(certificate, &HTTP)
    }

    fn with_alpn(certificate: &Certificate, alpn: &[&[u8]]) -> Result<Tls, rustls::Error> {
        let current = Arc::new(Current(Mutex::new(certificate.key())));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(current.clone());
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config.ticketer = ring::Ticketer::new()?;
        config.send_tls13_tickets = 1;
        Ok(Tls { config: Arc::new(config), current })
    }

    /// From now on new connections are shown this certificate; the others keep theirs.
    pub fn set_certificate(&self, certificate: &Certificate) {
        *self.current.0.lock().unwrap_or_else(PoisonError::into_inner) = certificate.key();
    }

    /// For whoever drives the handshakes themselves.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    pub(super) fn accept(&self) -> Result<Session, rustls::Error> {
        let tls = ServerConnection::new(self.config.clone())?;
        Ok(Session { tls: Box::new(tls), sealed: Vec::new(), start: 0, is_counted: false })
    }
}

/// What signs and seals.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// One connection's TLS state, and what it wants to write.
#[derive(Debug)]
pub(super) struct Session {
    tls: Box<ServerConnection>,
    sealed: Vec<u8>,
    start: usize,
    /// Its handshake is over, and that has been told.
    is_counted: bool,
}

/// How a handshake ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handshake {
    Full,
    /// From an earlier session, without certificate and signature.
    Resumed,
}

/// What came out of received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opened {
    /// Application bytes at the beginning of the room.
    pub(super) length: usize,
    /// The client said that it sends no more.
    pub(super) ended: bool,
}

impl Session {
    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// Once, after the handshake: how it went.
    pub(super) fn take_handshake(&mut self) -> Option<Handshake> {
        if self.is_counted || self.tls.is_handshaking() {
            return None;
        }
        self.is_counted = true;
        Some(match self.tls.handshake_kind() {
            Some(HandshakeKind::Resumed) => Handshake::Resumed,
            Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest) | None => Handshake::Full,
        })
    }

    /// Takes received bytes and puts what they contain into `room`, which is larger than anything they can become.
    /// After an error there is an alert to be written.
    pub(super) fn open(&mut self, mut raw: &[u8], room: &mut [u8]) -> Result<Opened, rustls::Error> {
        let mut opened = Opened { length: 0, ended: false };
        loop {
            // Reading from memory fails only when the client sends more than a handshake may need.
            let taken = self.tls.read_tls(&mut raw).map_err(|error| rustls::Error::General(error.to_string()))?;
            let processed = self.tls.process_new_packets();
            self.collect();
            processed?;
            while let Some(rest) = room.get_mut(opened.length..).filter(|rest| !rest.is_empty()) {
                match self.tls.reader().read(rest) {
                    Ok(0) => {
                        opened.ended = true;
                        break;
                    }
                    Ok(length) => opened.length += length,
                    Err(_) => break,
                }
            }
            if raw.is_empty() || taken == 0 || opened.ended {
                return Ok(opened);
            }
        }
    }

    /// Encrypts application data.
    pub(super) fn seal(&mut self, plain: &[u8]) -> io::Result<()> {
        for chunk in plain.chunks(CHUNK) {
            self.tls.writer().write_all(chunk)?;
            self.collect();
        }
        Ok(())
    }

    /// Says that nothing follows.
    pub(super) fn end(&mut self) {
        self.tls.send_close_notify();
        self.collect();
    }

    /// What is to be written.
    pub(super) fn sealed(&self) -> &[u8] {
        self.sealed.get(self.start..).unwrap_or_default()
    }

    /// So many bytes are written.
    pub(super) fn written(&mut self, count: usize) {
        self.start += count;
        if self.start == self.sealed.len() {
            self.start = 0;
            self.sealed.clear();
            if self.sealed.capacity() > KEPT {
                self.sealed = Vec::new();
            }
        }
    }

    fn collect(&mut self) {
        while self.tls.wants_write() {
            // Writing to memory does not fail.
            if self.tls.write_tls(&mut self.sealed).is_err() {
                return;
            }
        }
    }
}
