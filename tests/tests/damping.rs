//! An endpoint that falls too often is held back, and an operator forgives it (`steer clear-flaps`).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use hickory_proto::rr::RecordType;
use steer_tests::dns::Question;
use steer_tests::{Admin, Steer, free_port, served};

const FRA: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
const NRT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// Clients go to fra, and to nrt while fra is down. Two falls of fra hold it back for longer than the test takes.
struct Fleet {
    folder: tempfile::TempDir,
    dns: SocketAddr,
    admin: Admin,
    fra: SocketAddr,
    is_open: Option<TcpListener>,
    _nrt: TcpListener,
}

impl Fleet {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The kernel completes connections without anybody calling accept: 128, enough for 25 s of these checks.
        let [open, other] = [FRA, NRT].map(|address| TcpListener::bind((address, 0)).unwrap());
        let [fra, nrt] = [&open, &other].map(|endpoint| endpoint.local_addr().unwrap());
        let (dns, admin) = (free_port(), free_port());
        let config = format!(
            r#"
[fleet]
guard = {{ keep_sites = 1, max_withdrawn = 20, window = "60s" }}
[[site]]
name = "fra"
[[site]]
name = "nrt"
[[check]]
name = "web"
kind = "tcp"
interval = "200ms"
timeout = "150ms"
[[pool]]
name = "web"
check = "web"
endpoints = [ {{ site = "fra", address = "{fra}" }}, {{ site = "nrt", address = "{nrt}" }} ]
damping = {{ half_life = "1h", suppress = 1500, reuse = 1000, max = "1h" }}
"#
        );
        fs::write(
            folder.path().join("steer.toml"),
            config + &served::www(dns, admin),
        )
        .unwrap();
        served::write_zone(folder.path()).unwrap();
        Self {
            folder,
            dns,
            admin: Admin(admin),
            fra,
            is_open: Some(open),
            _nrt: other,
        }
    }

    fn until_answer(&self, steer: &mut Steer, want: IpAddr) {
        let question = Question::new("www.example.com.", RecordType::A);
        steer.until(&format!("the answer {want}"), |_| {
            let answer = question.ask(self.dns, Duration::from_millis(200))?;
            (answer.addresses().first() == Some(&want)).then_some(())
        });
    }

    /// fra falls, is seen to, and is there again.
    fn fall(&mut self, steer: &mut Steer) {
        self.is_open = None;
        self.until_answer(steer, NRT);
        self.is_open = Some(TcpListener::bind(self.fra).unwrap());
    }

    /// Verdict and cause.
    fn of_fra(&self) -> [String; 2] {
        let status = self.admin.json(&["status"]);
        ["verdict", "cause"].map(|field| status["endpoints"][0][field].as_str().unwrap().to_owned())
    }

    fn until_held(&self, steer: &mut Steer) {
        steer.until("fra held back", |_| {
            let [verdict, cause] = self.of_fra();
            (verdict == "down" && cause.starts_with("damped for ")).then_some(())
        });
    }
}

#[test]
fn who_fell_too_often_stays_out_until_an_operator_forgives_it_and_then_its_falls_count_anew() {
    let mut fleet = Fleet::new();
    let mut steer = Steer::start(fleet.folder.path(), &["run", "--site", "fra"]);
    // Before the first round nothing is out, and nothing that fails has fallen.
    steer.until("the first round of checks", |steer| {
        steer
            .log()
            .contains("first round of checks is over")
            .then_some(())
    });
    fleet.until_answer(&mut steer, FRA);
    fleet.fall(&mut steer);
    fleet.until_answer(&mut steer, FRA);
    fleet.fall(&mut steer);
    fleet.until_held(&mut steer);
    fleet.until_answer(&mut steer, NRT);

    for (target, code, parts) in [
        ("127.0.0.9:1", 2, ["127.0.0.9:1", "endpoint"]),
        ("fra", 1, ["fra is a site", "only endpoints fall"]),
        ("192.0.2.0/24", 2, ["announces nothing", "[bgp]"]),
    ] {
        fleet.admin.refused(&["clear-flaps", target], code, &parts);
    }
    assert_eq!(fleet.of_fra()[0], "down", "nobody was forgiven by a mistake");

    let said = fleet.admin.done(&["clear-flaps", "web@fra"]);
    let full = format!("web/{}@fra", fleet.fra);
    let begins = format!("the falls of {full} are forgotten; nothing holds it back (snapshot ");
    assert!(said.starts_with(&begins), "{said}");
    assert_eq!(fleet.of_fra()[0], "up", "when the command ends");
    fleet.until_answer(&mut steer, FRA);

    let address = fleet.fra.to_string();
    let again = fleet.admin.json(&["clear-flaps", &address]);
    assert_eq!(again["target"], full, "one that is not held back may be forgiven");
    assert!(
        again["snapshot"].as_u64().is_some_and(|number| number > 0),
        "{again}"
    );

    fleet.fall(&mut steer);
    fleet.until_answer(&mut steer, FRA);
    fleet.fall(&mut steer);
    fleet.until_held(&mut steer);
    assert_eq!(steer.stop().status.code(), Some(0));
}
