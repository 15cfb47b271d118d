//! BIRD's configuration for the routers of a twin.

use super::plan::{Site, Twin, line_port};

/// Every file, by its name in the lab.
pub(super) fn all(twin: &Twin) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for (index, site) in twin.sites.iter().enumerate() {
        files.push((format!("routers/{}.conf", site.isp()), isp(twin, index)));
        for number in 0..site.upstreams.len() {
            files.push((
                format!("routers/{}.conf", site.up(number)),
                upstream(twin, site, number),
            ));
        }
    }
    files
}

fn head(what: &str, id: std::net::Ipv4Addr) -> String {
    format!(
        "# {what}\nlog stderr all;\nrouter id {id};\ntimeformat log iso long us;\ntimeformat protocol iso long us;\n\
         timeformat route iso long us;\ndebug protocols {{ states }};\n\nprotocol device {{ scan time 10; }}\n\n\
         protocol kernel {{\n  ipv4 {{ import none; export all; }};\n}}\n\n"
    )
}

/// The router of a region: its clients on one side, the upstreams of its site on the other, the other regions by
/// long lines. It prefers its own region, then the nearest one, and carries nothing from one region to another.
fn isp(twin: &Twin, index: usize) -> String {
    let site = &twin.sites[index];
    let mut text = head(&format!("The region of {}.", site.name), site.ip(0, 1));
    text += "protocol static {\n  ipv4;\n";
    text += &format!("  route {}/16 unreachable;\n", site.ip(0, 0));
    for number in 0..site.upstreams.len() {
        let via = site.ip(10 + number, 2);
        text += &format!("  route {}/30 via {via};\n", site.ip(100 + number, 0));
    }
    for address in &site.addresses {
        text += &format!("  route {address}/32 via {};\n", site.ip(10, 2));
    }
    text += "}\n\n";
    for (number, upstream) in site.upstreams.iter().enumerate() {
        text += &format!(
            "protocol bgp up{number} {{\n  local {} as {};\n  neighbor {} as {};\n  hold time 9;\n  connect delay time 1;\n  \
             connect retry time 1;\n  error wait time 1, 2;\n  ipv4 {{\n    import filter {{ bgp_local_pref = 300; accept; }};\n    \
             export none;\n  }};\n}}\n\n",
            site.ip(10 + number, 1),
            site.isp_asn,
            site.ip(10 + number, 2),
            upstream.asn,
        );
    }
    for (number, line) in twin.lines.iter().enumerate() {
        let (a, b) = line.ips(number);
        let (ours, theirs, other) = if line.a == index {
            (a, b, line.b)
        } else if line.b == index {
            (b, a, line.a)
        } else {
            continue;
        };
        let rank = site.nearest.iter().position(|near| *near == other).unwrap_or(0);
        let other = &twin.sites[other];
        text += &format!(
            "protocol bgp to_{} {{ # {}, {} ms away\n  local {ours} as {};\n  neighbor {theirs} as {};\n  hold time 9;\n  \
             connect delay time 1;\n  connect retry time 1;\n  error wait time 1, 2;\n  ipv4 {{\n    \
             import filter {{ bgp_local_pref = {}; accept; }};\n    \
             export where proto ~ \"up*\" || source = RTS_STATIC;\n  }};\n}}\n\n",
            other.name.replace('-', "_"),
            line_port(number),
            line.delay_ms,
            site.isp_asn,
            other.isp_asn,
            200_usize.saturating_sub(rank),
        );
    }
    text
}

/// The router behind one `[[bgp.peer]]`.
fn upstream(twin: &Twin, site: &Site, number: usize) -> String {
    let Some(peer) = site.upstreams.get(number) else {
        return String::new();
    };
    let what = format!(
        "AS {} at {}, which the configuration calls {}.",
        peer.asn, site.name, peer.address
    );
    let mut text = head(&what, site.ip(10 + number, 2));
    text += &format!(
        "protocol static {{\n  ipv4;\n  route 0.0.0.0/0 via {};\n",
        site.ip(10 + number, 1)
    );
    for address in &site.addresses {
        text += &format!("  route {address}/32 via {};\n", site.at(number));
    }
    text += "}\n\n";
    if let Some(bfd) = &peer.bfd {
        text += &format!(
            "protocol bfd {{\n  interface \"eth2\" {{ interval {} ms; multiplier {}; }};\n}}\n\n",
            bfd.interval.as_millis().max(1),
            bfd.multiplier
        );
    }
    let bfd = if peer.bfd.is_some() { "  bfd on;\n" } else { "" };
    let hold = peer.hold_time.as_secs();
    text += &format!(
        "# What RFC 8326 asks of a router: a route with the community goes last.\n\
         protocol bgp site {{\n  local {} as {};\n  neighbor {} as {};\n  passive on;\n  hold time {hold};\n{bfd}  \
         error wait time 1, 2;\n  ipv4 {{\n    import filter {{ if (65535, 0) ~ bgp_community then bgp_local_pref = 0; accept; }};\n    \
         export none;\n  }};\n}}\n\n",
        site.upstream(number),
        peer.asn,
        site.at(number),
        twin.asn,
    );
    text += &format!(
        "protocol bgp region {{\n  local {} as {};\n  neighbor {} as {};\n  passive on;\n  hold time 9;\n  \
         error wait time 1, 2;\n  ipv4 {{ import none; export where source = RTS_BGP; next hop self; }};\n}}\n",
        site.ip(10 + number, 2),
        peer.asn,
        site.ip(10 + number, 1),
        site.isp_asn,
    );
    text
}
