//! TLS clients of rustls, and the certificates of servers that they trust.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use crate::support::{Folder, PATIENCE};

pub(crate) type TlsClient = StreamOwned<ClientConnection, TcpStream>;

/// A TCP connection that waits for nothing longer than it should.
pub(crate) fn plain(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream.set_write_timeout(Some(PATIENCE)).expect("a time-out");
    stream.set_nodelay(true).expect("no delay");
    stream
}

/// A client that trusts these certificates.
pub(crate) fn config(root: &[u8], alpn: &[&str]) -> ClientConfig {
    config_of(root, alpn, rustls::DEFAULT_VERSIONS)
}

/// The same of these versions alone.
pub(crate) fn config_of(root: &[u8], alpn: &[&str], versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(root) {
        roots.add(certificate.expect("a certificate")).expect("a root");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions);
    let mut config = builder.expect("versions").with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

/// A connection whose handshake is over.
pub(crate) fn connect(address: SocketAddr, name: &str, root: &[u8], alpn: &[&str]) -> io::Result<TlsClient> {
    with(&Arc::new(config(root, alpn)), address, name)
}

/// The same, by a client that may have been there before.
pub(crate) fn with(config: &Arc<ClientConfig>, address: SocketAddr, name: &str) -> io::Result<TlsClient> {
    over(config, plain(address), name)
}

/// The same over a connection that is there.
pub(crate) fn over(config: &Arc<ClientConfig>, mut stream: TcpStream, name: &str) -> io::Result<TlsClient> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut client = ClientConnection::new(config.clone(), name).expect("a client");
    while client.is_handshaking() {
        client.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(client, stream))
}

/// Writes a new certificate for `localhost` and its key into `chain.pem` and `key.pem`, and returns what to trust.
pub(crate) fn renew(folder: &Folder) -> Vec<u8> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    folder.write("chain.pem", &made.cert.pem(), 0o644);
    folder.write("key.pem", &made.signing_key.serialize_pem(), 0o600);
    made.cert.pem().into_bytes()
}
