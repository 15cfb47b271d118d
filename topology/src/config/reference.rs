//! One description per key of `steer.toml`. Reading, "did you mean" and `docs/configuration.md` all come from it.

use std::fmt::Write as _;

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
            "admin",
            "table",
            "{ listen = \"127.0.0.1:8053\" }",
            "Metrics and status.",
        ),
    ],
};

pub(super) static FLEET: Section = Section {
    title: "[fleet]",
    written: "[fleet]",
    about: "What concerns the fleet as a whole. May be left out.",
    sample: "[fleet]\nname  = \"example\"\nguard = { keep_sites = 1, max_withdrawn = 1, window = \"60s\" }\n",
    keys: &[
        Key {
            name: "name",
            value: "string",
            example: "\"example\"",
            default: "`\"fleet\"`",
            range: "1 to 255 characters",
            about: "Shown in status and logs, to tell a test fleet from the real one.",
            cost: "",
            relation: "",
        },
        Key {
            name: "geo",
            value: "table",
            example: "{ country = \"geo/country.mmdb\" }",
            default: "absent: the built-in country database, which is read only when a chain needs geography",
            range: "",
            about: "Geography databases of your own; see [`[fleet] geo`](#fleet-geo).",
            cost: "",
            relation: "Used by the filter `nearest`.",
        },
        Key {
            name: "guard",
            value: "table",
            example: "{ keep_sites = 1, max_withdrawn = 1, window = \"60s\" }",
            default: "the defaults of its keys: there is always a guard",
            range: "",
            about: "Limits on what may be taken out of service; see [`[fleet] guard`](#fleet-guard).",
            cost: "",
            relation: "",
        },
    ],
};

pub(super) static GEO: Section = Section {
    title: "[fleet] geo",
    written: "geo = { country = \"geo/country.mmdb\" }",
    about: "MMDB files in the nested GeoIP2 schema or the flat one (`country_code`, `latitude`, `longitude`). \
            At least one file must be named.",
    sample: "[fleet]\ngeo = { country = [\"geo/country-v4.mmdb\", \"geo/country-v6.mmdb\"], city = \"geo/city.mmdb\" }\n",
    keys: &[
        Key {
            name: "country",
            value: "path or list of paths",
            example: "\"geo/country.mmdb\"",
            default: "none",
            range: "each file must exist and be readable",
            about: "Databases that give at least a country. The first that knows an address wins, so that one file \
                    per address family is written as a list.",
            cost: "Each file is read once at start and at reload; a query never opens it.",
            relation: "Asked where no `city` database knows the address.",
        },
        Key {
            name: "city",
            value: "path or list of paths",
            example: "\"geo/city.mmdb\"",
            default: "none",
            range: "each file must exist and be readable",
            about: "Databases that give coordinates.",
            cost: "Coordinates make `nearest` exact within large countries; they also make many more client \
                   classes, and with them larger tables and narrower ECS scopes, which resolvers cache less well.",
            relation: "Asked before `country`.",
        },
    ],
};

pub(super) static GUARD: Section = Section {
    title: "[fleet] guard",
    written: "guard = { keep_sites = 1, max_withdrawn = 1, window = \"60s\" }",
    about: "Stands before DNS and BGP and counts both together. What it refuses stays in service and is logged, \
            counted and shown.",
    sample: "[fleet]\nguard = { keep_sites = 2, max_withdrawn = 1, window = \"5m\" }\n",
    keys: &[
        Key {
            name: "keep_sites",
            value: "whole number",
            example: "1",
            default: "`1`: the last site of a service is never taken out, since a check that fails everywhere is \
                      more likely wrong than right",
            range: "0 to 65535",
            about: "A service keeps at least this many sites.",
            cost: "More protects against checks that are wrong, and keeps sending clients to sites that are \
                   really down. 0 lets a service lose all its sites.",
            relation: "Applies to services with more sites than this.",
        },
        Key {
            name: "max_withdrawn",
            value: "whole number",
            example: "1",
            default: "`1`: sites rarely fail in pairs, bad pushes fail everywhere",
            range: "1 to 65535",
            about: "At most this many sites of a service are taken out per `window`.",
            cost: "More reacts faster to a true loss of several sites; less stops a bad change earlier.",
            relation: "Counted over `window`.",
        },
        Key {
            name: "window",
            value: "duration",
            example: "\"60s\"",
            default: "`\"60s\"`: longer than a check needs to change its mind",
            range: "1 s to 24 h",
            about: "The sliding window of `max_withdrawn`.",
            cost: "Longer spreads failures further apart; shorter forgets them sooner.",
            relation: "Should be longer than `interval` x `fall` of the checks.",
        },
    ],
};

pub(super) static SITE: Section = Section {
    title: "[[site]]",
    written: "[[site]]",
    about: "A point of presence. City, country and coordinates come from the built-in airport table. A fleet without \
            sites is one place: `steer run` then takes no `--site`.",
    sample: "[[site]]\nname = \"fra\"\nrouter_id = \"192.0.2.10\"\n\n[[site]]\nname = \"nrt\"\nrouter_id = \"192.0.2.20\"\n",
    keys: &[
        Key {
            name: "name",
            value: "string",
            example: "\"fra\"",
            default: REQUIRED,
            range: "an IATA airport code, in any case; each site once",
            about: "Names the site and says where on Earth it is.",
            cost: "",
            relation: "Used by `site` of endpoints and peers, by `sites` and `while_up` of prefixes, and by `--site`.",
        },
        Key {
            name: "router_id",
            value: "IPv4 address",
            example: "\"192.0.2.10\"",
            default: "`[bgp] router_id`",
            range: "not 0.0.0.0; two sites cannot have the same (RFC 6286 §2.1)",
            about: "BGP Identifier of this site's speaker.",
            cost: "",
            relation: "Goes before `[bgp] router_id`. Where neither is written, the first IPv4 address of \
                       `[bgp] listen`, else the first IPv4 `source` of the site's peers, is taken.",
        },
    ],
};

pub(super) static CHECK: Section = Section {
    title: "[[check]]",
    written: "[[check]]",
    about: "How endpoints are probed. Pools name the check they are under.",
    sample: "[[check]]\nname = \"web\"\nkind = \"http\"\npath = \"/healthz\"\ninterval = \"1s\"\ntimeout = \"300ms\"\nfall = 3\nrise = 2\n",
    keys: &[
        Key {
            name: "name",
            value: "string",
            example: "\"web\"",
            default: REQUIRED,
            range: "letters, digits, `-`, `_` and `.`; each check once",
            about: "What pools call it.",
            cost: "",
            relation: "Used by `check` of pools.",
        },
        Key {
            name: "kind",
            value: "string",
            example: "\"http\"",
            default: REQUIRED,
            range: "`\"http\"` or `\"tcp\"`",
            about: "`http` sends `GET` and looks at the status; `tcp` only opens a connection.",
            cost: "`http` notices a service that accepts connections but no longer works; `tcp` costs it less.",
            relation: "`path`, `host` and `status` belong to `http`.",
        },
        Key {
            name: "path",
            value: "string",
            example: "\"/healthz\"",
            default: "`\"/\"`",
            range: "starts with `/`; visible ASCII without `#`",
            about: "Path and query to get.",
            cost: "",
            relation: "Only with `kind = \"http\"`.",
        },
        Key {
            name: "host",
            value: "string",
            example: "\"www.example.com\"",
            default: "the address and port that are probed",
            range: "a host name or address, with or without a port",
            about: "The `Host` header.",
            cost: "",
            relation: "Only with `kind = \"http\"`.",
        },
        Key {
            name: "status",
            value: "string or whole number",
            example: "\"200-299\"",
            default: "`\"200-299\"`: redirects are failures, since they are rarely what a health page means",
            range: "100 to 599; one status or LOWEST-HIGHEST",
            about: "Statuses that count as success.",
            cost: "",
            relation: "Only with `kind = \"http\"`.",
        },
        Key {
            name: "interval",
            value: "duration",
            example: "\"1s\"",
            default: "`\"1s\"`: a dead endpoint is noticed within seconds at one request a second",
            range: "10 ms to 1 h",
            about: "Time between the starts of two probes of one endpoint.",
            cost: "Shorter notices sooner and loads endpoint and prober more; every site probes every endpoint.",
            relation: "An endpoint that hangs is down after about `interval` x (`fall` - 1) + `timeout`.",
        },
        Key {
            name: "timeout",
            value: "duration",
            example: "\"300ms\"",
            default: "`\"300ms\"`, or `interval` if that is shorter: an answer around the Earth takes about as long",
            range: "1 ms to 1 h",
            about: "A probe without an answer by then has failed.",
            cost: "Shorter notices a hang sooner, and calls a slow or far endpoint dead.",
            relation: "At most `interval`.",
        },
        Key {
            name: "fall",
            value: "whole number",
            example: "3",
            default: "`3`: two lost packets in a row happen, three rarely do",
            range: "1 to 255",
            about: "Failures in a row until an endpoint is down.",
            cost: "More bears more loss; less notices sooner.",
            relation: "See `interval`.",
        },
        Key {
            name: "rise",
            value: "whole number",
            example: "2",
            default: "`2`: one good answer of a service that is starting may be luck",
            range: "1 to 255",
            about: "Successes in a row until a down endpoint is up.",
            cost: "More keeps a flapping endpoint out; less brings a mended one back sooner.",
            relation: "",
        },
    ],
};

pub(super) static POOL: Section = Section {
    title: "[[pool]]",
    written: "[[pool]]",
    about: "Endpoints that serve the same thing, under one check.",
    sample: "[[pool]]\nname = \"web\"\ncheck = \"web\"\nendpoints = [\n  { site = \"fra\", address = \"198.51.100.10:443\", weight = 10 },\n  { site = \"nrt\", address = \"203.0.113.10:443\" },\n]\n",
    keys: &[
        Key {
            name: "name",
            value: "string",
            example: "\"web\"",
            default: REQUIRED,
            range: "letters, digits, `-`, `_` and `.`; each pool once",
            about: "What steered names and conditions call it.",
            cost: "",
            relation: "Used by `pool` of steered names and by `while_up` of prefixes.",
        },
        Key {
            name: "check",
            value: "string",
            example: "\"web\"",
            default: "absent: the pool is never checked and always up",
            range: "the name of a `[[check]]`",
            about: "How its endpoints are probed.",
            cost: "",
            relation: "",
        },
        Key {
            name: "endpoints",
            value: "list of tables",
            example: "[{ address = \"198.51.100.10:443\" }]",
            default: REQUIRED,
            range: "1 to 65536; no address twice at one site",
            about: "What serves; see [`[[pool]] endpoints`](#pool-endpoints).",
            cost: "Each costs one probe per `interval` and site.",
            relation: "",
        },
    ],
};

pub(super) static ENDPOINT: Section = Section {
    title: "[[pool]] endpoints",
    written: "endpoints = [{ address = \"198.51.100.10:443\" }]",
    about: "One address that serves.",
    sample: "endpoints = [{ site = \"fra\", address = \"198.51.100.10:443\", probe = \"10.0.0.10:8080\", weight = 10, tier = 0 }]\n",
    keys: &[
        Key {
            name: "site",
            value: "string",
            example: "\"fra\"",
            default: "none; must be written where sites are declared, and cannot be written where none are",
            range: "the name of a `[[site]]`",
            about: "Where it stands.",
            cost: "",
            relation: "`nearest`, the guard and `while_up` go by it.",
        },
        Key {
            name: "address",
            value: "string",
            example: "\"198.51.100.10:443\"",
            default: REQUIRED,
            range: "`IP:PORT`, `[IPv6]:PORT` or `HOST:PORT`",
            about: "The address that answers carry, and the port of the service. A host name is resolved when the \
                    file is loaded; each of its addresses becomes an endpoint.",
            cost: "A host name makes loading depend on the resolver; it is not asked again before the next reload.",
            relation: "Probed unless `probe` is written.",
        },
        Key {
            name: "probe",
            value: "string",
            example: "\"10.0.0.10:8080\"",
            default: "`address`",
            range: "like `address`",
            about: "Where to probe, if not where clients go. Of a host name with several addresses the first of \
                    the endpoint's own family is probed.",
            cost: "",
            relation: "",
        },
        Key {
            name: "weight",
            value: "whole number",
            example: "10",
            default: "`1`",
            range: "0 to 1000000",
            about: "Share of the traffic relative to the others, for the filter `weighted`.",
            cost: "0 takes no new traffic while others can.",
            relation: "Only `weighted` looks at it.",
        },
        Key {
            name: "tier",
            value: "whole number",
            example: "0",
            default: "the place in the list, from 0",
            range: "0 to 65535",
            about: "Tier for the filter `failover`: the lowest one that has a candidate takes all.",
            cost: "",
            relation: "Only `failover` looks at it. Written for all endpoints of a pool or for none.",
        },
    ],
};

pub(super) static DNS: Section = Section {
    title: "[dns]",
    written: "[dns]",
    about: "The name server. Runs when this table or a `[[zone]]` is written.",
    sample: "[dns]\nlisten = [\"192.0.2.53:53\", \"[2001:db8::53]:53\"]\n",
    keys: &[Key {
        name: "listen",
        value: "string or list of strings",
        example: "[\"0.0.0.0:53\"]",
        default: "`[\"0.0.0.0:53\", \"[::]:53\"]`",
        range: "`IP:PORT`; no address and port twice in the file",
        about: "Addresses to serve UDP and TCP on.",
        cost: "",
        relation: "",
    }],
};

pub(super) static ZONE: Section = Section {
    title: "[[zone]]",
    written: "[[zone]]",
    about: "An ordinary RFC 1035 master file, for everything that is not steered.",
    sample: "[[zone]]\nname = \"example.com\"\nfile = \"zones/example.com.zone\"\n",
    keys: &[
        Key {
            name: "name",
            value: "string",
            example: "\"example.com\"",
            default: REQUIRED,
            range: "a domain name, with or without the final dot; each zone once",
            about: "Origin and apex of the zone.",
            cost: "",
            relation: "Steered names must lie in a zone.",
        },
        Key {
            name: "file",
            value: "path",
            example: "\"zones/example.com.zone\"",
            default: REQUIRED,
            range: "must exist and be readable",
            about: "The master file. A relative path starts at the folder of `steer.toml`.",
            cost: "",
            relation: "",
        },
    ],
};

pub(super) static STEER: Section = Section {
    title: "[[steer]]",
    written: "[[steer]]",
    about: "A name whose A and AAAA answers depend on the client and on health.",
    sample: "[[steer]]\nname  = \"www.example.com\"\npool  = \"web\"\nttl   = \"30s\"\nchain = [\"up\", \"nearest\", \"take 2\"]\nif_all_down = \"serve-all\"\n",
    keys: &[
        Key {
            name: "name",
            value: "string",
            example: "\"www.example.com\"",
            default: REQUIRED,
            range: "a domain name inside a `[[zone]]`; each name once",
            about: "The owner name of the answers.",
            cost: "",
            relation: "The closest enclosing zone holds it.",
        },
        Key {
            name: "pool",
            value: "string",
            example: "\"web\"",
            default: REQUIRED,
            range: "the name of a `[[pool]]`",
            about: "The candidates.",
            cost: "",
            relation: "",
        },
        Key {
            name: "ttl",
            value: "duration",
            example: "\"30s\"",
            default: "`\"30s\"`: most resolvers honour it, few go lower",
            range: "0 s to 7 d, whole seconds",
            about: "TTL of the answers.",
            cost: "Shorter moves clients sooner when a site fails; longer costs fewer queries and rides out an \
                   outage of the name servers.",
            relation: "",
        },
        Key {
            name: "chain",
            value: "list of strings",
            example: "[\"up\", \"nearest\", \"take 1\"]",
            default: "`[\"up\", \"nearest\", \"take 1\"]`, without `nearest` in a fleet without sites",
            range: "`up`, `nearest`, `weighted`, `failover`, `take N` (N from 1 to 255)",
            about: "Filters, in order, each of which takes the candidates and hands them on. `up` drops what is \
                    down. `nearest` orders by distance from the client. `weighted` orders at random by weight. \
                    `failover` keeps the lowest tier that has a candidate. `take N` keeps the first N.",
            cost: "Each query costs the same, however long the chain: it is run when health changes.",
            relation: "`nearest` needs sites. Without `up`, health does not matter to the name.",
        },
        Key {
            name: "if_all_down",
            value: "string",
            example: "\"serve-all\"",
            default: "`\"serve-all\"`: when everything looks down, the checks are what is most likely broken",
            range: "`\"serve-all\"`, `\"nodata\"` or `\"servfail\"`",
            about: "What to answer when every candidate is down: all of them as if they were up, an empty answer, \
                    or SERVFAIL.",
            cost: "`nodata` and `servfail` are cached by resolvers and so outlast the outage.",
            relation: "The guard may keep a site in service, so that this is never reached.",
        },
    ],
};

pub(super) static ANYCAST: Section = Section {
    title: "[[anycast]]",
    written: "[[anycast]]",
    about: "A prefix that is announced to the BGP peers while its condition holds.",
    sample: "[[anycast]]\nprefix = \"192.0.2.53/32\"\nsites = [\"fra\", \"nrt\"]\nwhile_up = [\"pool:web@local\"]\n",
    keys: &[
        Key {
            name: "prefix",
            value: "string",
            example: "\"192.0.2.53/32\"",
            default: REQUIRED,
            range: "`ADDRESS/LENGTH`, IPv4 or IPv6, no bit set beyond the length; each prefix once",
            about: "What to announce.",
            cost: "",
            relation: "Needs `[bgp]`.",
        },
        Key {
            name: "sites",
            value: "string or list of strings",
            example: "[\"fra\", \"nrt\"]",
            default: "all sites",
            range: "names of `[[site]]`, each once",
            about: "Sites that announce it.",
            cost: "",
            relation: "Cannot be written in a fleet without sites.",
        },
        Key {
            name: "while_up",
            value: "string or list of strings",
            example: "\"pool:web@local\"",
            default: "absent: announced as long as the process runs",
            range: "`pool:NAME`, `pool:NAME@local` or `pool:NAME@SITE`",
            about: "Conditions, all of which must hold. Each holds while at least one endpoint of the pool is in \
                    service: of all its endpoints, of those at the site that asks, or of those at the named site.",
            cost: "",
            relation: "The pool must have an endpoint at the site in question. In a fleet without sites `@local` \
                       means all endpoints.",
        },
        Key {
            name: "next_hop",
            value: "IP address",
            example: "\"192.0.2.10\"",
            default: "our own address of the BGP session",
            range: "of the prefix's address family",
            about: "NEXT_HOP of the announcement.",
            cost: "",
            relation: "Without it the prefix goes to the peers of its own address family only, and each announcing \
                       site that has peers must have one. Written, it goes to all, and is the same at every site.",
        },
    ],
};

pub(super) static BGP: Section = Section {
    title: "[bgp]",
    written: "[bgp]",
    about: "The BGP speaker.",
    sample: "[bgp]\nasn = 64512\nrouter_id = \"10.0.0.1\"\nlisten = [\"10.0.0.1:179\"]\n",
    keys: &[
        Key {
            name: "asn",
            value: "whole number",
            example: "64512",
            default: REQUIRED,
            range: "1 to 4294967295, not 23456 (AS_TRANS, RFC 6793)",
            about: "Our AS number.",
            cost: "",
            relation: "A peer with the same number is an internal one.",
        },
        Key {
            name: "router_id",
            value: "IPv4 address",
            example: "\"10.0.0.1\"",
            default: "the first IPv4 address of `listen` that is not 0.0.0.0, else the first IPv4 `source` of a peer",
            range: "not 0.0.0.0",
            about: "BGP Identifier (RFC 6286).",
            cost: "",
            relation: "`router_id` of a site goes before it. Every site with a peer needs one in one of these ways.",
        },
        Key {
            name: "listen",
            value: "string or list of strings",
            example: "[\"10.0.0.1:179\"]",
            default: "none: we connect to our peers, they do not connect to us",
            range: "`IP:PORT`; no address and port twice in the file",
            about: "Where peers may connect to us.",
            cost: "Sessions come up sooner when both sides may connect. Ports below 1024 need a privilege.",
            relation: "Needed by peers with `passive = true`.",
        },
        Key {
            name: "peer",
            value: "list of tables",
            example: "[{ address = \"192.0.2.1\", asn = 64500 }]",
            default: "none",
            range: "",
            about: "The neighbours; see [`[[bgp.peer]]`](#bgppeer).",
            cost: "",
            relation: "",
        },
    ],
};

pub(super) static PEER: Section = Section {
    title: "[[bgp.peer]]",
    written: "[[bgp.peer]]",
    about: "A configured neighbour. Nobody else gets a session.",
    sample: "[[bgp.peer]]\nsite = \"fra\"\naddress = \"192.0.2.1\"\nasn = 64500\nhold_time = \"9s\"\n",
    keys: &[
        Key {
            name: "site",
            value: "string",
            example: "\"fra\"",
            default: "every site holds such a session",
            range: "the name of a `[[site]]`",
            about: "The site whose speaker holds the session.",
            cost: "",
            relation: "Cannot be written in a fleet without sites.",
        },
        Key {
            name: "address",
            value: "IP address",
            example: "\"192.0.2.1\"",
            default: REQUIRED,
            range: "IPv4 or IPv6; each address and port once per site",
            about: "The neighbour's address.",
            cost: "",
            relation: "",
        },
        Key {
            name: "port",
            value: "whole number",
            example: "179",
            default: "`179`",
            range: "1 to 65535",
            about: "The port we connect to.",
            cost: "",
            relation: "Without meaning when `passive = true`.",
        },
        Key {
            name: "asn",
            value: "whole number",
            example: "64500",
            default: REQUIRED,
            range: "1 to 4294967295, not 23456 (AS_TRANS, RFC 6793)",
            about: "The neighbour's AS number. A neighbour that says another is refused.",
            cost: "",
            relation: "Our own `asn` makes it an internal peer.",
        },
        Key {
            name: "source",
            value: "IP address",
            example: "\"192.0.2.10\"",
            default: "what the kernel chooses",
            range: "of the address family of `address`",
            about: "The address we connect from.",
            cost: "",
            relation: "",
        },
        Key {
            name: "passive",
            value: "true or false",
            example: "true",
            default: "`false`",
            range: "",
            about: "Wait for the neighbour to connect instead of connecting.",
            cost: "",
            relation: "Needs `[bgp] listen`.",
        },
        Key {
            name: "hold_time",
            value: "duration",
            example: "\"9s\"",
            default: "`\"90s\"`, as RFC 4271 §10 suggests",
            range: "0 s (never expires) or 3 s to 65535 s, whole seconds (RFC 4271 §4.2)",
            about: "The hold time that we offer; the lower of both sides' is used. A neighbour that is silent for \
                    so long is taken for dead.",
            cost: "Shorter notices a silent death sooner; too short drops sessions when a router is busy. With 0 a \
                   silent death is never noticed.",
            relation: "",
        },
        Key {
            name: "connect_retry",
            value: "duration",
            example: "\"5s\"",
            default: "`\"5s\"`: an announcement should not wait the 120 s that RFC 4271 §10 suggests",
            range: "100 ms to 1 h",
            about: "Mean time between two attempts to connect; each is jittered to 75 to 100 % of it.",
            cost: "Shorter comes back sooner after a restart of the neighbour, and knocks more often meanwhile.",
            relation: "Without meaning when `passive = true`.",
        },
    ],
};

pub(super) static ADMIN: Section = Section {
    title: "[admin]",
    written: "[admin]",
    about: "Metrics and status over HTTP: `/metrics`, `/v1/status`, `/v1/explain`. Absent: no such listener.",
    sample: "[admin]\nlisten = \"127.0.0.1:8053\"\n",
    keys: &[Key {
        name: "listen",
        value: "string",
        example: "\"127.0.0.1:8053\"",
        default: "`\"127.0.0.1:8053\"`",
        range: "`IP:PORT` with a loopback address",
        about: "Where to listen.",
        cost: "",
        relation: "Loopback only, because nobody is asked for a password; put a proxy before it for more.",
    }],
};

/// All tables, in the order of the page.
static SECTIONS: [&Section; 14] = [
    &FLEET, &GEO, &GUARD, &SITE, &CHECK, &POOL, &ENDPOINT, &DNS, &ZONE, &STEER, &ANYCAST, &BGP, &PEER, &ADMIN,
];

const HEAD: &str = "\
# steer.toml

<!-- Generated from topology/src/config/reference.rs. Change it there, then: UPDATE_GOLDEN=1 cargo test -p steer-topology -->

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
            "[[pool]] endpoints" => "[[pool]]\n[[pool.endpoints]]\n".to_owned(),
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
