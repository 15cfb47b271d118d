//! BFD daemons as peers: BIRD and FRR's bfdd.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use steer_labs::netns::Proc;

use super::{Home, frr, text};

/// One path, from the daemon's view.
#[derive(Debug, Clone)]
pub struct Path {
    /// The address of the daemon.
    pub local: IpAddr,
    /// The address of the binary under test.
    pub steer: IpAddr,
    /// Both ways; the multiplier is 3.
    pub interval: Duration,
    /// Over routers (RFC 5883).
    pub multihop: bool,
    /// Key ID 1.
    pub key: Option<Key>,
}

/// A key and how it is used.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// `meticulous-keyed-sha1`, say.
    pub kind: &'static str,
    /// The secret.
    pub secret: &'static str,
}

/// One implementation of BFD.
pub trait Daemon: Sync {
    /// Short, for names of worlds: `bird`.
    fn name(&self) -> &'static str;

    /// The Debian package.
    fn package(&self) -> &'static str;

    /// Every program that is run.
    fn programs(&self) -> &'static [&'static str];

    /// Writes the configuration into the folder and starts the daemon there; its interface is `eth1`.
    fn start(&self, home: &Home, paths: &[Path]) -> Result<Vec<Proc>, String>;

    /// The lowest TTL of its multihop packets behind one router.
    fn multihop_ttl(&self) -> u8;

    /// Its sessions that are up now, each with the interval that it sends at, in milliseconds.
    fn up(&self, home: &Home) -> Result<Vec<(IpAddr, u64)>, String>;

    /// The lines of its log that tell of a step from Up to Down of the session with `steer`.
    fn downs(&self, home: &Home, steer: IpAddr) -> Result<Vec<String>, String>;

    /// Whether it knows that the operator on our side holds the session with `steer` down; its own words.
    fn knows_admin_down(&self, home: &Home, steer: IpAddr) -> Result<String, String>;
}

/// The BIRD Internet Routing Daemon.
#[derive(Debug, Clone, Copy)]
pub struct BirdBfd;

/// FRRouting's bfdd.
#[derive(Debug, Clone, Copy)]
pub struct FrrBfd;

impl Daemon for BirdBfd {
    fn name(&self) -> &'static str {
        "bird"
    }

    fn package(&self) -> &'static str {
        "bird2"
    }

    fn programs(&self) -> &'static [&'static str] {
        &["/usr/sbin/bird", "/usr/sbin/birdc"]
    }

    fn start(&self, home: &Home, paths: &[Path]) -> Result<Vec<Proc>, String> {
        home.write("bird.conf", &bird_config(home, paths))?;
        let (config, socket, pid) = (home.arg("bird.conf"), home.arg("bird.sock"), home.arg("bird.pid"));
        let args = ["-f", "-c", &config, "-s", &socket, "-P", &pid].map(str::to_owned);
        Ok(vec![spawn_first(home, "/usr/sbin/bird", &args, "bird")?])
    }

    fn multihop_ttl(&self) -> u8 {
        63 // the system's 64: RFC 5883 names none
    }

    fn up(&self, home: &Home) -> Result<Vec<(IpAddr, u64)>, String> {
        let socket = home.arg("bird.sock");
        let shown = home.ask(&["/usr/sbin/birdc", "-s", &socket, "show bfd sessions"])?;
        let mut up = Vec::new();
        for line in shown.lines() {
            // IP address, interface, state, since, interval in seconds, timeout
            let fields: Vec<&str> = line.split_whitespace().collect();
            if let [address, _, "Up", .., interval, _] = fields[..] {
                let seconds: f64 = super::parse("interval", interval)?;
                up.push((
                    super::parse("address", address)?,
                    (seconds * 1000.0).round() as u64,
                ));
            }
        }
        Ok(up)
    }

    fn downs(&self, home: &Home, steer: IpAddr) -> Result<Vec<String>, String> {
        let sentence = format!("Session to {steer} changed state from Up to Down");
        lines_with(home, "bird.log", &[&sentence])
    }

    fn knows_admin_down(&self, home: &Home, steer: IpAddr) -> Result<String, String> {
        let sentence = format!("CTL received from {steer} [AdminDown");
        let seen = lines_with(home, "bird.log", &[&sentence])?;
        seen.into_iter()
            .next()
            .ok_or_else(|| "no AdminDown in its log".to_owned())
    }
}

fn bird_config(home: &Home, paths: &[Path]) -> String {
    let mut text = format!(
        "log \"{}\" all;\ntimeformat log iso long us;\nrouter id 10.0.0.2;\nprotocol device {{}}\n\
         protocol bfd {{\n  debug {{ events, packets }};\n",
        home.arg("bird.log")
    );
    let Some(first) = paths.first() else {
        return text + "}\n";
    };
    let key = first.key.as_ref().map_or(String::new(), |key| {
        let kind = key.kind.replace('-', " ");
        format!("authentication {kind}; password \"{}\" {{ id 1; }};", key.secret)
    });
    let interval = first.interval.as_millis();
    let options = format!("{{ interval {interval} ms; idle tx interval 1 s; multiplier 3; {key} }};");
    // Writing to a String cannot fail.
    let _ = writeln!(text, "  interface \"eth1\" {options}\n  multihop {options}");
    for Path {
        local,
        steer,
        multihop,
        ..
    } in paths
    {
        let how = if *multihop {
            format!("local {local} multihop on")
        } else {
            "dev \"eth1\"".to_owned()
        };
        let _ = writeln!(text, "  neighbor {steer} {how};");
    }
    text + "}\n"
}

/// For the sessions that BIRD's BGP asks for.
pub(super) fn bird_protocol(interval_ms: u64) -> String {
    format!(
        "protocol bfd {{\n  debug {{ events, packets }};\n  \
           interface \"eth1\" {{ interval {interval_ms} ms; idle tx interval 1 s; multiplier 3; }};\n}}\n"
    )
}

impl Daemon for FrrBfd {
    fn name(&self) -> &'static str {
        "frr"
    }

    fn package(&self) -> &'static str {
        "frr"
    }

    fn programs(&self) -> &'static [&'static str] {
        &["/usr/lib/frr/bfdd", "/usr/lib/frr/zebra", "/usr/bin/vtysh"]
    }

    fn start(&self, home: &Home, paths: &[Path]) -> Result<Vec<Proc>, String> {
        frr::give_to_frr(home)?;
        let zebra = frr::start_zebra(home)?;
        Ok(vec![zebra, start_bfdd(home, &frr_config(paths))?])
    }

    fn multihop_ttl(&self) -> u8 {
        254
    }

    fn up(&self, home: &Home) -> Result<Vec<(IpAddr, u64)>, String> {
        let mut up = Vec::new();
        for session in frr_sessions(home)? {
            if session["status"] == "up" {
                let address = super::parse("address", &text(&session["peer"]))?;
                // What is sent is the slower of what it says and what we take.
                let own = session["transmit-interval"].as_u64().unwrap_or(0);
                let taken = session["remote-receive-interval"].as_u64().unwrap_or(0);
                up.push((address, own.max(taken)));
            }
        }
        Ok(up)
    }

    fn downs(&self, home: &Home, steer: IpAddr) -> Result<Vec<String>, String> {
        let peer = format!("peer:{steer} ");
        lines_with(home, "bfdd.log", &["state-change: ", &peer, "up -> down"])
    }

    fn knows_admin_down(&self, home: &Home, steer: IpAddr) -> Result<String, String> {
        let address = steer.to_string();
        let sessions = frr_sessions(home)?;
        let session = sessions
            .iter()
            .find(|session| session["peer"] == address.as_str())
            .ok_or("no such session")?;
        let words = format!(
            "{}; diagnostic: {}; remote: {}",
            text(&session["status"]),
            text(&session["diagnostic"]),
            text(&session["remote-diagnostic"])
        );
        if session["status"] == "down" && session["remote-diagnostic"] == "administratively down" {
            Ok(words)
        } else {
            Err(words)
        }
    }
}

pub(super) fn start_bfdd(home: &Home, config: &str) -> Result<Proc, String> {
    home.write("bfdd.conf", config)?;
    let mut args = frr::args(home, "bfdd");
    args.extend(["--log-level".to_owned(), "debugging".to_owned()]);
    args.extend(["--bfdctl".to_owned(), home.arg("bfdd.sock")]);
    spawn_first(home, "/usr/lib/frr/bfdd", &args, "bfdd")
}

/// The profile `steer`, for the sessions that bgpd asks for.
pub(super) fn frr_profile(interval_ms: u64) -> String {
    format!(
        "debug bfd peer\nbfd\n profile steer\n  detect-multiplier 3\n  receive-interval {interval_ms}\n  \
           transmit-interval {interval_ms}\n !\n"
    )
}

fn frr_config(paths: &[Path]) -> String {
    let mut text = "debug bfd peer\nlog timestamp precision 6\nbfd\n".to_owned();
    for Path {
        local,
        steer,
        interval,
        multihop,
        key: _, // FRR 8.4 has no authentication
    } in paths
    {
        let how = if *multihop { "multihop" } else { "interface eth1" };
        let interval = interval.as_millis();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            " peer {steer} {} local-address {local} {}\n  detect-multiplier 3\n  receive-interval {interval}\n  \
               transmit-interval {interval}\n  no shutdown\n !",
            if *multihop { how } else { "" },
            if *multihop { "" } else { how },
        );
    }
    text
}

fn frr_sessions(home: &Home) -> Result<Vec<serde_json::Value>, String> {
    let dir = home.arg("");
    let command = [
        "/usr/bin/vtysh",
        "--vty_socket",
        &dir,
        "-d",
        "bfdd",
        "-c",
        "show bfd peers json",
    ];
    let shown = home.ask_json(&command)?;
    shown.as_array().cloned().ok_or_else(|| format!("{shown}"))
}

/// Starts a daemon before all ordinary work, where that is permitted: at 10 ms x 3 it would else fail for want of a
/// CPU, which is not what is tested.
pub(super) fn spawn_first(home: &Home, program: &str, args: &[String], label: &str) -> Result<Proc, String> {
    const CHRT: &str = "/usr/bin/chrt";
    let real_time = ["--fifo", "5"];
    let may = home.ask(&[CHRT, real_time[0], real_time[1], "/bin/true"]).is_ok();
    if !may {
        return home.spawn(program, args, &[], label);
    }
    let before = real_time.into_iter().chain([program]).map(str::to_owned);
    let args: Vec<String> = before.chain(args.iter().cloned()).collect();
    home.spawn(CHRT, &args, &[], label)
}

fn lines_with(home: &Home, file: &str, words: &[&str]) -> Result<Vec<String>, String> {
    let log = home.read(file)?;
    let fits = |line: &&str| words.iter().all(|word| line.contains(word));
    Ok(log.lines().filter(fits).map(str::to_owned).collect())
}
