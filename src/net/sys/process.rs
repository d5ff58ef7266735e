//! What a thread or the process asks of the kernel for itself.

use std::io;
use std::mem::{size_of, zeroed};
use std::time::Duration;

use super::check;

/// Keeps the calling thread on one core.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    if core >= usize::try_from(libc::CPU_SETSIZE).unwrap_or(0) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: a set of zeros is the empty set.
    let mut set: libc::cpu_set_t = unsafe { zeroed() };
    // SAFETY: `core` is below the size of the set.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the set lives for the call, which reads as many bytes as it is told; 0 is the calling thread.
    check(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) })?;
    Ok(())
}

/// Makes short sleeps of the calling thread end when they should: by default the kernel may add 50 µs.
pub fn precise_sleeps() -> io::Result<()> {
    // SAFETY: takes no pointer.
    check(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_000 as libc::c_ulong, 0, 0, 0) })?;
    Ok(())
}

/// The CPU time the calling thread has used.
pub fn thread_cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` lives for the call. This clock always exists, so the result needs no look.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Whether the kernel believes that something keeps the clock of this machine right (RFC 5905 by another program).
pub fn clock_is_synchronized() -> io::Result<bool> {
    // SAFETY: zeros are a request that changes nothing.
    let mut state: libc::timex = unsafe { zeroed() };
    // SAFETY: `state` lives for the call.
    let clock = check(unsafe { libc::adjtimex(&mut state) })?;
    Ok(clock != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0)
}

/// Raises the soft limit of open files to `wanted`, or as near as the hard limit allows, and returns what it is now.
/// It is never lowered.
pub fn raise_open_files(wanted: u64) -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` lives for the call.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    if limit.rlim_cur < wanted {
        limit.rlim_cur = wanted.min(limit.rlim_max);
        // SAFETY: as above.
        check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) })?;
    }
    Ok(limit.rlim_cur)
}

/// How many files this process could open at most.
pub fn hard_limit_of_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` lives for the call.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    Ok(limit.rlim_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_cannot_exist_is_refused() {
        assert!(pin_to_core(usize::MAX).is_err());
        assert!(pin_to_core(1023).is_err());
    }

    #[test]
    fn cpu_time_goes_up() {
        let before = thread_cpu_time();
        while thread_cpu_time() == before {}
        assert!(thread_cpu_time() > before);
    }

    #[test]
    fn the_clock_is_asked_and_left_alone() {
        // a sandbox may forbid the question
        if let Ok(before) = clock_is_synchronized() {
            assert_eq!(clock_is_synchronized().unwrap(), before);
        }
    }

    #[test]
    fn open_files_are_never_lowered() {
        let now = raise_open_files(0).unwrap();
        assert_eq!(raise_open_files(1).unwrap(), now);
        assert!(raise_open_files(now).unwrap() >= now);
        assert!(hard_limit_of_open_files().unwrap() >= now);
    }
}
