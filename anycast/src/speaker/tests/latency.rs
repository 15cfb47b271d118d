//! From a snapshot to the octets at every peer: 1,000 prefixes, 20 peers.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;
use steer_health::Verdict;

use super::client::{Client, capabilities, open};
use super::{Running, fleet, free};

const PEERS: u8 = 20;
const ROUNDS: usize = 400;

fn text(listen: SocketAddr) -> String {
    let mut text = format!(
        "[fleet]\nguard = {{ max_withdrawn = 60000 }}\n[[check]]\nname = \"web\"\nkind = \"tcp\"\n\
         [[pool]]\nname = \"web\"\ncheck = \"web\"\nendpoints = [ {{ address = \"127.0.0.1:1\" }} ]\n\
         [bgp]\nasn = 64512\nrouter_id = \"10.0.0.1\"\nlisten = [\"{listen}\"]\n"
    );
    for peer in 1..=PEERS {
        text += &format!("[[bgp.peer]]\naddress = \"127.0.1.{peer}\"\nasn = 64500\npassive = true\n");
    }
    for number in 0..999 {
        let (high, low) = (number / 256, number % 256);
        text += &format!("[[anycast]]\nprefix = \"10.0.{high}.{low}/32\"\n");
    }
    text + "[[anycast]]\nprefix = \"192.0.2.53/32\"\nwhile_up = [\"pool:web\"]\n"
}

/// Reads from all sockets and tells when each had something.
fn watch(streams: Vec<TcpStream>, arrivals: &mpsc::Sender<(usize, Instant)>) {
    let mut buffer = [0; 4096];
    let mut streams: Vec<TcpStream> = streams;
    loop {
        let mut fds: Vec<PollFd> = streams
            .iter()
            .map(|stream| PollFd::new(stream.as_fd(), PollFlags::POLLIN))
            .collect();
        if poll(&mut fds, PollTimeout::NONE).is_err() {
            return;
        }
        let now = Instant::now();
        let ready: Vec<usize> = (0..fds.len())
            .filter(|index| fds[*index].any() == Some(true))
            .collect();
        for index in ready {
            match streams[index].read(&mut buffer) {
                Ok(0) | Err(_) => return,
                // A KEEPALIVE has 19 octets.
                Ok(length) if length > 19 => {
                    if arrivals.send((index, now)).is_err() {
                        return;
                    }
                }
                Ok(_) => {}
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement; run it alone, in a release build"]
async fn a_verdict_is_on_the_wire_of_every_peer_soon() {
    let listen = free();
    let mut speaker = Running::start(fleet(&text(listen))).await;
    let mut streams = Vec::new();
    for peer in 1..=PEERS {
        let from: IpAddr = Ipv4Addr::new(127, 0, 1, peer).into();
        let mut client = Client::connect(from, listen, |_| Ok(()))
            .await
            .expect("listening");
        client.establish(&open(64_500, capabilities())).await;
        client.first_round().await;
        let stream = client.stream.into_std().expect("a socket");
        stream.set_nonblocking(false).expect("a socket");
        streams.push(stream);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (sender, arrivals) = mpsc::channel();
    std::thread::spawn(move || watch(streams, &sender));
    let (mut all, mut verdict) = (Vec::new(), Verdict::Up);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        speaker.verdict(verdict);
        for _ in 0..PEERS {
            let (_, at) = arrivals.recv_timeout(Duration::from_secs(5)).expect("an UPDATE");
            all.push(at.duration_since(start));
        }
        verdict = if verdict == Verdict::Up {
            Verdict::Down
        } else {
            Verdict::Up
        };
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    all.sort_unstable();
    let at = |share: f64| all[((all.len() - 1) as f64 * share) as usize];
    println!(
        "{} arrivals: median {:?}, p90 {:?}, p99 {:?}, most {:?}",
        all.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
    speaker.end().await;
}
