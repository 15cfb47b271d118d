//! What cannot change while steer runs.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;
use steer_topology::{Fault, Fleet, SiteId};

use crate::edge;
use crate::load::Loaded;

/// Everything in which `next` differs from `current` and that is only read at start. Values are not shown: some are
/// secrets.
pub(super) fn needed(current: &Fleet, next: &Fleet, sites: &[Option<SiteId>], config: &Path) -> Vec<Fault> {
    let mut keys = Vec::new();
    compare("[dns]", &current.dns, &next.dns, &mut keys);
    compare("[bgp]", &current.bgp, &next.bgp, &mut keys);
    compare("[admin]", &current.admin, &next.admin, &mut keys);
    let listens = |fleet: &Fleet| fleet.gossip.as_ref().map(|gossip| gossip.key_file.clone());
    if listens(current) != listens(next) {
        keys.push("`[fleet] gossip`".to_owned());
    }
    if current.store != next.store {
        keys.push("`[fleet] store`".to_owned());
    }
    if current.bgp.is_some() && current.name != next.name {
        keys.push("`[fleet] name`, by which collectors know us,".to_owned());
    }
    // The cache is asked about the prefixes that were announced at start.
    let watched = current.bgp.as_ref().is_some_and(|bgp| bgp.rpki.is_some());
    let prefixes = |fleet: &Fleet| {
        fleet
            .anycast
            .iter()
            .map(|anycast| anycast.prefix)
            .collect::<Vec<_>>()
    };
    if watched && prefixes(current) != prefixes(next) {
        keys.push("the list of `[[anycast]]` prefixes, which `[bgp] rpki` watches,".to_owned());
    }
    for id in sites.iter().flatten() {
        let (old, new) = (current.site(*id), next.sites.get(usize::from(id.0)));
        if new.is_none_or(|new| new.name != old.name) {
            keys.push(format!("the place of `{}` in the list of `[[site]]`", old.name));
        } else if new.is_some_and(|new| new.router_id != old.router_id) {
            keys.push(format!("`router_id` of `[[site]]` {}", old.name));
        } else if new.is_some_and(|new| new.gossip != old.gossip) {
            keys.push(format!("`gossip` of `[[site]]` {}", old.name));
        }
    }
    keys.into_iter().map(|key| fault(config, &key)).collect()
}

/// The same of the edge that `[edge]` names.
pub(super) fn of_the_edge(current: &Loaded, next: &Loaded, sites: &[Option<SiteId>]) -> Option<Fault> {
    let (before, after) = (current.edge.as_deref(), next.edge.as_deref());
    let key = edge::needs_restart((&current.fleet, before), (&next.fleet, after), sites)?;
    Some(fault(&current.config, &key))
}

fn fault(config: &Path, key: &str) -> Fault {
    let message = format!("{key} has changed, which needs a restart");
    let remedy = "restart steer, or put it back as it was; nothing of the file is applied";
    Fault::of_file(config, message, remedy)
}

/// Names the keys of a section that differ.
fn compare<T: Serialize + PartialEq>(
    section: &str,
    current: &Option<T>,
    next: &Option<T>,
    keys: &mut Vec<String>,
) {
    let before = keys.len();
    let value = |section: &Option<T>| serde_json::to_value(section).unwrap_or_default();
    match (current, next) {
        (a, b) if a == b => return,
        (Some(_), Some(_)) => {
            if let (Value::Object(a), Value::Object(b)) = (value(current), value(next)) {
                let differ = a.iter().filter(|(key, value)| b.get(*key) != Some(value));
                keys.extend(differ.map(|(key, _)| format!("`{section} {key}`")));
            }
        }
        (Some(_), None) | (None, Some(_)) | (None, None) => {}
    }
    if keys.len() == before {
        keys.push(format!("`{section}`"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLEET: &str = "[dns]\nlisten = [\"127.0.0.1:5300\"]\n[admin]\nlisten = \"127.0.0.1:8053\"\n\
        [[site]]\nname = \"fra\"\n[[site]]\nname = \"nrt\"\n";

    fn fleet(text: &str) -> Fleet {
        Fleet::parse(text, Path::new("steer.toml"), &crate::resolve::SystemResolver)
            .unwrap_or_else(|faults| panic!("{faults}"))
    }

    fn told(next: &str) -> Vec<String> {
        let faults = needed(
            &fleet(FLEET),
            &fleet(next),
            &[Some(SiteId(1))],
            Path::new("steer.toml"),
        );
        faults.into_iter().map(|fault| fault.message).collect()
    }

    #[test]
    fn what_is_only_read_at_start_is_named() {
        assert_eq!(told(FLEET), [""; 0]);
        assert_eq!(
            told(&FLEET.replace("5300", "5301")),
            ["`[dns] listen` has changed, which needs a restart"]
        );
        assert_eq!(
            told(&FLEET.replace("[admin]\nlisten = \"127.0.0.1:8053\"\n", "")),
            ["`[admin]` has changed, which needs a restart"]
        );
        assert_eq!(
            told(&FLEET.replace("[dns]", "[fleet]\nstore = \"embedded:x.redb\"\n[dns]")),
            ["`[fleet] store` has changed, which needs a restart"]
        );
    }

    #[test]
    fn a_site_may_come_behind_the_others_and_not_before_them() {
        assert_eq!(told(&format!("{FLEET}[[site]]\nname = \"jfk\"\n")), [""; 0]);
        assert_eq!(
            told(&FLEET.replace(
                "[[site]]\nname = \"nrt\"",
                "[[site]]\nname = \"jfk\"\n[[site]]\nname = \"nrt\""
            )),
            ["the place of `nrt` in the list of `[[site]]` has changed, which needs a restart"]
        );
    }
}
