//! How a client speaks: each request on a connection of its own, or one after the other on a flow that is held.
//!
//! A held flow is what a move of routes hurts: its packets meet a site that does not know it. It lasts until a request on
//! it fails or gets no answer in time, as in a client with a connection pool; the next request opens another.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Mutex;

use crate::datagram;
use crate::watch::load::is_whole;
use crate::watch::replies::{REPLY_MAX, body};

mod grpc;

use grpc::Channel;

const CLOSE: &[u8] = b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n";
const KEEP: &[u8] = b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n";

/// What requests go over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Over {
    /// HTTP, a new TCP connection for each request.
    #[default]
    Http,
    /// HTTP on one TCP connection.
    HttpFlow,
    /// Datagrams of one UDP socket: the flow is its pair of addresses and ports.
    UdpFlow,
    /// `grpc.health.v1.Health/Check` on one HTTP/2 connection.
    GrpcFlow,
}

/// The way of one client.
#[derive(Debug)]
pub(super) struct Line {
    over: Over,
    held: Mutex<Option<Flow>>,
}

#[derive(Debug)]
enum Flow {
    Http(TcpStream),
    Udp(UdpSocket),
    Grpc(Channel),
}

impl Line {
    pub(super) fn new(over: Over) -> Self {
        Self {
            over,
            held: Mutex::new(None),
        }
    }

    /// One request; who answered. `address` is asked for only where a flow has to be opened.
    pub(super) async fn ask(
        &self,
        address: impl Future<Output = Result<SocketAddr, String>>,
    ) -> Result<String, String> {
        let words = |error: io::Error| error.to_string();
        if self.over == Over::Http {
            return get(address.await?).await.map_err(words);
        }
        let mut held = self.held.lock().await;
        // Taken out meanwhile: whoever gives up waiting for the answer gives up the flow.
        let mut flow = match held.take() {
            Some(flow) => flow,
            None => Flow::open(self.over, address.await?).await.map_err(words)?,
        };
        let site = flow.ask().await.map_err(words)?;
        *held = Some(flow);
        Ok(site)
    }
}

impl Flow {
    async fn open(over: Over, address: SocketAddr) -> io::Result<Self> {
        match over {
            Over::Http | Over::HttpFlow => Ok(Self::Http(connect(address).await?)),
            Over::UdpFlow => {
                let socket = UdpSocket::bind("0.0.0.0:0").await?;
                socket.connect(address).await?;
                Ok(Self::Udp(socket))
            }
            Over::GrpcFlow => Ok(Self::Grpc(Channel::open(connect(address).await?).await?)),
        }
    }

    async fn ask(&mut self) -> io::Result<String> {
        match self {
            Self::Http(stream) => on(stream).await,
            Self::Udp(socket) => over_udp(socket).await,
            Self::Grpc(channel) => channel.check().await,
        }
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    // RST at the end: tens of thousands of connections in TIME-WAIT would answer for others.
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Ok(stream)
}

/// One `GET /` on a new connection; the body of a 200.
async fn get(address: SocketAddr) -> io::Result<String> {
    let mut stream = connect(address).await?;
    stream.write_all(CLOSE).await?;
    let mut reply = String::new();
    stream.take(REPLY_MAX as u64).read_to_string(&mut reply).await?;
    body(&reply)
}

/// One `GET /` on a connection that stays.
async fn on(stream: &mut TcpStream) -> io::Result<String> {
    stream.write_all(KEEP).await?;
    let mut reply = Vec::new();
    while reply.len() < REPLY_MAX {
        if stream.read_buf(&mut reply).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&reply);
        if is_whole(&text) {
            return body(&text);
        }
    }
    Err(io::Error::other("the reply has no end"))
}

async fn over_udp(socket: &UdpSocket) -> io::Result<String> {
    let number = rand_number();
    socket.send(&datagram::question(number)).await?;
    let mut buffer = [0; 2 * datagram::LENGTH];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // An answer to an earlier question may still come.
        if let Some(site) = datagram::answered(buffer.get(..length).unwrap_or_default(), number) {
            return Ok(site);
        }
    }
}

/// Tells answers apart; nobody has to be kept from guessing it in a lab.
fn rand_number() -> u64 {
    u64::try_from(crate::watch::now()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    const REPLY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfra\n";

    /// A server whose connections answer so often and are silent afterwards; how many connections it has had.
    async fn server(answers: usize) -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&count);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                seen.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let mut bytes = [0; 256];
                    let mut left = answers;
                    while stream.read(&mut bytes).await.is_ok_and(|length| length > 0) {
                        if left > 0 {
                            left -= 1;
                            stream.write_all(REPLY).await.unwrap();
                        }
                    }
                });
            }
        });
        (address, count)
    }

    async fn ask(line: &Line, address: SocketAddr) -> Option<String> {
        let asked = line.ask(async move { Ok(address) });
        let answer = timeout(Duration::from_millis(300), asked).await;
        answer.ok().map(Result::unwrap)
    }

    #[tokio::test]
    async fn a_flow_is_held_until_a_request_on_it_gets_no_answer_and_the_next_opens_another() {
        let (address, connections) = server(3).await;
        let line = Line::new(Over::HttpFlow);
        for _ in 0..3 {
            assert_eq!(ask(&line, address).await.as_deref(), Some("fra"));
        }
        assert_eq!(connections.load(Ordering::SeqCst), 1);
        assert_eq!(ask(&line, address).await, None);
        assert_eq!(ask(&line, address).await.as_deref(), Some("fra"));
        assert_eq!(connections.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn without_a_flow_each_request_has_a_connection_of_its_own() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let line = Line::new(Over::Http);
        for _ in 0..2 {
            let (answer, ()) = tokio::join!(ask(&line, address), async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 256];
                assert!(stream.read(&mut request).await.unwrap() > 0);
                stream.write_all(REPLY).await.unwrap();
            });
            assert_eq!(answer.as_deref(), Some("fra"));
        }
    }

    #[tokio::test]
    async fn an_answer_to_an_earlier_datagram_is_not_taken_for_that_of_this_one() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let line = Line::new(Over::UdpFlow);
        let (answer, ()) = tokio::join!(ask(&line, address), async {
            let mut question = [0; datagram::LENGTH];
            let (_, from) = server.recv_from(&mut question).await.unwrap();
            let late = datagram::answer(&datagram::question(1), "late").unwrap();
            let right = datagram::answer(&question, "fra").unwrap();
            for answer in [late, right] {
                server.send_to(&answer, from).await.unwrap();
            }
        });
        assert_eq!(answer.as_deref(), Some("fra"));
    }
}
