//! `[edge]`

use super::{Key, REQUIRED, Section};

pub(in crate::config) static EDGE: Section = Section {
    title: "[edge]",
    written: "[edge]",
    about: "An RPC edge within `steer run`: its backends follow the verdicts, and a drain of its site is its drain too. \
            Absent: none.",
    sample: "[edge]\nfile = \"edge.toml\"\nsites = [\"fra\", \"nrt\"]\n",
    keys: &[
        Key {
            name: "file",
            value: "path",
            example: "\"edge.toml\"",
            default: REQUIRED,
            range: "",
            about: "What the edge does, as for `steer edge`: see [rpc](rpc.md#the-edge). A pool of it may say \
                    `backends = \"pool:NAME\"` and has the endpoints of that `[[pool]]` then.",
            cost: "",
            relation: "Read again by `steer reload` and SIGHUP; a fault in it is a fault of this file. `listen` and \
                       `workers` in it need a restart, and `admin` belongs into `[admin]`.",
        },
        Key {
            name: "sites",
            value: "string or list of strings",
            example: "[\"fra\", \"nrt\"]",
            default: "all sites",
            range: "names of `[[site]]`, each once",
            about: "Sites that have an edge.",
            cost: "",
            relation: "Cannot be written in a fleet without sites. Must stay as it is for a site that runs.",
        },
    ],
};
