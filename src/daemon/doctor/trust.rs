//! Which certificates clients trust, and in words why they would not trust one (RFC 5280, RFC 9525).
//!
//! The verdict is kept, not acted upon: the doctor goes on over a connection that a browser would refuse, so that one
//! run names everything that is wrong.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig};
use x509_cert::der::Decode;

use super::finding::{Finding, Kind, Severity, shown};
use crate::daemon::exit::{self, Failure};
use crate::daemon::{trust, unix_now};

const DAY: u64 = 86_400;
/// Renewal has failed for a while when a certificate has fewer days left.
const FEW_DAYS: u64 = 14;

/// Whom this machine trusts.
#[derive(Clone)]
pub(super) struct Trust {
    provider: Arc<CryptoProvider>,
    verifier: Option<Arc<WebPkiServerVerifier>>,
}

impl Trust {
    /// The system's certificates, and those of one more file.
    pub(super) fn load(extra: Option<&Path>) -> Result<Trust, Failure> {
        let mut roots = trust::system_roots();
        if let Some(path) = extra {
            let own = trust::certificates(path).map_err(|error| {
                let what = format!("--ca: cannot read certificates from {}: {error}", path.display());
                Failure::new(exit::USAGE, what, "name a file with certificates in PEM")
            })?;
            roots.add_parsable_certificates(own);
        }
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().ok();
        Ok(Trust { provider, verifier })
    }

    /// What a client that trusts as this machine does says of a chain.
    pub(super) fn check(&self, chain: &[CertificateDer<'_>], host: &str) -> Result<(), rustls::Error> {
        let (Some((first, rest)), Ok(name)) = (chain.split_first(), ServerName::try_from(host.to_owned())) else {
            return Err(rustls::Error::NoCertificatesPresented);
        };
        self.verify(first, rest, &name)
    }

    fn verify(
        &self,
        first: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
    ) -> Result<(), rustls::Error> {
        match &self.verifier {
            Some(verifier) => verifier.verify_server_cert(first, rest, name, &[], UnixTime::now()).map(|_| ()),
            None => Err(rustls::Error::General("this machine has no list of trusted certificates".into())),
        }
    }

    /// A configuration for one connection, and where its verdict will stand.
    pub(super) fn client(&self, alpn: Option<&[u8]>) -> Result<(Arc<ClientConfig>, Arc<Witness>), rustls::Error> {
        let witness = Arc::new(Witness { trust: self.clone(), seen: Mutex::new(None) });
        let looking = witness.clone();
        let mut config = trust::judging(self.provider.clone(), move |first, rest, name| {
            looking.look(first, rest, name);
            Ok(())
        })?;
        config.alpn_protocols.extend(alpn.map(<[u8]>::to_vec));
        Ok((Arc::new(config), witness))
    }
}

/// Looks at a certificate, lets it pass, and remembers what there was to say.
pub(super) struct Witness {
    trust: Trust,
    seen: Mutex<Option<Seen>>,
}

/// What a server showed.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) verdict: Result<(), rustls::Error>,
}

impl Witness {
    pub(super) fn seen(&self) -> Option<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn look(&self, first: &CertificateDer<'_>, rest: &[CertificateDer<'_>], name: &ServerName<'_>) {
        let chain = std::iter::once(first).chain(rest).map(|certificate| certificate.clone().into_owned()).collect();
        let verdict = self.trust.verify(first, rest, name);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Seen { chain, verdict });
    }
}

/// What there is to say of a chain and its verdict; nothing when clients are content for a while.
pub(super) fn judged(chain: &[CertificateDer<'_>], verdict: &Result<(), rustls::Error>, host: &str) -> Option<Finding> {
    let first = chain.first().and_then(|der| x509_cert::Certificate::from_der(der).ok());
    match verdict {
        Err(error) => Some(explained(error, chain.len(), first.as_ref(), host)),
        Ok(()) => {
            let until = first?.tbs_certificate.validity.not_after.to_unix_duration().as_secs();
            let left = until.saturating_sub(unix_now()) / DAY;
            (left < FEW_DAYS).then(|| {
                let means = "whatever renews it has not done so; clients will refuse TLS from that day on";
                let remedy =
                    "look at the timer of certbot or what else renews it; the server takes a new one on SIGHUP";
                let saw = format!("the certificate for {} expires in {left} days", shown(host));
                Kind::Certificate.found(saw, means, remedy).severity(Severity::Warning)
            })
        }
    }
}

fn explained(error: &rustls::Error, length: usize, first: Option<&x509_cert::Certificate>, host: &str) -> Finding {
    let shown_host = shown(host);
    let rustls::Error::InvalidCertificate(error) = error else {
        let means = "whether clients accept the certificate could not be told";
        return Kind::Certificate.found(shown(&error.to_string()), means, "name trusted certificates with --ca FILE");
    };
    let names = |certificate: &x509_cert::Certificate| {
        let (issuer, subject) = (&certificate.tbs_certificate.issuer, &certificate.tbs_certificate.subject);
        (issuer == subject, shown(&issuer.to_string()))
    };
    let refused = |saw: String, means: &str, remedy: String| Kind::Certificate.found(saw, means, remedy);
    match (error, first.map(names)) {
        (CertificateError::Expired | CertificateError::ExpiredContext { .. }, _) => refused(
            format!("the certificate for {shown_host} has expired"),
            "every client that verifies certificates refuses turns: (browsers: icecandidateerror 701)",
            "renew it, then send the server SIGHUP".into(),
        ),
        (CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }, _) => refused(
            format!("the certificate for {shown_host} is not valid yet"),
            "clients refuse it, or this machine's clock is behind",
            "compare the clocks (`timedatectl`), then the certificate's dates".into(),
        ),
        (CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }, _) => {
            let means = if host.parse::<IpAddr>().is_ok() {
                "the URL has an address where certificates have names; Firefox refuses addresses in turns: altogether"
            } else {
                "clients compare the host of the URL with the names in the certificate, and refuse"
            };
            refused(
                format!("the certificate does not name {shown_host}"),
                means,
                format!("use a host name in the URL and a certificate that names it ({shown_host} is what clients are told)"),
            )
        }
        (CertificateError::UnknownIssuer, Some((true, _))) if length == 1 => refused(
            "the certificate is signed by itself".into(),
            "no browser accepts it for turns:",
            "get one from a public authority (certbot), or bring its own authority to every client; --ca FILE tells this command".into(),
        ),
        (CertificateError::UnknownIssuer, Some((_, issuer))) if length == 1 => refused(
            format!("the server shows one certificate, issued by {issuer}, and nothing that leads to a trusted one"),
            "the intermediate certificate is missing: some clients have it by chance, the others refuse",
            "set tls.certificate to the whole chain (certbot's fullchain.pem, not cert.pem)".into(),
        ),
        (CertificateError::UnknownIssuer, issuer) => refused(
            format!(
                "the chain of {length} ends at an authority that this machine does not trust, issued by {}",
                issuer.map(|(_, issuer)| issuer).unwrap_or_default()
            ),
            "clients without that authority refuse; native apps on libwebrtc have a list of their own, older than the system's",
            "use an authority that old lists know, or give clients its certificate; --ca FILE tells this command".into(),
        ),
        (other, _) => refused(
            format!("the certificate for {shown_host} is refused: {}", shown(&format!("{other:?}"))),
            "clients refuse turns:",
            "look at it with `openssl s_client -connect HOST:PORT -showcerts`".into(),
        ),
    }
}
