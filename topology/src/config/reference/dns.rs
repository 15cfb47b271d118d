//! `[[zone]]`, `[[steer]]`.

use super::{Key, REQUIRED, Section};

pub(in crate::config) static ZONE: Section = Section {
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

pub(in crate::config) static STEER: Section = Section {
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
            value: "duration or \"auto\"",
            example: "\"30s\"",
            default: "`\"30s\"`: most resolvers honour it, few go lower",
            range: "0 s to 7 d, whole seconds; or `\"auto\"`",
            about: "TTL of the answers. `auto` is `ttl_min` as long as a candidate of the family is unknown, down, \
                    held, drained or changed its verdict less than `ttl_max` ago, and wherever an address lies in \
                    no `[[anycast]]` prefix, since then only DNS can move its clients; else `ttl_max`.",
            cost: "Shorter moves clients sooner when a site fails; longer costs fewer queries and rides out an \
                   outage of the name servers.",
            relation: "See `ttl_min` and `ttl_max`.",
        },
        Key {
            name: "ttl_min",
            value: "duration",
            example: "\"5s\"",
            default: "`\"5s\"`",
            range: "0 s to 7 d, whole seconds; at most `ttl_max`",
            about: "The short TTL of `ttl = \"auto\"`.",
            cost: "",
            relation: "Only with `ttl = \"auto\"`.",
        },
        Key {
            name: "ttl_max",
            value: "duration",
            example: "\"300s\"",
            default: "`\"300s\"`",
            range: "0 s to 7 d, whole seconds",
            about: "The long TTL of `ttl = \"auto\"`, and how long a candidate must keep its verdict for it.",
            cost: "",
            relation: "Only with `ttl = \"auto\"`.",
        },
        Key {
            name: "chain",
            value: "list of strings",
            example: "[\"up\", \"nearest\", \"take 1\"]",
            default: "`[\"up\", \"nearest\", \"take 1\"]`, without `nearest` in a fleet without sites",
            range: "see [the filters](#filters)",
            about: "Filters, in order, each of which takes the candidates and hands them on.",
            cost: "Whatever stands before the first filter that draws is run when health changes and costs a query \
                   nothing; the rest is run for each query on the few candidates that are left.",
            relation: "Without `up`, health does not matter to the name.",
        },
        Key {
            name: "country",
            value: "table",
            example: "{ DE = \"fra\", JP = [\"nrt\", \"tier 1\"], default = \"jfk\" }",
            default: "absent",
            range: "keys: ISO 3166-1 codes and `default`; values: sites and `tier N`, one or a list",
            about: "Where the filter `country` sends clients.",
            cost: "Each country that some table names makes client classes of its own.",
            relation: "Only with `country` in `chain`.",
        },
        Key {
            name: "continent",
            value: "table",
            example: "{ EU = \"fra\", AS = \"nrt\" }",
            default: "absent",
            range: "keys: AF, AN, AS, EU, NA, OC, SA and `default`; values as in `country`",
            about: "Where the filter `continent` sends clients.",
            cost: "",
            relation: "Only with `continent` in `chain`.",
        },
        Key {
            name: "asn",
            value: "table",
            example: "{ AS64500 = \"fra\" }",
            default: "absent",
            range: "keys: AS numbers, with or without `AS`, and `default`; values as in `country`",
            about: "Where the filter `asn` sends clients.",
            cost: "",
            relation: "Only with `asn` in `chain`; needs `asn` in `[fleet] geo`.",
        },
        Key {
            name: "cidr",
            value: "table",
            example: "{ \"192.0.2.0/24\" = \"fra\" }",
            default: "absent",
            range: "keys: prefixes and `default`; values as in `country`",
            about: "Where the filter `cidr` sends clients; the narrowest prefix around a client decides.",
            cost: "The border of each prefix is a border of ECS scopes.",
            relation: "Only with `cidr` in `chain`.",
        },
        Key {
            name: "if_all_down",
            value: "string",
            example: "\"serve-all\"",
            default: "`\"serve-all\"`: when everything looks down, the checks are what is most likely broken",
            range: "`\"serve-all\"`, `\"serve-last-good\"`, `\"pool:NAME\"`, `\"nodata\"` or `\"servfail\"`",
            about: "What to answer when every candidate is down or drained. `serve-all`: all of them as if they were \
                    up. `serve-last-good`: those that were not lost in the last snapshot in which one was not, as \
                    if they were up (after a start or a reload that saw none: all). `pool:NAME`: the endpoints of \
                    another pool, whatever its checks say. `nodata`: an empty answer. `servfail`: SERVFAIL.",
            cost: "`nodata` and `servfail` are cached by resolvers and so outlast the outage.",
            relation: "The chain runs in the first three cases too, so that a geofence holds there as well.",
        },
    ],
};
