//! Which certificates our own clients accept from a server (RFC 5280, RFC 9525).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// Where systems keep the certificates that they trust, after `$SSL_CERT_FILE`.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What a server may show.
pub(super) enum Trust {
    /// A certificate that leads to one that the system trusts, or to one in a file.
    Roots(Option<PathBuf>),
    /// This one, whatever name it has: its file lies on this machine.
    Only(CertificateDer<'static>),
    /// Any: for a load generator, which has nothing to hide.
    Any,
}

/// A client that trusts like this.
pub(super) fn client(trust: Trust) -> io::Result<Arc<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let pinned = |shown| Arc::new(Pinned { shown, provider });
    let config = match trust {
        Trust::Roots(extra) => builder.with_root_certificates(roots(extra.as_deref())?),
        Trust::Only(shown) => builder.dangerous().with_custom_certificate_verifier(pinned(Some(shown))),
        Trust::Any => builder.dangerous().with_custom_certificate_verifier(pinned(None)),
    };
    Ok(Arc::new(config.with_no_client_auth()))
}

fn roots(extra: Option<&Path>) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let variable = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty());
    let bundles = variable.iter().map(Path::new).chain(BUNDLES.iter().map(Path::new));
    if let Some(found) = bundles.map(certificates).find_map(Result::ok) {
        roots.add_parsable_certificates(found);
    }
    if let Some(path) = extra {
        let own = certificates(path).map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
        roots.add_parsable_certificates(own);
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Box<dyn std::error::Error>> {
    let found: Vec<_> = CertificateDer::pem_file_iter(path)?.collect::<Result<_, _>>()?;
    if found.is_empty() { Err("there is no certificate in it".into()) } else { Ok(found) }
}

/// Accepts one certificate, or any; that the server has its key is checked as ever.
#[derive(Debug)]
struct Pinned {
    shown: Option<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        first: &CertificateDer<'_>,
        _rest: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.shown.as_ref().is_none_or(|shown| shown == first) {
            return Ok(ServerCertVerified::assertion());
        }
        let what = "the server shows another certificate than the configuration names; reload it if that was renewed";
        Err(Error::General(what.into()))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
