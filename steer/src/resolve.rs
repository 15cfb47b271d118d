//! Host names in the configuration, resolved by the system.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use steer_topology::Resolve;

/// The system's resolver (`/etc/hosts`, DNS), asked once per load.
pub(crate) struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok((host, port).to_socket_addrs()?.collect())
    }
}
