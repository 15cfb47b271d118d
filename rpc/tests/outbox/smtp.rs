//! aiosmtpd of Debian as a process.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use steer_topology::{MailTls, Mailing};

const AIOSMTPD: &str = "/usr/lib/python3/dist-packages/aiosmtpd/__init__.py";

/// A server at work, and what it has taken.
pub(crate) struct Server {
    child: Child,
    pub(crate) taken: Arc<Mutex<Vec<Value>>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait().map(drop)) {
            eprintln!("the mail server of a test: {error}");
        }
    }
}

impl Server {
    pub(crate) fn start(port: u16, rest: &[&str], taken: Arc<Mutex<Vec<Value>>>) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/outbox/smtp_server.py");
        let mut child = Command::new("/usr/bin/python3")
            .arg(script)
            .arg(port.to_string())
            .args(rest)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        let kept = Arc::clone(&taken);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                kept.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        Self { child, taken }
    }
}

pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

pub(crate) fn is_missing(what: &str) -> bool {
    let missing = !Path::new(AIOSMTPD).exists();
    if missing {
        println!("skip: {what}: aiosmtpd is not installed (Debian package python3-aiosmtpd)");
    }
    missing
}

pub(crate) fn mailing(port: u16) -> Mailing {
    Mailing {
        host: "127.0.0.1".to_owned(),
        port,
        tls: MailTls::None,
        ca_file: None,
        user: None,
        from: "steer@example.com".to_owned(),
        to: vec!["noc@example.com".to_owned()],
    }
}
