//! BMP: a real collector, and tshark as a reader of every octet.

use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::process::Command;

use serde_json::Value;
use steer_tests::{Steer, free_port};

use super::{Stage, Tool, in_order, missing, until};

#[test]
fn a_collector_hears_each_route_that_we_announce_and_withdraw() {
    if missing(
        "a_collector_hears_each_route_that_we_announce_and_withdraw",
        "/usr/sbin/pmbmpd",
        "pmacct",
    ) {
        return;
    }
    let mut stage = Stage::new();
    let collector = free_port();
    let (ip, port) = (collector.ip().to_string(), collector.port().to_string());
    let args = ["-L", &ip, "-l", &port, "-o", "heard.json"];
    let _pmbmpd = Tool::start("/usr/sbin/pmbmpd", &args, stage.folder.path());
    let heard = stage.path("heard.json");
    let heard = || -> Result<Vec<String>, String> {
        let text = fs::read_to_string(&heard).map_err(|error| error.to_string())?;
        Ok(text.lines().filter_map(word).collect())
    };
    let _monitor = stage.monitor(&[]);
    let mut steer = stage.start(&format!(
        "bmp = [{{ address = \"{collector}\", connect_retry = \"1s\" }}]"
    ));
    let begin = [
        "init example",
        "up 64500",
        "+192.0.2.1/32 64512:7",
        "+2001:db8::1/128 ",
    ];
    until("the dump", || in_order(&heard()?.join("\n"), &begin));
    until("the checked prefix", || {
        in_order(&heard()?.join("\n"), &["+192.0.2.53/32"])
    });
    stage.take_down();
    until("the withdrawal", || {
        in_order(&heard()?.join("\n"), &["+192.0.2.53/32", "-192.0.2.53/32"])
    });
    steer.until("the session", |steer| {
        steer.log().contains("telling a BMP collector").then_some(())
    });
    assert_eq!(steer.stop().status.code(), Some(0));
    let end = [
        "-192.0.2.1/32",
        "-2001:db8::1/128",
        "down The local system closed the session",
        "term Session administratively closed",
    ];
    until("the end", || in_order(&heard()?.join("\n"), &end));
}

/// What matters of a line of pmbmpd.
fn word(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
    Some(
        match (line["bmp_msg_type"].as_str()?, line["log_type"].as_str()) {
            ("init", _) => format!("init {}", text("bmp_init_info_sysname")),
            ("peer_up", _) => format!("up {}", line["peer_asn"]),
            ("peer_down", _) => format!("down {}", text("reason_str")),
            ("term", _) => format!("term {}", text("bmp_term_info_reason")),
            ("route_monitor", Some(kind)) => {
                // RFC 8671: what we send, after policy.
                if (&line["is_out"], &line["is_post"]) != (&Value::from(1), &Value::from(1)) {
                    return Some(format!("a route with wrong flags: {line}"));
                }
                let (prefix, communities) = (text("ip_prefix"), text("comms"));
                match kind {
                    "update" => format!("+{prefix} {communities}"),
                    "withdraw" => format!("-{prefix}"),
                    other => format!("{other} {prefix}"),
                }
            }
            (other, _) => other.to_owned(),
        },
    )
}

#[test]
fn tshark_reads_every_message_without_a_malformed_mark() {
    const NAME: &str = "tshark_reads_every_message_without_a_malformed_mark";
    if missing(NAME, "/usr/bin/tshark", "tshark") || missing(NAME, "/usr/bin/text2pcap", "wireshark-common") {
        return;
    }
    let mut stage = Stage::new();
    let collector = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = collector.local_addr().unwrap();
    // Everything that a connection brings, to its end.
    let collecting = std::thread::spawn(move || {
        let (mut stream, _) = collector.accept().unwrap();
        let mut octets = Vec::new();
        stream.read_to_end(&mut octets).unwrap();
        octets
    });
    let monitor = stage.monitor(&[]);
    let mut steer = stage.start(&format!("bmp = [{{ address = \"{address}\" }}]"));
    let times = |steer: &Steer, word: &str| {
        let log = steer.log();
        let lines = log.lines().filter(|line| line.contains(word));
        lines.filter(|line| line.contains("192.0.2.53/32")).count()
    };
    steer.until("the route", |steer| {
        (times(steer, "route announced") == 1).then_some(())
    });
    stage.take_down();
    steer.until("no route", |steer| {
        (times(steer, "route withdrawn") == 1).then_some(())
    });
    stage.bring_up();
    steer.until("the route again", |steer| {
        (times(steer, "route announced") == 2).then_some(())
    });
    drop(monitor); // a session that is lost
    steer.until("the loss", |steer| {
        steer.log().contains("session down").then_some(())
    });
    drop(steer.stop());
    let messages = split(&collecting.join().unwrap());
    assert!(messages.len() >= 8, "{} messages", messages.len());

    let (dump, pcap) = (stage.path("bmp.hex"), stage.path("bmp.pcap"));
    fs::write(&dump, hexdump(&messages)).unwrap();
    let converted = Command::new("/usr/bin/text2pcap")
        .args(["-q", "-T", "40000,11019"])
        .args([&dump, &pcap])
        .output()
        .unwrap();
    assert!(converted.status.success(), "{converted:?}");
    let tshark = |more: &[&str]| {
        let shown = Command::new("/usr/bin/tshark")
            .args([
                "-n",
                "-d",
                "tcp.port==11019,bmp",
                "-o",
                "tcp.desegment_tcp_streams:FALSE",
                "-r",
            ])
            .arg(&pcap)
            .args(more)
            .output()
            .unwrap();
        assert!(shown.status.success(), "{shown:?}");
        String::from_utf8_lossy(&shown.stdout).into_owned()
    };
    let marked = tshark(&["-Y", "_ws.malformed || _ws.expert.severity == error", "-V"]);
    assert_eq!(marked, "", "marked by tshark");
    let kinds: Vec<String> = tshark(&["-T", "fields", "-e", "bmp.type"])
        .lines()
        .map(str::to_owned)
        .collect();
    let ours: Vec<String> = messages.iter().map(|message| message[5].to_string()).collect();
    assert_eq!(kinds, ours, "tshark sees each message as what it is");
    let flags = tshark(&["-Y", "bmp.type == 0", "-T", "fields", "-e", "bmp.peer.flags"]);
    assert!(
        flags.lines().all(|flags| flags == "0x50"),
        "L and O on every route: {flags}"
    );
    println!("tshark read {} BMP messages", messages.len());
}

/// By the length in the common header.
fn split(octets: &[u8]) -> Vec<Vec<u8>> {
    let (mut messages, mut rest) = (Vec::new(), octets);
    while let Some(head) = rest.first_chunk::<6>() {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let (message, more) = rest.split_at(usize::try_from(length).unwrap());
        messages.push(message.to_vec());
        rest = more;
    }
    messages
}

/// As text2pcap wants it: a packet per message.
fn hexdump(messages: &[Vec<u8>]) -> String {
    let mut text = String::new();
    for message in messages {
        for (line, octets) in message.chunks(16).enumerate() {
            write!(text, "{:06x}", line * 16).unwrap();
            for octet in octets {
                write!(text, " {octet:02x}").unwrap();
            }
            text.push('\n');
        }
        text.push('\n');
    }
    text
}
