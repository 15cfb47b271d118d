//! `GET`, and what the answer must be like.
//!
//! The request is made once, and a response that comes in one piece is read where it lies: at 10,000 probes a second
//! nearly all the time that is left is the kernel's.

mod response;

use std::fmt::Write as _;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Poll, ready};
use std::time::Duration;

use regex::bytes::Regex;
use steer_topology::{BodyRule, HttpCheck};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};

use super::dial::{Dial, Manner, Stream};
use super::tls::{self, Tls};
use super::value::Value;
use super::{Place, Progress, Stage};
use crate::outcome::{Answer, Failure, Outcome, shortened};
use response::{Head, Malformed, Reader};

/// So much is read at once; most health pages are shorter.
const READ: usize = 4096;

/// One endpoint over HTTP/1.1: no proxy, no redirects, no retries.
#[derive(Debug)]
pub(crate) struct Http {
    dial: Dial,
    tls: Option<Tls>,
    /// Head of every request.
    request: Vec<u8>,
    wanted: Wanted,
    /// The connection that is kept for the next probe.
    kept: Option<Mutex<Option<Box<dyn Stream>>>>,
}

/// What the answer must be like.
#[derive(Debug)]
struct Wanted {
    status: Vec<(u16, u16)>,
    header: Option<(String, String)>,
    body: Option<Body>,
    value: Option<Value>,
}

/// What is to be read of a response.
#[derive(Debug, Clone, Copy)]
struct Asked<'a> {
    /// A field by its name.
    field: Option<&'a str>,
    body: bool,
}

#[derive(Debug)]
enum Body {
    Contains(String),
    Matches(Regex),
}

/// Why there is no answer.
#[derive(Debug)]
enum Lost {
    Closed,
    Io(io::Error),
    Malformed(String),
}

impl Http {
    pub(super) fn new(rules: &HttpCheck, dial: Dial, tls: Option<Tls>) -> Result<Self, String> {
        // Gap: RFC 9844: a zone id (fe80::1%eth0) has no place in a Host header and is left out.
        let address = std::net::SocketAddr::new(dial.address.ip(), dial.address.port()).to_string();
        let host = rules.host.as_deref().unwrap_or(&address);
        let body = rules.body.as_ref().map(|body| match body {
            BodyRule::Contains(text) => Ok(Body::Contains(text.clone())),
            BodyRule::Matches(pattern) => Regex::new(pattern)
                .map(Body::Matches)
                .map_err(|error| error.to_string()),
        });
        let manner = if tls.is_some() {
            Manner::Often
        } else {
            Manner::Once
        };
        Ok(Self {
            dial: dial.with(manner),
            tls,
            request: request(&rules.path, host, rules.reuse)?,
            wanted: Wanted {
                status: rules.status.clone(),
                header: rules.header.clone(),
                body: body.transpose()?,
                value: rules.value.as_ref().map(Value::new),
            },
            kept: rules.reuse.then(|| Mutex::new(None)),
        })
    }

    /// A kept connection belongs to the thread of the other probes: one beside the loop has one of its own.
    pub(super) async fn probe(&self, place: Place, timeout: Duration, progress: &Progress) -> Outcome {
        let kept = self.kept.as_ref().filter(|_| place == Place::Thread);
        let taken = kept.and_then(|kept| kept.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(mut stream) = taken {
            progress.wait_for(Stage::Answer);
            match self.exchange(&mut stream).await {
                Ok((outcome, is_open)) => {
                    self.keep(stream, is_open);
                    return outcome;
                }
                // The server closed it meanwhile, as it may at any time (RFC 9112 §9.3.1): a new one decides.
                Err(_) => progress.wait_for(Stage::Anything),
            }
        }
        let mut stream = match self.dial.open(self.tls.as_ref(), timeout, progress).await {
            Ok(stream) => stream,
            Err(outcome) => return outcome,
        };
        match self.exchange(&mut stream).await {
            Ok((outcome, is_open)) => {
                self.keep(stream, is_open && kept.is_some());
                outcome
            }
            Err(lost) => lost.outcome(timeout),
        }
    }

    /// One request and its response, and whether the connection can carry another.
    async fn exchange(&self, stream: &mut Box<dyn Stream>) -> Result<(Outcome, bool), Lost> {
        stream.write_all(&self.request).await?;
        if self.tls.is_some() {
            stream.flush().await?;
        }
        let mut reader = Reader::new(Asked {
            field: self.wanted.header.as_ref().map(|(name, _)| name.as_str()),
            body: self.kept.is_some() || self.wanted.body.is_some() || self.wanted.value.is_some(),
        });
        while !read(stream, &mut reader).await? {}
        Ok((self.wanted.judge(&reader), reader.leaves_it_open()))
    }

    fn keep(&self, stream: Box<dyn Stream>, is_open: bool) {
        if let Some(kept) = self.kept.as_ref().filter(|_| is_open) {
            *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
        }
    }
}

fn request(path: &str, host: &str, is_kept: bool) -> Result<Vec<u8>, String> {
    for (name, text) in [("path", path), ("host", host)] {
        if !text.bytes().all(|octet| octet.is_ascii_graphic()) {
            return Err(format!("{name} {text:?} cannot stand in a request"));
        }
    }
    // RFC 9112 §9.6: who asks no more says so.
    let connection = if is_kept { "" } else { "Connection: close\r\n" };
    let agent = concat!("steer-health/", env!("CARGO_PKG_VERSION"));
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nAccept: */*\r\n{connection}\r\n"
    );
    Ok(request.into_bytes())
}

/// Reads what is there; true when it is all.
async fn read(stream: &mut Box<dyn Stream>, reader: &mut Reader<'_>) -> Result<bool, Lost> {
    std::future::poll_fn(|context| {
        let mut space = [MaybeUninit::uninit(); READ];
        let mut buffer = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer))?;
        Poll::Ready(match buffer.filled() {
            [] if reader.ends() => Ok(true),
            [] => Err(Lost::Closed),
            octets => Ok(reader.feed(octets)?),
        })
    })
    .await
}

impl From<io::Error> for Lost {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Malformed> for Lost {
    fn from(Malformed(why): Malformed) -> Self {
        Self::Malformed(why)
    }
}

impl Lost {
    fn outcome(self, timeout: Duration) -> Outcome {
        match self {
            Self::Closed => Outcome::Failure(Failure::Closed),
            Self::Io(error) => tls::of_error(&error, timeout),
            Self::Malformed(why) => Outcome::Failure(Failure::Malformed(shortened(&why))),
        }
    }
}

impl Wanted {
    /// The status line and the header decide, and the body where the check speaks of it.
    fn judge(&self, reader: &Reader<'_>) -> Outcome {
        let head = reader.head();
        self.refused_by_head(head)
            .unwrap_or_else(|| self.judge_body(head.status, reader.body()))
    }

    fn refused_by_head(&self, head: &Head) -> Option<Outcome> {
        let got = head.status;
        if !self
            .status
            .iter()
            .any(|(low, high)| (*low..=*high).contains(&got))
        {
            let want = ranges(&self.status);
            return Some(Outcome::Failure(Failure::Status { got, want }));
        }
        let (name, text) = self.header.as_ref()?;
        if head.values.iter().any(|value| value.contains(text.as_str())) {
            return None;
        }
        let seen = match head.values.first() {
            None => "there is none".to_owned(),
            Some(value) => format!("it is {:?}", shortened(value)),
        };
        let wanted = if text.is_empty() {
            String::new()
        } else {
            format!(" with {text:?}")
        };
        Some(Outcome::Failure(Failure::Wrong(format!(
            "want header {name}{wanted}, {seen}"
        ))))
    }

    fn judge_body(&self, status: u16, body: &[u8]) -> Outcome {
        let missing = match &self.body {
            None => None,
            Some(Body::Contains(text)) => {
                let there = body
                    .windows(text.len().max(1))
                    .any(|part| part == text.as_bytes());
                (!there && !text.is_empty()).then(|| format!("body without {text:?}"))
            }
            Some(Body::Matches(pattern)) => {
                (!pattern.is_match(body)).then(|| format!("body does not match {:?}", pattern.as_str()))
            }
        };
        if let Some(missing) = missing {
            let seen = shortened(String::from_utf8_lossy(body).trim());
            return Outcome::Failure(Failure::Wrong(format!("{missing}: {seen:?}")));
        }
        match &self.value {
            None => Outcome::Success(Answer::Status(status)),
            Some(value) => value.judge(body),
        }
    }
}

/// `200-299, 404`
fn ranges(ranges: &[(u16, u16)]) -> String {
    let mut text = String::new();
    for (low, high) in ranges {
        let comma = if text.is_empty() { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = if low == high {
            write!(text, "{comma}{low}")
        } else {
            write!(text, "{comma}{low}-{high}")
        };
    }
    text
}

#[cfg(test)]
mod tests;
