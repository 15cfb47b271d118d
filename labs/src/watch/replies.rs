//! The client that steers by DNS: open loop, one request per tick whatever became of those before, and for each one
//! question to its resolver.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{MissedTickBehavior, timeout};

use super::answers::{Question, addresses};
use super::{Method, Reply, Seen, Timeline, now};

/// More of a reply is not read.
pub(crate) const REPLY_MAX: usize = 4096;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n";

/// Where the client finds the service.
#[derive(Debug, Clone)]
pub(crate) struct Steered {
    /// Asked for each request.
    pub(crate) resolver: SocketAddr,
    pub(crate) question: Question,
    pub(crate) port: u16,
}

/// Runs one client in the current namespace until the timeline is stopped.
pub(crate) fn watch(
    target: &Steered,
    every: Duration,
    limit: Duration,
    timeline: &Timeline,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut id: u16 = 0;
        while !timeline.stopped() {
            let late = ticks.tick().await.elapsed();
            let due = now() - i64::try_from(late.as_nanos()).unwrap_or(0);
            id = id.wrapping_add(1);
            let (target, timeline) = (target.clone(), timeline.clone());
            tokio::spawn(async move {
                let body = match timeout(limit, request(&target, id)).await {
                    Ok(body) => body,
                    Err(_) => Err(format!("no answer within {limit:?}")),
                };
                let reply = Reply {
                    method: Method::Dns,
                    due,
                    opened: due,
                    syn_lost: false, // not told apart here
                    body,
                };
                timeline.push(now(), Seen::Reply(reply));
            });
        }
        Ok(())
    })
}

async fn request(target: &Steered, id: u16) -> Result<String, String> {
    let address = resolve(target.resolver, &target.question, id).await?;
    get(SocketAddr::new(address, target.port))
        .await
        .map_err(|error| error.to_string())
}

async fn resolve(resolver: SocketAddr, question: &Question, id: u16) -> Result<std::net::IpAddr, String> {
    let ask = async {
        let socket = UdpSocket::bind("0.0.0.0:0").await?;
        socket.connect(resolver).await?;
        socket.send(&question.with_id(id)).await?;
        let mut buffer = vec![0; 4096];
        let length = socket.recv(&mut buffer).await?;
        buffer.truncate(length);
        Ok::<_, io::Error>(buffer)
    };
    let answer = ask.await.map_err(|error| format!("resolver: {error}"))?;
    let found = addresses(&answer, id).map_err(|error| format!("resolver: {error}"))?;
    found
        .first()
        .copied()
        .ok_or_else(|| "resolver: no address".to_owned())
}

/// One `GET /` on a new connection; the body of a 200.
async fn get(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(REQUEST).await?;
    let mut reply = String::new();
    stream.take(REPLY_MAX as u64).read_to_string(&mut reply).await?;
    body(&reply)
}

/// The body of a whole reply, if it is a 200.
pub(crate) fn body(reply: &str) -> io::Result<String> {
    match reply.split_once("\r\n\r\n") {
        Some((head, body)) if head.split(' ').nth(1) == Some("200") => Ok(body.trim().to_owned()),
        Some(_) | None => Err(io::Error::other(format!(
            "replied {:?}",
            reply.lines().next().unwrap_or_default()
        ))),
    }
}
