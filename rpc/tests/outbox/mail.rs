//! A real mail server: aiosmtpd of Debian.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use steer_rpc::outbox::{Compose, Email, Letter, Mail, Sink, SinkError};
use steer_topology::{MailTls, Mailing};
use tempfile::TempDir;

use crate::bed::{Bed, Came, PATIENCE};
use crate::smtp::{Server, free_port, is_missing, mailing};

const USER: &str = "steer";
const PASSWORD: &str = "correct horse";

/// The partition is the subject and the payload the text.
fn compose() -> Compose {
    Arc::new(|letter: &Letter| {
        Ok(Mail {
            subject: letter.partition.clone(),
            body: String::from_utf8_lossy(&letter.payload).into_owned(),
        })
    })
}

fn letter(subject: &str, text: &'static str) -> Letter {
    Letter {
        id: "fra-0011-7".to_owned(),
        subject: "steer.verdict".to_owned(),
        partition: subject.to_owned(),
        payload: Bytes::from_static(text.as_bytes()),
    }
}

pub(crate) struct ByMail {
    port: u16,
    server: Option<Server>,
    taken: Arc<Mutex<Vec<Value>>>,
    sink: Email,
}

impl Bed for ByMail {
    type Sink = Email;

    async fn new(what: &str) -> Option<Self> {
        if is_missing(what) {
            return None;
        }
        let (port, taken) = (free_port(), Arc::default());
        let server = Server::start(port, &["none"], Arc::clone(&taken));
        Some(Self {
            port,
            server: Some(server),
            taken,
            sink: Email::new(mailing(port), compose()).unwrap(),
        })
    }

    fn sink(&self) -> Email {
        self.sink.clone()
    }

    async fn came(&self) -> Vec<Came> {
        // A mail is said to be taken before its line is read.
        let (began, mut before) = (Instant::now(), usize::MAX);
        loop {
            let now = self.taken.lock().unwrap().len();
            if now == before || began.elapsed() > PATIENCE {
                break;
            }
            before = now;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let mut came: Vec<Came> = Vec::new();
        for mail in self.taken.lock().unwrap().iter() {
            let text = |key: &str| mail[key].as_str().unwrap().trim().to_owned();
            let one = Came {
                id: text("id"),
                partition: text("subject"),
                payload: text("body"),
            };
            if !came.contains(&one) {
                came.push(one);
            }
        }
        came
    }

    async fn go(&mut self) {
        self.server = None;
    }

    async fn come_back(&mut self) {
        self.server = Some(Server::start(self.port, &["none"], Arc::clone(&self.taken)));
    }
}

/// A server that wants TLS and a password, and the files of whoever talks to it.
struct Strict {
    folder: TempDir,
    server: Server,
    mailing: Mailing,
}

impl Strict {
    fn new(tls: MailTls) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let own = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let [certificate, key, password] =
            ["cert.pem", "key.pem", "password"].map(|name| folder.path().join(name));
        std::fs::write(&certificate, own.cert.pem()).unwrap();
        std::fs::write(&key, own.signing_key.serialize_pem()).unwrap();
        std::fs::write(&password, format!("{PASSWORD}\n")).unwrap();
        let (port, text) = (free_port(), |path: &PathBuf| path.display().to_string());
        let mode = if tls == MailTls::Implicit {
            "implicit"
        } else {
            "starttls"
        };
        let args = [mode, &text(&certificate), &text(&key), USER, PASSWORD];
        Self {
            server: Server::start(port, &args, Arc::default()),
            mailing: Mailing {
                tls,
                ca_file: Some(certificate),
                user: Some((USER.to_owned(), password)),
                ..mailing(port)
            },
            folder,
        }
    }
}

async fn told(mailing: &Mailing) -> Result<(), SinkError> {
    Email::new(mailing.clone(), compose())
        .unwrap()
        .tell(&letter("web down", "text"))
        .await
}

async fn taken(server: &Server, count: usize) -> Vec<Value> {
    let began = Instant::now();
    loop {
        let taken = server.taken.lock().unwrap().clone();
        if taken.len() >= count {
            return taken;
        }
        assert!(began.elapsed() < PATIENCE, "{taken:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_mail_is_what_people_read_and_known_by_its_id_when_it_is_told_again() {
    if is_missing("what a mail looks like") {
        return;
    }
    let port = free_port();
    let server = Server::start(port, &["none"], Arc::default());
    let mut mailing = mailing(port);
    mailing.to.push("oncall@example.com".to_owned());
    let email = Email::new(mailing, compose()).unwrap();
    let subject = "[steer example] fra: b\u{fc}cher down\r\nBcc: x@example.com";
    for _ in 0..2 {
        email
            .tell(&letter(subject, "l\u{ed}nea 1\nline 2\n"))
            .await
            .unwrap();
    }
    let taken = taken(&server, 2).await;
    assert_eq!(taken[0], taken[1]);
    let mail = &taken[0];
    assert_eq!(mail["id"], "<fra-0011-7@example.com>");
    assert_eq!(
        mail["subject"], "[steer example] fra: b\u{fc}cher down  Bcc: x@example.com",
        "nothing makes a header of its own"
    );
    assert_eq!(mail["body"], "l\u{ed}nea 1\r\nline 2\r\n");
    assert_eq!(mail["from"], "steer@example.com");
    assert_eq!(
        mail["to"],
        serde_json::json!(["noc@example.com", "oncall@example.com"])
    );
    assert_eq!(mail["automatic"], "auto-generated");
}

#[tokio::test]
async fn mail_goes_over_tls_with_a_password_and_to_nobody_else() {
    if is_missing("mail over TLS") {
        return;
    }
    for tls in [MailTls::Starttls, MailTls::Implicit] {
        let strict = Strict::new(tls);
        told(&strict.mailing).await.unwrap();
        let mail = taken(&strict.server, 1).await.remove(0);
        assert_eq!(
            (&mail["tls"], &mail["user"]),
            (&true.into(), &USER.into()),
            "{tls:?}"
        );

        // What is wrong with us or with the way costs the mail no try.
        let wrong = strict.folder.path().join("wrong");
        std::fs::write(&wrong, "hunter2").unwrap();
        let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let other_file = strict.folder.path().join("other.pem");
        std::fs::write(&other_file, other.cert.pem()).unwrap();
        let away = [
            Mailing {
                user: Some((USER.to_owned(), wrong)),
                ..strict.mailing.clone()
            },
            Mailing {
                ca_file: Some(other_file),
                ..strict.mailing.clone()
            },
            Mailing {
                user: None,
                ..strict.mailing.clone()
            },
        ];
        for mailing in away {
            let error = told(&mailing).await.unwrap_err();
            assert!(matches!(error, SinkError::Away(_)), "{tls:?}: {error}");
            assert!(!error.words().contains("hunter2"), "{error}");
        }
        assert_eq!(strict.server.taken.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn an_answer_says_whether_the_mail_is_refused_or_failed_or_nobody_was_there() {
    if is_missing("answers to mail") {
        return;
    }
    let port = free_port();
    assert!(
        matches!(told(&mailing(port)).await, Err(SinkError::Away(_))),
        "nobody listens"
    );
    let server = Server::start(port, &["none"], Arc::default());
    let to = |local: &str| Mailing {
        to: vec![format!("{local}@example.com")],
        ..mailing(port)
    };
    let refused = told(&to("refuse")).await.unwrap_err();
    assert!(
        matches!(&refused, SinkError::Refused(why) if why.contains("no such user")),
        "{refused}"
    );
    let failed = told(&to("busy")).await.unwrap_err();
    assert!(
        matches!(&failed, SinkError::Failed(why) if why.contains("not now")),
        "{failed}"
    );
    let closing = told(&to("closing")).await.unwrap_err();
    assert!(matches!(closing, SinkError::Away(_)), "{closing}");
    let clear = Mailing {
        tls: MailTls::Starttls,
        ..mailing(port)
    };
    let clear = told(&clear).await.unwrap_err();
    assert!(
        matches!(clear, SinkError::Away(_)),
        "a server without STARTTLS gets no mail: {clear}"
    );
    assert_eq!(*server.taken.lock().unwrap(), [Value::Null; 0]);
}

#[test]
fn what_cannot_be_used_is_named_and_no_secret_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, "hush").unwrap();
    let with = |mailing: Mailing| Email::new(mailing, compose()).unwrap_err().to_string();
    let no_root = with(Mailing {
        tls: MailTls::Implicit,
        ca_file: Some(file.clone()),
        ..mailing(1)
    });
    assert!(
        no_root.contains("ca.pem") && no_root.contains("PEM is wanted"),
        "{no_root}"
    );
    assert!(!no_root.contains("hush"), "{no_root}");
    let no_password = with(Mailing {
        user: Some((USER.to_owned(), folder.path().join("none"))),
        ..mailing(1)
    });
    assert!(no_password.contains("none: No such file"), "{no_password}");
    let no_address = with(Mailing {
        to: vec!["noc".to_owned()],
        ..mailing(1)
    });
    assert!(no_address.contains("\"noc\" is no mail address"), "{no_address}");
}
