//! Mail to a real server: aiosmtpd of Debian, which prints what it takes.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use steer_tests::{free_port, skip};

use crate::fleet::Fleet;

const AIOSMTPD: &str = "/usr/lib/python3/dist-packages/aiosmtpd/__init__.py";

struct Server {
    child: Child,
    printed: Arc<Mutex<Vec<String>>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait().map(drop)) {
            eprintln!("the mail server of a test: {error}");
        }
    }
}

impl Server {
    fn start(address: SocketAddr) -> Self {
        let mut child = Command::new("/usr/bin/python3")
            .args([
                "-u",
                "-m",
                "aiosmtpd",
                "-n",
                "-c",
                "aiosmtpd.handlers.Debugging",
                "stdout",
            ])
            .args(["-l", &address.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let printed = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&printed);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                kept.lock().unwrap().push(line);
            }
        });
        Self { child, printed }
    }
}

#[test]
fn an_outage_is_a_mail_that_says_it_in_its_subject() {
    if !Path::new(AIOSMTPD).exists() {
        skip(
            "mail",
            "aiosmtpd is not installed (Debian package python3-aiosmtpd)",
        );
        return;
    }
    let address = free_port();
    let server = Server::start(address);
    let mut fleet = Fleet::bare(&format!(
        "[[notify]]\nname = \"noc\"\nemail = {{ server = \"{address}\", tls = \"none\", from = \
         \"steer@example.com\", to = [\"noc@example.com\"] }}\n"
    ));
    let mut steer = fleet.start();
    steer.until("the mail server", |_| TcpStream::connect(address).ok());
    fleet.down(0);
    let mail = steer.until("the mail", |_| {
        let printed = server.printed.lock().unwrap().clone();
        printed
            .iter()
            .any(|line| line.contains("END MESSAGE"))
            .then_some(printed)
    });
    let has = |start: &str| mail.iter().find(|line| line.starts_with(start)).cloned();
    let subject = has("Subject: ").unwrap_or_else(|| panic!("{mail:#?}"));
    assert!(
        subject.starts_with("Subject: [steer example] fra: web down at 127.0.0.1:"),
        "{subject}"
    );
    let id = has("Message-ID: <fra-").unwrap();
    assert!(id.ends_with("@example.com>"), "{id}");
    assert_eq!(has("change:").as_deref(), Some("change:  up -> down"));
    assert!(has("told by:").unwrap().contains("fleet example, site fra"));
    assert_eq!(steer.stop().status.code(), Some(0));
}
