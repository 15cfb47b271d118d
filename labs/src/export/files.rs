//! Topology, scenario and README of a twin.

use std::path::Path;

use steer_topology::latency::ATTRIBUTION;

use super::plan::{Anycast, Site, Twin, line_port};

/// How often the scenario asks in its open loop, milliseconds.
const EVERY_MS: u32 = 20;

pub(super) fn topology(twin: &Twin) -> String {
    let mut nodes = String::new();
    let mut links = String::new();
    let link = |a: &str, b: &str| format!("    - endpoints: [\"{a}\", \"{b}\"]\n");
    for (index, site) in twin.sites.iter().enumerate() {
        let client = [address(site.ip(0, 2), 30, "eth1"), default(site.ip(0, 1))];
        nodes += &node(&site.client(), false, &client);
        links += &link(
            &format!("{}:eth1", site.client()),
            &format!("{}:eth1", site.isp()),
        );
        let mut isp = vec![address(site.ip(0, 1), 30, "eth1")];
        for number in 0..site.upstreams.len() {
            isp.push(address(site.ip(10 + number, 1), 30, &format!("up{number}")));
            links += &link(
                &format!("{}:up{number}", site.isp()),
                &format!("{}:eth1", site.up(number)),
            );
            links += &link(
                &format!("{}:eth2", site.up(number)),
                &format!("{}:eth{}", site.name, number + 1),
            );
        }
        for (number, line) in twin.lines.iter().enumerate() {
            let (a, b) = line.ips(number);
            if line.a == index {
                isp.push(address(a, 30, &line_port(number)));
                let port = line_port(number);
                links += &link(
                    &format!("{}:{port}", site.isp()),
                    &format!("{}:{port}", twin.sites[line.b].isp()),
                );
            } else if line.b == index {
                isp.push(address(b, 30, &line_port(number)));
            }
        }
        nodes += &node(&site.isp(), true, &isp);
        for number in 0..site.upstreams.len() {
            let up = [
                address(site.ip(10 + number, 2), 30, "eth1"),
                address(site.upstream(number), 30, "eth2"),
            ];
            nodes += &node(&site.up(number), true, &up);
        }
        nodes += &node(&site.name, false, &edge(twin, site, index));
    }
    format!(
        "# A containerlab topology, written by `steer lab export`.\nname: {}\n\ntopology:\n  defaults:\n    kind: linux\n  kinds:\n    \
         linux:\n      image: steer-lab:latest\n      privileged: false\n      cap-add: [NET_ADMIN, NET_RAW]\n      binds: [\".:/lab\"]\n  \
         nodes:\n{nodes}  links:\n{links}",
        twin.name
    )
}

/// The site itself: its own addresses and the shared ones on `lo`.
fn edge(twin: &Twin, site: &Site, index: usize) -> Vec<String> {
    let mut exec: Vec<String> = (0..site.upstreams.len())
        .map(|number| address(site.at(number), 30, &format!("eth{}", number + 1)))
        .collect();
    exec.extend(site.addresses.iter().map(|ip| address(*ip, 32, "lo")));
    let shared = twin
        .prefixes
        .iter()
        .filter(|anycast| anycast.sites.contains(&index));
    let shared = shared
        .map(|anycast| *anycast.address.ip())
        .filter(|ip| !site.addresses.contains(ip));
    let shared: std::collections::BTreeSet<_> = shared.collect();
    exec.extend(shared.into_iter().map(|ip| address(ip, 32, "lo")));
    exec.push(default(site.upstream(0)));
    exec
}

fn node(name: &str, is_router: bool, exec: &[String]) -> String {
    let sysctls = if is_router {
        "      sysctls:\n        net.ipv4.ip_forward: 1\n"
    } else {
        ""
    };
    let lines: String = exec.iter().map(|line| format!("        - {line}\n")).collect();
    format!("    {name}:\n{sysctls}      exec:\n{lines}")
}

fn address(ip: std::net::Ipv4Addr, length: u8, interface: &str) -> String {
    format!("ip address add {ip}/{length} dev {interface}")
}

fn default(via: std::net::Ipv4Addr) -> String {
    format!("ip route replace default via {via}")
}

pub(super) fn scenario(twin: &Twin) -> String {
    let mut text = format!(
        "# What runs, what breaks and when, what is measured. Written by `steer lab export`.\n\
         summary = \"a twin of the fleet {}: the service of each site dies in turn; how soon are the clients of its region served elsewhere?\"\n\
         settings = [\n  [\"delays\", \"measured round trips between the sites, half of them each way\"],\n  \
         [\"clients\", \"one per region, a request every {EVERY_MS} ms on a new connection\"],\n]\n\n\
         [load]\nevery_ms = {EVERY_MS}\ntimeout_ms = 2_000\nlate_ms = 1_000\n\n",
        twin.name.trim_end_matches("-twin")
    );
    for (number, line) in twin.lines.iter().enumerate() {
        let port = line_port(number);
        text += &format!(
            "[[wan]]\nlink = [\"{}:{port}\", \"{}:{port}\"]\ndelay_ms = {}\n\n",
            twin.sites[line.a].isp(),
            twin.sites[line.b].isp(),
            number_of(line.delay_ms)
        );
    }
    let routers: Vec<String> = twin
        .sites
        .iter()
        .map(|site| format!("\"{}\"", site.isp()))
        .collect();
    let from: Vec<String> = twin
        .sites
        .iter()
        .flat_map(|site| (0..site.upstreams.len()).map(|number| format!("\"{}\"", site.ip(10 + number, 2))))
        .collect();
    for (number, anycast) in twin.prefixes.iter().enumerate() {
        text += &format!(
            "[[prefix]]\nname = \"p{number}\"\nprefix = \"{}\"\nrouters = [{}]\nfrom = [{}]\n\n",
            anycast.prefix,
            routers.join(", "),
            from.join(", ")
        );
    }
    text += &processes(twin);
    for (number, anycast) in twin.prefixes.iter().enumerate() {
        for index in &anycast.sites {
            text += &client(twin, anycast, number, *index);
        }
    }
    for index in 0..twin.sites.len() {
        text += &stage(twin, index);
    }
    text
}

/// TOML has no whole number where a fraction may stand.
fn number_of(ms: f64) -> String {
    format!("{ms:.1}")
}

fn processes(twin: &Twin) -> String {
    let mut text = String::new();
    let mut add = |node: &str, name: &str, run: &str| {
        text += &format!("[[process]]\nnode = \"{node}\"\nname = \"{name}\"\nrun = [{run}]\n\n");
    };
    for site in &twin.sites {
        let routers =
            std::iter::once(site.isp()).chain((0..site.upstreams.len()).map(|number| site.up(number)));
        for router in routers {
            let run = format!(
                "\"bird\", \"-f\", \"-c\", \"{{lab}}/routers/{router}.conf\", \"-s\", \"{{run}}/{router}.ctl\", \"-P\", \"{{run}}/{router}.bird\""
            );
            add(&router, "bird", &run);
        }
        for port in &site.ports {
            let run = format!(
                "\"{{steer}}\", \"endpoint\", \"--listen\", \"0.0.0.0:{port}\", \"--name\", \"{}\"",
                site.name
            );
            add(&site.name, &format!("service-{port}"), &run);
        }
        let run = format!(
            "\"{{steer}}\", \"run\", \"--config\", \"{{lab}}/edge/steer.toml\", \"--site\", \"{}\", \"--log-format\", \"json\"",
            site.name
        );
        add(&site.name, "steer", &run);
    }
    text
}

fn client(twin: &Twin, anycast: &Anycast, number: usize, index: usize) -> String {
    let site = &twin.sites[index];
    let away: Vec<String> = anycast
        .sites
        .iter()
        .filter(|other| **other != index)
        .map(|other| format!("\"{}\"", twin.sites[*other].name))
        .collect();
    format!(
        "[[client]]\nname = \"{}-p{number}\"\nnode = \"{}\"\nhome = \"{}\"\naway = [{}]\n\n",
        site.name,
        site.client(),
        site.name,
        away.join(", ")
    )
}

/// The services of one site die, where a prefix depends on them and another site announces it too.
fn stage(twin: &Twin, index: usize) -> String {
    let site = &twin.sites[index];
    let moved = |anycast: &&Anycast| {
        anycast.is_conditional && anycast.sites.len() > 1 && anycast.sites.contains(&index)
    };
    if site.ports.is_empty() || !twin.prefixes.iter().any(|anycast| moved(&anycast)) {
        return String::new();
    }
    let name = &site.name;
    let breaks: Vec<String> = site
        .ports
        .iter()
        .map(|port| format!("{{ kind = \"kill-9\", node = \"{name}\", process = \"service-{port}\" }}"))
        .collect();
    let mut text = format!(
        "[[stage]]\nname = \"{name}\"\nstable_ms = 2_000\nspread_ms = 1_000\nconverge_ms = 60_000\nwatch_ms = 2_000\nlimit_ms = 60_000\n\n\
         [[stage.step]]\nbreak = [{}]\n\n\
         [[stage.mark]]\nphase = \"detected\"\nprocesses = [[\"{name}\", \"steer\"]]\nline = '\"message\":\"verdict changed\".*\"verdict\":\"down\"'\n\n",
        breaks.join(", ")
    );
    for (number, anycast) in twin.prefixes.iter().enumerate() {
        if moved(&anycast) {
            text += &format!(
                "[[method]]\nid = \"{name}-p{number}\"\ntitle = \"{} from the region of {}, when {name} loses its service\"\n\
                 stage = \"{name}\"\nconnect = \"{}\"\nprefix = \"p{number}\"\nclients = [\"{name}-p{number}\"]\n\n",
                anycast.prefix, site.city, anycast.address
            );
        }
    }
    text
}

pub(super) fn readme(twin: &Twin, config: &Path, left_out: &[String]) -> String {
    let mut text = format!(
        "# {}\n\nA twin of the fleet in `{}`, written by `steer lab export`. Run it as root:\n\n```\nsteer lab run .\n```\n\n\
         Each site has its region: a client, a router of the region (`-isp`), one router per `[[bgp.peer]]` (`-up0`, `-up1`, ..) with \
         that peer's AS, and the site itself with your checks, conditions and timers. The regions are joined by long lines:\n\n\
         | from | to | one way |\n| --- | --- | --- |\n",
        twin.name,
        config.file_name().unwrap_or_default().to_string_lossy()
    );
    for line in &twin.lines {
        text += &format!(
            "| {} | {} | {} ms |\n",
            twin.sites[line.a].name, twin.sites[line.b].name, line.delay_ms
        );
    }
    text += &format!(
        "\n{ATTRIBUTION} Pairs that were not measured are estimated by distance.\n\n\
         The scenario kills the services of each site in turn. Add your own faults to `scenario.toml`; docs/labs.md has the list.\n\n\
         ## What is not in it\n\n"
    );
    if left_out.is_empty() {
        text += "Nothing was left out.\n";
    }
    for one in left_out {
        text += &format!("- {one}\n");
    }
    text
}
