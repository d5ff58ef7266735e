//! How the program ends when it fails: a sysexits code, and a text that names key and remedy.
//!
//! | code | name | meaning here |
//! |---|---|---|
//! | 64 | EX_USAGE | the command line is wrong |
//! | 65 | EX_DATAERR | what was given to be decoded is no message |
//! | 66 | EX_NOINPUT | the configuration file cannot be read |
//! | 69 | EX_UNAVAILABLE | a running server cannot be reached, or refuses |
//! | 70 | EX_SOFTWARE | a worker ended, which is a fault of ours |
//! | 71 | EX_OSERR | an address is taken, or the system refuses a thread or a socket |
//! | 73 | EX_CANTCREAT | a file cannot be written |
//! | 77 | EX_NOPERM | the system does not permit an address |
//! | 78 | EX_CONFIG | the configuration is wrong, or names an address that this machine has not |

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use super::config::{ConfigError, Fixed};
use crate::net::{StartError, StreamKind};

pub(super) const USAGE: u8 = 64;
/// Only `decode` meets it, which is not in every build.
#[cfg(feature = "doctor")]
pub(super) const DATA: u8 = 65;
pub(super) const NO_INPUT: u8 = 66;
pub(super) const UNAVAILABLE: u8 = 69;
const SOFTWARE: u8 = 70;
const OS_ERROR: u8 = 71;
pub(super) const CANNOT_CREATE: u8 = 73;
const NO_PERMISSION: u8 = 77;
pub(super) const CONFIG: u8 = 78;

/// Why the program ends.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: u8,
    text: String,
}

impl Failure {
    /// A failure of the operator's making.
    pub(super) fn new(code: u8, what: impl fmt::Display, remedy: impl fmt::Display) -> Failure {
        Failure { code, text: format!("{what}\n  remedy: {remedy}") }
    }

    /// A configuration that is wrong; the text has its remedies.
    pub(super) fn config(text: String) -> Failure {
        Failure { code: CONFIG, text }
    }

    /// A failure of ours.
    pub(super) fn internal(what: impl fmt::Display) -> Failure {
        Failure::new(SOFTWARE, what, "start it again, and please report this with the log")
    }

    /// The system refuses something that every program needs.
    pub(super) fn system(what: &str, error: &impl fmt::Display) -> Failure {
        Failure::new(
            OS_ERROR,
            format!("{what}: {error}"),
            "look at the limits of the process (descriptors, threads, memory)",
        )
    }

    /// A socket that could not be bound.
    pub(super) fn bind(key: &str, flag: &str, address: impl fmt::Display, error: &io::Error) -> Failure {
        let (code, remedy) = match error.kind() {
            io::ErrorKind::AddrInUse => (
                OS_ERROR,
                format!(
                    "stop the program that holds it (`ss -lunpt` names it), or change {key} ({flag} of `turnwell dev`)"
                ),
            ),
            io::ErrorKind::AddrNotAvailable => (
                CONFIG,
                format!(
                    "change {key} ({flag} of `turnwell dev`) to an address of this machine \
                    (`ip address` lists them); a public address that a NAT maps belongs into relay.external"
                ),
            ),
            io::ErrorKind::PermissionDenied => (
                NO_PERMISSION,
                format!(
                    "choose a port above 1023 in {key} ({flag} of `turnwell dev`), \
                    or grant the capability CAP_NET_BIND_SERVICE (systemd/drop-ins/privileged-ports.conf)"
                ),
            ),
            _ => (OS_ERROR, format!("change {key} ({flag} of `turnwell dev`), or look at the limits of the process")),
        };
        Failure::new(code, format!("{key}: cannot bind {address}: {error}"), remedy)
    }

    /// What an earlier run kept cannot be read.
    pub(super) fn state(fixed: &Fixed, error: &io::Error) -> Failure {
        let folder = fixed.state_dir.as_deref().unwrap_or(Path::new("")).display();
        Failure::new(
            CONFIG,
            format!("credentials.state-dir: cannot read the revocations in {folder}: {error}"),
            "let the server's user read and write the folder; a damaged revocations.json can be removed, \
            but then everybody in it is readmitted",
        )
    }

    /// The HTTP API's socket could not be bound.
    pub(super) fn bind_api(address: SocketAddr, error: &io::Error) -> Failure {
        Failure::bind("api.listen", "--api", address, error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        let code = if error.unreadable { NO_INPUT } else { CONFIG };
        Failure { code, text: error.to_string() }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Failure {
        match error {
            StartError::Listen { addr, error } => Failure::bind("listen.udp", "--listen", addr, &error),
            StartError::ListenStream { listener, error } => match listener.kind {
                StreamKind::Tcp => Failure::bind("listen.tcp", "--tcp-listen", listener.addr, &error),
                StreamKind::Tls => Failure::bind("listen.tls", "--tls-listen", listener.addr, &error),
                StreamKind::Auto => Failure::bind("listen.auto", "--tls-listen", listener.addr, &error),
            },
            StartError::Relay { addr, error } => Failure::bind("relay.addresses", "--relay-ip", addr, &error),
            StartError::Ports => Failure::new(
                CONFIG,
                "relay.ports: there is no port to relay on",
                "widen relay.ports (--relay-ports of `turnwell dev`)",
            ),
            StartError::Worker(error) => Failure::system("cannot start a worker", &error),
        }
    }
}
