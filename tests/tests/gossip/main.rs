//! The sites talk to each other: one process per site, real sockets, and networks that are cut.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cut;
mod loopback;
mod lossy;
mod staged;

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// What all sites have in `gossip.key`.
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";

/// Of a site in namespaces around one switch, by its number.
fn address(site: usize) -> String {
    format!("10.0.0.{}", site + 1)
}

/// The pool `web` with an endpoint at each of these sites, under the check `web`, and the sites with their gossip.
fn pool_and_sites(sites: &[&str]) -> String {
    let mut text = "[[pool]]\nname = \"web\"\ncheck = \"web\"\nendpoints = [\n".to_owned();
    for (number, site) in sites.iter().enumerate() {
        let at = address(number);
        writeln!(text, "{{ site = \"{site}\", address = \"{at}:80\" }},").unwrap();
    }
    text.push_str("]\n");
    for (number, site) in sites.iter().enumerate() {
        let at = address(number);
        writeln!(text, "[[site]]\nname = \"{site}\"\ngossip = \"{at}\"").unwrap();
    }
    text
}

/// A service that takes connections until it is dropped. (Without anybody who accepts, a listener takes 128 and then none.)
struct Endpoint {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Endpoint {
    fn on(listener: TcpListener) -> Self {
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok(_) => {}
                    Err(_) => std::thread::sleep(Duration::from_millis(5)), // nobody comes
                }
            }
        });
        Self {
            address,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}
