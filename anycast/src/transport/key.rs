//! What signs the segments of a peer: TCP MD5 (RFC 2385) or the TCP Authentication Option (RFC 5925). The kernel does
//! it; we hand it the key and never show it.

use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use libc::{IPPROTO_TCP, c_int};
use steer_topology::{Peer, TcpAo, TcpAoAlgorithm};

use super::sockopt;

/// Longest key that the kernel takes (`TCP_MD5SIG_MAXKEYLEN`, `TCP_AO_MAXKEYLEN`).
const MAX_KEY: usize = libc::TCP_MD5SIG_MAXKEYLEN;

/// Number of the option that adds a TCP-AO key (Linux 6.7 and later).
const TCP_AO_ADD_KEY: c_int = 38;

/// Octets of the authentication code in each segment (RFC 5926 §2.1).
const AO_CODE: u8 = 12;

/// Why a key file gives no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file.
    #[error("cannot read the key file {}: {source}; correct {key}, or make the file readable", path.display())]
    Read {
        /// Where it is configured.
        key: &'static str,
        /// As configured.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// What is in it.
    #[error("the key file {} holds {length} octets without the white space around them; want 1 to {MAX_KEY}", path.display())]
    Length {
        /// As configured.
        path: PathBuf,
        /// What was found.
        length: usize,
    },
}

/// Octets of a key file; white space around the key does not count.
fn read(path: &Path, key: &'static str) -> Result<Arc<[u8]>, KeyError> {
    let content = fs::read(path).map_err(|source| KeyError::Read {
        key,
        path: path.to_owned(),
        source,
    })?;
    let octets = content.trim_ascii();
    if (1..=MAX_KEY).contains(&octets.len()) {
        Ok(octets.into())
    } else {
        let (path, length) = (path.to_owned(), octets.len());
        Err(KeyError::Length { path, length })
    }
}

/// The key of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    Md5(Md5Key),
    Ao(AoKey),
}

impl Key {
    /// Reads the file that the peer names; `None`: its segments are not signed.
    pub(super) fn of(peer: &Peer) -> Result<Option<Self>, KeyError> {
        match (&peer.tcp_ao, &peer.password_file) {
            (Some(ao), _) => AoKey::read(ao).map(Self::Ao).map(Some),
            (None, Some(file)) => Md5Key::read(file).map(Self::Md5).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Segments to and from `address` are signed, others of it are dropped.
    pub(super) fn sign(&self, socket: &impl AsFd, address: IpAddr) -> io::Result<()> {
        match self {
            Self::Md5(key) => key.sign(socket, address),
            Self::Ao(key) => key.sign(socket, address),
        }
    }
}

/// The key of TCP MD5 (RFC 2385). Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Md5Key(Arc<[u8]>);

impl fmt::Debug for Md5Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Md5Key(..)")
    }
}

impl Md5Key {
    /// Reads a key file; white space around the key does not count.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        read(path, "password_file").map(Self)
    }

    /// RFC 2385 through `TCP_MD5SIG`: segments to and from `address` are signed, others of it are dropped.
    ///
    /// Gap: the kernel knows keys by address alone, not by interface: two link-local peers with one address on
    /// two interfaces need one key.
    pub fn sign(&self, socket: &impl AsFd, address: IpAddr) -> io::Result<()> {
        sockopt::set(socket, IPPROTO_TCP, libc::TCP_MD5SIG, &self.request(address))
    }

    /// `struct tcp_md5sig`: a `sockaddr_storage`, flags, prefix length, key length, interface, key.
    pub(super) fn request(&self, address: IpAddr) -> [u8; 216] {
        let mut request = [0; 216];
        put_address(&mut request, address);
        let length = self.0.len().min(MAX_KEY);
        request[130..132].copy_from_slice(&(length as u16).to_ne_bytes());
        request[136..136 + length].copy_from_slice(&self.0[..length]);
        request
    }
}

/// A master key tuple of TCP-AO (RFC 5925 §3.1), without its secret in any output.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct AoKey {
    secret: Arc<[u8]>,
    send_id: u8,
    receive_id: u8,
    algorithm: TcpAoAlgorithm,
}

impl fmt::Debug for AoKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AoKey")
            .field("send_id", &self.send_id)
            .field("receive_id", &self.receive_id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

impl AoKey {
    fn read(ao: &TcpAo) -> Result<Self, KeyError> {
        Ok(Self {
            secret: read(&ao.key_file, "tcp_ao")?,
            send_id: ao.send_id,
            receive_id: ao.receive_id,
            algorithm: ao.algorithm,
        })
    }

    /// A kernel without TCP-AO says so in words.
    fn sign(&self, socket: &impl AsFd, address: IpAddr) -> io::Result<()> {
        let done = sockopt::set(socket, IPPROTO_TCP, TCP_AO_ADD_KEY, &self.request(address));
        done.map_err(|error| match error.raw_os_error() {
            Some(libc::ENOPROTOOPT) => io::Error::new(io::ErrorKind::Unsupported, NoTcpAo),
            Some(_) | None => error,
        })
    }

    /// `struct tcp_ao_add` of Linux 6.7: a `sockaddr_storage`, algorithm, interface, flags, padding, prefix length,
    /// SendID, RecvID, length of the code, key flags, key length, key.
    fn request(&self, address: IpAddr) -> [u8; 288] {
        let mut request = [0; 288];
        put_address(&mut request, address);
        // As the kernel names the algorithms of RFC 5926.
        let algorithm: &[u8] = match self.algorithm {
            TcpAoAlgorithm::HmacSha1 => b"hmac(sha1)",
            TcpAoAlgorithm::Aes128Cmac => b"cmac(aes128)",
        };
        request[128..128 + algorithm.len()].copy_from_slice(algorithm);
        request[202] = if address.is_ipv4() { 32 } else { 128 };
        request[203] = self.send_id;
        request[204] = self.receive_id;
        request[205] = AO_CODE;
        let length = self.secret.len().min(MAX_KEY);
        request[207] = length as u8; // at most 80
        request[208..208 + length].copy_from_slice(&self.secret[..length]);
        request
    }
}

/// `sockaddr_storage` at the beginning of a request.
fn put_address(request: &mut [u8], address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            request[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            request[4..8].copy_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            request[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
            request[8..24].copy_from_slice(&address.octets());
        }
    }
}

/// The kernel does not know TCP-AO.
#[derive(Debug, thiserror::Error)]
#[error(
    "this kernel has no TCP-AO (RFC 5925): it needs Linux 6.7 or later with CONFIG_TCP_AO; \
     use password_file (TCP MD5, RFC 2385) or ttl_security (RFC 5082) instead"
)]
struct NoTcpAo;

#[cfg(test)]
mod tests;
