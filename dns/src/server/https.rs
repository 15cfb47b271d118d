//! DNS over HTTPS, RFC 8484: the messages of one HTTP/2 connection.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::stream::{End, Service};
use crate::reply::Transport;

/// Where queries are taken (RFC 8484 §3 leaves the path to the server; this one is usual).
const PATH: &str = "/dns-query";
/// RFC 8484 §6
const MESSAGE: &str = "application/dns-message";
/// Requests of one connection at a time.
const STREAMS: u32 = 100;
/// Octets of a query: more than any needs, and of its form in a URI.
const LONGEST: usize = 4096;
/// Octets of a body that are read though they are of no use.
const DISCARD: usize = 64 * 1024;
/// At the end, so long requests under way may take.
const LAST_TURN: Duration = Duration::from_millis(500);

/// Serves one connection to its end.
pub(super) async fn serve<S>(stream: S, client: IpAddr, service: &Service) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut builder = server::Builder::new();
    builder
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(16 * 1024);
    let handshake = timeout(service.idle, builder.handshake::<_, Bytes>(stream));
    let Ok(Ok(mut connection)) = handshake.await else {
        return End::Error;
    };
    let mut requests = JoinSet::new();
    let mut deadline = Instant::now() + service.idle;
    let mut end = End::Client;
    let mut is_ending = false;
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                None => return end,
                Some(Err(error)) => return ended(&error, end),
                Some(Ok((request, respond))) => {
                    requests.spawn(one(request, respond, client, service.clone()));
                }
            },
            Some(_) = requests.join_next() => {
                if !is_ending {
                    deadline = Instant::now() + service.idle;
                }
            }
            () = service.stop.cancelled(), if !is_ending => {
                (end, is_ending) = (End::Shutdown, true);
                deadline = Instant::now() + LAST_TURN;
                connection.graceful_shutdown();
            }
            // Requests have their own bound; a connection without any is idle.
            () = tokio::time::sleep_until(deadline) => {
                if is_ending {
                    return end;
                }
                if requests.is_empty() {
                    (end, is_ending) = (End::Idle, true);
                    connection.graceful_shutdown();
                }
                deadline = Instant::now() + LAST_TURN;
            }
        }
    }
}

fn ended(error: &h2::Error, end: End) -> End {
    if error.is_io() || error.reason() == Some(Reason::NO_ERROR) {
        end
    } else {
        End::Error
    }
}

/// One request. What goes wrong in sending concerns this request alone, and nobody is left to be told.
async fn one(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    client: IpAddr,
    service: Service,
) {
    let deadline = Instant::now() + service.idle;
    let answer = match timeout_at(deadline, query(request)).await {
        Ok(Ok(query)) => answer(&query, client, &service),
        Ok(Err(status)) => Err(status),
        Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
    };
    let (response, body) = match answer {
        Ok(answer) => answer,
        Err(status) => {
            let mut response = Response::new(());
            *response.status_mut() = status;
            (response, Bytes::new())
        }
    };
    if let Ok(mut stream) = respond.send_response(response, body.is_empty())
        && !body.is_empty()
    {
        let _ = stream.send_data(body, true); // written by the connection
    }
}

/// The response, and when it is stale.
fn answer(query: &[u8], client: IpAddr, service: &Service) -> Result<(Response<()>, Bytes), StatusCode> {
    let reply = super::answer(&service.engine, query, client, Transport::Https);
    let reply = reply.ok_or(StatusCode::BAD_REQUEST)?;
    let octets = reply.encode().map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    // RFC 8484 §5.1: at most the least TTL of the answer
    let response = Response::builder()
        .header(header::CONTENT_TYPE, MESSAGE)
        .header(header::CONTENT_LENGTH, octets.len())
        .header(header::CACHE_CONTROL, format!("max-age={}", reply.least_ttl()))
        .body(())
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok((response, octets.into()))
}

/// The message in a request, RFC 8484 §4.1.
async fn query(request: Request<RecvStream>) -> Result<Bytes, StatusCode> {
    let (head, mut body) = request.into_parts();
    let query = read(&head, &mut body).await;
    if query.is_err() {
        // A body that is given up resets the stream, and the status would be lost with it.
        discard(&mut body).await;
    }
    query
}

async fn read(head: &Parts, body: &mut RecvStream) -> Result<Bytes, StatusCode> {
    if head.uri.path() != PATH {
        return Err(StatusCode::NOT_FOUND);
    }
    if head.method == Method::GET {
        in_uri(head.uri.query().unwrap_or_default()).map(Bytes::from)
    } else if head.method == Method::POST {
        if is_message(&head.headers) {
            in_body(body).await
        } else {
            Err(StatusCode::UNSUPPORTED_MEDIA_TYPE)
        }
    } else {
        Err(StatusCode::METHOD_NOT_ALLOWED)
    }
}

/// Reads the rest of a body, up to a bound.
async fn discard(body: &mut RecvStream) {
    let mut left = DISCARD;
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        match left.checked_sub(data.len()) {
            Some(less) => left = less,
            None => return,
        }
    }
}

fn is_message(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == MESSAGE))
}

fn in_uri(query: &str) -> Result<Vec<u8>, StatusCode> {
    let text = query.split('&').find_map(|part| part.strip_prefix("dns="));
    let text = text.ok_or(StatusCode::BAD_REQUEST)?;
    if text.len() > LONGEST * 4 / 3 {
        return Err(StatusCode::URI_TOO_LONG);
    }
    base64url(text).ok_or(StatusCode::BAD_REQUEST)
}

async fn in_body(body: &mut RecvStream) -> Result<Bytes, StatusCode> {
    let mut message = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(|_| StatusCode::BAD_REQUEST)?;
        if message.len() + data.len() > LONGEST {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        message.extend_from_slice(&data);
        let _ = body.flow_control().release_capacity(data.len());
    }
    Ok(message.into())
}

/// RFC 4648 §5, without padding (RFC 8484 §6). `None` where anything else stands in it.
fn base64url(text: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(text.len() * 3 / 4);
    let (mut held, mut bits) = (0_u32, 0);
    for character in text.bytes() {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        held = held << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            octets.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    // what is left is less than an octet, and zero
    (bits < 6 && held == 0).then_some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_is_read_and_anything_else_is_not() {
        for (text, octets) in [
            ("", &b""[..]),
            ("Zg", b"f"),
            ("Zm8", b"fo"),
            ("Zm9v", b"foo"),
            ("-_8", &[0xfb, 0xff]),
        ] {
            assert_eq!(base64url(text).as_deref(), Some(octets), "{text}");
        }
        for text in ["Zg==", "Z", "Zh", "+/8", "Zm 9v", "Zm9v\u{fc}"] {
            assert_eq!(base64url(text), None, "{text}");
        }
    }

    /// RFC 8484 §4.1.1: the same query in both forms.
    #[test]
    fn the_example_of_rfc_8484_is_read() {
        let query = in_uri("dns=AAABAAABAAAAAAAAA3d3dwdleGFtcGxlA2NvbQAAAQAB").unwrap();
        assert_eq!(&query[12..], b"\x03www\x07example\x03com\x00\x00\x01\x00\x01");
        assert_eq!(in_uri("ct&dns=AAAB").unwrap(), [0, 0, 1]);
        assert_eq!(in_uri("ct"), Err(StatusCode::BAD_REQUEST));
        let long = format!("dns={}", "A".repeat(LONGEST * 2));
        assert_eq!(in_uri(&long), Err(StatusCode::URI_TOO_LONG));
    }
}
