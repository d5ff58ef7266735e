//! A self-signed certificate for development, in a folder that goes with the process.

use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use super::super::config::File;
use super::super::exit::Failure;
use crate::net;

/// The files, readable by this user only; removed when dropped.
pub(super) struct ThrowAway {
    folder: PathBuf,
}

impl ThrowAway {
    /// A certificate for this machine as far as the listeners reach.
    pub(super) fn new(file: &File) -> Result<ThrowAway, Failure> {
        let made = rcgen::generate_simple_self_signed(names(file)).map_err(Failure::internal)?;
        let failed = |error: io::Error| Failure::system("cannot write the throw-away certificate", &error);
        let kept = ThrowAway { folder: std::env::temp_dir().join(format!("turnwell-dev-{}", super::dev::random()?)) };
        DirBuilder::new().mode(0o700).create(&kept.folder).map_err(failed)?;
        for (path, text) in [(kept.certificate(), made.cert.pem()), (kept.key(), made.signing_key.serialize_pem())] {
            let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(failed)?;
        }
        Ok(kept)
    }

    /// The certificate, to be trusted by clients.
    pub(super) fn certificate(&self) -> PathBuf {
        self.folder.join("certificate.pem")
    }

    /// Its private key.
    pub(super) fn key(&self) -> PathBuf {
        self.folder.join("key.pem")
    }
}

impl Drop for ThrowAway {
    fn drop(&mut self) {
        // In the system's folder for temporary files nothing stays for ever.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Every name and address by which this machine is reached.
fn names(file: &File) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    if !file.server.public_host.is_empty() {
        names.push(file.server.public_host.clone());
    }
    for endpoint in file.listen.tls.iter().chain(&file.listen.auto) {
        // What cannot be listed is not named; binding it will say more.
        let addresses = net::expand_wildcard(endpoint.0).unwrap_or_default();
        names.extend(addresses.iter().map(|address| address.ip().to_string()));
    }
    names.extend(file.relay.external.iter().map(|entry| entry.public.0.to_string()));
    names.sort_unstable();
    names.dedup();
    names
}
