//! What every check needs: where to report, what is declared, how to reach files and hosts.

use std::cell::RefCell;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;

use super::names::Names;
use super::values;
use crate::config::Resolve;
use crate::config::read::{Field, OneOrMany, all};
use crate::config::sink::{Reported, Sink};
use crate::{Name, PoolId, SiteId};

/// Shared by all checks of one file.
pub(super) struct Context<'a, 'd> {
    pub(super) sink: &'a Sink<'d>,
    base: &'a Path,
    resolver: &'a dyn Resolve,
    pub(super) sites: Names,
    pub(super) checks: Names,
    pub(super) pools: Names,
    /// The pool that `reference` of `[fleet] gossip` names: its endpoints stand at no site of ours.
    pub(super) reference: Option<PoolId>,
    /// Each host is asked for once, so that a file is not half old and half new.
    resolved: RefCell<HashMap<String, Result<Vec<IpAddr>, String>>>,
    /// Line of each address that something listens on.
    listening: RefCell<HashMap<(Wire, SocketAddr), usize>>,
}

/// What comes in at a port; each kind has its own ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Wire {
    Datagrams,
    Connections,
}

/// Where an endpoint is: the host name that was written, if one was, and at least one address.
pub(super) struct Located {
    pub(super) host: Option<String>,
    pub(super) addresses: Vec<SocketAddr>,
}

impl<'a, 'd> Context<'a, 'd> {
    pub(super) fn new(
        sink: &'a Sink<'d>,
        base: &'a Path,
        resolver: &'a dyn Resolve,
        sites: Names,
        checks: Names,
        pools: Names,
    ) -> Self {
        let resolved = RefCell::default();
        let listening = RefCell::default();
        Self {
            sink,
            base,
            resolver,
            sites,
            checks,
            pools,
            reference: None,
            resolved,
            listening,
        }
    }

    /// The site of that name.
    pub(super) fn site(&self, name: &Spanned<&str>) -> Result<SiteId, Reported> {
        self.site_text(name.span(), name.get_ref())
    }

    /// The site of a name within a longer text.
    pub(super) fn site_text(&self, span: Range<usize>, name: &str) -> Result<SiteId, Reported> {
        let index = self.sites.find_text(self.sink, span.clone(), name)?;
        u16::try_from(index).map(SiteId).map_err(|_| {
            self.sink.fault(
                span,
                format!("site `{name}` is number {index}"),
                "at most 65535 sites are possible",
            )
        })
    }

    /// The sites that are written, each once; absent: nothing is said. `doing`: what none of them would do.
    pub(super) fn sites_of(
        &self,
        field: Field<OneOrMany<&str>>,
        doing: &str,
    ) -> Result<Option<Vec<SiteId>>, Reported> {
        let Some(written) = field? else { return Ok(None) };
        let names = &written.get_ref().0;
        if names.is_empty() {
            return Err(self.sink.fault(
                written.span(),
                format!("`sites` is empty: nobody would {doing} it"),
                format!("name a site, or remove `sites` to {doing} at all of them"),
            ));
        }
        let mut seen = HashSet::new();
        let sites = names.iter().map(|name| {
            let site = self.site(name)?;
            if !seen.insert(site) {
                let message = format!("site `{}` stands twice in `sites`", name.get_ref());
                return Err(self.sink.fault(name.span(), message, "remove one of them"));
            }
            Ok(site)
        });
        all(sites.collect()).map(Some)
    }

    /// All sites, in order.
    pub(super) fn all_sites(&self) -> Vec<SiteId> {
        (0..self.sites.count())
            .filter_map(|index| u16::try_from(index).ok())
            .map(SiteId)
            .collect()
    }

    /// The name of a site, lower case.
    pub(super) fn site_name(&self, site: SiteId) -> &str {
        self.sites.name(u32::from(site.0))
    }

    /// A path as written, from the working directory.
    pub(super) fn path(&self, written: &str) -> PathBuf {
        self.base.join(written)
    }

    /// A file that exists and can be read; its path from the working directory.
    pub(super) fn file(&self, key: &str, written: &Spanned<&str>) -> Result<PathBuf, Reported> {
        let path = self.path(written.get_ref());
        match readable(&path) {
            Ok(()) => Ok(path),
            Err(error) => Err(self.sink.conflict(
                written.span(),
                format!("`{key}` names {:?}, which cannot be read: {error}", path.display().to_string()),
                "correct the path (a relative one starts at the folder of this file) or the file's permissions",
            )),
        }
    }

    /// An address to listen on, on which nothing else in the file listens for the same. Port 0 lets the kernel
    /// choose.
    pub(super) fn listen(
        &self,
        key: &str,
        written: &Spanned<&str>,
        wires: &[Wire],
    ) -> Result<SocketAddr, Reported> {
        let address = values::listen(self.sink, key, written)?;
        if address.port() == 0 {
            return Ok(address);
        }
        for wire in wires {
            match self.listening.borrow_mut().entry((*wire, address)) {
                Entry::Vacant(entry) => {
                    entry.insert(self.sink.line(written.span().start));
                }
                Entry::Occupied(entry) => {
                    return Err(self.sink.conflict(
                        written.span(),
                        format!("{address} is already listened on by line {}", entry.get()),
                        "use another address or port",
                    ));
                }
            }
        }
        Ok(address)
    }

    /// `IP:PORT` or `HOST:PORT`; a host is resolved, and every address can take traffic.
    pub(super) fn locate(&self, key: &str, written: &Spanned<&str>) -> Result<Located, Reported> {
        let text = *written.get_ref();
        if let Ok(address) = text.parse::<SocketAddr>() {
            values::usable(self.sink, key, written.span(), address)?;
            return Ok(Located {
                host: None,
                addresses: vec![address],
            });
        }
        let (host, port) = self.split_host(key, written)?;
        let fault = |what: &str| {
            self.sink.conflict(
                written.span(),
                format!("host `{host}` {what}"),
                "correct the name, or write the address itself, for example \"198.51.100.10:443\"",
            )
        };
        let found = self
            .resolve(host, port)
            .map_err(|error| fault(&format!("cannot be resolved: {error}")))?;
        let mut addresses: Vec<SocketAddr> = Vec::with_capacity(found.len());
        for ip in found {
            let address = SocketAddr::new(ip, port);
            values::usable(self.sink, key, written.span(), address)?;
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            return Err(fault("resolves to no address"));
        }
        Ok(Located {
            host: Some(host.to_owned()),
            addresses,
        })
    }

    fn split_host<'t>(&self, key: &str, written: &Spanned<&'t str>) -> Result<(&'t str, u16), Reported> {
        let text = *written.get_ref();
        let fault = |remedy: String| {
            self.sink.fault(
                written.span(),
                format!("`{key}` is {text:?}, which is no address with a port"),
                remedy,
            )
        };
        match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => return Err(fault(format!("write a port too, for example \"{ip}:443\""))),
            Ok(IpAddr::V6(ip)) => {
                return Err(fault(format!(
                    "write brackets and a port, for example \"[{ip}]:443\""
                )));
            }
            Err(_) => {}
        }
        let general = || "write IP:PORT or HOST:PORT, for example \"198.51.100.10:443\"".to_owned();
        let (host, port) = text.rsplit_once(':').ok_or_else(|| fault(general()))?;
        let port = match port.parse::<u16>() {
            Ok(port) if port != 0 => port,
            Ok(_) | Err(_) => return Err(fault("write a port from 1 to 65535 after the colon".to_owned())),
        };
        if host.contains(':') {
            return Err(fault(format!(
                "write an IPv6 address in brackets, for example \"[2001:db8::1]:{port}\""
            )));
        }
        // A last label of digits is a mistyped IPv4 address, never a host (RFC 1123 §2.1).
        let last = host
            .strip_suffix('.')
            .unwrap_or(host)
            .rsplit('.')
            .next()
            .unwrap_or_default();
        if last.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(fault(general()));
        }
        if let Err(invalid) = host.parse::<Name>() {
            return Err(self.sink.fault(
                written.span(),
                format!("`{key}` is {text:?}: {invalid}"),
                general(),
            ));
        }
        Ok((host, port))
    }

    fn resolve(&self, host: &str, port: u16) -> Result<Vec<IpAddr>, String> {
        if let Some(known) = self.resolved.borrow().get(host) {
            return known.clone();
        }
        let found = self.resolver.resolve(host, port);
        let found = found.map_err(|error| error.to_string());
        let found = found.map(|addresses| addresses.iter().map(SocketAddr::ip).collect::<Vec<_>>());
        self.resolved.borrow_mut().insert(host.to_owned(), found.clone());
        found
    }
}

/// Opening a pipe could wait for ever, so only regular files are opened.
fn readable(path: &Path) -> io::Result<()> {
    let kind = fs::metadata(path)?.file_type();
    if !kind.is_file() {
        let what = if kind.is_dir() {
            "it is a folder"
        } else {
            "it is no regular file"
        };
        return Err(io::Error::other(what));
    }
    File::open(path).map(drop)
}
