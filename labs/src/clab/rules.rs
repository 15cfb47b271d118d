//! containerlab's own rules for topology files, as far as they say what is allowed where: kinds, keys, endpoints.
//!
//! From `clab.schema.json` of containerlab 0.79, which that program's editors' support publishes. The reader beside
//! allows less: what namespaces honour. A file that both allow runs on both runtimes.

use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};

const TOP: [&str; 6] = ["name", "prefix", "mgmt", "topology", "settings", "debug"];
const TOPOLOGY: [&str; 5] = ["nodes", "groups", "kinds", "defaults", "links"];

/// `definitions.node-config`; allowed for nodes, groups, kinds and `defaults` alike.
const NODE: [&str; 50] = [
    "image",
    "image-pull-policy",
    "restart-policy",
    "kind",
    "license",
    "type",
    "group",
    "startup-config",
    "startup-delay",
    "enforce-startup-config",
    "suppress-startup-config",
    "auto-remove",
    "exec",
    "binds",
    "volumes",
    "ports",
    "env",
    "credentials",
    "env-files",
    "user",
    "hostname",
    "entrypoint",
    "cmd",
    "labels",
    "runtime",
    "mgmt-ipv4",
    "mgmt-ipv6",
    "network-mode",
    "link-apply-mode",
    "cpu",
    "memory",
    "cpu-set",
    "extras",
    "config",
    "stages",
    "dns",
    "certificate",
    "healthcheck",
    "components",
    "aliases",
    "shm-size",
    "cap-add",
    "privileged",
    "cgroupns-mode",
    "cgroup-parent",
    "pid-mode",
    "tmpfs",
    "security-opts",
    "sysctls",
    "devices",
];

/// Of its kinds, those that are no vendor's operating system.
const KINDS: [&str; 6] = [
    "linux",
    "bridge",
    "ovs-bridge",
    "host",
    "ext-container",
    "k8s-kind",
];

/// `definitions.link-config-short`
const LINK: [&str; 6] = ["endpoints", "mtu", "ipv4", "ipv6", "vars", "labels"];

/// What the file breaks, each with its line.
pub(crate) fn broken(text: &str) -> Vec<String> {
    let mut rules = Rules { broken: Vec::new() };
    match MarkedYaml::load_from_str(text) {
        Ok(documents) => match documents.as_slice() {
            [root] => rules.document(root),
            other => rules
                .broken
                .push(format!("{} documents instead of one", other.len())),
        },
        Err(error) => rules.broken.push(error.to_string()),
    }
    rules.broken
}

struct Rules {
    broken: Vec<String>,
}

impl Rules {
    fn document(&mut self, root: &MarkedYaml<'_>) {
        let keys = self.keys(root, "the file", &TOP);
        let find = |wanted: &str| {
            keys.iter()
                .find(|(key, _)| key == wanted)
                .map(|(_, value)| *value)
        };
        match find("name").and_then(text) {
            // ^[a-zA-Z0-9][a-zA-Z0-9-._]*$
            Some(name) if is_name(&name, "-._") => {}
            Some(name) => self.say(root, format!("`{name}` is no name")),
            None => self.say(root, "`name` is missing".to_owned()),
        }
        match find("topology") {
            Some(topology) => self.topology(topology),
            None => self.say(root, "`topology` is missing".to_owned()),
        }
    }

    fn topology(&mut self, yaml: &MarkedYaml<'_>) {
        for (key, value) in self.keys(yaml, "`topology`", &TOPOLOGY) {
            match key.as_str() {
                "defaults" => self.node(value),
                "nodes" | "kinds" | "groups" => {
                    for (name, node) in self.keys(value, &key, &[]) {
                        // Node names: ^[a-zA-Z0-9][a-zA-Z0-9-._|]*$
                        if key == "nodes" && !is_name(&name, "-._|") {
                            self.say(value, format!("`{name}` is no name of a node"));
                        }
                        if key == "kinds" {
                            self.kind(value, &name);
                        }
                        self.node(node);
                    }
                }
                _ => self.links(value),
            }
        }
    }

    /// `node:` with nothing below it is allowed.
    fn node(&mut self, yaml: &MarkedYaml<'_>) {
        if matches!(yaml.data, YamlData::Value(Scalar::Null)) {
            return;
        }
        for (key, value) in self.keys(yaml, "a node", &NODE) {
            let shape = match (key.as_str(), &value.data) {
                ("kind", _) => {
                    let kind = text(value).unwrap_or_default();
                    self.kind(value, &kind);
                    true
                }
                ("exec" | "binds" | "cap-add" | "ports" | "env-files", data) => {
                    matches!(data, YamlData::Sequence(items) if items.iter().all(|item| text(item).is_some()))
                }
                ("privileged" | "auto-remove", data) => matches!(data, YamlData::Value(Scalar::Boolean(_))),
                ("sysctls" | "env" | "labels", data) => {
                    matches!(data, YamlData::Mapping(map) if map.iter().all(|(_, value)| text(value).is_some()))
                }
                ("image" | "network-mode", _) => text(value).is_some(),
                (_, _) => true, // only where the key may stand
            };
            if !shape {
                self.say(value, format!("the value of `{key}` has another shape"));
            }
        }
    }

    fn kind(&mut self, at: &MarkedYaml<'_>, kind: &str) {
        if !KINDS.contains(&kind) {
            self.say(at, format!("`{kind}` is no kind"));
        }
    }

    fn links(&mut self, yaml: &MarkedYaml<'_>) {
        let YamlData::Sequence(links) = &yaml.data else {
            self.say(yaml, "`links` is no list".to_owned());
            return;
        };
        for link in links {
            for (key, value) in self.keys(link, "a link", &LINK) {
                if key == "endpoints" {
                    self.endpoints(value);
                }
            }
        }
    }

    /// Two different ones, each `^\S+:\S+$`.
    fn endpoints(&mut self, yaml: &MarkedYaml<'_>) {
        let YamlData::Sequence(items) = &yaml.data else {
            self.say(yaml, "`endpoints` is no list".to_owned());
            return;
        };
        let ends: Vec<String> = items.iter().filter_map(text).collect();
        let good = |end: &String| {
            let parts = end.split_once(':');
            parts.is_some_and(|(node, port)| !node.is_empty() && !port.is_empty())
                && !end.contains(char::is_whitespace)
        };
        if items.len() != 2 || ends.len() != 2 || ends[0] == ends[1] || !ends.iter().all(good) {
            self.say(yaml, format!("{ends:?} are no two endpoints"));
        }
    }

    /// Keys and values; one that is not `known` breaks the rules, unless any is.
    fn keys<'a, 'i>(
        &mut self,
        yaml: &'a MarkedYaml<'i>,
        what: &str,
        known: &[&str],
    ) -> Vec<(String, &'a MarkedYaml<'i>)> {
        let YamlData::Mapping(mapping) = &yaml.data else {
            self.say(yaml, format!("{what} is no mapping"));
            return Vec::new();
        };
        let mut keys = Vec::new();
        for (key, value) in mapping {
            let name = text(key).unwrap_or_default();
            if known.is_empty() || known.contains(&name.as_str()) {
                keys.push((name, value));
            } else {
                self.say(key, format!("`{name}` is not allowed in {what}"));
            }
        }
        keys
    }

    fn say(&mut self, at: &MarkedYaml<'_>, what: impl std::fmt::Display) {
        self.broken.push(format!("line {}: {what}", at.span.start.line()));
    }
}

/// A string, or a number as it would be written.
fn text(yaml: &MarkedYaml<'_>) -> Option<String> {
    if let YamlData::Value(Scalar::String(text)) = &yaml.data {
        return Some(text.clone().into_owned());
    }
    if let YamlData::Value(Scalar::Integer(number)) = &yaml.data {
        return Some(number.to_string());
    }
    None
}

/// Letters and digits, and `more` but in the first place.
fn is_name(name: &str, more: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphanumeric())
        && chars.all(|c| c.is_ascii_alphanumeric() || more.contains(c))
}

#[test]
fn every_shipped_topology_keeps_the_rules_of_containerlab() {
    let labs = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    for entry in std::fs::read_dir(labs)
        .unwrap()
        .flatten()
        .filter(|entry| entry.path().is_dir())
    {
        for file in std::fs::read_dir(entry.path()).unwrap().flatten() {
            let path = file.path();
            if !path.to_string_lossy().ends_with(".clab.yml") {
                continue;
            }
            seen += 1;
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(broken(&text), Vec::<String>::new(), "{}", path.display());
        }
    }
    assert!(seen >= 5, "only {seen} topologies");
}

#[test]
fn what_is_deployed_keeps_the_rules_too() {
    let original = include_str!("../../silent-death/silent-death.clab.yml");
    let topology = super::parse(std::path::Path::new("t.clab.yml"), original).unwrap();
    let text = crate::runtime::deployed::text(
        &topology,
        "steer-1-2-x",
        "steer-lab:latest",
        &["/a:/a".to_owned()],
    );
    assert_eq!(broken(&text), Vec::<String>::new(), "{text}");
}

#[test]
fn each_broken_rule_is_told_with_its_line() {
    for (file, want) in [
        ("topology: {}", "line 1: `name` is missing"),
        ("name: -x\ntopology: {}", "`-x` is no name"),
        ("name: x", "`topology` is missing"),
        (
            "name: x\ntopologie: {}",
            "line 2: `topologie` is not allowed in the file",
        ),
        (
            "name: x\ntopology:\n  nodes:\n    a: { capadd: [X] }",
            "line 4: `capadd` is not allowed in a node",
        ),
        (
            "name: x\ntopology:\n  nodes:\n    a: { kind: debian }",
            "line 4: `debian` is no kind",
        ),
        (
            "name: x\ntopology:\n  nodes:\n    a: { privileged: 'no' }",
            "line 4: the value of `privileged` has another shape",
        ),
        (
            "name: x\ntopology:\n  nodes:\n    a: { exec: ip link }",
            "line 4: the value of `exec` has another shape",
        ),
        (
            "name: x\ntopology:\n  nodes:\n    'a b': {}",
            "line 4: `a b` is no name of a node",
        ),
        (
            "name: x\ntopology:\n  links:\n    - endpoints: ['a:eth1']",
            "line 4: [\"a:eth1\"] are no two endpoints",
        ),
        (
            "name: x\ntopology:\n  links:\n    - endpoints: ['a:eth1', 'b']",
            "line 4: [\"a:eth1\", \"b\"] are no two endpoints",
        ),
        (
            "name: x\ntopology:\n  links:\n    - ends: []",
            "line 4: `ends` is not allowed in a link",
        ),
    ] {
        let all = broken(file);
        assert!(all.iter().any(|said| said.contains(want)), "{want}: {all:?}");
    }
}
