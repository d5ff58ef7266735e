//! Control messages: what the kernel says about a datagram besides its bytes, and what it is told.

use std::mem::size_of;

/// Room for the control messages of one datagram: UDP_GRO and SO_RXQ_OVFL take 48 bytes.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Control([u8; CAPACITY]);

pub(super) const CAPACITY: usize = 64;

impl Control {
    pub(super) const EMPTY: Control = Control([0; CAPACITY]);
}

/// What a received datagram's control messages say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// UDP_GRO: the size of the segments that were glued together.
    pub(super) segment: Option<usize>,
    /// SO_RXQ_OVFL: datagrams the socket has dropped since it exists.
    pub(super) kernel_drops: Option<u32>,
}

/// Reads the control messages of a header that `recvmsg` or `recvmmsg` has filled.
///
/// # Safety
/// `msg_control` must point to `msg_controllen` initialised bytes that are aligned for a `cmsghdr`.
#[allow(clippy::unnecessary_cast, reason = "cmsg_len is not a usize in every C library")]
pub(super) unsafe fn read(header: &libc::msghdr) -> Told {
    let mut told = Told::default();
    // SAFETY: the caller promises a valid control buffer; the macro checks its length.
    let mut at = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !at.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return null or a header that lies wholly inside the buffer.
        let (message, data) = unsafe { (&*at, libc::CMSG_DATA(at)) };
        // SAFETY: CMSG_LEN only computes; both values read below have four bytes, which `cmsg_len` is checked to hold.
        if message.cmsg_len as usize >= unsafe { libc::CMSG_LEN(4) } as usize {
            // SAFETY: four bytes of data are inside the buffer, see above; alignment does not matter to this read.
            let value = unsafe { data.cast::<u32>().read_unaligned() };
            match (message.cmsg_level, message.cmsg_type) {
                (libc::SOL_UDP, libc::UDP_GRO) => told.segment = usize::try_from(value).ok().filter(|size| *size > 0),
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => told.kernel_drops = Some(value),
                _ => {}
            }
        }
        // SAFETY: `at` is a header inside the buffer of `header`.
        at = unsafe { libc::CMSG_NXTHDR(header, at) };
    }
    told
}

/// A control buffer with one UDP_SEGMENT message, and the length to announce.
pub(super) fn segment(size: u16) -> (Control, usize) {
    let mut control = Control::EMPTY;
    // SAFETY: CMSG_LEN and CMSG_SPACE only compute.
    let (length, space) = unsafe { (libc::CMSG_LEN(2) as usize, libc::CMSG_SPACE(2) as usize) };
    const { assert!(size_of::<libc::cmsghdr>() + 8 <= CAPACITY) };
    let at = control.0.as_mut_ptr().cast::<libc::cmsghdr>();
    // SAFETY: the buffer is aligned to eight bytes and is larger than the header and two bytes of data, so the
    // header's fields and the two bytes that CMSG_DATA points to can be written.
    unsafe {
        (*at).cmsg_level = libc::SOL_UDP;
        (*at).cmsg_type = libc::UDP_SEGMENT;
        (*at).cmsg_len = length as _;
        libc::CMSG_DATA(at).cast::<u16>().write_unaligned(size);
    }
    (control, space)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(control: &mut Control, length: usize) -> libc::msghdr {
        // SAFETY: a msghdr of zeros is a valid value: null pointers and zero lengths.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_control = std::ptr::from_mut(control).cast();
        header.msg_controllen = length as _;
        header
    }

    #[test]
    fn an_empty_buffer_says_nothing() {
        let mut control = Control::EMPTY;
        for length in [0, 8, CAPACITY] {
            let header = header(&mut control, length);
            // SAFETY: the buffer lives, is aligned and longer than `length`.
            assert_eq!(unsafe { read(&header) }, Told::default());
        }
    }

    #[test]
    fn a_value_that_does_not_fit_is_not_read() {
        // UDP_SEGMENT has two bytes; taken for UDP_GRO it would have to be four.
        let (mut control, space) = segment(1200);
        control.0[12..16].copy_from_slice(&libc::UDP_GRO.to_ne_bytes());
        let header = header(&mut control, space);
        // SAFETY: the buffer lives, is aligned and longer than `space`.
        assert_eq!(unsafe { read(&header) }, Told::default());
    }
}
