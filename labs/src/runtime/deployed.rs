//! The topology file that containerlab gets: the lab's own with what a run adds.
//!
//! A run adds: the run's folders as binds, so that `{lab}`, `{run}` and `{steer}` mean the same inside; no management
//! network, so that nothing leaves the lab; IPv6 addresses that can be used at once, as in namespaces. A switch becomes
//! a container with a bridge in its namespace, where the original has a bridge on the host: two runs then have no
//! names in common.

use std::fmt::Write;

use crate::clab::{End, Kind, NodeSpec, Topology};

/// Name of the bridge in a switch, as in the netns runtime.
const BRIDGE: &str = "br0";

/// The text of the file. `name` is this run's alone; `image` is for switches, which need nothing of it but that it runs.
pub(crate) fn text(topology: &Topology, name: &str, image: &str, binds: &[String]) -> String {
    let mut out = format!(
        "# Written by `steer lab run`; the lab's own file is the source.\nname: {}\ntopology:\n  nodes:\n",
        quoted(name)
    );
    for node in &topology.nodes {
        match node.kind {
            Kind::Linux => linux(&mut out, node, binds),
            Kind::Bridge => switch(&mut out, node, image),
        }
    }
    out += "  links:\n";
    for link in &topology.links {
        let ends = [&link.a, &link.b].map(|end| quoted(&endpoint(topology, end)));
        line(&mut out, 4, &format!("- endpoints: [{}]", ends.join(", ")));
    }
    out
}

fn linux(out: &mut String, node: &NodeSpec, binds: &[String]) {
    line(out, 4, &format!("{}:", quoted(&node.name)));
    line(out, 6, "kind: linux");
    let container = &node.container;
    if let Some(image) = &container.image {
        line(out, 6, &format!("image: {}", quoted(image)));
    }
    if let Some(privileged) = container.privileged {
        line(out, 6, &format!("privileged: {privileged}"));
    }
    line(out, 6, "network-mode: none");
    list(out, "cap-add", &container.cap_add);
    let all: Vec<String> = container.binds.iter().chain(binds).cloned().collect();
    list(out, "binds", &all);
    line(out, 6, "sysctls:");
    let at_once =
        ["all", "default"].map(|scope| (format!("net.ipv6.conf.{scope}.accept_dad"), "0".to_owned()));
    let own = node
        .sysctls
        .iter()
        .map(|(key, value)| (key.clone(), value.clone()));
    for (key, value) in at_once
        .into_iter()
        .filter(|(key, _)| !node.sysctls.contains_key(key))
        .chain(own)
    {
        line(out, 8, &format!("{}: {}", quoted(&key), quoted(&value)));
    }
    list(out, "exec", &node.exec);
}

/// A container whose namespace holds the bridge, and the bridge.
fn switch(out: &mut String, node: &NodeSpec, image: &str) {
    line(out, 4, &format!("{}:", quoted(&node.name)));
    for text in [
        "kind: linux".to_owned(),
        format!("image: {}", quoted(image)),
        "privileged: false".to_owned(),
        "cap-add: [NET_ADMIN, NET_RAW]".to_owned(),
        "network-mode: none".to_owned(),
    ] {
        line(out, 6, &text);
    }
    line(
        out,
        4,
        &format!("{}:", quoted(&format!("{BRIDGE}|{}", node.name))),
    );
    line(out, 6, "kind: bridge");
    line(
        out,
        6,
        &format!("network-mode: {}", quoted(&format!("container:{}", node.name))),
    );
}

fn endpoint(topology: &Topology, end: &End) -> String {
    let is_switch = |node: &&NodeSpec| node.name == end.node && node.kind == Kind::Bridge;
    if topology.nodes.iter().find(is_switch).is_some() {
        format!("{BRIDGE}|{}:{}", end.node, end.interface)
    } else {
        format!("{}:{}", end.node, end.interface)
    }
}

fn list(out: &mut String, key: &str, items: &[String]) {
    if items.is_empty() {
        return;
    }
    line(out, 6, &format!("{key}:"));
    for item in items {
        line(out, 8, &format!("- {}", quoted(item)));
    }
}

fn line(out: &mut String, indent: usize, text: &str) {
    // Writing into a string does not fail.
    let _ = writeln!(out, "{:indent$}{text}", "");
}

/// A double-quoted YAML scalar: JSON's strings are a part of it (YAML 1.2 §1.3). containerlab replaces `${NAME}` and
/// `$NAME` before it reads YAML; there, `$$` is a dollar sign.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text.replace('$', "$$")).to_string()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::clab;

    const SILENT_DEATH: &str = include_str!("../../silent-death/silent-death.clab.yml");

    #[test]
    fn nothing_of_the_original_is_lost() {
        let original = clab::parse(Path::new("t.clab.yml"), SILENT_DEATH).unwrap();
        let binds = ["/run/x:/run/x".to_owned()];
        let deployed = text(&original, "steer-1-2-x", "steer-lab:latest", &binds);
        for node in original.nodes.iter().filter(|node| node.kind == Kind::Linux) {
            let start = deployed.find(&format!("    \"{}\":\n", node.name)).unwrap();
            for line in &node.exec {
                assert!(deployed[start..].contains(&quoted(line)), "{line}: {deployed}");
            }
        }
        assert_eq!(deployed.matches("privileged: false").count(), 5);
        assert_eq!(deployed.matches("\"/run/x:/run/x\"").count(), 4);
        assert!(deployed.contains("\"net.ipv4.ip_forward\": \"1\""), "{deployed}");
        assert!(
            deployed.contains("[\"fra:eth1\", \"br0|wire:port2\"]"),
            "{deployed}"
        );
        assert!(
            deployed.contains("network-mode: \"container:wire\""),
            "{deployed}"
        );
    }

    #[test]
    fn a_dollar_sign_and_quotes_come_through() {
        assert_eq!(quoted(r#"echo "$HOME" \ x"#), r#""echo \"$$HOME\" \\ x""#);
    }
}
