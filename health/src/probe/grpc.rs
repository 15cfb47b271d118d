//! `grpc.health.v1.Health/Check` over HTTP/2; `Watch` is in [`super::watch`]. Its two messages have a field each and are written by hand:
//!
//! ```text
//! HealthCheckRequest { string service = 1; }
//! HealthCheckResponse { ServingStatus status = 1; }   UNKNOWN 0, SERVING 1, NOT_SERVING 2, SERVICE_UNKNOWN 3
//! ```

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request};
use steer_topology::GrpcCheck;
use tokio::net::TcpStream;

use super::Progress;
use super::dial::{self, Dial, Manner, Stream};
use super::tls::{self, Tls};
use super::watch::Watch;
use crate::outcome::{Answer, Failure, Outcome, shortened};

/// One gRPC server.
#[derive(Debug)]
pub(crate) struct Grpc {
    dial: Dial,
    tls: Option<Tls>,
    service: String,
    /// Scheme and authority.
    address: String,
}

/// gRPC status: the method is not there.
pub(super) const UNIMPLEMENTED: u32 = 12;

/// A health answer has two octets; whoever sends more than this is no health service.
pub(super) const MESSAGE_MAX: usize = 4096;

impl Grpc {
    pub(super) fn new(rules: &GrpcCheck, dial: Dial, tls: Option<Tls>) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        Self {
            address: format!("{scheme}://{}", dial.address),
            service: rules.service.clone(),
            dial: dial.with(Manner::Often),
            tls,
        }
    }

    pub(super) async fn probe(&self, timeout: Duration, progress: &Progress) -> Outcome {
        match self.dial.open(self.tls.as_ref(), timeout, progress).await {
            Ok(stream) => self.over(stream, timeout).await,
            Err(outcome) => outcome,
        }
    }

    /// A call that tells each change, on a connection of its own.
    pub(super) async fn watch(
        &self,
        stream: TcpStream,
        timeout: Duration,
        progress: &Progress,
    ) -> Result<Watch, Outcome> {
        let stream = dial::secured(stream, self.tls.as_ref(), timeout, progress).await?;
        let watch = Watch::begin(stream, &self.address, &self.service).await;
        watch.map_err(|error| of_h2_error(&error, timeout))
    }

    async fn over(&self, stream: Box<dyn Stream>, timeout: Duration) -> Outcome {
        match self.call(stream).await {
            Ok(reply) => self.judge(&reply),
            Err(error) => of_h2_error(&error, timeout),
        }
    }

    async fn call(&self, stream: Box<dyn Stream>) -> Result<Reply, h2::Error> {
        let (sender, connection) = h2::client::handshake(stream).await?;
        let mut connection = std::pin::pin!(connection);
        let mut exchange = std::pin::pin!(self.exchange(sender));
        tokio::select! {
            biased;
            reply = &mut exchange => reply,
            ended = &mut connection => match ended {
                // All is there that will ever come.
                Ok(()) => exchange.await,
                Err(error) => Err(error),
            },
        }
    }

    async fn exchange(&self, sender: h2::client::SendRequest<Bytes>) -> Result<Reply, h2::Error> {
        let request = request(&format!("{}/grpc.health.v1.Health/Check", self.address));
        let mut sender = sender.ready().await?;
        let (response, mut body) = sender.send_request(request, false)?;
        body.send_data(request_message(&self.service), true)?;
        let response = response.await?;
        let mut reply = Reply {
            http: response.status().as_u16(),
            // A call that fails at once has its status in the header.
            status: Status::of(response.headers()),
            message: Vec::new(),
        };
        let mut body = response.into_body();
        while let Some(part) = body.data().await {
            let part = part?;
            body.flow_control().release_capacity(part.len())?;
            if reply.message.len() + part.len() <= MESSAGE_MAX {
                reply.message.extend_from_slice(&part);
            }
        }
        if let Some(trailers) = body.trailers().await? {
            reply.status = Status::of(&trailers).or(reply.status);
        }
        Ok(reply)
    }

    fn judge(&self, reply: &Reply) -> Outcome {
        let wrong = |why: String| Outcome::Failure(Failure::Wrong(why));
        let service = if self.service.is_empty() {
            "the server".to_owned()
        } else {
            format!("service {:?}", self.service)
        };
        match &reply.status {
            None => wrong(format!(
                "no gRPC answer: HTTP status {} without grpc-status",
                reply.http
            )),
            // The protocol: NOT_FOUND stands for a service that the server does not know.
            Some(Status { code: 5, .. }) => wrong(format!("{service} is unknown")),
            Some(Status {
                code: UNIMPLEMENTED, ..
            }) => wrong("the server has no health service (UNIMPLEMENTED)".to_owned()),
            Some(Status { code: 0, .. }) => match serving(&reply.message) {
                Some(1) => Outcome::Success(Answer::Seen("SERVING".into())),
                Some(0) => wrong(format!("{service} is UNKNOWN")),
                Some(2) => wrong(format!("{service} is NOT_SERVING")),
                Some(3) => wrong(format!("{service} is SERVICE_UNKNOWN")),
                Some(other) => wrong(format!("{service} has status {other}, which nobody knows")),
                None => wrong("the answer is no HealthCheckResponse".to_owned()),
            },
            Some(Status { code, message }) => wrong(format!("gRPC status {code}: {}", shortened(message))),
        }
    }
}

/// A call; the URI is made of an address and a fixed path.
pub(super) fn request(uri: &str) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = uri.parse().unwrap_or_default();
    let agent = concat!("steer-health/", env!("CARGO_PKG_VERSION"));
    for (name, value) in [
        (CONTENT_TYPE, "application/grpc"),
        (TE, "trailers"),
        (USER_AGENT, agent),
    ] {
        request
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    request
}

#[derive(Debug)]
struct Reply {
    http: u16,
    status: Option<Status>,
    message: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Status {
    pub(super) code: u32,
    message: String,
}

impl Status {
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let code = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
        let message = headers.get("grpc-message");
        let message = message.map(|text| String::from_utf8_lossy(text.as_bytes()).into_owned());
        Some(Self {
            code,
            message: message.unwrap_or_default(),
        })
    }
}

/// A message with its prefix: not compressed, and its length.
pub(super) fn request_message(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a); // field 1, with a length
        push_varint(&mut message, service.len());
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut framed = vec![0];
    framed.extend(length.to_be_bytes());
    framed.extend(message);
    framed.into()
}

fn push_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// `status` of a framed HealthCheckResponse; a field that is not there is 0. `None`: it is something else.
pub(super) fn serving(framed: &[u8]) -> Option<u64> {
    let (prefix, message) = framed.split_at_checked(5)?;
    let length = u32::from_be_bytes(prefix[1..].try_into().ok()?);
    if prefix[0] != 0 || usize::try_from(length).ok()? != message.len() {
        return None;
    }
    let (mut rest, mut status) = (message, 0);
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        match (key >> 3, key & 7) {
            (1, 0) => status = varint(&mut rest)?,
            (_, 0) => drop(varint(&mut rest)?),
            (_, 1) => rest = rest.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            (_, 5) => rest = rest.get(4..)?,
            (_, _) => return None,
        }
    }
    Some(status)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn of_h2_error(error: &h2::Error, timeout: Duration) -> Outcome {
    if let Some(io) = error.get_io() {
        return tls::of_error(io, timeout);
    }
    let side = if error.is_remote() {
        "the server ended the call"
    } else {
        "no HTTP/2 answer"
    };
    Outcome::Failure(Failure::Wrong(format!(
        "{side}: {}",
        shortened(&error.to_string())
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_its_service_and_the_whole_server_has_no_name() {
        assert_eq!(request_message("").as_ref(), [0, 0, 0, 0, 0]);
        assert_eq!(
            request_message("a.B").as_ref(),
            [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']
        );
        let long = request_message(&"x".repeat(300));
        assert_eq!((long.len(), &long[5..8]), (5 + 3 + 300, &[0x0a, 0xac, 0x02][..]));
    }

    #[test]
    fn a_response_is_read_with_unknown_fields_and_refused_when_it_is_cut() {
        assert_eq!(serving(&[0, 0, 0, 0, 2, 0x08, 1]), Some(1));
        assert_eq!(serving(&[0, 0, 0, 0, 0]), Some(0), "an enum of 0 is not written");
        assert_eq!(serving(&[0, 0, 0, 0, 6, 0x12, 2, b'x', b'y', 0x08, 2]), Some(2));
        for bad in [
            &[0, 0, 0, 0, 2, 0x08][..],
            &[1, 0, 0, 0, 2, 8, 1],
            &[0, 0, 0],
            &[0, 0, 0, 0, 1, 0x08],
            &[0, 0, 0, 0, 1, 7],
        ] {
            assert_eq!(serving(bad), None, "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_server_sends_is_read_without_a_panic(octets in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
            serving(&octets);
            let mut framed = vec![0];
            framed.extend((octets.len() as u32).to_be_bytes());
            framed.extend(&octets);
            serving(&framed);
        }
    }
}
