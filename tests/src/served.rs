//! The least that answers: a zone, one steered name on the pool `web`, and the admin address.

use std::net::SocketAddr;
use std::path::Path;
use std::{fs, io};

/// `example.com` with nothing but what a zone must have.
pub const ZONE: &str =
    "@ 60 IN SOA ns1 hostmaster 1 7200 900 1209600 60\n@ 60 IN NS ns1\nns1 60 IN A 192.0.2.1\n";

/// The end of a `steer.toml` whose pool is called `web`: `www.example.com` is the first of its endpoints that is up.
#[must_use]
pub fn www(dns: SocketAddr, admin: SocketAddr) -> String {
    format!(
        r#"
[dns]
listen = ["{dns}"]
[[zone]]
name = "example.com"
file = "example.com.zone"
[[steer]]
name = "www.example.com"
pool = "web"
chain = ["up", "take 1"]
[admin]
listen = "{admin}"
"#
    )
}

/// Writes the zone beside the configuration.
///
/// # Errors
/// The folder cannot be written to.
pub fn write_zone(folder: &Path) -> io::Result<()> {
    fs::write(folder.join("example.com.zone"), ZONE)
}
