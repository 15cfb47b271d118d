//! How soon the default check sees that a service is gone, hangs, or fails two of three: with real processes.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use steer_tests::{Admin, Steer, free_port};

use crate::servers::{self, Certificates, Nginx, listening};

/// A steer with the default HTTP check, once a second.
struct Default {
    _folder: tempfile::TempDir,
    admin: Admin,
    _steer: Steer,
}

impl Default {
    fn watch(address: SocketAddr, path: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let admin = free_port();
        let config = format!(
            "[[check]]\nname = \"web\"\nkind = \"http\"\npath = \"{path}\"\n[[pool]]\nname = \"web\"\ncheck = \"web\"\n\
             endpoints = [{{ address = \"{address}\" }}]\n[admin]\nlisten = \"{admin}\"\n"
        );
        fs::write(folder.path().join("steer.toml"), config).unwrap();
        let steer = Steer::start(folder.path(), &["run"]);
        listening(admin);
        Self {
            _folder: folder,
            admin: Admin(admin),
            _steer: steer,
        }
    }

    fn verdict(&self) -> (String, String) {
        let status = self.admin.json(&["status"]);
        let row = &status["endpoints"][0];
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        (text("verdict"), text("cause"))
    }

    /// Returns the cause of the verdict that was waited for.
    fn until(&self, wanted: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let (verdict, cause) = self.verdict();
            if verdict == wanted {
                return cause;
            }
            assert!(
                Instant::now() < deadline,
                "waited in vain for {wanted}: {verdict}, {cause}"
            );
        }
    }
}

/// Fault to verdict, as the status shows it.
fn falls(name: &str, watch: &Default, limit: Duration, fault: impl FnOnce()) -> String {
    watch.until("up");
    let begun = Instant::now();
    fault();
    let cause = watch.until("down");
    let took = begun.elapsed();
    println!("{name}: down after {:.2} s ({cause})", took.as_secs_f64());
    assert!(took < limit, "{name}: {took:?}, bound {limit:?}");
    cause
}

#[test]
fn the_default_check_keeps_its_times() {
    if servers::missing("/usr/sbin/nginx", "the_default_check_keeps_its_times") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(folder.path());
    let mut nginx = Nginx::start(folder.path(), &certificates);

    let watch = Default::watch(nginx.http, "/ready");
    for _ in 0..3 {
        let cause = falls("hangs", &watch, Duration::from_secs(3), || {
            nginx.process.signal(Signal::SIGSTOP);
        });
        assert_eq!(cause, "connected, but no answer within 300 ms");
        nginx.process.signal(Signal::SIGCONT);
    }
    watch.until("up");

    // Three servers in turns, of which two fail once they are told to.
    let [front, a, b, c] = [(); 4].map(|()| free_port());
    let servers = |status: u16| {
        let server = |at: SocketAddr, status: u16| format!("server {{ listen {at}; return {status}; }}\n");
        format!(
            "upstream three {{ server {a} max_fails=0; server {b} max_fails=0; server {c} max_fails=0; }}\n{}{}{}\
             server {{ listen {front}; location / {{ proxy_pass http://three; proxy_next_upstream off; }} }}\n",
            server(a, 200),
            server(b, status),
            server(c, status)
        )
    };
    nginx.reload_with(&servers(200));
    let gray = Default::watch(front, "/");
    // Long enough that the window is full of successes.
    gray.until("up");
    std::thread::sleep(Duration::from_secs(11));
    let cause = falls("fails two of three", &gray, Duration::from_secs(10), || {
        nginx.reload_with(&servers(503));
    });
    assert!(cause.ends_with("of the last 10 failed)"), "{cause}");
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(6) {
        assert_eq!(gray.verdict().0, "down", "it flaps");
    }

    falls("refuses", &watch, Duration::from_millis(2_200), || {
        nginx.process.kill();
    });
}
