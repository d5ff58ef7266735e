//! `server.alternate`: where new clients are sent.

use super::file;
use super::problem::Fault;
use crate::relay::{Alternates, Redirect};
use crate::wire::attribute::is_domain;

impl file::Server {
    pub(super) fn alternates(&self) -> Result<Alternates, Fault> {
        for (index, server) in self.alternate.iter().enumerate() {
            if server.0.ip().is_unspecified() || server.0.ip().is_multicast() || server.0.port() == 0 {
                return Err(Fault::new(
                    format!("server.alternate[{index}]"),
                    format!("{} is not where a server can be", server.0),
                    "write the address and port of another server, for example \"192.0.2.8:3478\"",
                ));
            }
        }
        let domain = self.alternate_domain.as_str();
        if !domain.is_empty() && !is_domain(domain) {
            return Err(Fault::new(
                "server.alternate-domain",
                format!("{domain:?} is not a DNS name"),
                "write the bare name, for example \"turn2.example.org\"",
            ));
        }
        if self.redirect == file::Redirect::Always && self.alternate.is_empty() {
            return Err(Fault::new("server.redirect", "there is no server to send clients to", "set server.alternate"));
        }
        Ok(Alternates {
            servers: self.alternate.iter().map(|server| server.0).collect(),
            domain: (!domain.is_empty()).then(|| domain.into()),
            redirect: match self.redirect {
                file::Redirect::Drain => Redirect::Draining,
                file::Redirect::Always => Redirect::Always,
            },
        })
    }
}
