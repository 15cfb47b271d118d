//! `steer.toml` becomes a checked [`Fleet`], or one [`Fault`] per mistake.
//!
//! ```text
//! text ─► DeTable (spans kept) ─► raw (types) ─► check (ranges, references, relations) ─► Fleet
//!             │                      │               │
//!             └──────────────────────┴── sink ───────┴─► Faults, in file order
//! ```

mod check;
mod raw;
mod read;
pub mod reference;
mod sink;
pub(crate) mod suggest;

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use toml::de::DeTable;

use crate::fault::Place;
use crate::{Bgp, Fault, Faults, Fleet, Site, SiteId};
use raw::RawFile;
use sink::Sink;

pub use read::parse_duration;

/// Host-name resolution, handed in by the caller: this crate opens no socket.
pub trait Resolve {
    /// The addresses of `host`, each with `port`.
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// `--site` does not fit the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownSite {
    /// No such site is declared.
    #[error("there is no site `{name}`; the file declares {known}")]
    NoSuch {
        /// What was given.
        name: String,
        /// The declared sites.
        known: String,
    },
    /// The fleet has sites, so one must be chosen.
    #[error("the file declares sites; say which one this is with --site, one of {known}")]
    Missing {
        /// The declared sites.
        known: String,
    },
    /// The fleet has no sites, so none can be chosen.
    #[error("there is no site `{name}`: the file declares none; leave --site out")]
    NoneDeclared {
        /// What was given.
        name: String,
    },
}

/// Files above this are refused unread: ten times what 100,000 endpoints need.
const MAX_FILE: u64 = 64 << 20;

impl Fleet {
    /// Reads and checks a file. Relative file names in it start at its folder.
    pub fn load(path: &Path, resolver: &dyn Resolve) -> Result<Self, Faults> {
        let text = read(path)?;
        Self::parse(&text, path, resolver)
    }

    /// Checks a text that stands for the file `path`.
    pub fn parse(text: &str, path: &Path, resolver: &dyn Resolve) -> Result<Self, Faults> {
        let sink = Sink::new(path, text);
        let (document, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            sink.syntax(error);
        }
        let raw = RawFile::read(&sink, &document);
        let base = path.parent().unwrap_or(Path::new(""));
        let fleet = check::fleet(&sink, base, resolver, raw);
        match (fleet, sink.into_faults()) {
            (Ok(fleet), None) => Ok(fleet),
            (Ok(_) | Err(_), Some(faults)) => Err(faults),
            // Not reached: only a sink that holds a fault makes a `Reported`.
            (Err(_), None) => Err(Fault::of_file(path, "the file is refused", "see the log").into()),
        }
    }

    /// The site that `--site` names. `None` is right only where no site is declared.
    pub fn local_site(&self, name: Option<&str>) -> Result<Option<SiteId>, UnknownSite> {
        let known = || suggest::list(self.sites.iter().map(|site| site.name.as_str()));
        match name {
            None if self.sites.is_empty() => Ok(None),
            None => Err(UnknownSite::Missing { known: known() }),
            Some(name) if self.sites.is_empty() => Err(UnknownSite::NoneDeclared {
                name: name.to_owned(),
            }),
            Some(name) => match self.site_named(name) {
                Some(site) => Ok(Some(site)),
                None => Err(UnknownSite::NoSuch {
                    name: name.to_owned(),
                    known: known(),
                }),
            },
        }
    }

    /// BGP Identifier of the process that runs as `site`: the site's own, else `[bgp] router_id`, else the first
    /// concrete IPv4 address of `[bgp] listen`, else the first IPv4 `source` of the site's peers.
    ///
    /// `None` without `[bgp]`, and for a site without a peer that has none in any of these ways.
    #[must_use]
    pub fn router_id(&self, site: Option<SiteId>) -> Option<Ipv4Addr> {
        router_id(&self.sites, self.bgp.as_ref()?, site)
    }
}

fn router_id(sites: &[Site], bgp: &Bgp, site: Option<SiteId>) -> Option<Ipv4Addr> {
    let own = site
        .and_then(|site| sites.get(usize::from(site.0)))
        .and_then(|site| site.router_id);
    let concrete = |ip: IpAddr| match ip {
        IpAddr::V4(v4) if !v4.is_unspecified() => Some(v4),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    };
    let listening = || bgp.listen.iter().find_map(|address| concrete(address.ip()));
    let mut peers = bgp
        .peers
        .iter()
        .filter(|peer| peer.site.is_none() || peer.site == site);
    own.or(bgp.router_id)
        .or_else(listening)
        .or_else(|| peers.find_map(|peer| concrete(peer.source?)))
}

fn read(path: &Path) -> Result<String, Faults> {
    let unreadable = |error: &io::Error| {
        Fault::of_file(
            path,
            format!("the file cannot be read: {error}"),
            "correct the path or the permissions",
        )
    };
    let size = fs::metadata(path).map_err(|error| unreadable(&error))?.len();
    if size > MAX_FILE {
        let message = format!("the file has {size} bytes");
        return Err(Fault::of_file(path, message, format!("at most {MAX_FILE} are read")).into());
    }
    let bytes = fs::read(path).map_err(|error| unreadable(&error))?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let bytes = error.as_bytes();
        let text = String::from_utf8_lossy(bytes.get(..valid).unwrap_or_default());
        let place = Place::of(&text, valid..valid);
        let byte = bytes.get(valid).copied().unwrap_or_default();
        Fault::at(
            path,
            place,
            format!("byte 0x{byte:02x} is no UTF-8"),
            "save the file as UTF-8",
        )
        .into()
    })
}
