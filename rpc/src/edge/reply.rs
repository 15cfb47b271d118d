//! What the edge says itself, and how it reads what a backend says.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Response, StatusCode};

use super::web::Web;
use crate::fate::{Code, FATE_HEADER, Fate, PUSHBACK_HEADER, Pushback, Report};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

/// What the end of an answer says: `grpc-status`, or else the status of HTTP.
pub(crate) fn status_of(status: StatusCode, headers: &HeaderMap) -> Report {
    let value = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    let code = match value("grpc-status") {
        Some(text) => Code::parse(text),
        None if status.is_success() => Code::Ok,
        None => Code::of_http(status.as_u16()),
    };
    let told = value(FATE_HEADER).and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
    Report::of_status(code, told, Pushback::parse(value(PUSHBACK_HEADER)))
}

pub(crate) fn trailers(code: Code, fate: Fate, words: &str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert(GRPC_STATUS, HeaderValue::from(u16::from(code.number())));
    if let Ok(words) = HeaderValue::from_str(&percent(words)) {
        trailers.insert(GRPC_MESSAGE, words);
    }
    trailers.insert(FATE_HEADER, HeaderValue::from_static(fate.name()));
    trailers
}

/// `PROTOCOL-HTTP2.md`: Percent-Encoded, all but the visible characters of ASCII and `%`.
fn percent(words: &str) -> String {
    let mut text = String::new();
    for octet in words.bytes() {
        match octet {
            b' '..=b'$' | b'&'..=b'~' => text.push(char::from(octet)),
            _ => _ = write!(text, "%{octet:02X}"),
        }
    }
    text
}

/// An answer of our own.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: Code,
    pub(super) fate: Fate,
    pub(super) words: String,
    /// After how long the call may come again.
    pub(super) after: Option<Duration>,
}

/// Trailers alone; for what is no gRPC, a status of HTTP.
pub(super) fn refuse(
    respond: &mut SendResponse<Bytes>,
    (asked, web): (&HeaderMap, Option<&Web>),
    refusal: &Refusal,
) {
    let Refusal {
        code,
        fate,
        words,
        after,
    } = refusal;
    let mut response = Response::new(());
    if is_grpc(asked) {
        *response.headers_mut() = trailers(*code, *fate, words);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        if let Some(after) = after {
            let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            headers.insert(PUSHBACK_HEADER, HeaderValue::from(ms));
        }
        if let Some(web) = web {
            web.head(headers);
        }
    } else {
        *response.status_mut() = http_status(*code);
        let headers = response.headers_mut();
        headers.insert(FATE_HEADER, HeaderValue::from_static(fate.name()));
        if let Some(after) = after {
            headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs() + 1));
        }
    }
    // A client that is gone needs no answer.
    _ = respond.send_response(response, true);
}

/// What a client of plain HTTP/2 is told.
pub(super) fn http_status(code: Code) -> StatusCode {
    if code == Code::DeadlineExceeded {
        StatusCode::GATEWAY_TIMEOUT
    } else if code == Code::Internal {
        StatusCode::BAD_REQUEST
    } else if code == Code::ResourceExhausted {
        StatusCode::TOO_MANY_REQUESTS
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

/// For `grpc-message`.
pub(super) fn words(code: Code, fate: Fate) -> &'static str {
    if code == Code::DeadlineExceeded {
        "the deadline passed at the edge"
    } else if code == Code::Cancelled {
        "the call was cancelled"
    } else if fate == Fate::NotSent {
        "no backend could be reached"
    } else {
        "the backend is gone"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fate::News;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            )
        });
        pairs.collect()
    }

    #[test]
    fn the_end_of_an_answer_is_read_as_grpc_or_else_as_http() {
        let read = |status: u16, pairs: &[(&'static str, &str)]| {
            let report = status_of(StatusCode::from_u16(status).unwrap(), &headers(pairs));
            (report.news, report.code)
        };
        assert_eq!(read(200, &[("grpc-status", "0")]), (News::Answered, Code::Ok));
        assert_eq!(
            read(200, &[("grpc-status", "14")]),
            (News::Doubtful, Code::Unavailable)
        );
        let disowned = [("grpc-status", "14"), ("steer-fate", "unprocessed")];
        assert_eq!(read(200, &disowned), (News::Disclaimed, Code::Unavailable));
        assert_eq!(read(204, &[]), (News::Answered, Code::Ok));
        assert_eq!(read(503, &[]), (News::Doubtful, Code::Unavailable));
        assert_eq!(read(404, &[]), (News::Answered, Code::Unimplemented));
        assert_eq!(
            read(200, &[("grpc-status", "x")]),
            (News::Doubtful, Code::Unknown)
        );
    }

    #[test]
    fn words_are_encoded_as_the_protocol_wants_it() {
        assert_eq!(percent("50% \u{e9}\n"), "50%25 %C3%A9%0A");
    }
}
