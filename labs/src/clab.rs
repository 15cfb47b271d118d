//! containerlab topology files (`*.clab.yml`): the part of the format that network namespaces can honour.
//!
//! What is not supported is a fault that names the key and its line; nothing is ignored in silence. Keys that
//! only mean something for containers (`image`, `privileged`, `cap-add`, `binds`) are read and checked: here the
//! node shares the host's files and runs with the caller's rights.

use std::collections::BTreeMap;
use std::path::Path;

use saphyr::{LoadableYamlNode, MarkedYaml, Marker, Scalar, YamlData};
use steer_topology::fault::{Fault, Faults, Place};

/// A checked topology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// `name`
    pub name: String,
    /// `topology.nodes`, in file order.
    pub nodes: Vec<NodeSpec>,
    /// `topology.links`, in file order.
    pub links: Vec<LinkSpec>,
}

/// A node with `defaults` and `kinds` merged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSpec {
    /// Its key.
    pub name: String,
    /// `kind`
    pub kind: Kind,
    /// `exec`: commands to run once the links are there; those of `defaults` first, then of the kind.
    pub exec: Vec<String>,
    /// `sysctls`
    pub sysctls: BTreeMap<String, String>,
    /// What only a container runtime needs.
    pub container: Container,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A host or router.
    Linux,
    /// A switch. Here it lives in a namespace of its own instead of on the host.
    Bridge,
}

/// Keys for container runtimes alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    /// `image`
    pub image: Option<String>,
    /// `privileged`
    pub privileged: Option<bool>,
    /// `cap-add`
    pub cap_add: Vec<String>,
    /// `binds`
    pub binds: Vec<String>,
}

/// A veth pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkSpec {
    /// One end.
    pub a: End,
    /// The other.
    pub b: End,
}

/// One end of a link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct End {
    /// The node.
    pub node: String,
    /// Its interface.
    pub interface: String,
}

/// Longest name of an interface: `IFNAMSIZ` without the final zero.
const INTERFACE_MAX: usize = 15;

const TOP_KEYS: [&str; 2] = ["name", "topology"];
const TOPOLOGY_KEYS: [&str; 4] = ["defaults", "kinds", "nodes", "links"];
const NODE_KEYS: [&str; 7] = [
    "kind",
    "exec",
    "sysctls",
    "image",
    "privileged",
    "cap-add",
    "binds",
];
const KINDS: [&str; 2] = ["linux", "bridge"];

/// Reads `text`; all faults of the file come at once.
pub fn parse(file: &Path, text: &str) -> Result<Topology, Faults> {
    let mut reader = Reader {
        file,
        text,
        faults: Vec::new(),
    };
    let topology = reader.document();
    match topology {
        Some(topology) if reader.faults.is_empty() => Ok(topology),
        Some(_) | None => Err(Faults(reader.faults)),
    }
}

/// The keys of one node, kind or `defaults`, before merging.
#[derive(Debug, Clone, Default)]
struct Fields {
    kind: Option<Kind>,
    exec: Vec<String>,
    sysctls: BTreeMap<String, String>,
    container: Container,
}

impl Fields {
    /// `self` with what is more specific on top: single values are replaced, lists and maps grow.
    fn under(&self, over: &Self) -> Self {
        let join = |a: &[String], b: &[String]| a.iter().chain(b).cloned().collect::<Vec<_>>();
        let mut sysctls = self.sysctls.clone();
        sysctls.extend(over.sysctls.clone());
        Self {
            kind: over.kind.or(self.kind),
            exec: join(&self.exec, &over.exec),
            sysctls,
            container: Container {
                image: over
                    .container
                    .image
                    .clone()
                    .or_else(|| self.container.image.clone()),
                privileged: over.container.privileged.or(self.container.privileged),
                cap_add: join(&self.container.cap_add, &over.container.cap_add),
                binds: join(&self.container.binds, &over.container.binds),
            },
        }
    }
}

type Entry<'a, 'i> = (&'a str, &'a MarkedYaml<'i>, &'a MarkedYaml<'i>);

struct Reader<'f> {
    file: &'f Path,
    text: &'f str,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn document(&mut self) -> Option<Topology> {
        let documents = match MarkedYaml::load_from_str(self.text) {
            Ok(documents) => documents,
            Err(error) => {
                let place = self.place(error.marker());
                let remedy = "correct the YAML";
                self.faults
                    .push(Fault::at(self.file, place, error.info().to_owned(), remedy));
                return None;
            }
        };
        let Some(root) = documents.first() else {
            self.faults.push(Fault::of_file(
                self.file,
                "the file is empty",
                "write `name` and `topology`",
            ));
            return None;
        };
        let (mut name, mut topology) = (None, None);
        for (key, at, value) in self.entries(root, "the file", &TOP_KEYS) {
            match key {
                "name" => name = self.string(value, "`name`"),
                "topology" => topology = Some((at, value)),
                _ => {}
            }
        }
        let name = self.need(
            name,
            has_key(root, "name"),
            root,
            "`name` is missing",
            "write `name: <lab>`",
        );
        let topology = self.need(
            topology,
            has_key(root, "topology"),
            root,
            "`topology` is missing",
            "write `topology:` with nodes and links",
        );
        let (nodes, links) = self.topology(topology?.1);
        Some(Topology {
            name: name?,
            nodes,
            links,
        })
    }

    fn topology(&mut self, yaml: &MarkedYaml<'_>) -> (Vec<NodeSpec>, Vec<LinkSpec>) {
        let entries = self.entries(yaml, "`topology`", &TOPOLOGY_KEYS);
        let find = |wanted: &str| {
            entries
                .iter()
                .find(|(key, ..)| *key == wanted)
                .map(|(_, _, value)| *value)
        };
        let defaults = find("defaults")
            .map(|value| self.fields(value, "`defaults`"))
            .unwrap_or_default();
        let kinds = find("kinds").map(|value| self.kinds(value)).unwrap_or_default();
        let mut nodes = Vec::new();
        match find("nodes") {
            Some(value) => {
                for (name, at, value) in self.entries(value, "`nodes`", &[]) {
                    nodes.extend(self.node(name, at, value, &defaults, &kinds));
                }
            }
            None => self.fault(yaml, "`nodes` is missing", "write `nodes:` below `topology:`"),
        }
        let links = find("links")
            .map(|value| self.links(value, &nodes))
            .unwrap_or_default();
        (nodes, links)
    }

    fn kinds(&mut self, yaml: &MarkedYaml<'_>) -> Vec<(Kind, Fields)> {
        let mut kinds = Vec::new();
        for (name, at, value) in self.entries(yaml, "`kinds`", &[]) {
            let fields = self.fields(value, "a kind");
            kinds.extend(self.kind(name, at).map(|kind| (kind, fields)));
        }
        kinds
    }

    fn node(
        &mut self,
        name: &str,
        at: &MarkedYaml<'_>,
        yaml: &MarkedYaml<'_>,
        defaults: &Fields,
        kinds: &[(Kind, Fields)],
    ) -> Option<NodeSpec> {
        let own = if matches!(yaml.data, YamlData::Value(Scalar::Null)) {
            Fields::default() // `client:` with nothing below it
        } else {
            self.fields(yaml, "a node")
        };
        let Some(kind) = own.kind.or(defaults.kind) else {
            if !has_key(yaml, "kind") {
                self.fault(
                    at,
                    format!("node `{name}` has no kind"),
                    "write `kind: linux` or `kind: bridge`",
                );
            }
            return None;
        };
        let of_kind = kinds
            .iter()
            .find(|(known, _)| *known == kind)
            .map(|(_, fields)| fields.clone());
        let merged = defaults.under(&of_kind.unwrap_or_default()).under(&own);
        let Fields {
            kind: _,
            exec,
            sysctls,
            container,
        } = merged;
        Some(NodeSpec {
            name: name.to_owned(),
            kind,
            exec,
            sysctls,
            container,
        })
    }

    fn fields(&mut self, yaml: &MarkedYaml<'_>, what: &str) -> Fields {
        let mut fields = Fields::default();
        for (key, _, value) in self.entries(yaml, what, &NODE_KEYS) {
            match key {
                "kind" => {
                    let name = self.string(value, "`kind`");
                    fields.kind = name.and_then(|kind| self.kind(&kind, value));
                }
                "exec" => fields.exec = self.strings(value, "`exec`"),
                "sysctls" => fields.sysctls = self.sysctls(value),
                "image" => fields.container.image = self.string(value, "`image`"),
                "privileged" => fields.container.privileged = self.boolean(value, "`privileged`"),
                "cap-add" => fields.container.cap_add = self.strings(value, "`cap-add`"),
                "binds" => fields.container.binds = self.strings(value, "`binds`"),
                _ => {}
            }
        }
        fields
    }

    fn kind(&mut self, name: &str, at: &MarkedYaml<'_>) -> Option<Kind> {
        match name {
            "linux" => Some(Kind::Linux),
            "bridge" => Some(Kind::Bridge),
            _ => {
                let remedy = format!("supported kinds are {}", list(&KINDS));
                self.fault(
                    at,
                    format!("kind `{name}` is not supported by the netns runtime"),
                    remedy,
                );
                None
            }
        }
    }

    fn sysctls(&mut self, yaml: &MarkedYaml<'_>) -> BTreeMap<String, String> {
        let mut sysctls = BTreeMap::new();
        for (key, at, value) in self.entries(yaml, "`sysctls`", &[]) {
            if !key.starts_with("net.") {
                self.fault(
                    at,
                    format!("sysctl `{key}` is not of the network"),
                    "only `net.*` can be set per node",
                );
            }
            if let Some(value) = self.string(value, "a sysctl") {
                sysctls.insert(key.to_owned(), value);
            }
        }
        sysctls
    }

    fn links(&mut self, yaml: &MarkedYaml<'_>, nodes: &[NodeSpec]) -> Vec<LinkSpec> {
        let mut links = Vec::new();
        let mut used: BTreeMap<End, usize> = BTreeMap::new();
        for item in self.sequence(yaml, "`links`") {
            for (_, _, ends) in self.entries(item, "a link", &["endpoints"]) {
                let ends: Vec<_> = self
                    .sequence(ends, "`endpoints`")
                    .iter()
                    .filter_map(|end| self.end(end, nodes, &mut used))
                    .collect();
                match <[End; 2]>::try_from(ends) {
                    Ok([a, b]) => links.push(LinkSpec { a, b }),
                    Err(ends) if self.faults.is_empty() => {
                        let message = format!("a link has {} endpoints", ends.len());
                        self.fault(item, message, "write two: `endpoints: [\"a:eth1\", \"b:eth1\"]`");
                    }
                    Err(_) => {} // its ends are at fault already
                }
            }
        }
        links
    }

    fn end(
        &mut self,
        yaml: &MarkedYaml<'_>,
        nodes: &[NodeSpec],
        used: &mut BTreeMap<End, usize>,
    ) -> Option<End> {
        let text = self.string(yaml, "an endpoint")?;
        let Some((node, interface)) = text.split_once(':') else {
            self.fault(yaml, format!("`{text}` is no endpoint"), "write `node:interface`");
            return None;
        };
        if !nodes.iter().any(|known| known.name == node) {
            let known: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
            self.fault(
                yaml,
                format!("there is no node `{node}`"),
                format!("nodes are {}", list(&known)),
            );
            return None;
        }
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if interface.is_empty() || interface.len() > INTERFACE_MAX || !interface.chars().all(good) {
            let remedy = format!("1 to {INTERFACE_MAX} letters, digits, `-`, `_` or `.`");
            self.fault(yaml, format!("`{interface}` is no name of an interface"), remedy);
            return None;
        }
        let end = End {
            node: node.to_owned(),
            interface: interface.to_owned(),
        };
        let line = yaml.span.start.line();
        if let Some(first) = used.insert(end.clone(), line) {
            self.fault(
                yaml,
                format!("`{text}` is used twice"),
                format!("it was used in line {first}"),
            );
            return None;
        }
        Some(end)
    }
}

/// Reading of one value.
impl Reader<'_> {
    /// The entries of a mapping whose keys are strings of `known`; with nothing in `known`, any key is good.
    fn entries<'a, 'i>(
        &mut self,
        yaml: &'a MarkedYaml<'i>,
        what: &str,
        known: &[&str],
    ) -> Vec<Entry<'a, 'i>> {
        let YamlData::Mapping(mapping) = &yaml.data else {
            self.fault(yaml, format!("{what} is no mapping"), "write `key: value` lines");
            return Vec::new();
        };
        let mut entries = Vec::new();
        for (key, value) in mapping {
            let YamlData::Value(Scalar::String(name)) = &key.data else {
                self.fault(key, format!("a key of {what} is no string"), "put it in quotes");
                continue;
            };
            if known.is_empty() || known.contains(&name.as_ref()) {
                entries.push((name.as_ref(), key, value));
            } else {
                let message = format!("`{name}` in {what} is not supported by the netns runtime");
                self.fault(key, message, format!("supported keys are {}", list(known)));
            }
        }
        entries
    }

    fn sequence<'a, 'i>(&mut self, yaml: &'a MarkedYaml<'i>, what: &str) -> &'a [MarkedYaml<'i>] {
        if let YamlData::Sequence(items) = &yaml.data {
            items
        } else {
            self.fault(
                yaml,
                format!("{what} is no list"),
                "write `- item` lines or `[a, b]`",
            );
            &[]
        }
    }

    fn strings(&mut self, yaml: &MarkedYaml<'_>, what: &str) -> Vec<String> {
        let items = self.sequence(yaml, what);
        items
            .iter()
            .filter_map(|item| self.string(item, &format!("an item of {what}")))
            .collect()
    }

    /// A string, or a number as it would be written.
    fn string(&mut self, yaml: &MarkedYaml<'_>, what: &str) -> Option<String> {
        if let YamlData::Value(Scalar::String(text)) = &yaml.data {
            return Some(text.clone().into_owned());
        }
        if let YamlData::Value(Scalar::Integer(number)) = &yaml.data {
            return Some(number.to_string());
        }
        self.fault(yaml, format!("{what} is no text"), "write a string");
        None
    }

    fn boolean(&mut self, yaml: &MarkedYaml<'_>, what: &str) -> Option<bool> {
        if let YamlData::Value(Scalar::Boolean(value)) = &yaml.data {
            return Some(*value);
        }
        self.fault(
            yaml,
            format!("{what} is neither true nor false"),
            "write `true` or `false`",
        );
        None
    }

    /// `written`: the key is there, so what is wrong with its value has been said.
    fn need<T>(
        &mut self,
        value: Option<T>,
        written: bool,
        at: &MarkedYaml<'_>,
        message: &str,
        remedy: &str,
    ) -> Option<T> {
        if value.is_none() && !written {
            self.fault(at, message, remedy);
        }
        value
    }

    fn fault(&mut self, at: &MarkedYaml<'_>, message: impl Into<String>, remedy: impl Into<String>) {
        let place = self.place(&at.span.start);
        self.faults.push(Fault::at(self.file, place, message, remedy));
    }

    /// The parser counts characters; lines from 1, columns from 0.
    fn place(&self, marker: &Marker) -> Place {
        let start = self
            .text
            .char_indices()
            .nth(marker.index())
            .map_or(self.text.len(), |(byte, _)| byte);
        Place {
            line: marker.line(),
            column: marker.col() + 1,
            span: start..start,
        }
    }
}

fn has_key(yaml: &MarkedYaml<'_>, key: &str) -> bool {
    yaml.data.as_mapping_get(key).is_some()
}

fn list(words: &[&str]) -> String {
    words
        .iter()
        .map(|word| format!("`{word}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
pub(crate) mod rules;
#[cfg(test)]
mod tests;
