//! What the black-box tests share: the binary under test as a process, its log, and DNS questions to it.
//!
//! The tests themselves are in `tests/`, one file per subject. They see the binary from outside only.

#![expect(clippy::panic, reason = "a test that cannot be set up fails by panicking")]

pub mod dns;
pub mod peers;
pub mod process;

pub use process::{Finished, Steer, steer_binary};

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

/// A loopback port that was free for both UDP and TCP a moment ago.
///
/// # Panics
/// When no such port is found.
#[must_use]
pub fn free_port() -> SocketAddr {
    for _ in 0..64 {
        let Ok(tcp) = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)) else {
            continue;
        };
        let Ok(address) = tcp.local_addr() else { continue };
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free loopback port");
}

/// Prints why a test does not run here. Call it and return.
pub fn skip(test: &str, why: &str) {
    eprintln!("skip: {test}: {why}");
}
