//! A gRPC channel as a lab needs it: `Health/Check` on one HTTP/2 connection.

use std::io;

use bytes::Bytes;
use h2::client::SendRequest;
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, Request, Response};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use crate::datagram::SITE_HEADER;

/// No field set: the health of the server as a whole. One octet of flags, four of length.
const EMPTY: Bytes = Bytes::from_static(&[0, 0, 0, 0, 0]);

/// More of an answer is not read.
const ANSWER_MAX: usize = 4096;

/// An open connection.
#[derive(Debug)]
pub(super) struct Channel {
    requests: SendRequest<Bytes>,
    connection: AbortHandle,
}

impl Drop for Channel {
    fn drop(&mut self) {
        // It would go on to wait for a far end that may be gone.
        self.connection.abort();
    }
}

impl Channel {
    pub(super) async fn open(stream: TcpStream) -> io::Result<Self> {
        let (requests, connection) = h2::client::handshake(stream).await.map_err(words)?;
        let connection = tokio::spawn(async move {
            // Whoever asks on it sees its end as that of the request.
            drop(connection.await);
        });
        Ok(Self {
            requests,
            connection: connection.abort_handle(),
        })
    }

    /// The site that says it is serving.
    pub(super) async fn check(&mut self) -> io::Result<String> {
        let request = Request::post("http://lab/grpc.health.v1.Health/Check")
            .header(CONTENT_TYPE, "application/grpc")
            .header(TE, "trailers")
            .body(())
            .map_err(io::Error::other)?;
        let mut ready = self.requests.clone().ready().await.map_err(words)?;
        let (response, mut body) = ready.send_request(request, false).map_err(words)?;
        body.send_data(EMPTY, true).map_err(words)?;
        let mut response = response.await.map_err(words)?;
        let trailers = to_the_end(&mut response).await?;
        let status = trailers
            .get("grpc-status")
            .or(response.headers().get("grpc-status"));
        match status.map(http::HeaderValue::as_bytes) {
            Some(b"0") => site(&response),
            other => Err(io::Error::other(format!(
                "gRPC status {:?}",
                other.map(String::from_utf8_lossy)
            ))),
        }
    }
}

async fn to_the_end(response: &mut Response<h2::RecvStream>) -> io::Result<HeaderMap> {
    let body = response.body_mut();
    let mut seen = 0;
    while let Some(part) = body.data().await {
        let part = part.map_err(words)?;
        seen += part.len();
        if seen > ANSWER_MAX {
            return Err(io::Error::other("the answer has no end"));
        }
        body.flow_control().release_capacity(part.len()).map_err(words)?;
    }
    Ok(body.trailers().await.map_err(words)?.unwrap_or_default())
}

fn site<T>(response: &Response<T>) -> io::Result<String> {
    let site = response
        .headers()
        .get(SITE_HEADER)
        .and_then(|site| site.to_str().ok());
    site.map(str::to_owned)
        .ok_or_else(|| io::Error::other(format!("an answer without `{SITE_HEADER}`")))
}

fn words(error: h2::Error) -> io::Error {
    io::Error::other(error)
}
