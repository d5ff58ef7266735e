//! A certificate chain with its key: read once, checked before any client sees it.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use webpki::EndEntityCert;
use x509_cert::der::Decode;
use x509_cert::name::Name;

use super::tls::provider;

/// A chain whose first certificate belongs to the key.
#[derive(Clone, Debug)]
pub struct Certificate {
    key: Arc<CertifiedKey>,
    not_before: u64,
    not_after: u64,
}

/// Why a certificate cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateError {
    /// The file has no PEM block with a certificate.
    NoCertificate,
    /// A certificate cannot be read.
    BadCertificate,
    /// The file has no PEM block with a private key.
    NoKey,
    /// The key is of a kind that is not supported.
    BadKey,
    /// The key is another certificate's.
    Mismatch,
}

impl Certificate {
    /// Reads PEM text: the server's certificate first, then those between it and a root; and its private key.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Certificate, CertificateError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(|_| CertificateError::BadCertificate)?;
        let first = chain.first().ok_or(CertificateError::NoCertificate)?;
        let parsed = x509_cert::Certificate::from_der(first).map_err(|_| CertificateError::BadCertificate)?;
        let validity = parsed.tbs_certificate.validity;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| CertificateError::NoKey)?;
        let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => CertificateError::Mismatch,
            rustls::Error::InvalidCertificate(_) => CertificateError::BadCertificate,
            _ => CertificateError::BadKey,
        })?;
        Ok(Certificate {
            key: Arc::new(key),
            not_before: validity.not_before.to_unix_duration().as_secs(),
            not_after: validity.not_after.to_unix_duration().as_secs(),
        })
    }

    /// Whether it is valid for a host name or IP address.
    pub fn is_for(&self, host: &str) -> bool {
        let (Ok(name), Some(first)) = (ServerName::try_from(host), self.key.cert.first()) else { return false };
        EndEntityCert::try_from(first).is_ok_and(|cert| cert.verify_is_valid_for_subject_name(&name).is_ok())
    }

    /// The server's own, in DER.
    pub fn first(&self) -> Option<&CertificateDer<'static>> {
        self.key.cert.first()
    }

    /// Who issued the server's own, when it did not sign itself and the file has no certificate of its issuer: clients
    /// that do not trust the issuer himself are led nowhere (RFC 8446 §4.4.2).
    pub(crate) fn missing_issuer(&self) -> Option<Name> {
        let named = |der: &CertificateDer<'_>| {
            let certificate = x509_cert::Certificate::from_der(der).ok()?.tbs_certificate;
            Some((certificate.subject, certificate.issuer))
        };
        let mut chain = self.key.cert.iter().map(named);
        let (subject, issuer) = chain.next()??;
        let is_there = subject == issuer || chain.flatten().any(|(subject, _)| subject == issuer);
        (!is_there).then_some(issuer)
    }

    /// From when on it is valid, in seconds since the Unix epoch.
    pub fn not_before(&self) -> u64 {
        self.not_before
    }

    /// Until when it is valid, in seconds since the Unix epoch.
    pub fn not_after(&self) -> u64 {
        self.not_after
    }

    pub(super) fn key(&self) -> Arc<CertifiedKey> {
        self.key.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn names_and_times_are_those_of_the_certificate() {
        let (chain, key) = pair(&["turn.example.org", "*.example.net", "192.0.2.1", "2001:db8::1"]);
        let certificate = Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        for host in ["turn.example.org", "a.example.net", "192.0.2.1", "2001:db8::1"] {
            assert!(certificate.is_for(host), "{host}");
        }
        for host in ["example.org", "a.turn.example.org", "192.0.2.2", ""] {
            assert!(!certificate.is_for(host), "{host}");
        }
        assert!(certificate.not_before() < certificate.not_after());
    }

    #[test]
    fn what_does_not_fit_together_is_told_apart() {
        let ((chain, key), (_, other)) = (pair(&["a"]), pair(&["a"]));
        let error = |chain: &str, key: &str| Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap_err();
        assert_eq!(error("", &key), CertificateError::NoCertificate);
        assert_eq!(error(&key, &key), CertificateError::NoCertificate);
        assert_eq!(error(&chain, &chain), CertificateError::NoKey);
        assert_eq!(error(&chain, &other), CertificateError::Mismatch);
        let broken = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        assert_eq!(error(broken, &key), CertificateError::BadCertificate);
    }
}
