//! Who holds a port. Linux tells it in `/proc`; what this user may not see stays untold.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

/// Program and process id behind a socket that is bound to `address`'s port, where it can be found.
pub(crate) fn of(address: SocketAddr, is_tcp: bool) -> Option<String> {
    let tables: &[&str] = if is_tcp {
        &["tcp", "tcp6"]
    } else {
        &["udp", "udp6"]
    };
    let inode = tables.iter().find_map(|table| {
        let text = fs::read_to_string(Path::new("/proc/net").join(table)).ok()?;
        text.lines()
            .skip(1)
            .find_map(|line| inode(line, address.port(), is_tcp))
    })?;
    let target = format!("socket:[{inode}]");
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let holds = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        let found = holds
            .into_iter()
            .any(|file| fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == &*target));
        let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        found.then(|| format!("{}, process {pid}", name.trim()))
    })
}

/// `sl local_address rem_address st .. inode`, proc(5). A TCP socket holds a port while it listens: state 0A.
fn inode(line: &str, port: u16, is_tcp: bool) -> Option<u64> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (_, hex) = fields.get(1)?.rsplit_once(':')?;
    let is_port = u16::from_str_radix(hex, 16) == Ok(port);
    let listens = !is_tcp || *fields.get(3)? == "0A";
    if is_port && listens {
        fields.get(9)?.parse().ok()
    } else {
        None
    }
}
