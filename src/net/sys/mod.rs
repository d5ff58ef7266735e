//! The system calls that no safe crate offers: epoll, eventfd, TCP's accept4, and UDP with recvmmsg, sendmmsg, GRO, GSO and
//! the error queue.
//!
//! Owns every `unsafe` block of the crate. It knows nothing of STUN, TURN or workers: file descriptors and bytes go
//! in, bytes and addresses come out. Nothing here allocates per packet.

#![allow(
    unsafe_code,
    reason = "raw system calls live here so that they live nowhere else; every block says why it is sound"
)]

mod address;
mod control;
mod epoll;
mod errors;
mod process;
mod receive;
mod send;
mod tcp;
mod udp;

use std::io;

pub use epoll::{Epoll, Event, Events, Interest, Wake};
pub use errors::{SendError, may_be_of_earlier, receive_error};
pub use process::{
    clock_is_synchronized, hard_limit_of_open_files, pin_to_core, precise_sleeps, raise_open_files, thread_cpu_time,
};
pub use receive::{ReceiveBatch, Received, Segments, receive_one};
pub use send::{MAX_PARTS, MAX_SEGMENTED_BYTES, MAX_SEGMENTS, Outgoing, SendBatch};
pub use tcp::{TcpListener, TcpOptions, TcpStream, connect_tcp, listen_tcp};
pub use udp::{UdpOptions, UdpSocket, bind_udp};

/// Turns the `-1` of a system call into the error it left in `errno`.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// As [`check`], for calls that return a length.
fn check_length(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
