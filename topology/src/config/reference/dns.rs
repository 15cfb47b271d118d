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
