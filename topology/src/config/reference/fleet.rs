//! `[fleet]`, `[[site]]`, `[admin]`.

use super::{Key, REQUIRED, Section};

pub(in crate::config) static FLEET: Section = Section {
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
            relation: "Used by the filters `nearest`, `latency`, `country`, `continent`, `asn` and `geofence`.",
        },
        Key {
            name: "latency",
            value: "path",
            example: "\"geo/rtt.csv\"",
            default: "absent: the built-in table, round-trip times between the regions of Azure (Microsoft, \
                      CC BY 4.0)",
            range: "must exist; lines `FROM,TO,MS`, two airport codes and milliseconds from 0 to 60000",
            about: "Round-trip times for the filter `latency`. A client counts as being at the nearest `FROM`, a \
                    site at the `TO` of its own code, else at the nearest one. A pair that is not in the table is \
                    estimated from the distance.",
            cost: "Read once at start and at reload.",
            relation: "",
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
        Key {
            name: "overflow",
            value: "table",
            example: "{ enter = 95, leave = 85 }",
            default: "the defaults of its keys",
            range: "see [`[fleet] overflow`](#fleet-overflow)",
            about: "How the filter `overflow` follows the loads that `steer load` tells.",
            cost: "",
            relation: "",
        },
        Key {
            name: "gossip",
            value: "table",
            example: "{ key_file = \"gossip.key\" }",
            default: "absent: each site judges by its own checks alone",
            range: "",
            about: "How the sites tell each other what they see, and come to one verdict; see \
                    [`[fleet] gossip`](#fleet-gossip).",
            cost: "",
            relation: "Needs `gossip` of at least two sites, and `--site` at start.",
        },
        Key {
            name: "store",
            value: "string",
            example: "\"embedded:state/steer.redb\"",
            default: "absent: drains and other wishes end with the process",
            range: "`embedded:` and the path of a file, whose folder is made where it is missing; or `etcd://` (with TLS \
                    `etcds://`) and `HOST:PORT` of the members of a cluster, with commas between them",
            about: "Where drains and other wishes of the operator are kept, so that they survive a restart. A file holds \
                    those of one site. A cluster holds those of the whole fleet: what is wished at one site counts at \
                    all, and what the cluster said last counts while it is away.",
            cost: "With a cluster nothing can be wished while it is away.",
            relation: "One file per process. A cluster needs `etcd`.",
        },
        Key {
            name: "etcd",
            value: "table",
            example: "{ cache = \"state/etcd.redb\" }",
            default: "absent",
            range: "see [`[fleet] etcd`](#fleet-etcd)",
            about: "How the cluster of `store` is reached, and the file that stands in for it at a start without it.",
            cost: "",
            relation: "Belongs to `store = \"etcd://..\"`.",
        },
    ],
};

pub(in crate::config) static GEO: Section = Section {
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
        Key {
            name: "asn",
            value: "path or list of paths",
            example: "\"geo/asn.mmdb\"",
            default: "none",
            range: "each file must exist and be readable",
            about: "Databases that give the AS number of an address (`autonomous_system_number`, or `asn`). The \
                    first that knows an address wins.",
            cost: "Only the AS numbers that some `asn` table names make classes of their own.",
            relation: "For the filter `asn`. With `asn` alone the built-in country database stays in use.",
        },
    ],
};

pub(in crate::config) static OVERFLOW: Section = Section {
    title: "[fleet] overflow",
    written: "overflow = { enter = 95, leave = 85 }",
    about: "How the filter `overflow` follows the loads that are counted at the sites. A fleet where nobody counts \
            steers by what is written as `load`, and reads none of these keys.",
    sample: "[fleet]\noverflow = { enter = 95, leave = 85, band = 5, settle = \"60s\" }\n",
    keys: &[
        Key {
            name: "enter",
            value: "whole number",
            example: "95",
            default: "`95`",
            range: "1 to 100, in per cent of `capacity`",
            about: "A site whose own clients ask for more than this begins to give some away. Others take clients up \
                    to here, and beyond it only what would find no room otherwise.",
            cost: "Lower keeps more in reserve and moves clients away sooner.",
            relation: "Should leave `band` below 100, or a count within the band may be beyond the capacity.",
        },
        Key {
            name: "leave",
            value: "whole number",
            example: "85",
            default: "`85`, or 10 less than `enter`",
            range: "0 to 99, in per cent of `capacity`",
            about: "It gives away down to this, and ends when they ask for less.",
            cost: "Further below `enter` is calmer, and moves more clients.",
            relation: "Below `enter`.",
        },
        Key {
            name: "band",
            value: "whole number",
            example: "5",
            default: "`5`",
            range: "1 to 50, in per cent of `capacity`",
            about: "A count that is off by no more than this changes nothing, unless it is beyond the capacity.",
            cost: "Wider is calmer and less exact.",
            relation: "",
        },
        Key {
            name: "settle",
            value: "duration",
            example: "\"60s\"",
            default: "`\"60s\"`: twice the default `ttl`",
            range: "1 s to 1 h",
            about: "After a change of the shares no count is looked at for so long, since resolvers still follow the old ones.",
            cost: "Shorter follows faster, and swings where it is shorter than what it waits for.",
            relation: "Should be longer than the `ttl` of the names, and than the time over which loads are counted.",
        },
    ],
};

pub(in crate::config) static GUARD: Section = Section {
    title: "[fleet] guard",
    written: "guard = { keep_sites = 1, max_withdrawn = 1, window = \"60s\", panic = 70 }",
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
        Key {
            name: "panic",
            value: "per cent",
            example: "70",
            default: "`70`: of three sites two may be down, of five three",
            range: "1 to 100; 100 turns it off",
            about: "When more than so many per cent of the sites of a service are down at once, the checks are distrusted: \
                    nothing more is taken out until fewer are. What is out stays out.",
            cost: "Less protects against checks that are wrong in many places; more believes them longer when many sites \
                   are really down.",
            relation: "Applies to services with more than `keep_sites` sites, and more than one.",
        },
    ],
};

pub(in crate::config) static GOSSIP: Section = Section {
    title: "[fleet] gossip",
    written: "gossip = { key_file = \"gossip.key\" }",
    about: "Membership (SWIM) and observations between the sites, encrypted, over UDP and TCP. An endpoint of another \
            site is then judged by all sites together; one of the own site by its own check, which waits for nobody. A \
            site listens on its own `gossip` address, or, where the host does not have that address, on that port of all. \
            Clocks may differ by a minute; more, and packets are refused.",
    sample: "[fleet]\ngossip = { key_file = \"gossip.key\" }\n\n[[site]]\nname = \"fra\"\ngossip = \"192.0.2.10\"\n\n\
             [[site]]\nname = \"nrt\"\ngossip = \"192.0.2.20:7946\"\n",
    keys: &[
        Key {
            name: "port",
            value: "whole number",
            example: "7946",
            default: "`7946`, as with other SWIM programs",
            range: "1 to 65535",
            about: "The port of the sites whose `gossip` address is written without one.",
            cost: "",
            relation: "",
        },
        Key {
            name: "key_file",
            value: "path",
            example: "\"gossip.key\"",
            default: REQUIRED,
            range: "must exist; one or two lines, each 32 octets as 64 hexadecimal digits or as base64",
            about: "The secret that all sites share. The first line seals what is sent, both open what comes. To change \
                    it: add the new key as second line everywhere and reload, swap the lines everywhere and reload, \
                    remove the old one and reload.",
            cost: "Who has a key can say anything in the name of any site.",
            relation: "",
        },
        Key {
            name: "share",
            value: "whole number",
            example: "50",
            default: "`50`: more than the half",
            range: "0 to 99",
            about: "An endpoint is down when more than this per cent of the weight of all who vote says so. Each continent \
                    has the same weight. Whatever is written, two sites must say so, from two continents where two vote.",
            cost: "More needs more sites to agree before anything goes; less believes the few.",
            relation: "",
        },
        Key {
            name: "own_after",
            value: "duration",
            example: "\"10s\"",
            default: "`\"10s\"`: long enough for a restart of the others",
            range: "0 s to 1 h",
            about: "When no other site has had a word on an endpoint for so long, a site's own check decides; until then \
                    the last verdict stays. A site that sees more than half of the others down (of two or more) is not \
                    believed, not even by itself.",
            cost: "Longer rides over longer gaps; in a fleet of two sites it is added to the time until the loss of the \
                   other is acted upon.",
            relation: "",
        },
        Key {
            name: "staged",
            value: "duration",
            example: "\"30s\"",
            default: "`\"0s\"`: a site takes another file when it is told to",
            range: "0 s to 1 h",
            about: "Sites take another file (one that changes more than zones) one after the other. A site tries it for so long; \
                    when one of its own endpoints that was up goes down meanwhile, it goes back to the file of before by \
                    itself, and the others that wait for it refuse the file. As many sites try at once as it did well \
                    at, and one at first. The file in force says whether and how long.",
            cost: "Another file takes so long for the first site, and about as often as the number of sites can be doubled \
                   for all of them. `steer reload --now` waits for nobody.",
            relation: "Longer than `interval` times `fall` of the slowest check, and than the `fall` of the prefixes.",
        },
        Key {
            name: "reference",
            value: "name of a pool",
            example: "\"upstream\"",
            default: "none: a site knows by the other sites alone that it is cut off",
            range: "a `[[pool]]` with a `check`, whose endpoints have no `site`",
            about: "Targets that are not ours, such as an upstream's resolvers. Where all of them are down for a site, and \
                    something else too, that site is isolated: its vote counts a quarter, and an endpoint of its own that \
                    fails from then on is held as unknown, which withdraws nothing, until a target is back. Targets that \
                    fail alone change nothing.",
            cost: "Targets that fail together with a service keep a dead service announced; take several, of several networks.",
            relation: "Their check should fail sooner than those of the own endpoints (a shorter `interval`, a lower \
                       `fall`): what has failed before the targets did is not held.",
        },
    ],
};

pub(in crate::config) static ETCD: Section = Section {
    title: "[fleet] etcd",
    written: "etcd = { cache = \"state/etcd.redb\" }",
    about: "The cluster that `[fleet] store` names; etcd 3.4 or later. Members are tried in their order until one answers. \
            A wish is one key below `prefix`, `wishes/drain/TARGET` or `wishes/force/TARGET`, and its value is JSON.",
    sample: "[fleet]\nstore = \"etcd://10.0.0.1:2379,10.0.0.2:2379,10.0.0.3:2379\"\netcd = { cache = \"state/etcd.redb\" }\n",
    keys: &[
        Key {
            name: "cache",
            value: "path",
            example: "\"state/etcd.redb\"",
            default: REQUIRED,
            range: "a file, whose folder is made where it is missing",
            about: "Keeps what the cluster said last. A start without the cluster goes on from there; with a file that \
                    never saw the cluster it is refused, for nobody would know what is drained.",
            cost: "",
            relation: "One file per process.",
        },
        Key {
            name: "prefix",
            value: "string",
            example: "\"/steer/\"",
            default: "`/steer/`, the name of the fleet, and `/`",
            range: "at most 200 octets that end with `/`",
            about: "What the names of all keys begin with. The same at all sites.",
            cost: "",
            relation: "",
        },
        Key {
            name: "ca_file",
            value: "path",
            example: "\"etcd/ca.pem\"",
            default: "whom the system trusts",
            range: "must exist; PEM",
            about: "Who may sign the certificates of the members.",
            cost: "",
            relation: "Needs `store = \"etcds://..\"`.",
        },
        Key {
            name: "cert_file",
            value: "path",
            example: "\"etcd/steer.pem\"",
            default: "none",
            range: "must exist; PEM",
            about: "The certificate that we show.",
            cost: "",
            relation: "Needs `key_file` and `store = \"etcds://..\"`.",
        },
        Key {
            name: "key_file",
            value: "path",
            example: "\"etcd/steer.key\"",
            default: "none",
            range: "must exist; PEM",
            about: "The key of `cert_file`.",
            cost: "",
            relation: "Needs `cert_file`.",
        },
        Key {
            name: "user",
            value: "string",
            example: "\"steer\"",
            default: "none: the cluster has no users",
            range: "",
            about: "Who we are to the cluster. Needs to read and write all keys below `prefix`.",
            cost: "",
            relation: "Needs `password_file`.",
        },
        Key {
            name: "password_file",
            value: "path",
            example: "\"etcd/password\"",
            default: "none",
            range: "must exist",
            about: "The file with the password, which is its first line.",
            cost: "Without TLS it goes over the network as it is.",
            relation: "Needs `user`.",
        },
    ],
};

pub(in crate::config) static SITE: Section = Section {
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
        Key {
            name: "capacity",
            value: "whole number",
            example: "20000",
            default: "absent: not counted",
            range: "1 to 1000000000000",
            about: "Requests per second that the site can serve.",
            cost: "",
            relation: "Used by `needs` of pools and by the filter `overflow`.",
        },
        Key {
            name: "load",
            value: "whole number",
            example: "15000",
            default: "absent: counts as 0",
            range: "0 to 1000000000000",
            about: "Requests per second that the site gets in normal times: those of the clients that it would get \
                    if every site were up.",
            cost: "Keep it near the truth of the busy hour. As long as `steer load` tells what the site gets, that counts instead.",
            relation: "Used by the filter `overflow`.",
        },
        Key {
            name: "bias",
            value: "string",
            example: "\"500 km\"",
            default: "`\"0 km\"`",
            range: "`\"N km\"`, N from -20000 to 20000, or `\"N %\"`, N from -900 to 90",
            about: "How much nearer than it is the filter `nearest` takes the site to be: so many kilometres, or so \
                    many per cent of the distance. Positive draws more clients to it, negative fewer.",
            cost: "Kilometres move a border between two sites by half as much; a percentage moves far clients more \
                   than near ones.",
            relation: "Of the site and not of a name, so that all names draw the same borders and share their \
                       client classes. `latency` and `geofence` do not look at it.",
        },
        Key {
            name: "gossip",
            value: "string",
            example: "\"192.0.2.10:7946\"",
            default: "absent: the site takes no part in the gossip and has no vote",
            range: "`IP` or `IP:PORT`; no two sites the same, and all of one family",
            about: "Where the other sites reach it, by UDP and TCP.",
            cost: "",
            relation: "Needs `[fleet] gossip`, whose `port` is taken where none is written.",
        },
    ],
};

pub(in crate::config) static ADMIN: Section = Section {
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
