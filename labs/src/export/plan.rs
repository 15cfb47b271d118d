//! Who is in the twin, with which addresses.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use steer_topology::{Bfd, Fleet, Latency, SiteId};

use crate::LabError;

/// Each region has a /16 of 100.64.0.0/10; the last of them is for the long lines.
const SITES_MAX: usize = 20;

/// Peers of one site.
const PEERS_MAX: usize = 50;

/// Private AS numbers (RFC 6996) of the regions' routers.
const ISP_ASN: u32 = 4_200_000_001;

/// A fleet as a lab.
pub(super) struct Twin {
    pub(super) name: String,
    pub(super) asn: u32,
    pub(super) sites: Vec<Site>,
    pub(super) lines: Vec<Line>,
    pub(super) prefixes: Vec<Anycast>,
    pub(super) left_out: Vec<String>,
}

/// A site with its region.
pub(super) struct Site {
    pub(super) name: String,
    pub(super) city: String,
    /// Second octet of its region's addresses.
    pub(super) region: u8,
    pub(super) isp_asn: u32,
    pub(super) upstreams: Vec<Upstream>,
    /// Addresses of its endpoints, and ports of the services on it.
    pub(super) addresses: BTreeSet<Ipv4Addr>,
    pub(super) ports: BTreeSet<u16>,
    pub(super) router_id: Ipv4Addr,
    /// The other sites, nearest first.
    pub(super) nearest: Vec<usize>,
}

/// The router behind a `[[bgp.peer]]`.
pub(super) struct Upstream {
    pub(super) asn: u32,
    /// The peer's address in the configuration.
    pub(super) address: IpAddr,
    pub(super) hold_time: Duration,
    pub(super) bfd: Option<Bfd>,
}

/// A long line between two regions.
pub(super) struct Line {
    pub(super) a: usize,
    pub(super) b: usize,
    /// One way.
    pub(super) delay_ms: f64,
}

/// An announced prefix.
pub(super) struct Anycast {
    pub(super) prefix: String,
    /// What clients connect to.
    pub(super) address: SocketAddrV4,
    /// Sites that announce it, and whether the end of their service takes it back.
    pub(super) sites: Vec<usize>,
    pub(super) is_conditional: bool,
}

impl Twin {
    pub(super) fn of(fleet: &Fleet) -> Result<Self, LabError> {
        let bgp = fleet.bgp.as_ref();
        let bgp = bgp.ok_or_else(|| cannot("it has no `[bgp]`: there is no routing to rehearse"))?;
        let count = fleet.sites.len();
        if !(1..=SITES_MAX).contains(&count) {
            return Err(cannot(&format!(
                "it has {count} sites; a lab has 1 to {SITES_MAX}"
            )));
        }
        let mut left_out = Vec::new();
        let mut sites: Vec<Site> = (0..count).map(|index| site(fleet, bgp, index)).collect();
        for (index, site) in sites.iter().enumerate() {
            match site.upstreams.len() {
                1..=PEERS_MAX => {}
                0 => return Err(cannot(&format!("site `{}` has no `[[bgp.peer]]`", site.name))),
                many => {
                    return Err(cannot(&format!(
                        "site `{}` has {many} peers; a lab has at most {PEERS_MAX}",
                        fleet.sites[index].name
                    )));
                }
            }
        }
        endpoints(fleet, &mut sites, &mut left_out);
        let lines = lines(fleet, &mut sites);
        let prefixes = prefixes(fleet, &sites, &mut left_out);
        if prefixes.is_empty() {
            return Err(cannot(
                "it has no `[[anycast]]` with an IPv4 prefix: there is nothing to follow",
            ));
        }
        Ok(Self {
            name: name(&fleet.name),
            asn: bgp.asn.get(),
            sites,
            lines,
            prefixes,
            left_out,
        })
    }
}

impl Site {
    /// An address of the region.
    pub(super) fn ip(&self, third: usize, fourth: u8) -> Ipv4Addr {
        Ipv4Addr::new(100, self.region, u8::try_from(third).unwrap_or(u8::MAX), fourth)
    }

    /// The address of the site on its link to an upstream.
    pub(super) fn at(&self, upstream: usize) -> Ipv4Addr {
        self.ip(100 + upstream, 2)
    }

    /// The address of that upstream.
    pub(super) fn upstream(&self, upstream: usize) -> Ipv4Addr {
        self.ip(100 + upstream, 1)
    }

    pub(super) fn isp(&self) -> String {
        format!("{}-isp", self.name)
    }

    pub(super) fn up(&self, upstream: usize) -> String {
        format!("{}-up{upstream}", self.name)
    }

    pub(super) fn client(&self) -> String {
        format!("{}-client", self.name)
    }
}

impl Line {
    /// The addresses of its two ends.
    pub(super) fn ips(&self, number: usize) -> (Ipv4Addr, Ipv4Addr) {
        let third = u8::try_from(number).unwrap_or(u8::MAX);
        (
            Ipv4Addr::new(100, 127, third, 1),
            Ipv4Addr::new(100, 127, third, 2),
        )
    }
}

/// The interface of a region's router to the line of this number.
pub(super) fn line_port(number: usize) -> String {
    format!("wan{number}")
}

fn cannot(why: &str) -> LabError {
    LabError::failed(format!("this fleet cannot be rehearsed: {why}"))
}

/// What containerlab and namespaces take for a name.
fn name(fleet: &str) -> String {
    let good = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    let name: String = fleet.chars().map(good).take(24).collect();
    format!("{}-twin", name.trim_matches('-'))
}

fn site(fleet: &Fleet, bgp: &steer_topology::Bgp, index: usize) -> Site {
    let own = &fleet.sites[index];
    let id = u16::try_from(index).map(SiteId).ok();
    let region = 64 + u8::try_from(index).unwrap_or(0);
    let peers = bgp
        .peers
        .iter()
        .filter(|peer| peer.site.is_none() || peer.site == id);
    let upstreams = peers.map(|peer| Upstream {
        asn: peer.asn.get(),
        address: peer.address,
        hold_time: peer.hold_time,
        bfd: peer.bfd.clone(),
    });
    Site {
        name: own.name.clone(),
        city: own.city.clone(),
        region,
        isp_asn: ISP_ASN + u32::from(region) - 64,
        upstreams: upstreams.collect(),
        addresses: BTreeSet::new(),
        ports: BTreeSet::new(),
        router_id: own.router_id.unwrap_or(Ipv4Addr::new(100, region, 100, 2)),
        nearest: Vec::new(),
    }
}

fn endpoints(fleet: &Fleet, sites: &mut [Site], left_out: &mut Vec<String>) {
    for endpoint in &fleet.endpoints {
        let site = endpoint.site.and_then(|id| sites.get_mut(usize::from(id.0)));
        match (site, endpoint.address) {
            (Some(site), SocketAddr::V4(address)) => {
                site.addresses.insert(*address.ip());
                site.ports.insert(address.port());
            }
            (Some(_), SocketAddr::V6(address)) => left_out.push(format!("endpoint {address}: IPv6")),
            (None, address) => left_out.push(format!("endpoint {address}: it stands at no site")),
        }
    }
}

/// A line for each pair, with half of the round trip each way.
fn lines(fleet: &Fleet, sites: &mut [Site]) -> Vec<Line> {
    let table = Latency::built_in();
    let round = |a: usize, b: usize| {
        let position = fleet.sites[a].position()?;
        Some(table.round_trip(position, &fleet.sites[b])?.ms)
    };
    let mut lines = Vec::new();
    for a in 0..sites.len() {
        for b in a + 1..sites.len() {
            // Every site is an airport, and every pair of places has an estimate.
            let delay_ms = (round(a, b).unwrap_or(0.0) * 5.0).round() / 10.0;
            lines.push(Line { a, b, delay_ms });
        }
    }
    for (index, site) in sites.iter_mut().enumerate() {
        let mut others: Vec<usize> = (0..fleet.sites.len()).filter(|other| *other != index).collect();
        others.sort_by(|a, b| {
            round(index, *a)
                .unwrap_or(0.0)
                .total_cmp(&round(index, *b).unwrap_or(0.0))
        });
        site.nearest = others;
    }
    lines
}

fn prefixes(fleet: &Fleet, sites: &[Site], left_out: &mut Vec<String>) -> Vec<Anycast> {
    let mut all = Vec::new();
    for anycast in &fleet.anycast {
        let IpAddr::V4(network) = anycast.prefix.address() else {
            left_out.push(format!("prefix {}: IPv6", anycast.prefix));
            continue;
        };
        let announcing: Vec<usize> = match anycast.sites.as_slice() {
            [] => (0..sites.len()).collect(),
            some => some.iter().map(|id| usize::from(id.0)).collect(),
        };
        let port = announcing
            .iter()
            .find_map(|index| sites.get(*index)?.ports.first().copied())
            .unwrap_or(80);
        // The network itself is no address of a host.
        let host = if anycast.prefix.length() >= 31 {
            network
        } else {
            Ipv4Addr::from(u32::from(network) + 1)
        };
        all.push(Anycast {
            prefix: anycast.prefix.to_string(),
            address: SocketAddrV4::new(host, port),
            sites: announcing,
            is_conditional: !anycast.while_up.is_empty(),
        });
    }
    all
}
