//! One description per key of `steer.toml`. Reading, "did you mean" and `docs/configuration.md` all come from it.

mod anycast;
mod bgp;
mod check;
mod dns;
mod dns_server;
mod edge;
pub mod filters;
mod fleet;
mod notify;
mod peer;
mod policy;
mod pool;
mod types;

use std::fmt::Write as _;

pub(super) use anycast::{ANYCAST, BIND, FLAP_BUDGET, LEASE, TO};
pub(super) use bgp::{BGP, BMP};
pub(super) use check::{CHECK, PHI, WINDOW};
pub(super) use dns::{STEER, ZONE};
pub(super) use dns_server::{DNS, RRL, TLS};
pub(super) use edge::EDGE;
pub(super) use fleet::{ADMIN, ETCD, FLEET, GEO, GOSSIP, GUARD, OVERFLOW, SITE};
pub(super) use notify::{EMAIL, NOTIFY, WEBHOOK};
pub(super) use peer::{BFD, GRACEFUL_RESTART, PEER, TCP_AO};
pub(super) use pool::{DAMPING, ENDPOINT, OUTLIER, POOL};

/// A table of the file.
#[derive(Debug)]
pub(super) struct Section {
    /// How messages name it: `[[check]]`.
    pub(super) title: &'static str,
    /// How it is written, for whoever wrote something else.
    pub(super) written: &'static str,
    /// What it is for.
    about: &'static str,
    /// An excerpt that loads.
    sample: &'static str,
    keys: &'static [Key],
}

/// A key of a table. Texts are Markdown.
#[derive(Debug)]
pub(super) struct Key {
    name: &'static str,
    /// What kind of value it takes.
    value: &'static str,
    /// A right-hand side that is right.
    pub(super) example: &'static str,
    /// The default and why it is that, or that there is none.
    default: &'static str,
    /// Which values are possible; empty where the kind of value says all.
    range: &'static str,
    /// What it does.
    about: &'static str,
    /// What more or less costs; empty where there is no more or less.
    cost: &'static str,
    /// How it goes with other keys; empty where it stands alone.
    relation: &'static str,
}

impl Section {
    /// The names of all keys.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'static str> + Clone + use<> {
        self.keys.iter().map(|key| key.name)
    }

    /// The key of that name.
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

const REQUIRED: &str = "none; must be written";

/// A key that stands for a table described elsewhere on the page.
const fn table(name: &'static str, value: &'static str, example: &'static str, about: &'static str) -> Key {
    Key {
        name,
        value,
        example,
        default: "absent",
        range: "",
        about,
        cost: "",
        relation: "",
    }
}

pub(super) static FILE: Section = Section {
    title: "the file",
    written: "[fleet]",
    about: "",
    sample: "",
    keys: &[
        table(
            "fleet",
            "table",
            "{ name = \"example\" }",
            "What concerns the fleet as a whole.",
        ),
        table(
            "site",
            "list of tables",
            "[{ name = \"fra\" }]",
            "Where the fleet stands.",
        ),
        table(
            "check",
            "list of tables",
            "[{ name = \"web\", kind = \"tcp\" }]",
            "How endpoints are probed.",
        ),
        table(
            "pool",
            "list of tables",
            "[{ name = \"web\" }]",
            "Endpoints that serve the same thing.",
        ),
        table(
            "dns",
            "table",
            "{ listen = [\"0.0.0.0:53\"] }",
            "The name server.",
        ),
        table(
            "zone",
            "list of tables",
            "[{ name = \"example.com\" }]",
            "Zones from master files.",
        ),
        table(
            "steer",
            "list of tables",
            "[{ name = \"www.example.com\" }]",
            "Steered names.",
        ),
        table(
            "anycast",
            "list of tables",
            "[{ prefix = \"192.0.2.53/32\" }]",
            "Announced prefixes.",
        ),
        table("bgp", "table", "{ asn = 64512 }", "The BGP speaker."),
        table(
            "edge",
            "table",
            "{ file = \"edge.toml\" }",
            "An RPC edge within `steer run`.",
        ),
        table(
            "admin",
            "table",
            "{ listen = \"127.0.0.1:8053\" }",
            "Metrics and status.",
        ),
        table(
            "notify",
            "list of tables",
            "[{ name = \"noc\" }]",
            "Who is told what happens.",
        ),
    ],
};

/// All tables, in the order of the page.
static SECTIONS: [&Section; 35] = [
    &FLEET,
    &GEO,
    &GUARD,
    &OVERFLOW,
    &GOSSIP,
    &ETCD,
    &SITE,
    &CHECK,
    &WINDOW,
    &PHI,
    &POOL,
    &ENDPOINT,
    &OUTLIER,
    &DAMPING,
    &DNS,
    &RRL,
    &TLS,
    &ZONE,
    &STEER,
    &ANYCAST,
    &TO,
    &FLAP_BUDGET,
    &BIND,
    &LEASE,
    &BGP,
    &PEER,
    &TCP_AO,
    &GRACEFUL_RESTART,
    &BFD,
    &BMP,
    &EDGE,
    &ADMIN,
    &NOTIFY,
    &WEBHOOK,
    &EMAIL,
];

const HEAD: &str = "\
# steer.toml

<!-- Generated from topology/src/config/reference/. Change it there, then: UPDATE_GOLDEN=1 cargo test -p steer-topology -->

One file for the whole fleet, in [TOML](https://toml.io). Each site runs `steer run --config steer.toml --site NAME`.
`steer check` reads it without starting anything and gives one message per mistake, with line, value and remedy.
Unknown keys are mistakes.

- A **duration** is a string with a unit: `\"300ms\"`, `\"1s\"`, `\"1m 30s\"`, `\"2h\"`, `\"7d\"`.
- A **path** that is relative starts at the folder of `steer.toml`.
- A **domain name** may end in a dot or not; case does not matter.
";

/// The text of `docs/configuration.md`.
#[must_use]
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    for section in SECTIONS {
        render(&mut page, section);
        if std::ptr::eq(section, &STEER) {
            page.push_str(types::PAGE);
            filters::render(&mut page);
        }
    }
    page
}

fn render(page: &mut String, section: &Section) {
    let Section {
        title,
        written: _,
        about,
        sample,
        keys,
    } = section;
    // Writing to a String cannot fail.
    let _ = write!(page, "\n## {title}\n\n{about}\n\n```toml\n{sample}```\n");
    for key in *keys {
        let Key {
            name,
            value,
            example: _,
            default,
            range,
            about,
            cost,
            relation,
        } = key;
        let _ = write!(page, "\n### `{name}`: {value}\n\n{about}");
        for text in [cost, relation] {
            if !text.is_empty() {
                let _ = write!(page, " {text}");
            }
        }
        let _ = write!(page, "\n\n- Default: {default}.\n");
        if !range.is_empty() {
            let _ = writeln!(page, "- Range: {range}.");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::SocketAddr;
    use std::path::Path;

    use super::*;
    use crate::{Faults, Fleet, Resolve};

    struct NoHosts;

    impl Resolve for NoHosts {
        fn resolve(&self, _host: &str, _port: u16) -> io::Result<Vec<SocketAddr>> {
            Ok(Vec::new())
        }
    }

    fn faults_of(text: &str) -> String {
        let faults = Fleet::parse(text, Path::new("steer.toml"), &NoHosts).err();
        faults.as_ref().map(Faults::to_string).unwrap_or_default()
    }

    /// What opens the table: `[fleet] geo` is `[fleet.geo]`, endpoints stand in a pool.
    fn header(section: &Section) -> String {
        match section.title {
            "the file" => String::new(),
            "[fleet] geo" => "[fleet.geo]\n".to_owned(),
            "[fleet] guard" => "[fleet.guard]\n".to_owned(),
            "[fleet] overflow" => "[fleet.overflow]\n".to_owned(),
            "[fleet] gossip" => "[fleet.gossip]\n".to_owned(),
            "[fleet] etcd" => "[fleet.etcd]\n".to_owned(),
            "[[pool]] endpoints" => "[[pool]]\n[[pool.endpoints]]\n".to_owned(),
            "[[check]] window" => "[[check]]\n[check.window]\n".to_owned(),
            "[[check]] phi" => "[[check]]\n[check.phi]\n".to_owned(),
            "[[pool]] damping" => "[[pool]]\n[pool.damping]\n".to_owned(),
            "[[pool]] outlier" => "[[pool]]\n[pool.outlier]\n".to_owned(),
            "[[notify]] webhook" => "[[notify]]\n[notify.webhook]\n".to_owned(),
            "[[notify]] email" => "[[notify]]\n[notify.email]\n".to_owned(),
            "[dns] rrl" => "[dns.rrl]\n".to_owned(),
            "[dns] tls" => "[dns.tls]\n".to_owned(),
            "[[anycast]] to" => "[[anycast]]\n[[anycast.to]]\n".to_owned(),
            "[[anycast]] flap_budget" => "[[anycast]]\n[anycast.flap_budget]\n".to_owned(),
            "[[anycast]] bind" => "[[anycast]]\n[anycast.bind]\n".to_owned(),
            "[[anycast]] lease" => "[[anycast]]\n[anycast.lease]\n".to_owned(),
            "[[bgp.peer]] graceful_restart" => "[[bgp.peer]]\n[bgp.peer.graceful_restart]\n".to_owned(),
            "[[bgp.peer]] tcp_ao" => "[[bgp.peer]]\n[bgp.peer.tcp_ao]\n".to_owned(),
            "[[bgp.peer]] bfd" => "[[bgp.peer]]\n[bgp.peer.bfd]\n".to_owned(),
            title => format!("{title}\n"),
        }
    }

    #[test]
    fn every_described_key_is_read() {
        // No key is a date, so each one that is read is faulted.
        for section in SECTIONS.into_iter().chain([&FILE]) {
            for key in section.keys() {
                let faults = faults_of(&format!("{}{key} = 1979-05-27\n", header(section)));
                assert!(
                    faults.contains("not a date"),
                    "{key} of {}: {faults}",
                    section.title
                );
            }
        }
    }

    #[test]
    fn every_example_and_every_sample_has_the_right_shape() {
        for section in SECTIONS {
            let examples = section
                .keys
                .iter()
                .map(|key| format!("{}{} = {}\n", header(section), key.name, key.example));
            let sample = match section.title {
                "[[pool]] endpoints" => format!("[[pool]]\n{}", section.sample),
                _ => section.sample.to_owned(),
            };
            for text in examples.chain([sample]) {
                let faults = faults_of(&text);
                for wrong in ["unknown key", "must be", "not TOML", "write a"] {
                    assert!(!faults.contains(wrong), "{text}\n{faults}");
                }
            }
        }
    }
}
