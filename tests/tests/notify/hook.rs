//! A receiver of webhooks, by hand: it looks at each signature, and answers as a test says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use steer_rpc::outbox::verify;

pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Status(u16),
    /// It has read the letter and says nothing.
    Silence,
}

/// A letter that came, and how it was answered.
#[derive(Debug, Clone)]
pub(crate) struct Came {
    pub(crate) id: String,
    pub(crate) event: Value,
    pub(crate) answer: Answer,
}

pub(crate) struct Hook {
    pub(crate) address: SocketAddr,
    came: Arc<Mutex<Vec<Came>>>,
    answer: Arc<Mutex<Answer>>,
}

impl Hook {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let hook = Self {
            address: listener.local_addr().unwrap(),
            came: Arc::default(),
            answer: Arc::new(Mutex::new(Answer::Status(204))),
        };
        let (came, answer) = (Arc::clone(&hook.came), Arc::clone(&hook.answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (came, answer) = (Arc::clone(&came), Arc::clone(&answer));
                std::thread::spawn(move || take(&stream, &came, &answer));
            }
        });
        hook
    }

    pub(crate) fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    pub(crate) fn came(&self) -> Vec<Came> {
        self.came.lock().unwrap().clone()
    }

    /// What was taken, each id once, in its order.
    pub(crate) fn taken(&self) -> Vec<Came> {
        let mut taken: Vec<Came> = Vec::new();
        for came in self.came() {
            let is_new = taken.iter().all(|one| one.id != came.id);
            if is_new && came.answer == Answer::Status(204) {
                taken.push(came);
            }
        }
        taken
    }

    /// What was taken, as `KIND WHAT SUBJECT: FROM -> TO`.
    pub(crate) fn lines(&self) -> Vec<String> {
        let text = |event: &Value, key: &str| event[key].as_str().unwrap().to_owned();
        let line = |came: &Came| {
            let [kind, what, subject, from, to] =
                ["kind", "what", "subject", "from", "to"].map(|key| text(&came.event, key));
            format!("{kind} {what} {subject}: {from} -> {to}")
        };
        self.taken().iter().map(line).collect()
    }
}

fn take(stream: &TcpStream, came: &Mutex<Vec<Came>>, answer: &Mutex<Answer>) {
    let Some((headers, body)) = read(stream) else {
        return;
    };
    let header = |name: &str| {
        let found = headers.iter().find(|(key, _)| key == name);
        found
            .unwrap_or_else(|| panic!("no {name} in {headers:?}"))
            .1
            .clone()
    };
    let (id, at) = (header("webhook-id"), header("webhook-timestamp").parse().unwrap());
    assert!(
        verify(SECRET, &id, at, &body, &header("webhook-signature")).unwrap(),
        "the signature of {id}"
    );
    assert_eq!(header("content-type"), "application/json");
    let event: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(event["id"], id);
    let answer = *answer.lock().unwrap();
    came.lock().unwrap().push(Came { id, event, answer });
    match answer {
        Answer::Status(status) => {
            let answer = format!("HTTP/1.1 {status} so\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            // Whoever asked may be gone.
            let mut stream = stream;
            let _ = stream.write_all(answer.as_bytes());
        }
        Answer::Silence => std::thread::sleep(Duration::from_secs(60)),
    }
}

type Headers = Vec<(String, String)>;

fn read(stream: &TcpStream) -> Option<(Headers, Vec<u8>)> {
    let mut lines = BufReader::new(stream);
    let mut headers = Headers::new();
    loop {
        let mut line = String::new();
        lines.read_line(&mut line).ok()?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ") {
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
    }
    let length = headers.iter().find(|(name, _)| name == "content-length")?;
    let mut body = vec![0; length.1.parse().ok()?];
    lines.read_exact(&mut body).ok()?;
    Some((headers, body))
}
