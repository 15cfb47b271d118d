//! A mail per row as a sink, by SMTP (RFC 5321) to a server that takes ours, over STARTTLS (RFC 3207), TLS (RFC 8314) or
//! in clear.
//!
//! Its Message-ID is made of the row's id, so that a second telling is known by it. Whoever sends on the way may still
//! deliver both.
//!
//! Each mail has a connection of its own: they are few, and so another certificate or password counts at once. What goes
//! wrong before the first command of a mail is not the mail's fault.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use lettre::message::Mailbox;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters, TlsParametersBuilder,
};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, Message};
use steer_topology::{MailTls, Mailing};

use super::{Letter, Sink, SinkError};

/// How long the connection may take, up to the first command of a mail.
const CONNECT: Duration = Duration::from_secs(10);

/// How long a mail may take. RFC 5321 §4.5.3.2 would wait for minutes; who is so slow is asked again.
const SEND: Duration = Duration::from_secs(20);

/// Answers that say something of us and nothing of the mail: it is to be sent when that is put right (RFC 4954 §6).
const CREDENTIALS: [&str; 4] = ["530", "534", "535", "538"];

/// The server goes (RFC 5321 §3.8).
const CLOSING: &str = "421";

/// Characters of a subject line.
const SUBJECT_MAX: usize = 200;

/// What a mail says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The line that people see first.
    pub subject: String,
    /// The text.
    pub body: String,
}

/// Makes a mail of a row; an error refuses the row.
pub type Compose = Arc<dyn Fn(&Letter) -> Result<Mail, String> + Send + Sync>;

/// Mail to one server.
#[derive(Clone)]
pub struct Email {
    mailing: Mailing,
    from: Address,
    to: Vec<Address>,
    compose: Compose,
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Email")
            .field("host", &self.mailing.host)
            .finish_non_exhaustive()
    }
}

/// What is wrong with the settings of mail.
#[derive(Debug, thiserror::Error)]
pub enum InvalidEmail {
    /// An address.
    #[error("{address:?} is no mail address: {why}")]
    Address {
        /// As it was written.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file.
    #[error("{file}: {what}")]
    File {
        /// Which.
        file: String,
        /// What, and what would be right.
        what: String,
    },
}

impl Email {
    /// Checks the addresses, and that the files can be read; they are read again for each mail.
    ///
    /// # Errors
    ///
    /// See [`InvalidEmail`].
    pub fn new(mailing: Mailing, compose: Compose) -> Result<Self, InvalidEmail> {
        let address = |text: &String| {
            text.parse::<Address>().map_err(|error| InvalidEmail::Address {
                address: text.clone(),
                why: error.to_string(),
            })
        };
        let email = Self {
            from: address(&mailing.from)?,
            to: mailing.to.iter().map(address).collect::<Result<_, _>>()?,
            mailing,
            compose,
        };
        let files = [
            email.mailing.ca_file.as_deref(),
            email.mailing.user.as_ref().map(|(_, file)| file.as_path()),
        ];
        for file in files.into_iter().flatten() {
            let wrong = |what: String| InvalidEmail::File {
                file: file.display().to_string(),
                what,
            };
            std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
        }
        email.tls().map_err(|what| InvalidEmail::File {
            file: email.mailing.ca_file.as_ref().map_or_else(
                || "the certificates that the system trusts".to_owned(),
                |file| file.display().to_string(),
            ),
            what,
        })?;
        Ok(email)
    }

    fn tls(&self) -> Result<Option<TlsParameters>, String> {
        let Mailing {
            host, tls, ca_file, ..
        } = &self.mailing;
        if *tls == MailTls::None {
            return Ok(None);
        }
        let mut builder = TlsParametersBuilder::new(host.clone());
        if let Some(file) = ca_file {
            let pem = std::fs::read(file).map_err(|error| error.to_string())?;
            if !pem.windows(11).any(|part| part == b"-----BEGIN ") {
                return Err("there is no certificate in it; PEM is wanted".to_owned());
            }
            let roots = Certificate::from_pem(&pem).map_err(|error| error.to_string())?;
            builder = builder
                .certificate_store(CertificateStore::None)
                .add_root_certificate(roots);
        }
        builder.build().map(Some).map_err(|error| error.to_string())
    }

    /// A connection on which a mail may be begun.
    async fn connect(&self) -> Result<AsyncSmtpConnection, String> {
        let Mailing {
            host,
            port,
            tls,
            user,
            ..
        } = &self.mailing;
        let words = |error: lettre::transport::smtp::Error| chain(&error);
        let hello = ClientId::default();
        let parameters = self.tls()?;
        let implicit = parameters.clone().filter(|_| *tls == MailTls::Implicit);
        let server = (host.as_str(), *port);
        let connected =
            AsyncSmtpConnection::connect_tokio1(server, Some(CONNECT), &hello, implicit, None).await;
        let mut connection = connected.map_err(words)?;
        if let Some(parameters) = parameters.filter(|_| *tls == MailTls::Starttls) {
            connection.starttls(parameters, &hello).await.map_err(words)?;
        }
        if let Some((user, file)) = user {
            let text = tokio::fs::read_to_string(file).await;
            let text = text.map_err(|error| format!("{}: {error}", file.display()))?;
            let password = text.lines().next().unwrap_or_default().to_owned();
            let credentials = Credentials::new(user.clone(), password);
            let mechanisms = [Mechanism::Plain, Mechanism::Login];
            connection.auth(&mechanisms, &credentials).await.map_err(words)?;
        }
        Ok(connection)
    }

    fn message(&self, letter: &Letter) -> Result<Message, String> {
        let Mail { subject, body } = (self.compose)(letter)?;
        let subject: String = subject
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(SUBJECT_MAX)
            .collect();
        // RFC 3834 §5: nobody is to answer that he is on holiday.
        let automatic = HeaderValue::new(
            HeaderName::new_from_ascii_str("Auto-Submitted"),
            "auto-generated".to_owned(),
        );
        let mut builder = Message::builder()
            .message_id(Some(format!("<{}@{}>", letter.id, self.from.domain())))
            .from(Mailbox::new(None, self.from.clone()))
            .subject(subject)
            .raw_header(automatic)
            .header(ContentType::TEXT_PLAIN);
        for to in &self.to {
            builder = builder.to(Mailbox::new(None, to.clone()));
        }
        // Its end of data begins with an end of line.
        builder
            .body(body.trim_end().to_owned())
            .map_err(|error| error.to_string())
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        source = cause.source();
    }
    text
}

/// What an answer to a mail means.
fn of(error: &lettre::transport::smtp::Error) -> SinkError {
    let words = chain(error);
    let code = error.status().map(|code| code.to_string());
    match code.as_deref() {
        Some(CLOSING) => SinkError::Away(words),
        Some(code) if CREDENTIALS.contains(&code) => SinkError::Away(words),
        Some(_) if error.is_permanent() => SinkError::Refused(words),
        Some(_) => SinkError::Failed(words),
        // It has what the server does not take, such as an address that is not ASCII.
        None if error.is_client() => SinkError::Refused(words),
        // It was cut off, and the mail may have been taken.
        None => SinkError::Failed(words),
    }
}

impl Sink for Email {
    async fn tell(&self, letter: &Letter) -> Result<(), SinkError> {
        let message = self.message(letter).map_err(SinkError::Refused)?;
        let connected = tokio::time::timeout(CONNECT, self.connect()).await;
        let connected = connected.unwrap_or_else(|_| Err(format!("no connection within {CONNECT:?}")));
        let mut connection = connected.map_err(SinkError::Away)?;
        let octets = message.formatted();
        let sending = connection.send(message.envelope(), &octets);
        let sent = tokio::time::timeout(SEND, sending).await;
        match sent {
            Ok(Ok(_)) => {
                // The mail is theirs already, whatever they say to this.
                drop(tokio::time::timeout(Duration::from_secs(1), connection.quit()).await);
                Ok(())
            }
            Ok(Err(error)) => Err(of(&error)),
            Err(_) => Err(SinkError::Failed(format!("no answer within {SEND:?}"))),
        }
    }
}
