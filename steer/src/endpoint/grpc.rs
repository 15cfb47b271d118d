//! `grpc.health.v1.Health/Check`: serving, and by whom. The answer has one field, `status = 1`.

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request};
use axum::response::Response;
use http_body_util::{BodyExt as _, Full};
use steer_labs::datagram::SITE_HEADER;

/// No compression, two octets: field 1, SERVING.
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 0x08, 1];

const CHECK: &str = "/grpc.health.v1.Health/Check";

/// gRPC status codes.
const OK: &str = "0";
const UNIMPLEMENTED: &str = "12";
const UNAVAILABLE: &str = "14";

/// Whether it is to be answered as gRPC is.
pub(super) fn is_call(request: &Request<Body>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// The answer of `name`, which is well or not.
pub(super) fn answer(path: &str, name: &str, well: bool) -> Response {
    let (message, status) = match (path, well) {
        (CHECK, true) => (SERVING, OK),
        (CHECK, false) => (&[][..], UNAVAILABLE),
        (_, _) => (&[][..], UNIMPLEMENTED),
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
        for (path, well, want) in [
            (CHECK, true, (OK, SERVING)),
            (CHECK, false, (UNAVAILABLE, &[][..])),
            ("/shop.Cart/Add", true, (UNIMPLEMENTED, &[][..])),
            ("/shop.Cart/Add", false, (UNIMPLEMENTED, &[][..])),
        ] {
            let (status, message) = read(answer(path, "fra\n", well)).await;
            assert_eq!((status.as_str(), message.as_slice()), want, "{path} {well}");
        }
    }
}
