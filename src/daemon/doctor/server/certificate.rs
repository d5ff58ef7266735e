//! Whether clients will accept the certificate of the TLS listeners, and for how long.

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::super::configured;
use super::super::finding::{Finding, Kind, Severity};
use super::super::trust::{self, Trust};
use super::Subject;

pub(super) fn check(subject: &Subject, trust: &Trust) -> Vec<Finding> {
    let name = &subject.file.tls.certificate;
    let path = configured::named(&subject.path, name);
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&path).and_then(Iterator::collect);
    let chain = match chain {
        Ok(chain) => chain,
        Err(error) => {
            let remedy = "let this user read it, or run the command as the server's user";
            let saw = format!("cannot read {}: {error}", path.display());
            return vec![Kind::Certificate.found(saw, "it could not be looked at", remedy).at("tls.certificate")];
        }
    };
    let public_host = subject.config.live.mint.public_host.clone();
    let mut found = Vec::new();
    if public_host.as_ref().is_some_and(|host| host.parse::<IpAddr>().is_ok()) {
        let saw = "server.public-host is an address, and stands in the turns: URLs of credentials";
        let means = "Firefox refuses addresses in turns:, and few authorities put them into certificates";
        let finding =
            Kind::Certificate.found(saw, means, "set server.public-host to a host name that the certificate has");
        found.push(finding.severity(Severity::Warning));
    }
    let host = public_host.or_else(|| chain.first().and_then(first_name)).unwrap_or_default();
    let verdict = trust.check(&chain, &host);
    found.extend(trust::judged(&chain, &verdict, &host).map(|finding| finding.at("tls.certificate")));
    found
}

/// The first DNS name of a certificate.
fn first_name(der: &CertificateDer<'_>) -> Option<String> {
    let certificate = x509_cert::Certificate::from_der(der).ok()?;
    let (_, names) = certificate.tbs_certificate.get::<SubjectAltName>().ok()??;
    names.0.iter().find_map(|name| match name {
        GeneralName::DnsName(name) => Some(name.to_string().replacen('*', "any", 1)),
        _ => None,
    })
}
