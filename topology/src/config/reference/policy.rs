//! The keys that shape an announcement; they stand in three tables.

use super::Key;

pub(super) const PREPEND: Key = Key {
    name: "prepend",
    value: "whole number",
    example: "2",
    default: "`0`",
    range: "0 to 32",
    about: "Our AS number so many times more in AS_PATH.",
    cost: "Each one makes the way to this site longer for others.",
    relation: "Those of peer, prefix and `to` add up.",
};

pub(super) const MED: Key = Key {
    name: "med",
    value: "whole number",
    example: "100",
    default: "absent: none is sent",
    range: "0 to 4294967295",
    about: "MULTI_EXIT_DISC: lower is better among ways into the same neighbour AS.",
    cost: "",
    relation: "`to` goes before the prefix, the prefix before the peer.",
};

pub(super) const LOCAL_PREF: Key = Key {
    name: "local_pref",
    value: "whole number",
    example: "200",
    default: "`100` to internal peers",
    range: "0 to 4294967295",
    about: "LOCAL_PREF: higher is better. Sent to internal peers only (RFC 4271 §5.1.5).",
    cost: "",
    relation: "`to` goes before the prefix, the prefix before the peer.",
};

pub(super) const COMMUNITIES: Key = Key {
    name: "communities",
    value: "string or list of strings",
    example: "[\"64500:1\", \"no-export\"]",
    default: "none",
    range: "`64500:1` (RFC 1997), `64500:1:2` (large, RFC 8092), `rt:64500:1` and `soo:192.0.2.1:1` (extended, RFC 4360), `ext:0x` and 16 digits, `no-export`, `no-advertise`, `no-export-subconfed`, `no-peer`, `blackhole`, `graceful-shutdown`",
    about: "Communities of any kind.",
    cost: "",
    relation: "Those of peer, prefix and `to` are united.",
};
