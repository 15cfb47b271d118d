//! The system calls that no safe wrapper has: options as octets, and the send queue's length.

#![expect(
    unsafe_code,
    reason = "TCP_MD5SIG, IP_MINTTL, TCP_SAVED_SYN and SIOCOUTQ have no safe wrapper"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use libc::{c_int, c_void, socklen_t};

/// `setsockopt` with the octets of the value.
pub(super) fn set(socket: &impl AsFd, level: c_int, name: c_int, value: &[u8]) -> io::Result<()> {
    let length = socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open while it is borrowed, and the kernel reads `length` octets of `value`.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            value.as_ptr().cast::<c_void>(),
            length,
        )
    };
    checked(result)
}

/// `getsockopt`; how many octets of `value` were written.
pub(super) fn get(socket: &impl AsFd, level: c_int, name: c_int, value: &mut [u8]) -> io::Result<usize> {
    let mut length = socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: as above; the kernel writes at most `length` octets, and says in it how many.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast::<c_void>(),
            &raw mut length,
        )
    };
    checked(result)?;
    Ok(length as usize)
}

/// Octets that were written and that the other end's TCP has not acknowledged (`SIOCOUTQ`).
pub(crate) fn unacknowledged(socket: &impl AsFd) -> io::Result<u64> {
    let mut octets: c_int = 0;
    // SAFETY: the request writes one int. SIOCOUTQ has the number of TIOCOUTQ.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut octets) };
    checked(result)?;
    Ok(u64::try_from(octets).unwrap_or_default())
}

fn checked(result: c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
