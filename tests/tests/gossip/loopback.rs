//! Three sites on loopback: no privileges.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use steer_tests::{Admin, Steer, free_port};

use crate::{Endpoint, KEY};

const SITES: [&str; 3] = ["fra", "nrt", "jfk"];
const OTHER_KEY: &str = "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";

/// Three endpoints, and the files of three sites.
struct Fleet {
    folders: Vec<tempfile::TempDir>,
    admins: Vec<Admin>,
    endpoints: Vec<Endpoint>,
    /// What fra and nrt have for a reference target, and what jfk has.
    references: [Option<Endpoint>; 2],
}

fn endpoint() -> Endpoint {
    Endpoint::on(TcpListener::bind("127.0.0.1:0").unwrap())
}

impl Fleet {
    /// `jfk` probes the endpoint of `nrt` where nobody is, if it is `astray`.
    fn new(astray: bool) -> Self {
        let endpoints: Vec<_> = SITES.iter().map(|_| endpoint()).collect();
        let references = [endpoint(), endpoint()];
        let gossip: Vec<_> = SITES.iter().map(|_| free_port()).collect();
        let admins: Vec<_> = SITES.iter().map(|_| free_port()).collect();
        let nobody = free_port();
        let folders: Vec<_> = SITES.iter().map(|_| tempfile::tempdir().unwrap()).collect();
        for (number, folder) in folders.iter().enumerate() {
            let probe = if astray && number == 2 {
                format!(", probe = \"{nobody}\"")
            } else {
                String::new()
            };
            let addresses: Vec<SocketAddr> = endpoints.iter().map(|one| one.address).collect();
            let upstream = references[usize::from(number == 2)].address;
            let mut config = format!(
                "[fleet]\nname = \"g\"\ngossip = {{ key_file = \"gossip.key\", reference = \"upstream\" }}\n[admin]\nlisten = \"{}\"\n\
                 [[check]]\nname = \"web\"\nkind = \"tcp\"\ninterval = \"200ms\"\ntimeout = \"100ms\"\n\
                 [[pool]]\nname = \"web\"\ncheck = \"web\"\nendpoints = [\n\
                 {{ site = \"fra\", address = \"{}\" }},\n{{ site = \"nrt\", address = \"{}\"{probe} }},\n\
                 {{ site = \"jfk\", address = \"{}\" }},\n]\n\
                 [[pool]]\nname = \"upstream\"\ncheck = \"web\"\n\
                 endpoints = [{{ address = \"192.0.2.53:53\", probe = \"{upstream}\" }}]\n",
                admins[number], addresses[0], addresses[1], addresses[2],
            );
            for (site, gossip) in SITES.iter().zip(&gossip) {
                config.push_str(&format!("[[site]]\nname = \"{site}\"\ngossip = \"{gossip}\"\n"));
            }
            fs::write(folder.path().join("steer.toml"), config).unwrap();
            fs::write(folder.path().join("gossip.key"), KEY).unwrap();
        }
        Self {
            folders,
            admins: admins.into_iter().map(Admin).collect(),
            endpoints,
            references: references.map(Some),
        }
    }

    fn start(&self, site: usize) -> Steer {
        Steer::start(self.folders[site].path(), &["run", "--site", SITES[site]])
    }

    fn all(&self) -> Vec<Steer> {
        let mut steers: Vec<_> = (0..SITES.len()).map(|site| self.start(site)).collect();
        for (site, steer) in steers.iter_mut().enumerate() {
            steer.until("the admin API", |_| self.status(site));
            steer.until("two other members", |_| {
                (self.members(site, "up") == 2).then_some(())
            });
            steer.until("all up", |_| {
                (0..3).all(|of| self.verdict(site, of) == "up").then_some(())
            });
        }
        steers
    }

    fn status(&self, site: usize) -> Option<serde_json::Value> {
        let finished = self.admins[site].run(&["status", "--json"]);
        serde_json::from_str(&finished.stdout).ok()
    }

    fn members(&self, site: usize, state: &str) -> usize {
        let status = self.status(site).unwrap_or_default();
        let members = status["gossip"]["members"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        members.iter().filter(|member| member["state"] == state).count()
    }

    fn verdict(&self, site: usize, of: usize) -> String {
        let status = self.status(site).unwrap_or_default();
        status["endpoints"][of]["verdict"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

#[test]
fn three_sites_agree_that_an_endpoint_is_down_and_show_the_votes() {
    let mut fleet = Fleet::new(false);
    let mut steers = fleet.all();
    let closed = Instant::now();
    drop(fleet.endpoints.remove(1));
    for (site, steer) in steers.iter_mut().enumerate() {
        steer.until("nrt down", |_| (fleet.verdict(site, 1) == "down").then_some(()));
    }
    println!("down at all three {:?} after it closed", closed.elapsed());
    let all_say_so = |row: &serde_json::Value| row["site"] == "nrt" && row["down"] == 3;
    steers[0].until("three votes", |_| {
        let status = fleet.status(0).unwrap_or_default();
        let votes = status["gossip"]["votes"].as_array().cloned().unwrap_or_default();
        votes.iter().any(all_say_so).then_some(())
    });
    let text = fleet.admins[0].done(&["status"]);
    assert!(text.contains("see it down"), "{text}");
    let status = fleet.status(0).unwrap();
    let votes = &status["gossip"]["votes"];
    let of_nrt = votes
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["site"] == "nrt")
        .unwrap();
    assert_eq!(
        (&of_nrt["ruling"], &of_nrt["down"]),
        (&"down".into(), &3.into()),
        "{of_nrt}"
    );
    let cause = status["endpoints"][1]["cause"].as_str().unwrap();
    assert!(
        cause.contains("of 3 sites see it down") && cause.contains("refused"),
        "{cause}"
    );
}

#[test]
fn what_one_site_alone_sees_down_stays_up_for_all() {
    let fleet = Fleet::new(true);
    let mut steers: Vec<_> = (0..3).map(|site| fleet.start(site)).collect();
    for (site, steer) in steers.iter_mut().enumerate() {
        steer.until("the admin API", |_| fleet.status(site));
        steer.until("two other members", |_| {
            (fleet.members(site, "up") == 2).then_some(())
        });
    }
    let says_down = |site: usize| {
        let status = fleet.status(site).unwrap_or_default();
        let votes = status["gossip"]["votes"].as_array().cloned().unwrap_or_default();
        votes
            .iter()
            .find(|row| row["site"] == "nrt")
            .is_some_and(|row| row["down"] == 1)
            .then_some(())
    };
    steers[0].until("the vote of jfk", |_| says_down(0));
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(15) {
        for (site, name) in SITES.iter().enumerate() {
            assert_eq!(fleet.verdict(site, 1), "up", "{name}");
        }
    }
    for steer in steers {
        assert!(!steer.log().contains("verdict=\"down\""), "{}", steer.log());
        assert!(steer.stop().status.success());
    }
}

#[test]
fn a_site_whose_reference_target_fails_holds_its_own_endpoint_and_the_others_believe_it_less() {
    let mut fleet = Fleet::new(false);
    let mut steers = fleet.all();
    let isolated =
        |fleet: &Fleet, site: usize| fleet.status(site).unwrap_or_default()["gossip"]["isolated"].clone();
    let cause = |fleet: &Fleet| {
        let status = fleet.status(2).unwrap_or_default();
        status["endpoints"][2]["cause"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };

    let target = fleet.references[1].take().unwrap().address;
    steers[2].until("the target is down for jfk", |_| {
        (fleet.verdict(2, 3) == "down").then_some(())
    });
    for (site, name) in SITES.iter().enumerate() {
        assert_eq!(
            fleet.verdict(site, 2),
            "up",
            "{name}: a target alone says nothing"
        );
        assert_eq!(isolated(&fleet, site), serde_json::json!([]), "{name}");
    }

    drop(fleet.endpoints.remove(2));
    for site in [0, 1] {
        steers[site].until("down for the others", |_| {
            (fleet.verdict(site, 2) == "down").then_some(())
        });
        steers[site].until("jfk is isolated", |_| {
            (isolated(&fleet, site) == serde_json::json!(["jfk"])).then_some(())
        });
    }
    steers[2].until("held by jfk", |_| {
        (fleet.verdict(2, 2) == "unknown").then_some(())
    });
    assert!(
        cause(&fleet).starts_with("isolated: reference targets fail too ("),
        "{}",
        cause(&fleet)
    );
    let text = fleet.admins[0].done(&["status"]);
    assert!(text.contains("isolated, reference targets fail too"), "{text}");

    fleet.references[1] = Some(Endpoint::on(TcpListener::bind(target).unwrap()));
    steers[2].until("jfk believes its check again", |_| {
        (fleet.verdict(2, 2) == "down").then_some(())
    });
    steers[0].until("jfk is isolated no more", |_| {
        (isolated(&fleet, 0) == serde_json::json!([])).then_some(())
    });
    for steer in steers {
        assert!(steer.stop().status.success());
    }
}

#[test]
fn a_site_that_is_killed_is_gone_for_the_others_and_back_when_it_starts_again() {
    let fleet = Fleet::new(false);
    let mut steers = fleet.all();
    let victim = steers.pop().unwrap();
    victim.signal(Signal::SIGKILL);
    drop(victim);
    let killed = Instant::now();
    steers[0].until("one member gone", |_| (fleet.members(0, "up") == 1).then_some(()));
    println!("not up (suspect or down) {:?} after kill -9", killed.elapsed());
    let mut again = fleet.start(2);
    let started = Instant::now();
    again.until("two other members", |_| {
        (fleet.members(2, "up") == 2).then_some(())
    });
    steers[0].until("back", |_| (fleet.members(0, "up") == 2).then_some(()));
    println!("back {:?} after its start", started.elapsed());
    assert!(again.stop().status.success());
    steers[0].until("one has left", |_| (fleet.members(0, "up") == 1).then_some(()));
}

#[test]
fn who_has_another_key_is_no_member_and_a_reload_of_the_right_one_makes_it_one() {
    let fleet = Fleet::new(false);
    fs::write(fleet.folders[2].path().join("gossip.key"), OTHER_KEY).unwrap();
    let mut steers: Vec<_> = (0..3).map(|site| fleet.start(site)).collect();
    steers[0].until("one other member", |_| {
        (fleet.members(0, "up") == 1).then_some(())
    });
    steers[0].until("refused packets", |steer| {
        steer.log().contains("wrong-key").then_some(())
    });
    assert_eq!(fleet.members(0, "up"), 1);
    fs::write(
        fleet.folders[2].path().join("gossip.key"),
        format!("{KEY}{OTHER_KEY}"),
    )
    .unwrap();
    steers[2].signal(Signal::SIGHUP);
    steers[0].until("two other members", |_| {
        (fleet.members(0, "up") == 2).then_some(())
    });
}

#[test]
fn a_bad_key_file_is_named_and_its_content_is_not() {
    let fleet = Fleet::new(false);
    let folder = fleet.folders[0].path();
    fs::write(folder.join("gossip.key"), "hunter2\n").unwrap();
    let finished = Steer::finish(folder, &["check", "--config", "steer.toml"]);
    assert!(!finished.status.success());
    assert!(
        finished.stderr.contains("gossip.key") && finished.stderr.contains("line 1"),
        "{}",
        finished.stderr
    );
    assert!(!finished.stderr.contains("hunter2"), "{}", finished.stderr);
}
