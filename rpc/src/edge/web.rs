//! grpc-web (`PROTOCOL-WEB.md`): gRPC for who cannot see trailers, as pages in browsers cannot. Trailers are the last message
//! of the body there, and where a browser can only read text, the body is base64.
//!
//! A backend sees plain gRPC. Pages of other origins are let in by CORS (fetch.spec.whatwg.org), as far as the configuration
//! names them.
//!
//! Gap: over HTTP/2 only, which browsers speak where there is TLS.

use bytes::{BufMut, Bytes, BytesMut};
use data_encoding::BASE64;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, ORIGIN, TE, VARY,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};

use crate::fate::{FATE_HEADER, PUSHBACK_HEADER};
use crate::key::REPLAYED_HEADER;

/// Content types begin so; `-text` and `+proto` may follow.
const KIND: &[u8] = b"application/grpc-web";

/// How long a browser may remember what it was told of an origin, in seconds (browsers take two hours at most).
const REMEMBERED: HeaderValue = HeaderValue::from_static("7200");

/// The flag of the message that has the trailers.
const TRAILERS: u8 = 0x80;

/// Headers that pages may read, beside those of an answer.
const EXPOSED: [&str; 6] = [
    "grpc-status",
    "grpc-message",
    "grpc-status-details-bin",
    FATE_HEADER,
    PUSHBACK_HEADER,
    REPLAYED_HEADER,
];

/// Which pages may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// Of any site.
    Any,
    /// Of these, as in the header `origin`.
    These(Vec<HeaderValue>),
}

/// What a call of grpc-web wants to have different.
#[derive(Debug)]
pub(super) struct Web {
    kind: HeaderValue,
    is_text: bool,
    /// Of a page that may read the answer.
    origin: Option<HeaderValue>,
}

impl Origins {
    fn admitted(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(ORIGIN)?;
        let is_admitted = match self {
            Self::Any => true,
            Self::These(origins) => origins.contains(origin),
        };
        is_admitted.then(|| origin.clone())
    }

    /// The answer to a browser that asks before it calls; none where it does not ask.
    pub(super) fn preflight<B>(&self, asked: &Request<B>) -> Option<Response<()>> {
        let headers = asked.headers();
        if asked.method() != Method::OPTIONS || !headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
            return None;
        }
        let mut response = Response::new(());
        let Some(origin) = self.admitted(headers) else {
            *response.status_mut() = StatusCode::FORBIDDEN;
            return Some(response);
        };
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(VARY, HeaderValue::from_static("origin"));
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
        headers.insert(ACCESS_CONTROL_MAX_AGE, REMEMBERED);
        if let Some(wanted) = asked.headers().get(ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
        }
        Some(response)
    }
}

impl Web {
    /// Makes a call of grpc-web one of gRPC; none where it is none.
    pub(super) fn of(headers: &mut HeaderMap, origins: &Origins) -> Option<Self> {
        let kind = headers.get(CONTENT_TYPE)?.clone();
        let rest = kind.as_bytes().strip_prefix(KIND)?;
        let (is_text, format) = match rest.strip_prefix(b"-text") {
            Some(format) => (true, format),
            None => (false, rest),
        };
        if !matches!(format.first(), None | Some(b'+' | b';')) {
            return None;
        }
        let plain = HeaderValue::from_bytes(&[b"application/grpc", format].concat()).ok()?;
        headers.insert(CONTENT_TYPE, plain);
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.remove(CONTENT_LENGTH);
        headers.remove("x-grpc-web");
        let origin = origins.admitted(headers);
        Some(Self {
            kind,
            is_text,
            origin,
        })
    }

    /// For a body that is base64.
    pub(super) fn text(&self) -> Option<Text> {
        self.is_text.then(Text::default)
    }

    /// The head of an answer.
    pub(super) fn head(&self, headers: &mut HeaderMap) {
        headers.remove(CONTENT_LENGTH); // the body becomes longer
        headers.insert(CONTENT_TYPE, self.kind.clone());
        let Some(origin) = &self.origin else {
            return;
        };
        let names: Vec<&str> = headers.keys().map(HeaderName::as_str).chain(EXPOSED).collect();
        if let Ok(names) = HeaderValue::try_from(names.join(", ")) {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, names);
        }
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.append(VARY, HeaderValue::from_static("origin"));
    }

    /// Octets of the answer, as they go out.
    pub(super) fn octets(&self, octets: Bytes) -> Bytes {
        if self.is_text {
            BASE64.encode(&octets).into()
        } else {
            octets
        }
    }

    /// Trailers, as the last message.
    pub(super) fn trailers(&self, trailers: &HeaderMap) -> Bytes {
        let mut lines = BytesMut::new();
        for (name, value) in trailers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                lines.put_slice(part);
            }
        }
        let mut message = BytesMut::with_capacity(lines.len() + 5);
        message.put_u8(TRAILERS);
        // h2 bounds the header block, so the length fits.
        message.put_u32(u32::try_from(lines.len()).unwrap_or(u32::MAX));
        message.put_slice(&lines);
        self.octets(message.freeze())
    }
}

/// Reads base64 in pieces of any size; each may be padded. Sans-IO.
#[derive(Debug, Default)]
pub(crate) struct Text {
    /// Of a group of four that has begun.
    rest: BytesMut,
}

/// It is no base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoText;

impl Text {
    pub(crate) fn take(&mut self, octets: &[u8]) -> Result<Bytes, NoText> {
        self.rest.extend_from_slice(octets);
        let groups = self.rest.split_to(self.rest.len() / 4 * 4);
        BASE64.decode(&groups).map(Bytes::from).map_err(|_| NoText)
    }

    /// Whether it may end here.
    pub(crate) fn is_whole(&self) -> bool {
        self.rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    fn shop() -> Origins {
        Origins::These(vec![HeaderValue::from_static("https://shop.example")])
    }

    #[test]
    fn a_call_of_grpc_web_becomes_one_of_grpc_and_no_other_does() {
        for (kind, plain, is_text) in [
            ("application/grpc-web", "application/grpc", false),
            ("application/grpc-web+proto", "application/grpc+proto", false),
            ("application/grpc-web-text", "application/grpc", true),
            ("application/grpc-web-text+proto", "application/grpc+proto", true),
        ] {
            let mut asked = headers(&[
                ("content-type", kind),
                ("x-grpc-web", "1"),
                ("content-length", "5"),
            ]);
            let web = Web::of(&mut asked, &shop()).unwrap();
            assert_eq!(web.is_text, is_text, "{kind}");
            assert_eq!(
                asked,
                headers(&[("content-type", plain), ("te", "trailers")]),
                "{kind}"
            );
        }
        for kind in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc-webby",
            "text/html",
        ] {
            let mut asked = headers(&[("content-type", kind)]);
            assert!(Web::of(&mut asked, &shop()).is_none(), "{kind}");
            assert_eq!(asked, headers(&[("content-type", kind)]));
        }
    }

    #[test]
    fn a_page_of_an_origin_that_is_named_may_call_and_another_may_not() {
        let ask = |origin: &'static str| {
            let mut asked = Request::new(());
            *asked.method_mut() = Method::OPTIONS;
            *asked.headers_mut() = headers(&[
                ("origin", origin),
                ("access-control-request-method", "POST"),
                ("access-control-request-headers", "content-type,x-grpc-web"),
            ]);
            asked
        };
        let told = shop().preflight(&ask("https://shop.example")).unwrap();
        let expected = headers(&[
            ("access-control-allow-origin", "https://shop.example"),
            ("vary", "origin"),
            ("access-control-allow-methods", "POST"),
            ("access-control-max-age", "7200"),
            ("access-control-allow-headers", "content-type,x-grpc-web"),
        ]);
        assert_eq!(
            (told.status(), told.headers()),
            (StatusCode::NO_CONTENT, &expected)
        );
        let other = ask("https://other.example");
        let told = shop().preflight(&other).unwrap();
        assert_eq!((told.status(), told.headers().len()), (StatusCode::FORBIDDEN, 0));
        assert_eq!(
            Origins::Any.preflight(&other).unwrap().status(),
            StatusCode::NO_CONTENT
        );
        assert!(shop().preflight(&Request::new(())).is_none(), "a call");
    }

    #[test]
    fn trailers_are_a_message_with_a_flag_of_their_own() {
        let mut asked = headers(&[("content-type", "application/grpc-web+proto")]);
        let web = Web::of(&mut asked, &shop()).unwrap();
        let message = web.trailers(&headers(&[("grpc-status", "0"), ("grpc-message", "")]));
        let lines = b"grpc-status: 0\r\ngrpc-message: \r\n";
        assert_eq!(message, [&[0x80, 0, 0, 0, lines.len() as u8][..], lines].concat());
    }

    #[test]
    fn what_is_no_base64_is_told() {
        let mut text = Text::default();
        assert_eq!(text.take(b"AAA"), Ok(Bytes::new()));
        assert!(!text.is_whole());
        assert_eq!(text.take(b"!"), Err(NoText));
    }

    proptest! {
        #[test]
        fn base64_is_read_in_pieces_of_any_size_also_where_each_piece_was_padded(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..6), piece in 1_usize..9
        ) {
            let written: String = parts.iter().map(|part| BASE64.encode(part)).collect();
            let (mut text, mut read) = (Text::default(), Vec::new());
            for piece in written.as_bytes().chunks(piece) {
                read.extend(text.take(piece).unwrap());
            }
            prop_assert!(text.is_whole());
            prop_assert_eq!(read, parts.concat());
        }
    }
}
