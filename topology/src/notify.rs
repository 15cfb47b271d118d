//! Who is told what happens: the channels of `[[notify]]`.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::SiteId;

/// A channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notify {
    /// Its name, for commands, metrics and what waits for it.
    pub name: String,
    /// Where it leads.
    pub to: NotifyTo,
    /// What it tells, in order. Default all.
    pub events: Vec<EventKind>,
    /// The sites whose processes tell; empty: every process.
    pub sites: Vec<SiteId>,
    /// Letters a minute, at most. Default 60.
    pub per_minute: u32,
    /// A letter that has failed so often is dead. Default 60.
    pub tries: u32,
}

/// What can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// A verdict on an endpoint has changed.
    Verdict,
    /// The guard holds an endpoint in service, or does so no more.
    Guard,
    /// A drain began, changed or is over.
    Drain,
    /// A forced verdict began, changed or is over.
    Force,
    /// A prefix is announced, steps down, is held back or withdrawn at this site.
    Route,
}

impl EventKind {
    /// All, in order.
    pub const ALL: [Self; 5] = [Self::Verdict, Self::Guard, Self::Drain, Self::Force, Self::Route];

    /// The word that the file, payloads and metrics use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Verdict => "verdict",
            Self::Guard => "guard",
            Self::Drain => "drain",
            Self::Force => "force",
            Self::Route => "route",
        }
    }
}

/// Where a channel leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotifyTo {
    /// An HTTP POST per event.
    Webhook {
        /// Where to.
        url: HookUrl,
        /// The file with the secret that signs them.
        secret_file: PathBuf,
    },
    /// A mail per event.
    Email(Box<Mailing>),
}

/// A URL that may have a token in it, so it is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct HookUrl(pub String);

impl fmt::Debug for HookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HookUrl(..)")
    }
}

impl Serialize for HookUrl {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("..")
    }
}

/// How mail is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mailing {
    /// Host name or address of the server that takes our mail; it must be in its certificate.
    pub host: String,
    /// Its port. Default: what goes with `tls`.
    pub port: u16,
    /// How the connection is protected. Default STARTTLS.
    pub tls: MailTls,
    /// PEM; who may have signed the server's certificate. Absent: whom the system trusts.
    pub ca_file: Option<PathBuf>,
    /// Who we are to the server, and the file with the password.
    pub user: Option<(String, PathBuf)>,
    /// The sender.
    pub from: String,
    /// The recipients, at least one.
    pub to: Vec<String>,
}

/// How a connection to a mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MailTls {
    /// It begins in clear and must become TLS before anything is said (RFC 3207).
    Starttls,
    /// It is TLS from the beginning (RFC 8314 §3.3).
    Implicit,
    /// Not at all.
    None,
}

impl MailTls {
    /// The port that goes with it: submission, submissions, or SMTP.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::Starttls => 587,
            Self::Implicit => 465,
            Self::None => 25,
        }
    }
}
