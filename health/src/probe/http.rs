//! `GET`, and what the answer must be like.

use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper::header::{ACCEPT, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use regex::bytes::Regex;
use steer_topology::{BodyRule, HttpCheck};

use super::dial::{Dial, Stream};
use super::tls::{self, Tls};
use super::value::Value;
use super::{Progress, Stage};
use crate::outcome::{Answer, Failure, Outcome, shortened};

/// So much of a body is looked at; a longer one is cut.
const BODY_MAX: usize = 64 * 1024;

/// Each probe reads a head; more than this of it is not what a health page has.
const HEAD_MAX: usize = 16 * 1024;

/// One endpoint over HTTP/1.1: no proxy, no redirects, no retries.
#[derive(Debug)]
pub(crate) struct Http {
    dial: Dial,
    tls: Option<Tls>,
    path: Uri,
    host: HeaderValue,
    wanted: Wanted,
    /// The connection that is kept for the next probe.
    kept: Option<Mutex<Option<Sender>>>,
}

type Sender = SendRequest<Empty<Bytes>>;

/// What the answer must be like.
#[derive(Debug)]
struct Wanted {
    status: Vec<(u16, u16)>,
    header: Option<(HeaderName, String)>,
    body: Option<Body>,
    value: Option<Value>,
}

#[derive(Debug)]
enum Body {
    Contains(String),
    Matches(Regex),
}

impl Http {
    pub(super) fn new(rules: &HttpCheck, dial: Dial, tls: Option<Tls>) -> Result<Self, String> {
        let path = rules
            .path
            .parse()
            .map_err(|error| format!("path {:?}: {error}", rules.path))?;
        // Gap: RFC 9844: a zone id (fe80::1%eth0) has no place in a Host header and is left out.
        let address = std::net::SocketAddr::new(dial.address.ip(), dial.address.port()).to_string();
        let host = rules.host.as_deref().unwrap_or(&address);
        let host = HeaderValue::from_str(host)
            .map_err(|error| format!("the Host header is not possible: {error}"))?;
        let header = rules.header.as_ref().map(|(name, value)| {
            let name =
                HeaderName::try_from(name.as_str()).map_err(|error| format!("header {name:?}: {error}"));
            name.map(|name| (name, value.clone()))
        });
        let body = rules.body.as_ref().map(|body| match body {
            BodyRule::Contains(text) => Ok(Body::Contains(text.clone())),
            BodyRule::Matches(pattern) => Regex::new(pattern)
                .map(Body::Matches)
                .map_err(|error| error.to_string()),
        });
        Ok(Self {
            dial,
            tls,
            path,
            host,
            wanted: Wanted {
                status: rules.status.clone(),
                header: header.transpose()?,
                body: body.transpose()?,
                value: rules.value.as_ref().map(Value::new),
            },
            kept: rules.reuse.then(|| Mutex::new(None)),
        })
    }

    pub(super) async fn probe(&self, timeout: Duration, progress: &Progress) -> Outcome {
        if let Some(mut sender) = self.take_kept() {
            progress.wait_for(Stage::Answer);
            match self.exchange(&mut sender).await {
                Ok(outcome) => {
                    self.keep(sender);
                    return outcome;
                }
                // The server closed it meanwhile, as it may at any time (RFC 9112 §9.3.1): a new one decides.
                Err(_) => progress.wait_for(Stage::Anything),
            }
        }
        match self.dial.open(self.tls.as_ref(), timeout, progress).await {
            Ok(stream) => self.over(stream, timeout).await,
            Err(outcome) => outcome,
        }
    }

    /// One request over a fresh connection.
    async fn over(&self, stream: Box<dyn Stream>, timeout: Duration) -> Outcome {
        let mut builder = http1::Builder::new();
        let handshake = builder
            .max_buf_size(HEAD_MAX)
            .handshake(TokioIo::new(stream))
            .await;
        let (mut sender, connection) = match handshake {
            Ok(pair) => pair,
            Err(error) => return of_http_error(&error, timeout),
        };
        if self.kept.is_some() {
            // Ends with the sender, or when the server closes; the request that notices sees the error.
            tokio::spawn(async move {
                let _ = connection.await;
            });
            return match self.exchange(&mut sender).await {
                Ok(outcome) => {
                    self.keep(sender);
                    outcome
                }
                Err(error) => of_http_error(&error, timeout),
            };
        }
        match beside(connection, self.exchange(&mut sender)).await {
            Ok(outcome) => outcome,
            Err(error) => of_http_error(&error, timeout),
        }
    }

    async fn exchange(&self, sender: &mut Sender) -> Result<Outcome, hyper::Error> {
        let request = Request::get(self.path.clone())
            .header(HOST, &self.host)
            .header(USER_AGENT, concat!("steer-health/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "*/*")
            .body(Empty::<Bytes>::new());
        let request = match request {
            Ok(request) => request,
            Err(error) => return Ok(Outcome::Void(crate::outcome::Void::Local(error.to_string()))),
        };
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        self.wanted.judge(response, self.kept.is_some()).await
    }

    fn take_kept(&self) -> Option<Sender> {
        let kept = self.kept.as_ref()?;
        let taken = kept.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.filter(|sender| !sender.is_closed())
    }

    fn keep(&self, sender: Sender) {
        if let Some(kept) = &self.kept
            && !sender.is_closed()
        {
            *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        }
    }
}

/// Drives the connection as long as the exchange on it goes on. Where the connection ends first, its own error says why.
async fn beside<T>(
    mut connection: Connection<TokioIo<Box<dyn Stream>>, Empty<Bytes>>,
    exchange: impl Future<Output = Result<T, hyper::Error>>,
) -> Result<T, hyper::Error> {
    let mut exchange = std::pin::pin!(exchange);
    let mut ended = None;
    loop {
        tokio::select! {
            biased;
            done = &mut exchange => return match (done, ended) {
                (Err(error), Some(Err(cause))) if error.is_closed() || error.is_canceled() => Err(cause),
                (done, _) => done,
            },
            end = &mut connection, if ended.is_none() => ended = Some(end),
        }
    }
}

impl Wanted {
    /// The status line and the headers decide, and the body where the check speaks of it.
    async fn judge(&self, response: Response<Incoming>, read_all: bool) -> Result<Outcome, hyper::Error> {
        let got = response.status().as_u16();
        let refused = self.refused_by_head(&response);
        if !read_all && (refused.is_some() || (self.body.is_none() && self.value.is_none())) {
            return Ok(refused.unwrap_or(Outcome::Success(Answer::Status(got))));
        }
        let body = read(response.into_body()).await?;
        if let Some(refused) = refused {
            return Ok(refused);
        }
        Ok(self.judge_body(got, &body))
    }

    fn refused_by_head(&self, response: &Response<Incoming>) -> Option<Outcome> {
        let got = response.status().as_u16();
        if !self
            .status
            .iter()
            .any(|(low, high)| (*low..=*high).contains(&got))
        {
            let want = ranges(&self.status);
            return Some(Outcome::Failure(Failure::Status { got, want }));
        }
        let (name, text) = self.header.as_ref()?;
        let found: Vec<_> = response.headers().get_all(name).iter().collect();
        let fits = |value: &&HeaderValue| String::from_utf8_lossy(value.as_bytes()).contains(text.as_str());
        if found.iter().any(fits) {
            return None;
        }
        let seen = match found.first() {
            None => "there is none".to_owned(),
            Some(value) => format!(
                "it is {:?}",
                shortened(&String::from_utf8_lossy(value.as_bytes()))
            ),
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

/// At most [`BODY_MAX`]; what is longer counts as far as it was read.
async fn read(body: Incoming) -> Result<Vec<u8>, hyper::Error> {
    let mut body = Limited::new(body, BODY_MAX);
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => read.extend(frame.data_ref().into_iter().flatten()),
            Err(error) => match error.downcast::<hyper::Error>() {
                Ok(error) => return Err(*error),
                Err(_too_long) => break,
            },
        }
    }
    Ok(read)
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

/// Finds the cause at the bottom of hyper's chain: the socket's error if there is one, else the parser's.
fn of_http_error(error: &hyper::Error, timeout: Duration) -> Outcome {
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return Outcome::Failure(Failure::Closed);
    }
    if error.is_parse() {
        return Outcome::Failure(Failure::Malformed(shortened(&error.to_string())));
    }
    let mut cause: &(dyn Error + 'static) = error;
    loop {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return tls::of_error(io, timeout);
        }
        match cause.source() {
            Some(source) => cause = source,
            None => return Outcome::Failure(Failure::Other(shortened(&cause.to_string()))),
        }
    }
}

#[cfg(test)]
mod tests;
