//! Network namespaces of a test's own.

#![allow(unsafe_code, reason = "namespaces are system calls")]
#![allow(clippy::disallowed_methods, reason = "the bans are for the core")]

use std::io;
use std::process::Command;

/// From now on this thread, and what it starts, has a network of its own.
pub(crate) fn enter() -> io::Result<()> {
    // SAFETY: takes no pointer and concerns this thread only.
    match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// By which others can name the namespace of this thread.
pub(crate) fn thread_id() -> libc::pid_t {
    // SAFETY: takes no pointer, has no effect.
    unsafe { libc::gettid() }
}

/// Runs `ip` in the namespace of this thread.
pub(crate) fn ip(arguments: &str) -> io::Result<()> {
    let status = Command::new("ip").args(arguments.split(' ')).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("ip {arguments}: {status}"))) }
}
