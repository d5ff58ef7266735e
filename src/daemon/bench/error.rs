//! What can stop a run, and what to do about it.

use std::fmt;
use std::io;

use super::client::Step;

/// Why there is no report.
#[derive(Debug)]
pub(super) enum BenchError {
    /// The arguments contradict each other.
    Usage(String),
    /// The host has no address.
    Resolve { server: String, error: io::Error },
    /// Nothing came back.
    Silent { server: String, step: Step },
    /// An error response.
    Refused { server: String, step: Step, code: u16 },
    /// The process to be measured cannot be.
    Process { pid: u32, error: io::Error },
    /// A system call of our own failed.
    System { what: &'static str, error: io::Error },
}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BenchError::Usage(text) => f.write_str(text),
            BenchError::Resolve { server, error } => write!(f, "cannot resolve {server}: {error}"),
            BenchError::Silent { server, step } => {
                write!(f, "{server} does not answer to {step}: is it running, and is the port right?")
            }
            BenchError::Refused { server, step, code } => {
                write!(f, "{server} refused {step} with {code}{}", hint(*code))
            }
            BenchError::Process { pid, error } => write!(f, "cannot read the use of process {pid}: {error}"),
            BenchError::System { what, error } => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for BenchError {}

impl BenchError {
    /// Names the call that failed.
    pub(super) fn system(what: &'static str) -> impl Fn(io::Error) -> BenchError {
        move |error| BenchError::System { what, error }
    }

    /// The sysexits code.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            BenchError::Usage(_) => 64,
            BenchError::Resolve { .. } => 68,
            BenchError::Silent { .. } => 69,
            BenchError::Refused { .. } => 77,
            BenchError::Process { .. } => 66,
            BenchError::System { .. } => 71,
        }
    }
}

fn hint(code: u16) -> &'static str {
    match code {
        401 => ": the secret, or user and password, are not the server's",
        403 => ": it does not relay to this peer address (loopback and private peers must be allowed)",
        442 => ": it does not relay UDP",
        486 => ": the user's quota is too small for so many clients (with --secret, try --users)",
        508 => ": it has no relay ports left",
        _ => "",
    }
}
