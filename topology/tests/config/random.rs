//! Random mutations of a good file: never a panic, faults that point into the file, and what loads is sane.

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;
use steer_topology::{
    At, ClientMap, Condition, Filter, Fleet, InService, Peer, PoolId, SiteId, Subject, Target, Ttl,
    fault::Place,
};

use crate::support::{folder, parse};

/// One edit of a text. Positions are taken modulo what is there.
#[derive(Debug, Clone)]
enum Edit {
    DropLine(usize),
    RepeatLine(usize, usize),
    SwapLines(usize, usize),
    DropCharacter(usize),
    InsertCharacter(usize, char),
    /// Replaces one word of the file by another word of the file, or by one that belongs nowhere.
    ReplaceWord(usize, usize),
    CutOff(usize),
}

const STRANGERS: [&str; 12] = [
    "0",
    "-1",
    "99999999999999999999",
    "\"\"",
    "true",
    "[]",
    "{}",
    "\"1s\"",
    "1979-05-27",
    "\"\u{fc}\u{1f30d}\"",
    "\"zzz\"",
    "nan",
];

fn edit() -> impl Strategy<Value = Edit> {
    let at = || 0..10_000_usize;
    prop_oneof![
        3 => at().prop_map(Edit::DropLine),
        1 => (at(), at()).prop_map(|(from, to)| Edit::RepeatLine(from, to)),
        2 => (at(), at()).prop_map(|(a, b)| Edit::SwapLines(a, b)),
        1 => at().prop_map(Edit::DropCharacter),
        1 => (at(), any::<char>()).prop_map(|(at, character)| Edit::InsertCharacter(at, character)),
        6 => (at(), at()).prop_map(|(at, word)| Edit::ReplaceWord(at, word)),
        1 => at().prop_map(Edit::CutOff),
    ]
}

fn apply(text: &str, edit: &Edit) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    let mut characters: Vec<char> = text.chars().collect();
    if lines.is_empty() {
        return String::new();
    }
    let (line_count, character_count) = (lines.len(), characters.len());
    let (line, character) = (|at: usize| at % line_count, |at: usize| at % character_count);
    match edit {
        Edit::DropLine(at) => drop(lines.remove(line(*at))),
        Edit::RepeatLine(from, to) => lines.insert(line(*to), lines[line(*from)]),
        Edit::SwapLines(a, b) => lines.swap(line(*a), line(*b)),
        Edit::DropCharacter(at) => {
            characters.remove(character(*at));
            return characters.into_iter().collect();
        }
        Edit::InsertCharacter(at, new) => {
            characters.insert(character(*at), *new);
            return characters.into_iter().collect();
        }
        Edit::ReplaceWord(at, with) => return replace_word(text, *at, *with),
        Edit::CutOff(at) => return characters[..character(*at)].iter().collect(),
    }
    lines.join("\n") + "\n"
}

fn replace_word(text: &str, at: usize, with: usize) -> String {
    let is_break = |c: char| c.is_whitespace() || matches!(c, ',' | '{' | '}' | '[' | ']' | '=');
    let words: Vec<&str> = text.split(is_break).filter(|word| !word.is_empty()).collect();
    if words.is_empty() {
        return text.to_owned();
    }
    let old = words[at % words.len()];
    let start = old.as_ptr() as usize - text.as_ptr() as usize;
    let pool: Vec<&str> = words.into_iter().chain(STRANGERS).collect();
    format!(
        "{}{}{}",
        &text[..start],
        pool[with % pool.len()],
        &text[start + old.len()..]
    )
}

/// The good file, with its files named from the crate's root.
fn good() -> String {
    let text = std::fs::read_to_string(folder("valid").join("fleet.toml")).unwrap_or_default();
    text.replace("\"zones/", "\"tests/valid/zones/")
        .replace("\"country.mmdb\"", "\"tests/valid/country.mmdb\"")
        .replace("\"rtt.csv\"", "\"tests/valid/rtt.csv\"")
        .replace("\"peer.md5\"", "\"tests/valid/peer.md5\"")
        .replace("\"bfd.key\"", "\"tests/valid/bfd.key\"")
        .replace("\"cookie.secret\"", "\"tests/valid/cookie.secret\"")
}

#[test]
fn the_file_that_is_mutated_is_good() {
    assert_sane(&parse(&good()).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_mutated_file_gives_faults_inside_it_or_a_sane_fleet(edits in proptest::collection::vec(edit(), 1..5)) {
        let text = edits.iter().fold(good(), |text, edit| apply(&text, edit));
        match parse(&text) {
            Ok(fleet) => assert_sane(&fleet),
            Err(faults) => {
                prop_assert!(!faults.0.is_empty());
                let mut last = 0;
                for fault in &faults.0 {
                    let place = fault.place.as_ref().unwrap();
                    prop_assert!(place.span.end <= text.len() && last <= place.span.start, "{fault}");
                    prop_assert_eq!(place, &Place::of(&text, place.span.clone()));
                    prop_assert!(!fault.message.is_empty() && !fault.remedy.is_empty());
                    last = place.span.start;
                }
            }
        }
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in "[\\[\\]{}=,.\"'#\\\\a-z0-9\\n \u{e9}]{0,200}") {
        drop(parse(&text));
    }
}

/// What everybody who holds a [`Fleet`] relies on.
fn assert_sane(fleet: &Fleet) {
    let known = |site: Option<SiteId>| site.is_none_or(|site| usize::from(site.0) < fleet.sites.len());
    unique(fleet.sites.iter().map(|site| site.name.clone()));
    unique(fleet.checks.iter().map(|check| check.name.clone()));
    unique(fleet.pools.iter().map(|pool| pool.name.clone()));
    unique(fleet.zones.iter().map(|zone| zone.name.clone()));
    unique(fleet.steers.iter().map(|steer| steer.name.clone()));
    unique(fleet.anycast.iter().map(|anycast| anycast.prefix));
    assert!(fleet.guard.max_withdrawn >= 1);
    for check in &fleet.checks {
        assert!(check.timeout > Duration::ZERO && check.interval > Duration::ZERO);
    }
    let mut next = 0;
    for (index, pool) in fleet.pools.iter().enumerate() {
        assert!(
            !fleet.members(PoolId(index as u32)).is_empty()
                && pool
                    .check
                    .is_none_or(|check| (check.0 as usize) < fleet.checks.len())
        );
        for id in &pool.endpoints {
            assert_eq!((id.0, fleet.endpoint(*id).pool.0 as usize), (next, index));
            next += 1;
        }
    }
    assert_eq!(next as usize, fleet.endpoints.len());
    for endpoint in &fleet.endpoints {
        assert_eq!(endpoint.site.is_some(), !fleet.sites.is_empty());
        assert!(
            known(endpoint.site) && endpoint.address.port() != 0 && !endpoint.address.ip().is_unspecified()
        );
    }
    assert!(fleet.zones.is_empty() || fleet.dns.is_some());
    for steer in &fleet.steers {
        let zone = &fleet.zones[steer.zone].name;
        assert!(steer.name.is_within(zone) && (steer.pool.0 as usize) < fleet.pools.len());
        let closer = |other: &&steer_topology::ZoneFile| {
            steer.name.is_within(&other.name) && other.name.is_within(zone)
        };
        assert_eq!(
            fleet.zones.iter().filter(closer).count(),
            1,
            "no zone between {} and {zone}",
            steer.name
        );
        assert!(!steer.chain.contains(&Filter::Nearest) || !fleet.sites.is_empty());
        let (min, max) = match steer.ttl {
            Ttl::Fixed(ttl) => (ttl, ttl),
            Ttl::Auto { min, max } => (min, max),
        };
        assert!(min <= max && max <= Duration::from_hours(168));
        assert!(min.subsec_nanos() == 0 && max.subsec_nanos() == 0);
        for (filter, empty) in [
            (Filter::Country, steer.maps.country == ClientMap::default()),
            (Filter::Continent, steer.maps.continent == ClientMap::default()),
            (Filter::Asn, steer.maps.asn == ClientMap::default()),
            (Filter::Cidr, steer.maps.cidr == ClientMap::default()),
        ] {
            assert_eq!(steer.chain.contains(&filter), !empty);
        }
        let maps = &steer.maps;
        let targets = maps.country.entries.iter().map(|(_, targets)| targets);
        let targets = targets.chain(maps.cidr.entries.iter().map(|(_, targets)| targets));
        for target in targets.chain([&maps.country.default]).flatten() {
            assert!(match target {
                Target::Site(site) => known(Some(*site)),
                Target::Tier(_) => true,
            });
        }
    }
    assert!(fleet.anycast.is_empty() || fleet.bgp.is_some());
    for anycast in &fleet.anycast {
        assert!(anycast.sites.iter().all(|site| known(Some(*site))));
        assert_eq!(anycast.sites.is_empty(), fleet.sites.is_empty());
        assert!(
            anycast
                .next_hop
                .is_none_or(|hop| hop.is_ipv4() == anycast.prefix.is_ipv4() || hop.is_ipv6())
        );
        for condition in &anycast.while_up {
            check_condition(fleet, condition);
        }
    }
    assert!(
        fleet
            .admin
            .as_ref()
            .is_none_or(|admin| admin.listen.ip().is_loopback())
    );
    let Some(bgp) = &fleet.bgp else { return };
    for peer in &bgp.peers {
        assert!(known(peer.site) && peer.port != 0 && (!peer.passive || !bgp.listen.is_empty()));
        assert!(matches!(peer.hold_time.as_secs(), 0 | 3..=65_535) && peer.hold_time.subsec_nanos() == 0);
        assert!(
            peer.source
                .is_none_or(|source| source.is_ipv4() == peer.address.is_ipv4())
        );
        let sites: Vec<Option<SiteId>> = match peer.site {
            Some(site) => vec![Some(site)],
            None if fleet.sites.is_empty() => vec![None],
            None => (0..fleet.sites.len())
                .map(|site| Some(SiteId(site as u16)))
                .collect(),
        };
        assert!(
            sites
                .into_iter()
                .all(|site| fleet.router_id(site).is_some_and(|id| !id.is_unspecified()))
        );
        for anycast in fleet.anycast.iter().filter(|anycast| anycast.next_hop.is_none()) {
            let at = |other: &&Peer| other.site.is_none() || peer.site.is_none() || other.site == peer.site;
            let meets = peer.site.is_none_or(|site| anycast.sites.contains(&site));
            let mut beside = bgp.peers.iter().filter(at);
            assert!(
                !meets
                    || beside.any(|peer| {
                        peer.address.is_ipv4() == anycast.prefix.is_ipv4()
                            || (anycast.prefix.is_ipv4() && peer.extended_next_hop)
                    })
            );
        }
    }
}

fn unique<T: Eq + std::hash::Hash + std::fmt::Debug>(names: impl Iterator<Item = T>) {
    let mut seen = HashSet::new();
    for name in names {
        assert!(!seen.contains(&name), "{name:?} twice");
        seen.insert(name);
    }
}

fn check_condition(fleet: &Fleet, condition: &Condition) {
    match condition {
        Condition::InService(InService { subject, at, .. }) => {
            assert!(match subject {
                Subject::Pool(pool) => (pool.0 as usize) < fleet.pools.len(),
                Subject::Check(check) => (check.0 as usize) < fleet.checks.len(),
            });
            assert!(match at {
                At::Anywhere | At::Local => true,
                At::Site(site) => usize::from(site.0) < fleet.sites.len(),
            });
        }
        Condition::Address(_) => {}
        Condition::All(all) | Condition::Any(all) => {
            all.iter().for_each(|one| check_condition(fleet, one));
        }
        Condition::AtLeast { count, of } => {
            assert!(usize::from(count.get()) <= of.len());
            of.iter().for_each(|one| check_condition(fleet, one));
        }
        Condition::Not(one) => check_condition(fleet, one),
    }
}
