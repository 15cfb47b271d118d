//! The filters of a chain, for the page.

use std::fmt::Write as _;

/// A filter, as the reference tells of it. Texts are Markdown.
#[derive(Debug, Clone, Copy)]
pub struct FilterText {
    /// As it is written in a chain.
    pub written: &'static str,
    /// What it does.
    pub about: &'static str,
    /// What it depends on, and how far its answer may be cached.
    pub scope: &'static str,
}

const HEAD: &str = "
## Filters

A chain hands a list of candidates from filter to filter; at first these are the endpoints of the pool in file order.
No filter adds a candidate, and only `up` and `geofence` may leave nothing. `steer explain` shows the list before and
after each.

```toml
[[steer]]
name  = \"www.example.com\"
pool  = \"web\"
chain = [\"up\", \"geofence continent\", \"country\", \"nearest\", \"take 2\"]
country = { CH = \"fra\", default = [\"fra\", \"nrt\"] }
```

A map (`country`, `continent`, `asn`, `cidr`) is a wish and not a wall: it keeps the candidates at the sites and in the
tiers that it names for the client. Where none of those is left, say because `up` stands before it and they are down, the
list passes on unchanged; so it does for a client that no entry speaks of, unless there is a `default`. A wall is
`geofence`. Each filter has a page with an example and what `explain` says of it: [filters](filters.md).
";

/// Every filter.
pub const FILTERS: [FilterText; 15] = [
    FilterText {
        written: "up",
        about: "Drops what is out of service or drained. What is unknown, and what the guard holds, stays.",
        scope: "The same for everybody.",
    },
    FilterText {
        written: "nearest",
        about: "Orders by great-circle distance from the client to the site, less the site's `bias`; ties keep their \
                order. A client without a known place keeps the order of the file.",
        scope: "By client class.",
    },
    FilterText {
        written: "latency",
        about: "Orders by round-trip time, shortest first, from the table of `[fleet] latency` or the built-in one \
                (credit: Azure network round-trip latency statistics, Microsoft, CC BY 4.0). What was not measured is \
                estimated: 1.74 times the great circle at 100 km per millisecond, there and back. A client without a \
                known place keeps the order of the list.",
        scope: "By client class.",
    },
    FilterText {
        written: "country",
        about: "Keeps what the table `country` names for the client's country.",
        scope: "By client class.",
    },
    FilterText {
        written: "continent",
        about: "Keeps what the table `continent` names for the client's continent.",
        scope: "By client class.",
    },
    FilterText {
        written: "asn",
        about: "Keeps what the table `asn` names for the AS of the client's address. Needs a database, `[fleet] geo` \
                with `asn`.",
        scope: "By client class.",
    },
    FilterText {
        written: "cidr",
        about: "Keeps what the table `cidr` names for the narrowest of its prefixes around the client. An IPv6 \
                address that carries an IPv4 address (mapped, NAT64, 6to4) is matched as that IPv4 address.",
        scope: "By client class.",
    },
    FilterText {
        written: "geofence country`, `geofence continent",
        about: "Keeps what stands in the client's own country or continent. Where that leaves nothing the query is \
                REFUSED: the client is never sent out of its region, whatever is down, and whatever `if_all_down` \
                says. A client whose region is not known (no database entry, or an ECS option of length 0) is in no \
                region and refused too.",
        scope: "By client class.",
    },
    FilterText {
        written: "weighted",
        about: "Orders at random by `weight`: each place is drawn among those left, in proportion to their weights. \
                Weight 0 is out while another has more; all 0 are all alike.",
        scope: "Drawn for each query.",
    },
    FilterText {
        written: "shuffle",
        about: "Orders at random, all alike.",
        scope: "Drawn for each query.",
    },
    FilterText {
        written: "sticky",
        about: "Orders by a hash of the client's network and the candidate's address (rendezvous), share by `weight` \
                as with `weighted`. The same network gets the same order from every server, at any time; when an \
                endpoint goes, only its own share moves, and when it comes, only what it takes. `sticky V4 V6` gives \
                the prefix lengths; without them /24 and /48. A client that asks not to be located (ECS length 0) \
                gets a draw.",
        scope: "By client class and prefix: the scope of an answer is at least the prefix length.",
    },
    FilterText {
        written: "overflow",
        about: "Keeps sites within their `capacity`. A site whose `load` is above it gives the excess away: for that \
                share of the queries of its own clients another site is put first. The clients of a site that is \
                out of service (`up` stands before it) are spread in the same way, so that its load cannot topple \
                the next one. Others get shares in proportion to what they have free, so that as long as the sites \
                together have the capacity, none is sent more than its own. Where nothing is free, every site keeps its \
                own clients, and those of a lost site go to all others in proportion to their capacity. A site without `capacity` takes whatever \
                comes. What is written as `load` changes shares only when a site comes or goes. Where `steer load` tells \
                what sites get, they follow that, damped and with hysteresis: see `[fleet] overflow`.",
        scope: "Drawn for each query.",
    },
    FilterText {
        written: "failover",
        about: "Keeps the lowest `tier` that has a candidate.",
        scope: "The same for everybody.",
    },
    FilterText {
        written: "trickle N%",
        about: "Like `failover`, but N of 100 queries get the next tier instead, if there is one: standbys that see \
                some traffic are known to work, and have warm caches. N from 1 to 99.",
        scope: "Drawn for each query.",
    },
    FilterText {
        written: "take N",
        about: "Keeps the first N, from 1 to 255.",
        scope: "The same for everybody.",
    },
];

pub(super) fn render(page: &mut String) {
    page.push_str(HEAD);
    for FilterText {
        written,
        about,
        scope,
    } in FILTERS
    {
        // Writing to a String cannot fail.
        let _ = write!(page, "\n### `{written}`\n\n{about}\n\n- Depends: {scope}\n");
    }
}
