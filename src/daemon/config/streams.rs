//! What the sections about TCP and TLS mean: listeners, limits, the certificate.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::file;
use super::problem::Fault;
use super::resolve::without_overlap;
use super::secret::Places;
use super::units::Period;
use crate::daemon::unix_now;
use crate::net::{Certificate, CertificateError, StreamKind, StreamLimits, StreamListener};

/// Far more than any chain needs.
const LONGEST: u64 = 1 << 20;
/// Less could not hold one message.
const SMALLEST_QUEUE: u64 = 128 << 10;

impl file::Listen {
    /// The TCP and TLS listeners, in the order in which the reference names them.
    pub(super) fn streams(&self) -> Result<Vec<StreamListener>, Fault> {
        let lists = [
            ("listen.tcp", &self.tcp, StreamKind::Tcp),
            ("listen.tls", &self.tls, StreamKind::Tls),
            ("listen.auto", &self.auto, StreamKind::Auto),
        ];
        let (mut listeners, mut all) = (Vec::new(), Vec::new());
        for (key, list, kind) in lists {
            let addresses: Vec<_> = list.iter().map(|endpoint| endpoint.0).collect();
            without_overlap(key, addresses.clone())?;
            all.extend(addresses.iter().copied());
            listeners.extend(addresses.into_iter().map(|addr| StreamListener { addr, kind }));
        }
        without_overlap("listen.tcp, tls and auto together", all)?;
        Ok(listeners)
    }
}

impl file::Streams {
    pub(super) fn limits(&self) -> Result<StreamLimits, Fault> {
        let periods: [(&str, Period); 3] =
            [("opening", self.opening), ("idle", self.idle), ("queue-delay", self.queue_delay)];
        if let Some((name, _)) = periods.iter().find(|(_, period)| period.duration().is_zero()) {
            return Err(Fault::new(format!("streams.{name}"), "the time is zero", "write at least \"1s\""));
        }
        if self.queue.bytes() < SMALLEST_QUEUE {
            let what = format!("{} could not hold one long message", self.queue);
            return Err(Fault::new("streams.queue", what, "write at least \"128KiB\""));
        }
        Ok(StreamLimits {
            total: self.connections,
            per_source: self.connections_per_source,
            opening: self.opening.duration(),
            idle: self.idle.duration(),
            // Size holds at most i32::MAX
            queue_bytes: self.queue.bytes() as usize,
            queue_delay: self.queue_delay.duration(),
        })
    }
}

impl file::Tls {
    /// The certificate, checked: it belongs to the key, is for the host that clients are told, and is valid now.
    pub(super) fn certificate(
        &self,
        needed: bool,
        public_host: Option<&str>,
        places: &Places,
    ) -> Result<Option<Certificate>, Fault> {
        let pair = Pair {
            certificate: ("tls.certificate", &self.certificate),
            key: ("tls.key", &self.key),
            remedy: "name the PEM files in tls.certificate and tls.key, or remove the listeners in listen.tls and auto",
        };
        let Some(certificate) = pair.load(needed, places)? else { return Ok(None) };
        if let Some(host) = public_host.filter(|host| !certificate.is_for(host)) {
            let file = &self.certificate;
            return Err(Fault::new(
                "tls.certificate",
                format!("the certificate in {file} is not for {host}, the server.public-host that clients are told"),
                format!("use a certificate that names {host}, or correct server.public-host"),
            ));
        }
        Ok(Some(certificate))
    }
}

/// The two keys that name a certificate and its private key, with the files that they name.
pub(super) struct Pair<'a> {
    pub(super) certificate: (&'static str, &'a str),
    pub(super) key: (&'static str, &'a str),
    /// What to do when one is missing.
    pub(super) remedy: &'static str,
}

impl Pair<'_> {
    /// Reads both and checks that they belong together and are valid now.
    pub(super) fn load(&self, needed: bool, places: &Places) -> Result<Option<Certificate>, Fault> {
        let Pair { certificate: (chain_name, chain_file), key: (key_name, key_file), remedy } = *self;
        match (chain_file.is_empty(), key_file.is_empty()) {
            (true, true) if !needed => return Ok(None),
            (true, _) => return Err(Fault::new(chain_name, "TLS needs a certificate chain", remedy)),
            (false, true) => return Err(Fault::new(key_name, "the certificate's private key is missing", remedy)),
            (false, false) => {}
        }
        let chain_path = places.find(chain_name, chain_file)?;
        let key_path = places.find(key_name, key_file)?;
        let chain = read(chain_name, &chain_path, false)?;
        let key = read(key_name, &key_path, true)?;
        let certificate =
            Certificate::from_pem(&chain, &key).map_err(|error| self.unusable(error, &chain_path, &key_path))?;
        let shown = chain_path.display();
        let now = unix_now();
        if certificate.not_after() < now {
            let days = (now - certificate.not_after()) / 86_400;
            return Err(Fault::new(
                chain_name,
                format!("the certificate in {shown} has expired, {days} days ago"),
                "renew it; a server that runs takes the new one on SIGHUP",
            ));
        }
        if certificate.not_before() > now {
            return Err(Fault::new(
                chain_name,
                format!("the certificate in {shown} is not valid yet"),
                "look at the clock of this machine, or at the certificate: `openssl x509 -noout -dates -in FILE`",
            ));
        }
        Ok(Some(certificate))
    }

    fn unusable(&self, error: CertificateError, chain: &Path, key: &Path) -> Fault {
        let (chain_name, key_name, chain, key) = (self.certificate.0, self.key.0, chain.display(), key.display());
        match error {
            CertificateError::NoCertificate => Fault::new(
                chain_name,
                format!("{chain} has no certificate in PEM"),
                "name the file with the whole chain, often called fullchain.pem",
            ),
            CertificateError::BadCertificate => Fault::new(
                chain_name,
                format!("{chain} has a certificate that cannot be read"),
                "look at it with `openssl x509 -noout -text -in FILE`",
            ),
            CertificateError::NoKey => Fault::new(
                key_name,
                format!("{key} has no private key in PEM"),
                "name the file of the private key, often called privkey.pem; it must not be encrypted",
            ),
            CertificateError::BadKey => Fault::new(
                key_name,
                format!("the private key in {key} is of a kind that is not supported"),
                "use an ECDSA (P-256, P-384), Ed25519 or RSA key",
            ),
            CertificateError::Mismatch => Fault::new(
                key_name,
                format!("the private key in {key} does not belong to the first certificate in {chain}"),
                "put the server's own certificate first, and name the key that it was made for",
            ),
        }
    }
}

fn read(key: &str, path: &Path, secret: bool) -> Result<zeroize::Zeroizing<Vec<u8>>, Fault> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| {
        let remedy =
            format!("let the server's user read it, for example `chgrp turnwell {shown}` and `chmod 640 {shown}`");
        Fault::new(key, format!("cannot read {shown}: {error}"), remedy)
    };
    let about = fs::metadata(path).map_err(unreadable)?;
    let mode = about.permissions().mode() & 0o777;
    if secret && mode & 0o006 != 0 {
        return Err(Fault::new(
            key,
            format!("{shown} is open to every user of this machine (mode {mode:03o})"),
            format!("close it: `chmod 640 {shown}`"),
        ));
    }
    if about.len() > LONGEST {
        return Err(Fault::new(key, format!("{shown} is longer than 1 MiB"), "name a file in PEM"));
    }
    fs::read(path).map(zeroize::Zeroizing::new).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Folder {
            Folder(tempfile::tempdir().unwrap())
        }

        fn write(&self, name: &str, text: &str, mode: u32) {
            fs::write(self.0.path().join(name), text).unwrap();
            fs::set_permissions(self.0.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        }

        /// A certificate for `turn.example.org` that is valid until the end of that year.
        fn certificate(&self, until: i32) {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(["turn.example.org".to_owned()]).unwrap();
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(until, 12, 31);
            self.write("chain.pem", &params.self_signed(&key).unwrap().pem(), 0o644);
            self.write("key.pem", &key.serialize_pem(), 0o640);
        }

        fn load(&self, host: Option<&str>) -> Result<Option<Certificate>, Fault> {
            let places = Places::new(self.0.path().to_owned(), None);
            let tls = file::Tls { certificate: "chain.pem".into(), key: "key.pem".into() };
            tls.certificate(true, host, &places)
        }
    }

    #[test]
    fn a_good_certificate_is_taken() {
        let folder = Folder::new();
        folder.certificate(4000);
        assert!(folder.load(Some("turn.example.org")).unwrap().is_some());
        assert!(folder.load(None).unwrap().is_some());
    }

    #[test]
    fn each_fault_names_key_and_remedy() {
        let folder = Folder::new();
        let fault = |host| folder.load(host).unwrap_err();
        assert!(fault(None).what.contains("cannot read"));
        folder.certificate(4000);
        let other = fault(Some("other.example.org"));
        assert!(other.key == "tls.certificate" && other.what.contains("not for other.example.org"), "{other:?}");
        folder.write("key.pem", &KeyPair::generate().unwrap().serialize_pem(), 0o640);
        assert!(fault(None).what.contains("does not belong"));
        folder.certificate(2010);
        assert!(fault(None).what.contains("has expired"));
        folder.write("key.pem", "", 0o644);
        assert!(fault(None).what.contains("every user"));
        folder.write("key.pem", "", 0o640);
        assert!(fault(None).what.contains("no private key"));
        folder.write("chain.pem", "", 0o640);
        assert!(fault(None).key == "tls.key" || fault(None).key == "tls.certificate");
    }

    #[test]
    fn listeners_without_a_certificate_are_refused_and_nothing_is_needed_without_them() {
        let places = Places::new("/nonexistent".into(), None);
        assert!(file::Tls::default().certificate(false, None, &places).unwrap().is_none());
        assert_eq!(file::Tls::default().certificate(true, None, &places).unwrap_err().key, "tls.certificate");
        let half = file::Tls { certificate: "chain.pem".into(), key: String::new() };
        assert_eq!(half.certificate(true, None, &places).unwrap_err().key, "tls.key");
    }
}
