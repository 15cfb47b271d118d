//! One connection to the edge, and calls on it, by hand: a client that knows that its connection is going.

use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request};
use prost::Message;
use steer_rpc::fate::{Code, TIMEOUT_HEADER};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// Octets of one message at most.
const MESSAGE_MAX: usize = 1 << 20;

/// A frame of gRPC: whether it is compressed, and its length.
const HEAD: usize = 5;

/// Between two looks whether a connection is going.
const LOOK: Duration = Duration::from_millis(5);

/// Octets that are not acknowledged for so long break a connection.
const USER_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a call has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Lost {
    #[error("no connection: {0}")]
    NoConnection(String),
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error("no answer in time")]
    Late,
    #[error("status {0}")]
    Status(Code),
    #[error("no gRPC: {0}")]
    Strange(&'static str),
}

impl From<h2::Error> for Lost {
    fn from(error: h2::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

/// A connection. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    send: SendRequest<Bytes>,
    going: watch::Receiver<bool>,
    pub(crate) number: u64,
    authority: String,
}

impl Link {
    pub(crate) async fn dial(address: SocketAddr, number: u64) -> Result<Self, Lost> {
        let io = |error: std::io::Error| Lost::NoConnection(error.to_string());
        let stream = TcpStream::connect(address).await.map_err(io)?;
        stream.set_nodelay(true).map_err(io)?;
        user_timeout(&stream).map_err(io)?;
        let handshake = h2::client::Builder::new()
            .enable_push(false)
            .handshake(stream)
            .await;
        let (send, connection) = handshake.map_err(|error| Lost::NoConnection(error.to_string()))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the edge ended");
            }
        });
        let (tell, going) = watch::channel(false);
        tokio::spawn(until_going(send.clone(), tell));
        Ok(Self {
            send,
            going,
            number,
            authority: address.to_string(),
        })
    }

    /// Whether new calls may go on it.
    pub(crate) fn is_open(&mut self) -> bool {
        takes_streams(&mut self.send)
    }

    /// Comes true when it takes no new calls any more: a GOAWAY, or its end.
    pub(crate) async fn going(&self) {
        // Whoever would tell is gone with the connection.
        _ = self.going.clone().wait_for(|going| *going).await;
    }

    /// A call with one message each way.
    pub(crate) async fn unary<T: Message + Default>(
        &self,
        path: &str,
        headers: HeaderMap,
        message: &impl Message,
    ) -> Result<(T, HeaderMap), Lost> {
        let (response, mut body) = self.begin(path, headers).await?;
        body.send_data(framed(message), true)?;
        let (head, body) = response.await?.into_parts();
        let mut hearing = Hearing::new(body);
        let reply = hearing.next().await?;
        let trailers = hearing.trailers(&head.headers).await?;
        match (status(&trailers), reply) {
            (Code::Ok, Some(reply)) => Ok((reply, head.headers)),
            (Code::Ok, None) => Err(Lost::Strange("OK without a message")),
            (code, _) => Err(Lost::Status(code)),
        }
    }

    /// A stream both ways, once its answer has begun.
    pub(crate) async fn stream(
        &self,
        path: &str,
        first: &impl Message,
    ) -> Result<(SendStream<Bytes>, Hearing), Lost> {
        let (response, mut body) = self.begin(path, HeaderMap::new()).await?;
        body.send_data(framed(first), false)?;
        let response = response.await?;
        Ok((body, Hearing::new(response.into_body())))
    }

    async fn begin(
        &self,
        path: &str,
        headers: HeaderMap,
    ) -> Result<(h2::client::ResponseFuture, SendStream<Bytes>), Lost> {
        let uri = http::Uri::builder()
            .scheme("http")
            .authority(self.authority.as_str())
            .path_and_query(path)
            .build()
            .map_err(|_| Lost::Strange("no path of a method"))?;
        let mut request = Request::new(());
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = uri;
        *request.version_mut() = http::Version::HTTP_2;
        *request.headers_mut() = headers;
        let fixed = [("content-type", "application/grpc"), ("te", "trailers")];
        for (name, value) in fixed {
            request
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        let mut send = self.send.clone().ready().await?;
        Ok(send.send_request(request, false)?)
    }
}

fn user_timeout(stream: &TcpStream) -> std::io::Result<()> {
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(USER_TIMEOUT))
}

fn takes_streams(send: &mut SendRequest<Bytes>) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    !matches!(send.poll_ready(&mut cx), Poll::Ready(Err(_)))
}

/// h2 tells of a GOAWAY only whoever wants a new stream, so it is asked, for as long as somebody has the link.
async fn until_going(mut send: SendRequest<Bytes>, tell: watch::Sender<bool>) {
    while takes_streams(&mut send) && !tell.is_closed() {
        tokio::time::sleep(LOOK).await;
    }
    _ = tell.send(true);
}

/// `grpc-timeout` in milliseconds.
pub(crate) fn timeout_header(headers: &mut HeaderMap, timeout: Duration) {
    let value = format!("{}m", timeout.as_millis().max(1));
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(TIMEOUT_HEADER, value);
    }
}

/// A message as gRPC frames it.
pub(crate) fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut octets = BytesMut::with_capacity(HEAD + length);
    octets.put_u8(0);
    octets.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    octets.extend_from_slice(&message.encode_to_vec());
    octets.freeze()
}

fn status(trailers: &HeaderMap) -> Code {
    let status = trailers.get("grpc-status").map(HeaderValue::as_bytes);
    status.map_or(Code::Unknown, Code::parse)
}

/// Messages as they come.
#[derive(Debug)]
pub(crate) struct Hearing {
    body: RecvStream,
    kept: BytesMut,
}

impl Hearing {
    fn new(body: RecvStream) -> Self {
        Self {
            body,
            kept: BytesMut::new(),
        }
    }

    /// The next message; `None` at the end of the data. Nothing is lost when it is dropped while it waits.
    pub(crate) async fn next<T: Message + Default>(&mut self) -> Result<Option<T>, Lost> {
        loop {
            if let Some(message) = self.whole()? {
                let read = T::decode(message);
                return read
                    .map(Some)
                    .map_err(|_| Lost::Strange("no message of this kind"));
            }
            match self.body.data().await {
                None => return Ok(None),
                Some(chunk) => {
                    let chunk = chunk?;
                    self.body.flow_control().release_capacity(chunk.len())?;
                    self.kept.extend_from_slice(&chunk);
                }
            }
        }
    }

    fn whole(&mut self) -> Result<Option<Bytes>, Lost> {
        let Some((&[is_compressed, a, b, c, d], rest)) = self.kept.split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if is_compressed != 0 || length > MESSAGE_MAX {
            return Err(Lost::Strange("a message that is compressed or too long"));
        }
        if rest.len() < length {
            return Ok(None);
        }
        let mut message = self.kept.split_to(HEAD + length);
        Ok(Some(message.split_off(HEAD).freeze()))
    }

    /// Waits for the end; an answer without a message has its status in the head.
    pub(crate) async fn trailers(&mut self, head: &HeaderMap) -> Result<HeaderMap, Lost> {
        if head.contains_key("grpc-status") {
            return Ok(head.clone());
        }
        while let Some(chunk) = self.body.data().await {
            let chunk = chunk?;
            self.body.flow_control().release_capacity(chunk.len())?;
        }
        Ok(self.body.trailers().await?.unwrap_or_default())
    }
}
