//! What the black-box tests share: the binary under test as a process, its log, and DNS questions to it.
//!
//! The tests themselves are in `tests/`, one file per subject. They see the binary from outside only.

#![expect(clippy::panic, reason = "a test that cannot be set up fails by panicking")]

pub mod admin;
pub mod dns;
pub mod peers;
pub mod process;
pub mod served;
pub mod sim;

pub use admin::Admin;
pub use process::{Finished, Steer, steer_binary};

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

/// A loopback port that is free for both UDP and TCP, below the range from which the kernel takes ports for
/// clients (32768 on Linux), and not given out twice by one test program.
///
/// # Panics
/// When no such port is found.
#[must_use]
pub fn free_port() -> SocketAddr {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let offset = u16::try_from(std::process::id() % 8_000).unwrap_or(0);
    for _ in 0..4_000 {
        let port = 16_000 + (offset + GIVEN.fetch_add(4, Ordering::Relaxed)) % 16_000;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free loopback port");
}

/// Prints why a test does not run here. Call it and return.
pub fn skip(test: &str, why: &str) {
    eprintln!("skip: {test}: {why}");
}
