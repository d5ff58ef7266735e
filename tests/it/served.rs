//! A `turnwell serve` on loopback with an API that may do everything, for what an operator does to a running server.

use std::net::SocketAddr;

use serde_json::Value;

use crate::caller::{Call, call};
use crate::sessions::Server;
use crate::support::{Folder, Serve, free_port};

/// Peers on this machine are allowed.
pub(crate) const LOCAL: &str = "[peers]\nallow = [\"127.0.0.0/8\"]\n";
const KEY: &str = "0123456789abcdef";

/// A server, its folder and its addresses.
pub(crate) struct Served {
    pub(crate) serve: Serve,
    pub(crate) folder: Folder,
    pub(crate) server: Server,
    base: String,
    udp: u16,
}

impl Served {
    /// Starts, and waits until it is ready. `more` is what the configuration says beside addresses and keys.
    pub(crate) fn start(more: &str) -> Served {
        Served::start_with(more, &[])
    }

    /// The same, with variables in its environment.
    pub(crate) fn start_with(more: &str, environment: &[(&str, &str)]) -> Served {
        let (udp, api) = (free_port(), free_port());
        let base = format!(
            "[listen]\nudp = [\"127.0.0.1:{udp}\"]\n[api]\nlisten = [\"127.0.0.1:{api}\"]\n\
             [[api.clients]]\nid = \"ops\"\nkey = \"{KEY}\"\nscopes = [\"admin\"]\nrate = 0\n\
             [credentials]\nsecrets = [\"s3cret\"]\n"
        );
        let folder = Folder::with(&format!("{base}{more}"));
        let serve = Serve::start_with(&folder.config(), environment);
        serve.notified("READY=1");
        let server = Server { api: format!("http://127.0.0.1:{api}"), key: KEY.into() };
        Served { serve, folder, server, base, udp }
    }

    /// Writes the configuration anew; returns the line on which `more` begins.
    pub(crate) fn rewrite(&self, more: &str) -> usize {
        self.folder.write("turnwell.toml", &format!("{}{more}", self.base), 0o600);
        self.base.lines().count() + 1
    }

    /// `POST /v1/reload`.
    pub(crate) fn reload(&self) -> (u16, Value) {
        self.server.ask("POST", "/v1/reload", None)
    }

    /// Allocates for a user.
    pub(crate) async fn call(&self, user: &str) -> Result<Call, String> {
        self.call_with(&self.server.mint(user)).await
    }

    /// The listener.
    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.udp).into()
    }

    /// Allocates with a credential that is there already: a server that drains mints none.
    pub(crate) async fn call_with(&self, minted: &Value) -> Result<Call, String> {
        call(self.address(), "turnwell", minted).await
    }
}
