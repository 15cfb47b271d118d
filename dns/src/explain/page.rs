//! `docs/filters.md`: a section for each filter, with what `explain` says. `STEER_GOLDEN=1` writes it anew.

use std::fmt::Write as _;
use std::path::PathBuf;

use steer_topology::config::reference::filters::FILTERS;

const HEAD: &str = "# Filters

<!-- Generated from topology/src/config/reference/filters.rs and dns/golden/explain/. Change it there, then:
     STEER_GOLDEN=1 cargo test -p steer-dns page -->

A page for each filter of a chain: what it does, what it looks at, an example, what `steer explain` says of that example,
and what it costs in the scope of answers to queries with a client subnet (RFC 7871): how widely a resolver may share
one. How chains are written, and all keys: [configuration](configuration.md#filters).

Every filter has property tests: no filter invents or doubles a candidate, none but `up` and `geofence` empties a list, a
chain does what the naive rules do, and cutting it anywhere and going on later gives the same (`dns/src/filter/tests.rs`).
";

/// What the page says beside the reference.
struct More {
    /// The first word, as it is written.
    word: &'static str,
    /// Of the candidate, of the client, of chance.
    inputs: &'static str,
    /// Of `[[steer]]`.
    example: &'static str,
    /// The file in `golden/explain`.
    golden: &'static str,
    /// In ECS scope.
    costs: &'static str,
}

const NOTHING: &str =
    "Nothing: all clients get the same, and a chain of such filters alone answers with scope 0.";
const CLASS: &str = "The scope is the widest network around the client that lies in one class: for all of whom this filter, and \
                     the others of the fleet, do the same.";
const DRAW: &str = "Nothing by itself: each query is drawn anew. A resolver keeps one draw for all of its clients until the TTL \
                    is over, so that shares hold over many resolvers and not within one.";

const PAGES: [More; 15] = [
    More {
        word: "up",
        inputs: "the verdict of the endpoint, drains, and what the guard holds.",
        example: "chain = [\"up\", \"take 1\"]",
        golden: "up-take",
        costs: NOTHING,
    },
    More {
        word: "nearest",
        inputs: "the client's coordinates, or the middle of its country; the airport and `bias` of the site.",
        example: "chain = [\"nearest\"] # fra: bias = \"-50 %\", nrt: bias = \"9000 km\"",
        golden: "nearest-bias",
        costs: CLASS,
    },
    More {
        word: "latency",
        inputs: "the client's coordinates, or the middle of its country; the site's airport; the table.",
        example: "chain = [\"latency\"]",
        golden: "latency",
        costs: CLASS,
    },
    More {
        word: "country",
        inputs: "the client's country; site and tier of the candidate.",
        example: "chain = [\"country\", \"continent\", \"cidr\", \"asn\"]\ncountry = { DE = [\"nrt\", \"tier 2\"], JP = \"fra\" }",
        golden: "maps",
        costs: CLASS,
    },
    More {
        word: "continent",
        inputs: "the client's continent; site and tier of the candidate.",
        example: "chain = [\"country\", \"continent\", \"cidr\", \"asn\"]\ncontinent = { EU = \"jfk\", default = \"fra\" }",
        golden: "maps",
        costs: CLASS,
    },
    More {
        word: "asn",
        inputs: "the AS that the client's address belongs to; site and tier of the candidate.",
        example: "chain = [\"country\", \"continent\", \"cidr\", \"asn\"]\nasn = { AS64500 = \"fra\" }",
        golden: "maps",
        costs: CLASS,
    },
    More {
        word: "cidr",
        inputs: "the client's address; site and tier of the candidate.",
        example: "chain = [\"country\", \"continent\", \"cidr\", \"asn\"]\ncidr = { \"81.169.0.0/16\" = \"fra\", \"12.0.0.0/8\" = \"jfk\" }",
        golden: "maps",
        costs: "The scope never reaches over the border of a prefix that some map names.",
    },
    More {
        word: "geofence",
        inputs: "country or continent of the client and of the site.",
        example: "chain = [\"up\", \"geofence continent\", \"nearest\"]",
        golden: "geofence",
        costs: "As wide as the class. A refusal (REFUSED, with extended error 18) is a failure to a resolver, which keeps it for \
                some seconds, and may do so for all of its clients (RFC 9520).",
    },
    More {
        word: "weighted",
        inputs: "`weight` of the endpoint, in nested pools its share; chance.",
        example: "chain = [\"up\", \"weighted\"]",
        golden: "weighted",
        costs: DRAW,
    },
    More {
        word: "shuffle",
        inputs: "chance.",
        example: "chain = [\"up\", \"shuffle\"]",
        golden: "shuffle",
        costs: DRAW,
    },
    More {
        word: "sticky",
        inputs: "the leading bits of the client's address; address and `weight` of the endpoint.",
        example: "chain = [\"up\", \"nearest\", \"sticky 20 40\", \"take 1\"]",
        golden: "sticky",
        costs: "The scope is at least the prefix length (here /20 and /40): longer prefixes spread better and are cached less.",
    },
    More {
        word: "overflow",
        inputs: "`capacity` of the sites; what their own clients ask for, as `load` says or as it follows from `steer load`; \
                 the site that the client would get if all were up; chance.",
        example: "chain = [\"up\", \"nearest\", \"overflow\", \"take 1\"]",
        golden: "overflow",
        costs: DRAW,
    },
    More {
        word: "failover",
        inputs: "`tier` of the endpoint.",
        example: "chain = [\"failover\"]",
        golden: "failover",
        costs: NOTHING,
    },
    More {
        word: "trickle",
        inputs: "`tier` of the endpoint; chance.",
        example: "chain = [\"trickle 5%\"]",
        golden: "trickle",
        costs: DRAW,
    },
    More {
        word: "take",
        inputs: "the order of the list.",
        example: "chain = [\"up\", \"take 1\"]",
        golden: "up-take",
        costs: "Nothing, and it gives some back: where classes differ only behind the first N, their lists are one.",
    },
];

fn page() -> String {
    let mut page = HEAD.to_owned();
    for more in &PAGES {
        let first = |written: &str| written.split_whitespace().next() == Some(more.word);
        let text = FILTERS.iter().find(|text| first(text.written)).unwrap();
        let golden = root().join(format!("golden/explain/{}.txt", more.golden));
        let golden = std::fs::read_to_string(golden).unwrap();
        // One client and one type show it.
        let shown = golden.split("\nAAAA  ").next().unwrap_or_default().trim_end();
        write!(
            page,
            "\n## `{}`\n\n{}\n\n- Looks at: {}\n- Depends: {}\n- Costs in scope: {}\n\n```toml\n{}\n```\n\n```text\n{shown}\n```\n",
            text.written, text.about, more.inputs, text.scope, more.costs, more.example
        )
        .unwrap();
    }
    page
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_filter_has_its_page_with_what_explain_says_of_it() {
    let words = |of: &mut dyn Iterator<Item = &'static str>| {
        of.map(|written| written.split_whitespace().next().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        words(&mut FILTERS.iter().map(|text| text.written)),
        words(&mut PAGES.iter().map(|more| more.word))
    );
    let (file, page) = (root().join("../docs/filters.md"), page());
    if std::env::var_os("STEER_GOLDEN").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == page,
        "docs/filters.md is old: STEER_GOLDEN=1 cargo test -p steer-dns page"
    );
    for more in &PAGES {
        let section = page
            .split("\n## ")
            .find(|section| section.contains(more.example))
            .unwrap();
        let shown = section.split("```text").nth(1).unwrap();
        assert!(
            shown.contains(&format!("  {}", more.word)),
            "`{}` is not in what is shown",
            more.word
        );
    }
}
