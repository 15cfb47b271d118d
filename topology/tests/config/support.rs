//! What the tests of the configuration share.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use steer_topology::{Faults, Fleet, Resolve};

/// A resolver that knows three hosts and asks nobody.
pub(crate) struct Hosts;

impl Resolve for Hosts {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let v4 = |last| SocketAddr::from((Ipv4Addr::new(198, 51, 100, last), port));
        match host {
            "one.example" => Ok(vec![v4(1)]),
            "multi.example" => {
                let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
                Ok(vec![v4(2), SocketAddr::from((v6, port)), v4(2)])
            }
            "empty.example" => Ok(Vec::new()),
            _ => Err(io::Error::other("no such host")),
        }
    }
}

/// A folder of test files. Relative, so that messages are the same on every machine: tests run in the crate's root.
pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new("tests").join(name)
}

/// A file of `tests/valid`.
pub(crate) fn load(file: &str) -> Result<Fleet, Faults> {
    Fleet::load(&folder("valid").join(file), &Hosts)
}

/// A text that stands in the crate's root.
pub(crate) fn parse(text: &str) -> Result<Fleet, Faults> {
    Fleet::parse(text, Path::new("steer.toml"), &Hosts)
}
