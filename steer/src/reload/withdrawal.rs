//! What a file would take away from clients at several sites at once.
//!
//! Every site reads the same file within minutes. So a push that takes a prefix or a name from all of them is an outage of
//! all of them (Cloudflare's 1.1.1.1, 2025-07-14), and no check and no vote sees it coming: the file is the operator's
//! word. So it is asked for twice. The measure is the guard's own: so many sites of a prefix or a name may go with one file
//! as it lets go within its window, and as many must stay.

use std::collections::BTreeSet;
use std::path::Path;

use steer_topology::{Fault, Fleet, SiteId, Subject};

/// A prefix or a name that too many sites would lose.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Loss {
    /// As it is written.
    what: String,
    /// "announced", "served"
    done: &'static str,
    /// The sites that have it now.
    before: usize,
    /// Those of them that would keep it.
    left: usize,
}

/// What of `next` is refused, but for what `allowed` names. Only a fleet of two sites or more can lose something
/// everywhere at once.
pub(super) fn refused(current: &Fleet, next: &Fleet, allowed: &[String], config: &Path) -> Vec<Fault> {
    if current.sites.len() < 2 {
        return Vec::new();
    }
    let fault = |loss: Loss| {
        let Loss {
            what,
            done,
            before,
            left,
        } = loss;
        let message = format!("{what} would be {done} by {left} of the {before} sites that have it now");
        let policy = &current.guard;
        let remedy = format!(
            "`guard` lets {} go at once and keeps {}; take fewer away with one file, or confirm it: \
             steer reload --allow-withdraw {what}",
            policy.max_withdrawn, policy.keep_sites
        );
        Fault::of_file(config, message, remedy)
    };
    let losses = prefixes(current, next).into_iter().chain(names(current, next));
    let is_allowed = |loss: &Loss| allowed.iter().any(|what| bare(what) == bare(&loss.what));
    let unconfirmed = losses.filter(|loss| !is_allowed(loss));
    unconfirmed.map(fault).collect()
}

fn prefixes(current: &Fleet, next: &Fleet) -> Vec<Loss> {
    let sites = |fleet: &Fleet, prefix| {
        let of_prefix = fleet.anycast.iter().filter(|anycast| anycast.prefix == prefix);
        let ids = of_prefix.flat_map(|anycast| anycast.sites.iter().copied());
        named(fleet, ids)
    };
    let all = current.anycast.iter().map(|anycast| anycast.prefix);
    let loss = |prefix| {
        let (before, after) = (sites(current, prefix), sites(next, prefix));
        weigh(current, &prefix.to_string(), "announced", &before, &after)
    };
    all.filter_map(loss).collect()
}

fn names(current: &Fleet, next: &Fleet) -> Vec<Loss> {
    let sites = |fleet: &Fleet, name: &str| {
        let of_name = fleet.steers.iter().filter(|steer| steer.name.to_string() == name);
        let pools = of_name.flat_map(|steer| fleet.pools_of(Subject::Pool(steer.pool)));
        let endpoints = pools.flat_map(|pool| fleet.pool(pool).endpoints.iter());
        let ids = endpoints.filter_map(|endpoint| fleet.endpoint(*endpoint).site);
        named(fleet, ids)
    };
    let all: BTreeSet<_> = current
        .steers
        .iter()
        .map(|steer| steer.name.to_string())
        .collect();
    let loss = |name: String| {
        let (before, after) = (sites(current, &name), sites(next, &name));
        weigh(current, &bare(&name), "served", &before, &after)
    };
    all.into_iter().filter_map(loss).collect()
}

/// A name as people write it: without the dot at its end.
fn bare(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// By name: no id outlives a reload.
fn named(fleet: &Fleet, ids: impl Iterator<Item = SiteId>) -> BTreeSet<String> {
    ids.map(|id| fleet.site(id).name.clone()).collect()
}

fn weigh(
    current: &Fleet,
    what: &str,
    done: &'static str,
    before: &BTreeSet<String>,
    after: &BTreeSet<String>,
) -> Option<Loss> {
    let left = before.intersection(after).count();
    let lost = before.len() - left;
    let policy = &current.guard;
    let (max, keep) = (usize::from(policy.max_withdrawn), usize::from(policy.keep_sites));
    // Of one site, a file may take what it likes: nothing goes everywhere that was only there.
    let is_too_much = before.len() > 1 && lost > 0 && (left == 0 || left < keep || lost > max);
    is_too_much.then(|| Loss {
        what: what.to_owned(),
        done,
        before: before.len(),
        left,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A resolver service announced from every site, and a name that all of them answer.
    const FLEET: &str = r#"
[fleet]
guard = { max_withdrawn = 1 }
[[site]]
name = "fra"
router_id = "192.0.2.1"
[[site]]
name = "nrt"
router_id = "192.0.2.2"
[[site]]
name = "jfk"
router_id = "192.0.2.3"
[[site]]
name = "gru"
router_id = "192.0.2.4"
[[pool]]
name = "web"
endpoints = [ { site = "fra", address = "192.0.2.1:443" }, { site = "nrt", address = "192.0.2.2:443" }, { site = "jfk", address = "192.0.2.3:443" } ]
[bgp]
asn = 64500
[[anycast]]
prefix = "198.51.100.0/24"
sites = ["fra", "nrt", "jfk"]
"#;

    fn fleet(text: &str) -> Fleet {
        Fleet::parse(text, Path::new("steer.toml"), &crate::resolve::SystemResolver)
            .unwrap_or_else(|faults| panic!("{faults}"))
    }

    fn told(next: &str, allowed: &[&str]) -> Vec<String> {
        let allowed: Vec<_> = allowed.iter().map(|what| (*what).to_owned()).collect();
        let faults = refused(&fleet(FLEET), &fleet(next), &allowed, Path::new("steer.toml"));
        faults
            .into_iter()
            .map(|fault| format!("{}; {}", fault.message, fault.remedy))
            .collect()
    }

    #[test]
    fn cloudflare_2025_07_14_one_configuration_push_does_not_withdraw_a_prefix_everywhere() {
        // As it was then: the service's prefixes are referred to one site that is not in production.
        let push = FLEET.replace("sites = [\"fra\", \"nrt\", \"jfk\"]", "sites = [\"gru\"]");
        let refusal = "198.51.100.0/24 would be announced by 0 of the 3 sites that have it now; `guard` lets 1 go at \
                       once and keeps 1; take fewer away with one file, or confirm it: \
                       steer reload --allow-withdraw 198.51.100.0/24";
        assert_eq!(told(&push, &[]), [refusal]);
        assert_eq!(told(&push, &["198.51.100.0/24"]), [""; 0], "unless it is meant");
        assert_eq!(told(&push, &["203.0.113.0/24"]).len(), 1, "and that very prefix");
        let gone = &FLEET[..FLEET.find("[[anycast]]").unwrap()];
        assert_eq!(told(gone, &[]), [refusal]);
    }

    #[test]
    fn one_site_may_go_with_one_file_and_two_may_not() {
        let without = |sites: &str| FLEET.replace("sites = [\"fra\", \"nrt\", \"jfk\"]", sites);
        assert_eq!(told(&without("sites = [\"fra\", \"nrt\"]"), &[]), [""; 0]);
        assert_eq!(
            told(&without("sites = [\"fra\", \"nrt\", \"gru\"]"), &[]),
            [""; 0]
        );
        let two = told(&without("sites = [\"fra\"]"), &[]);
        assert!(
            two[0].starts_with("198.51.100.0/24 would be announced by 1 of the 3"),
            "{two:?}"
        );
        assert_eq!(told(FLEET, &[]), [""; 0]);
    }
}
