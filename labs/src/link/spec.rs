//! `[[wan]]` of a `scenario.toml`, and what it makes of a topology.

use std::path::Path;

use serde::Deserialize;
use steer_topology::fault::{Fault, Faults, Place};

use crate::clab::{Container, End, Kind, LinkSpec, NodeSpec, Topology};

/// The node in the middle of all long lines.
pub(super) const NODE: &str = "wan";

/// Longest delay that is simulated, milliseconds.
const DELAY_MAX_MS: f64 = 10_000.0;

/// A long line. Each direction has these properties for itself.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wan {
    /// The two ends of a link of the topology, each as `node:interface`.
    pub link: (String, String),
    /// One way, milliseconds.
    #[serde(default)]
    pub delay_ms: f64,
    /// Added to it: evenly between 0 and this, milliseconds. Frames stay in order.
    #[serde(default)]
    pub jitter_ms: f64,
    /// Per cent of the frames that vanish.
    #[serde(default)]
    pub loss: f64,
    /// Per cent that arrive twice.
    #[serde(default)]
    pub duplicate: f64,
    /// Per cent that are not delayed, and so overtake others.
    #[serde(default)]
    pub reorder: f64,
    /// Per cent in which one bit is turned.
    #[serde(default)]
    pub corrupt: f64,
    /// Everything that leaves this end vanishes: a cut one way.
    pub mute: Option<String>,
    /// Where the random numbers begin; the same seed makes the same choices for the same frames.
    #[serde(default)]
    pub seed: u64,
}

impl Wan {
    /// Whether both are of the same link.
    pub(crate) fn joins(&self, other: &Self) -> bool {
        let (a, b) = &other.link;
        self.link == other.link || (&self.link.0, &self.link.1) == (b, a)
    }
}

/// Only the part of a scenario that is ours; the rest is read by its owner.
#[derive(Debug, Deserialize)]
struct Part {
    #[serde(default)]
    wan: Vec<toml::Spanned<Wan>>,
}

/// The long lines of a scenario, held against its topology.
pub(crate) fn parse(file: &Path, text: &str, topology: &Topology) -> Result<Vec<Wan>, Faults> {
    let remedy = "see `[[wan]]` in docs/lab-runtimes.md";
    let part: Part = toml::from_str(text).map_err(|error| {
        let message = error.message().to_owned();
        Faults::from(match error.span() {
            Some(span) => Fault::at(file, Place::of(text, span), message, remedy),
            None => Fault::of_file(file, message, remedy),
        })
    })?;
    let mut faults = Vec::new();
    for wan in &part.wan {
        let place = Place::of(text, wan.span());
        if let Some((message, remedy)) = wrong(wan.get_ref(), topology) {
            faults.push(Fault::at(file, place, message, remedy));
        }
    }
    if faults.is_empty() {
        Ok(part.wan.into_iter().map(toml::Spanned::into_inner).collect())
    } else {
        Err(Faults(faults))
    }
}

/// What is wrong, and what would be right.
pub(crate) fn wrong(wan: &Wan, topology: &Topology) -> Option<(String, &'static str)> {
    let (a, b) = &wan.link;
    if find(topology, wan).is_none() {
        return Some((
            format!("the topology has no link from `{a}` to `{b}`"),
            "name both ends of one of its links",
        ));
    }
    if topology.nodes.iter().any(|node| node.name == NODE) {
        return Some((
            format!("the topology has a node `{NODE}` of its own"),
            "call it otherwise: long lines need the name",
        ));
    }
    for (what, ms) in [("delay_ms", wan.delay_ms), ("jitter_ms", wan.jitter_ms)] {
        if !(0.0..=DELAY_MAX_MS).contains(&ms) {
            return Some((format!("`{what}` is {ms}"), "write 0 to 10000"));
        }
    }
    for (what, share) in [
        ("loss", wan.loss),
        ("duplicate", wan.duplicate),
        ("reorder", wan.reorder),
        ("corrupt", wan.corrupt),
    ] {
        if !(0.0..=100.0).contains(&share) {
            return Some((
                format!("`{what}` is {share}"),
                "write 0 to 100: per cent of the frames",
            ));
        }
    }
    let mute = wan.mute.as_ref()?;
    (mute != a && mute != b).then(|| {
        (
            format!("`mute` is `{mute}`, which is no end of this link"),
            "name one of its two ends",
        )
    })
}

/// The index of the link, and whether its ends are the other way round.
fn find(topology: &Topology, wan: &Wan) -> Option<(usize, bool)> {
    let is =
        |end: &End, text: &str| text.split_once(':') == Some((end.node.as_str(), end.interface.as_str()));
    topology.links.iter().enumerate().find_map(|(index, link)| {
        if is(&link.a, &wan.link.0) && is(&link.b, &wan.link.1) {
            Some((index, false))
        } else if is(&link.b, &wan.link.0) && is(&link.a, &wan.link.1) {
            Some((index, true))
        } else {
            None
        }
    })
}

/// Puts the node `wan` into the middle of each of these links.
pub(crate) fn insert(topology: &mut Topology, lines: &[Wan]) {
    if lines.is_empty() {
        return;
    }
    for (number, wan) in lines.iter().enumerate() {
        let Some((index, turned)) = find(topology, wan) else {
            continue; // not reached: parsed against this topology
        };
        let LinkSpec { a, b } = topology.links.remove(index);
        let (a, b) = if turned { (b, a) } else { (a, b) };
        let (port_a, port_b) = ports(number);
        let end = |interface: String| End {
            node: NODE.to_owned(),
            interface,
        };
        topology.links.push(LinkSpec { a, b: end(port_a) });
        topology.links.push(LinkSpec { a: b, b: end(port_b) });
    }
    let image = topology
        .nodes
        .iter()
        .find_map(|node| node.container.image.clone());
    topology.nodes.push(NodeSpec {
        name: NODE.to_owned(),
        kind: Kind::Linux,
        exec: Vec::new(),
        // It only carries; it must not speak itself.
        sysctls: [("net.ipv6.conf.default.disable_ipv6".to_owned(), "1".to_owned())].into(),
        container: Container {
            image,
            privileged: Some(false),
            cap_add: vec!["NET_ADMIN".to_owned(), "NET_RAW".to_owned()],
            binds: Vec::new(),
        },
    });
}

/// Names of the two ports of a line in the node `wan`.
pub(super) fn ports(number: usize) -> (String, String) {
    (format!("w{number}a"), format!("w{number}b"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clab;

    fn topology() -> Topology {
        let text = include_str!("../../app-death/app-death.clab.yml");
        clab::parse(Path::new("t.clab.yml"), text).unwrap()
    }

    #[test]
    fn a_long_line_takes_the_place_of_its_link() {
        let mut topology = topology();
        let text = "[[wan]]\nlink = [\"router:eth2\", \"fra:eth1\"]\ndelay_ms = 40\n";
        let lines = parse(Path::new("scenario.toml"), text, &topology).unwrap();
        insert(&mut topology, &lines);
        let ends: Vec<String> = topology
            .links
            .iter()
            .map(|link| {
                format!(
                    "{}:{} {}:{}",
                    link.a.node, link.a.interface, link.b.node, link.b.interface
                )
            })
            .collect();
        let want = [
            "client:eth1 router:eth1",
            "nrt:eth1 router:eth3",
            "router:eth2 wan:w0a",
            "fra:eth1 wan:w0b",
        ];
        assert_eq!(ends, want);
        assert_eq!(topology.nodes.last().unwrap().name, "wan");
    }

    #[test]
    fn a_wrong_line_is_told_with_its_place() {
        for (text, want) in [
            (
                "link = [\"router:eth9\", \"fra:eth1\"]",
                "no link from `router:eth9` to `fra:eth1`",
            ),
            (
                "link = [\"router:eth2\", \"fra:eth1\"]\nloss = 101",
                "`loss` is 101",
            ),
            (
                "link = [\"router:eth2\", \"fra:eth1\"]\ndelay_ms = -1",
                "`delay_ms` is -1",
            ),
            (
                "link = [\"router:eth2\", \"fra:eth1\"]\nmute = \"nrt:eth1\"",
                "no end of this link",
            ),
            (
                "link = [\"router:eth2\", \"fra:eth1\"]\ndelay = 1",
                "unknown field `delay`",
            ),
        ] {
            let text = format!("summary = \"x\"\n[[wan]]\n{text}\n");
            let error = parse(Path::new("scenario.toml"), &text, &topology())
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(want) && error.contains("scenario.toml:"),
                "{want}: {error}"
            );
        }
    }
}
