//! `grpc.health.v1.Health/Check`: serving, and by whom. The answer has one field, `status = 1`.

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request};
use axum::response::Response;
use http_body_util::{BodyExt as _, Full, Limited};
use steer_labs::datagram::SITE_HEADER;

/// No compression, two octets: field 1, SERVING.
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 0x08, 1];

/// Octets of a request that are read. A check has a name at most.
const MESSAGE_MAX: usize = 4096;

const CHECK: &str = "/grpc.health.v1.Health/Check";

/// gRPC status codes.
const OK: &str = "0";
const RESOURCE_EXHAUSTED: &str = "8";
const UNIMPLEMENTED: &str = "12";
const UNAVAILABLE: &str = "14";

/// Whether it is to be answered as gRPC is.
pub(super) fn is_call(request: &Request<Body>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// The answer of `name`, which is well or not. The request is read first: what comes for a stream that is answered already is
/// an error to HTTP/2, and a few dozen of them cost the connection.
pub(super) async fn answer(request: Request<Body>, name: &str, well: bool) -> Response {
    let (head, body) = request.into_parts();
    let is_read = Limited::new(body, MESSAGE_MAX).collect().await.is_ok();
    let (message, status) = match (head.uri.path(), well, is_read) {
        (_, _, false) => (&[][..], RESOURCE_EXHAUSTED),
        (CHECK, true, true) => (SERVING, OK),
        (CHECK, false, true) => (&[][..], UNAVAILABLE),
        (_, _, true) => (&[][..], UNIMPLEMENTED),
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    let body = Full::new(axum::body::Bytes::from_static(message));
    let body = body.with_trailers(async move { Some(Ok(trailers)) });
    let mut response = Response::new(Body::new(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    if let Ok(name) = HeaderValue::from_str(name.trim()) {
        headers.insert(HeaderName::from_static(SITE_HEADER), name);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Status and message of an answer.
    async fn read(response: Response) -> (String, Vec<u8>) {
        assert_eq!(response.headers()[SITE_HEADER], "fra");
        let body = response.into_body().collect().await.unwrap();
        let trailers = body.trailers().unwrap();
        let status = trailers["grpc-status"].to_str().unwrap().to_owned();
        (status, body.to_bytes().to_vec())
    }

    #[tokio::test]
    async fn a_check_is_answered_by_serving_or_unavailable_and_no_other_method_is_there() {
        for (path, octets, well, want) in [
            (CHECK, 5, true, (OK, SERVING)),
            (CHECK, 5, false, (UNAVAILABLE, &[][..])),
            ("/shop.Cart/Add", 5, true, (UNIMPLEMENTED, &[][..])),
            ("/shop.Cart/Add", 5, false, (UNIMPLEMENTED, &[][..])),
            (CHECK, MESSAGE_MAX + 1, true, (RESOURCE_EXHAUSTED, &[][..])),
        ] {
            let request = Request::post(path).body(Body::from(vec![0; octets])).unwrap();
            let (status, message) = read(answer(request, "fra\n", well).await).await;
            assert_eq!(
                (status.as_str(), message.as_slice()),
                want,
                "{path} {octets} {well}"
            );
        }
    }
}
