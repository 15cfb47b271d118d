//! The types of a steered name, for the page.

pub(super) const PAGE: &str = "
## Types

One `[[steer]]` entry decides one or several types at its name by one chain, so that they agree. Types that no entry
decides come from the zone file.

```toml
[[pool]]
name = \"web\"
check = \"web\"
endpoints = [
  { site = \"fra\", address = \"198.51.100.10:443\", target = \"fra.example.com\" },
  { site = \"nrt\", address = \"203.0.113.10:443\", target = \"nrt.example.com\", priority = 10 },
]

[[steer]]
name = \"example.com\"
type = [\"address\", \"https\"]
alpn = [\"h2\", \"h3\"]
pool = \"web\"

[[steer]]
name = \"_imaps._tcp.example.com\"
type = \"srv\"
pool = \"web\"
chain = [\"up\", \"nearest\"]
```

| type | record | from each endpoint that the chain leaves |
| --- | --- | --- |
| `address` | A, AAAA | its address; each family has a chain run of its own, with the endpoints of that family |
| `https`, `svcb` with `target = \"itself\"` | `1 . alpn port ipv4hint ipv6hint` | the hints are what the chain answers to A and AAAA for the same client; the port is the pool's (443 is left out of HTTPS) |
| `https`, `svcb` with `target = \"endpoint\"` | `PRIORITY TARGET alpn port` | its `target` and the port of its `address`; no hints, since its addresses belong to that name |
| `cname` | `TARGET` | the `target` of the first one alone; within our zones the reply goes on from there |
| `mx` | `PREFERENCE TARGET` | its `target` |
| `srv` | `PRIORITY WEIGHT PORT TARGET` | its `target`, `weight` and the port of its `address` |
| `txt` | its strings | its `text` |

Records that come out equal are told once. For all but `address`, endpoints at one site that say the same (the IPv4 and
the IPv6 address of one host, say) are one candidate, which is up while one of them is. Where `weighted`, `shuffle`,
`overflow` or `trickle` draw, each query has a draw of its own: hints are addresses that such a query could have got.
";
