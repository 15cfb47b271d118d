//! The commands that look at routes: `monitor`, `dump`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use steer_topology::{Asn, Community, Prefix, parse_duration};

use super::{AdminArgs, LogArgs};

#[derive(Debug, Args)]
pub(crate) struct MonitorArgs {
    /// Take BGP sessions here. The monitor never announces anything.
    #[arg(long, value_name = "ADDRESS:PORT", requires = "asn")]
    pub(crate) listen: Option<SocketAddr>,
    /// Open a BGP session to this peer, at port 179 unless another is given. Repeatable.
    #[arg(long, value_name = "ADDRESS[:PORT]", value_parser = peer, requires = "asn")]
    pub(crate) peer: Vec<SocketAddr>,
    /// The AS number that we say; peers must be configured for it.
    #[arg(long, value_name = "N", value_parser = asn)]
    pub(crate) asn: Option<Asn>,
    /// The BGP Identifier that we say.
    #[arg(long, value_name = "ADDRESS", default_value = "192.0.2.250")]
    pub(crate) router_id: Ipv4Addr,
    /// Listen here for routers that tell their tables by BMP (RFC 7854).
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) bmp_listen: Option<SocketAddr>,
    /// Look at this prefix and at no others. Repeatable.
    #[arg(long, value_name = "PREFIX")]
    pub(crate) only: Vec<Prefix>,
    /// Follow what the steer with this admin address announces: how fast each change spreads to what we hear,
    /// and which routes are left behind. Looks at its prefixes and at no others.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) follow: Option<SocketAddr>,
    /// With --follow: a route that is wrong for so long is told as a zombie or as missing.
    #[arg(long, value_name = "TIME", value_parser = grace, default_value = "180s", requires = "follow")]
    pub(crate) grace: Duration,
    /// With --follow: only routes with this community are ours; others for the same prefix are another site's.
    #[arg(long, value_name = "COMMUNITY", value_parser = community, requires = "follow")]
    pub(crate) tag: Option<Community>,
    /// Write to this file too: MRT (RFC 6396) where its name ends in .mrt, else JSON lines. Repeatable.
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Vec<PathBuf>,
    /// A saved file of so many MiB is renamed to FILE.1, and that to FILE.2, and so on.
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) save_size: u64,
    /// Saved files that are kept, the newest included.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) save_files: u32,
    /// Print one JSON object per line.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    /// Where to write, as MRT (RFC 6396). "-" is standard output.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// How long to record, such as 60s; at most 10m.
    #[arg(long = "for", value_name = "TIME", value_parser = super::time, default_value = "60s")]
    pub(crate) time: String,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

fn asn(text: &str) -> Result<Asn, String> {
    let number = text.parse().ok().and_then(Asn::new);
    number.ok_or_else(|| "write a number from 1 to 4294967295".to_owned())
}

fn peer(text: &str) -> Result<SocketAddr, String> {
    let bare = || text.parse().map(|address: IpAddr| SocketAddr::new(address, 179));
    text.parse()
        .or_else(|_| bare())
        .map_err(|_| "write an address, or ADDRESS:PORT with an IPv6 address in brackets".to_owned())
}

fn grace(text: &str) -> Result<Duration, String> {
    let positive = parse_duration(text).filter(|time| !time.is_zero());
    positive
        .ok_or_else(|| "write a number and a unit out of ms, s, m, h and d, for example 30s or 3m".to_owned())
}

/// `A:B` or `A:B:C` in numbers.
fn community(text: &str) -> Result<Community, String> {
    let numbers: Option<Vec<u32>> = text.split(':').map(|part| part.parse().ok()).collect();
    match numbers.as_deref() {
        Some(&[high, low]) if high <= 0xffff && low <= 0xffff => Ok(Community::Standard((high << 16) | low)),
        Some(&[administrator, first, second]) => Ok(Community::Large([administrator, first, second])),
        _ => Err(
            "write a community such as 64500:1 (both below 65536) or a large one such as 64500:1:2"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_without_a_port_listens_on_179() {
        let read = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(peer("192.0.2.1"), Ok(read("192.0.2.1:179")));
        assert_eq!(peer("2001:db8::1"), Ok(read("[2001:db8::1]:179")));
        assert_eq!(peer("[2001:db8::1]:1790"), Ok(read("[2001:db8::1]:1790")));
        assert!(peer("example.com").is_err());
    }

    #[test]
    fn communities_are_two_short_numbers_or_three_long_ones() {
        assert_eq!(community("64500:1"), Ok(Community::Standard((64_500 << 16) | 1)));
        assert_eq!(
            community("4200000001:1:2"),
            Ok(Community::Large([4_200_000_001, 1, 2]))
        );
        for text in ["64500", "4200000001:1", "1:2:3:4", "no-export", "1:-1"] {
            assert!(community(text).is_err(), "{text}");
        }
    }
}
