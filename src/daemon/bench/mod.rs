//! `turnwell bench`: a load generator for any TURN server.
//!
//! One thread, so that the cost of a packet here stays below its cost in the server: epoll, recvmmsg and GRO in,
//! sendmmsg and GSO out. Clients and peers are sockets of this process; the client's STUN is our own `wire`.
//! `args` is the command line, `transact` the requests, `load` and `ping` what is measured, `report` the result.

#![allow(clippy::disallowed_methods, reason = "a load generator has a clock, reads /proc and needs random bytes")]

mod account;
mod args;
mod client;
mod error;
mod histogram;
mod link;
mod load;
mod ping;
mod process;
mod progress;
mod report;
mod runs;
mod seal;
mod setup;
mod stream;
mod transact;

use std::process::ExitCode;

pub use args::{BenchArgs, Mode, Transport};

use args::Plan;
use error::BenchError;
use report::Report;

use crate::net::sys::pin_to_core;

/// Runs the load and prints the report on standard output; errors go to standard error with a sysexits code.
pub fn run(args: &BenchArgs) -> ExitCode {
    match measure(args) {
        Ok(report) => {
            if args.json {
                println!("{}", report.json());
            } else {
                print!("{}", report.text());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("turnwell bench: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn measure(args: &BenchArgs) -> Result<Report, BenchError> {
    let plan = Plan::new(args)?;
    if let Some(core) = args.core {
        pin_to_core(core).map_err(BenchError::system("cannot keep to --core"))?;
    }
    match args.mode {
        Mode::ClientToPeer | Mode::PeerToClient | Mode::Both => runs::relay(&plan),
        Mode::RelayToRelay => runs::relay_to_relay(&plan),
        Mode::PingPong => runs::ping_pong(&plan),
        Mode::Binding | Mode::Forged => runs::requests(&plan),
        Mode::Allocate => runs::allocate(&plan),
        Mode::Hold => runs::hold(&plan),
    }
}
