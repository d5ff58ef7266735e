//! What the server's process costs, read from /proc: the figure that survives a noisy machine.

use std::fs;
use std::io;
use std::time::Duration;

use super::error::BenchError;

/// A process on this machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    pid: u32,
}

impl Process {
    /// Fails when there is no such process, or it may not be read.
    pub(super) fn new(pid: u32) -> Result<Process, BenchError> {
        let process = Process { pid };
        process.cpu_time()?;
        process.resident()?;
        Ok(process)
    }

    /// The CPU time of all threads that are alive: the first figure of each schedstat, in nanoseconds.
    pub(super) fn cpu_time(self) -> Result<Duration, BenchError> {
        let failed = |error| BenchError::Process { pid: self.pid, error };
        let mut nanoseconds = 0u64;
        for task in fs::read_dir(format!("/proc/{}/task", self.pid)).map_err(failed)? {
            let path = task.map_err(failed)?.path().join("schedstat");
            // A thread may end between the listing and the reading.
            let Ok(text) = fs::read_to_string(path) else { continue };
            nanoseconds += first_number(&text).ok_or_else(|| failed(malformed("schedstat")))?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// The resident memory in bytes.
    pub(super) fn resident(self) -> Result<u64, BenchError> {
        let failed = |error| BenchError::Process { pid: self.pid, error };
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid)).map_err(failed)?;
        let kibibytes = text.lines().find_map(|line| first_number(line.strip_prefix("VmRSS:")?));
        Ok(kibibytes.ok_or_else(|| failed(malformed("VmRSS")))? * 1024)
    }
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("no {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_time_and_memory() {
        let process = Process::new(std::process::id()).unwrap();
        assert!(process.cpu_time().unwrap() > Duration::ZERO);
        assert!(process.resident().unwrap() > 100_000);
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert!(matches!(Process::new(u32::MAX), Err(BenchError::Process { .. })));
    }
}
