//! Level-triggered epoll, and an eventfd to wake it from another thread.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::{check, check_length};

/// What to be told about a file descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest(u32);

#[allow(clippy::cast_sign_loss, reason = "libc declares flag bits as signed")]
impl Interest {
    /// Only errors, which are always told.
    pub const NONE: Interest = Interest(0);
    /// There is something to read.
    pub const READ: Interest = Interest(libc::EPOLLIN as u32);
    /// There is room to write.
    pub const WRITE: Interest = Interest(libc::EPOLLOUT as u32);
    /// Either.
    pub const BOTH: Interest = Interest(libc::EPOLLIN as u32 | libc::EPOLLOUT as u32);
}

/// An epoll instance. A descriptor that stays ready is reported by every wait, so a reader may take one datagram
/// and leave the rest for the next turn.
#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
}

impl Epoll {
    /// An empty instance.
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: takes no pointer.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the call succeeded, so the descriptor is open and nobody else's.
        Ok(Epoll { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Watches a descriptor; events carry `token`. The kernel forgets it when it is closed.
    pub fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd.as_fd(), token, interest.0)
    }

    /// Changes token and interest of a watched descriptor.
    pub fn modify(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd.as_fd(), token, interest.0)
    }

    /// Watches a descriptor no longer.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd.as_fd(), 0, 0)
    }

    /// Waits until something is ready, the time is over (`None`: never), or a signal came, and returns how many
    /// events there are. The timeout is rounded up to whole milliseconds, so that a deadline has passed on return.
    pub fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<usize> {
        events.filled = 0;
        let timeout = timeout.map_or(-1, milliseconds);
        let capacity = libc::c_int::try_from(events.slots.len()).unwrap_or(libc::c_int::MAX);
        // SAFETY: the pointer is to `capacity` events that the kernel may overwrite.
        let result = unsafe { libc::epoll_wait(self.fd.as_raw_fd(), events.slots.as_mut_ptr(), capacity, timeout) };
        match check(result) {
            Ok(count) => events.filled = usize::try_from(count).unwrap_or(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(events.filled)
    }

    fn control(&self, operation: libc::c_int, fd: BorrowedFd<'_>, token: u64, events: u32) -> io::Result<()> {
        let mut event = libc::epoll_event { events, u64: token };
        // SAFETY: `event` lives for the call, which copies it; both descriptors are borrowed, so open.
        check(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd.as_raw_fd(), &mut event) })?;
        Ok(())
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Whole milliseconds, rounded up.
fn milliseconds(timeout: Duration) -> libc::c_int {
    libc::c_int::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX)
}

/// Room for the events of one wait.
pub struct Events {
    slots: Vec<libc::epoll_event>,
    filled: usize,
}

/// One descriptor's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// What the descriptor was added with.
    pub token: u64,
    /// A read would not block.
    pub readable: bool,
    /// A write would not block.
    pub writable: bool,
    /// The descriptor has an error or its other side hung up; the next call on it says more.
    pub error: bool,
}

impl Events {
    /// At most `capacity` events (at least one) are taken from the kernel at a time; the others wait for the next call.
    pub fn with_capacity(capacity: usize) -> Events {
        Events { slots: vec![libc::epoll_event { events: 0, u64: 0 }; capacity.max(1)], filled: 0 }
    }

    /// The events of the last wait.
    pub fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        self.slots.iter().take(self.filled).map(described)
    }

    /// The `index`-th event of the last wait, for loops that change their owner while they walk.
    pub fn at(&self, index: usize) -> Option<Event> {
        self.slots.get(..self.filled)?.get(index).map(described)
    }
}

#[allow(clippy::cast_sign_loss, reason = "libc declares flag bits as signed")]
fn described(slot: &libc::epoll_event) -> Event {
    let bits = slot.events;
    let has = |flags: libc::c_int| bits & flags as u32 != 0;
    Event {
        token: slot.u64,
        readable: has(libc::EPOLLIN),
        writable: has(libc::EPOLLOUT),
        error: has(libc::EPOLLERR | libc::EPOLLHUP),
    }
}

/// A counter another thread raises to wake an [`Epoll`] that watches it.
#[derive(Debug)]
pub struct Wake {
    fd: OwnedFd,
}

impl Wake {
    /// Not raised.
    pub fn new() -> io::Result<Wake> {
        // SAFETY: takes no pointer.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: the call succeeded, so the descriptor is open and nobody else's.
        Ok(Wake { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Makes the descriptor readable. A full counter is raised already, which is all that is wanted.
    pub fn wake(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight bytes are read from a live array.
        let _ = check_length(unsafe { libc::write(self.fd.as_raw_fd(), one.as_ptr().cast(), one.len()) });
    }

    /// Makes it unreadable again.
    pub fn drain(&self) {
        let mut count = [0u8; 8];
        // SAFETY: eight bytes are written to a live array.
        let _ = check_length(unsafe { libc::read(self.fd.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) });
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Option<Duration> = Some(Duration::ZERO);

    #[test]
    fn a_ready_descriptor_is_reported_until_it_is_drained() {
        let (epoll, wake, mut events) = (Epoll::new().unwrap(), Wake::new().unwrap(), Events::with_capacity(4));
        epoll.add(&wake, 42, Interest::READ).unwrap();
        assert_eq!(epoll.wait(&mut events, NOW).unwrap(), 0);
        wake.wake();
        wake.wake();
        for _ in 0..3 {
            assert_eq!(epoll.wait(&mut events, None).unwrap(), 1);
            let event = Event { token: 42, readable: true, writable: false, error: false };
            assert_eq!(events.iter().collect::<Vec<_>>(), [event]);
            assert_eq!(events.at(0), Some(event));
            assert_eq!(events.at(1), None);
        }
        wake.drain();
        wake.drain();
        assert_eq!(epoll.wait(&mut events, NOW).unwrap(), 0);
        assert_eq!(events.iter().count(), 0);
    }

    #[test]
    fn token_and_interest_can_change() {
        let (epoll, wake, mut events) = (Epoll::new().unwrap(), Wake::new().unwrap(), Events::with_capacity(4));
        epoll.add(&wake, 1, Interest::BOTH).unwrap();
        epoll.wait(&mut events, NOW).unwrap();
        assert_eq!(events.at(0), Some(Event { token: 1, readable: false, writable: true, error: false }));
        epoll.modify(&wake, 2, Interest::READ).unwrap();
        assert_eq!(epoll.wait(&mut events, NOW).unwrap(), 0);
        epoll.modify(&wake, 3, Interest::WRITE).unwrap();
        epoll.wait(&mut events, NOW).unwrap();
        assert_eq!(events.at(0).map(|event| event.token), Some(3));
        epoll.remove(&wake).unwrap();
        assert_eq!(epoll.wait(&mut events, NOW).unwrap(), 0);
    }

    #[test]
    fn misuse_is_an_error() {
        let (epoll, wake) = (Epoll::new().unwrap(), Wake::new().unwrap());
        assert_eq!(epoll.remove(&wake).unwrap_err().kind(), io::ErrorKind::NotFound);
        epoll.add(&wake, 1, Interest::READ).unwrap();
        assert_eq!(epoll.add(&wake, 1, Interest::READ).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn timeouts_round_up() {
        assert_eq!(milliseconds(Duration::ZERO), 0);
        assert_eq!(milliseconds(Duration::from_nanos(1)), 1);
        assert_eq!(milliseconds(Duration::from_micros(1001)), 2);
        assert_eq!(milliseconds(Duration::MAX), libc::c_int::MAX);
    }

    #[test]
    fn one_wait_takes_at_most_the_capacity() {
        let (epoll, mut events) = (Epoll::new().unwrap(), Events::with_capacity(2));
        let wakes: Vec<_> = (0..3).map(|_| Wake::new().unwrap()).collect();
        for (token, wake) in (0..).zip(&wakes) {
            epoll.add(wake, token, Interest::READ).unwrap();
            wake.wake();
        }
        assert_eq!(epoll.wait(&mut events, NOW).unwrap(), 2);
    }
}
