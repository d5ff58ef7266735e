//! Which certificates our own clients accept from a server (RFC 5280, RFC 9525).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use x509_cert::der::Decode;
use x509_cert::name::Name;

/// Where systems keep the certificates that they trust, after `$SSL_CERT_FILE`.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
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
    let config = match trust {
        Trust::Roots(extra) => {
            let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
            let builder = builder.map_err(io::Error::other)?;
            Ok(builder.with_root_certificates(roots(extra.as_deref())?).with_no_client_auth())
        }
        Trust::Only(expected) => {
            judging(provider, move |shown, _, _| if expected == *shown { Ok(()) } else { Err(other()) })
        }
        Trust::Any => judging(provider, |_, _, _| Ok(())),
    };
    config.map(Arc::new).map_err(io::Error::other)
}

fn other() -> Error {
    Error::General(
        "the server shows another certificate than the configuration names; reload it if that was renewed".into(),
    )
}

fn roots(extra: Option<&Path>) -> io::Result<RootCertStore> {
    let mut roots = system_roots();
    if let Some(path) = extra {
        let own = certificates(path).map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
        roots.add_parsable_certificates(own);
    }
    Ok(roots)
}

/// What this machine trusts: the first list that there is, or nothing.
pub(super) fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(of_this_machine());
    roots
}

fn of_this_machine() -> Vec<CertificateDer<'static>> {
    let variable = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty());
    let bundles = variable.iter().map(Path::new).chain(BUNDLES.iter().map(Path::new));
    bundles.map(certificates).find_map(Result::ok).unwrap_or_default()
}

/// Whether this machine trusts somebody of this name.
pub(super) fn knows(name: &Name) -> bool {
    let is_of = |der: &CertificateDer<'_>| {
        x509_cert::Certificate::from_der(der).is_ok_and(|certificate| certificate.tbs_certificate.subject == *name)
    };
    of_this_machine().iter().any(is_of)
}

/// The certificates of a PEM file: one at least.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Box<dyn std::error::Error>> {
    let found: Vec<_> = CertificateDer::pem_file_iter(path)?.collect::<Result<_, _>>()?;
    if found.is_empty() { Err("there is no certificate in it".into()) } else { Ok(found) }
}

/// Of the server's own certificate, those that it shows with it, and the name by which it was called.
type Judge = dyn Fn(&CertificateDer<'_>, &[CertificateDer<'_>], &ServerName<'_>) -> Result<(), Error> + Send + Sync;

/// A client for which `judge` says whether a certificate will do.
pub(super) fn judging(
    provider: Arc<CryptoProvider>,
    judge: impl Fn(&CertificateDer<'_>, &[CertificateDer<'_>], &ServerName<'_>) -> Result<(), Error> + Send + Sync + 'static,
) -> Result<ClientConfig, Error> {
    let verifier = Verifier { judge: Box::new(judge), provider: provider.clone() };
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

/// Asks about the certificate; that the server has its key is checked as ever.
struct Verifier {
    judge: Box<Judge>,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        first: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        (self.judge)(first, rest, name).map(|()| ServerCertVerified::assertion())
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
