//! Good files come out whole; each bad one gives its golden message.

use super::*;

fn read(text: &str) -> Result<Topology, String> {
    parse(Path::new("t.clab.yml"), text).map_err(|faults| faults.to_string())
}

#[test]
fn defaults_and_kinds_are_merged_below_the_node() {
    let text = r#"
name: merge
topology:
  defaults: { kind: linux, exec: [one] }
  kinds:
    linux: { image: "debian:13", privileged: false, cap-add: [NET_ADMIN], exec: [two], sysctls: { net.ipv4.ip_forward: 0 } }
  nodes:
    a: { exec: [three], sysctls: { net.ipv4.ip_forward: 1 } }
    b:
    sw: { kind: bridge }
  links:
    - endpoints: ["a:eth1", "sw:port1"]
    - endpoints: ["b:eth1", "sw:port2"]
"#;
    let topology = read(text).unwrap();
    let [a, b, sw] = topology.nodes.try_into().unwrap();
    assert_eq!(a.exec, ["one", "two", "three"]);
    assert_eq!(a.sysctls["net.ipv4.ip_forward"], "1");
    assert_eq!(b.sysctls["net.ipv4.ip_forward"], "0");
    assert_eq!((b.kind, sw.kind), (Kind::Linux, Kind::Bridge));
    assert_eq!(
        (a.container.privileged, a.container.cap_add),
        (Some(false), vec!["NET_ADMIN".to_owned()])
    );
    assert_eq!((sw.exec, sw.container.image), (vec!["one".to_owned()], None));
    assert_eq!(topology.links.len(), 2);
    assert_eq!(
        topology.links[1].b,
        End {
            node: "sw".to_owned(),
            interface: "port2".to_owned()
        }
    );
}

/// Each bad file beside its message. `STEER_GOLDEN=write` rewrites the messages; the diff is then reviewed.
#[test]
fn each_bad_file_has_its_message() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/clab/golden");
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "yml") {
            continue;
        }
        seen += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        let got = read(&text).expect_err("a golden file is a bad one") + "\n";
        let golden = path.with_extension("txt");
        if std::env::var_os("STEER_GOLDEN").is_some() {
            std::fs::write(&golden, &got).unwrap();
        }
        assert_eq!(
            got,
            std::fs::read_to_string(&golden).unwrap_or_default(),
            "{}",
            path.display()
        );
    }
    assert!(seen >= 6, "only {seen} golden files");
}
