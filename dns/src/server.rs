//! Sockets around the engine: hickory-server's listeners for UDP and TCP.
//!
//! Bounds. UDP: one task per datagram, which ends without waiting for anything. TCP: queries of a connection
//! are answered one after the other (RFC 7766 §6.2.1.1 asks clients to cope), at most [`TCP_BACKLOG`] replies
//! wait for a slow reader, then further ones are dropped and counted; a connection without a query for
//! [`TCP_IDLE`] is closed.
//!
//! What hickory-server decides before the engine sees a message:
//! Gap: RFC 6891 §7, RFC 8906 §8: a message that it cannot parse gets FORMERR without question and OPT record,
//! and is in none of our counters; `Engine::answer` itself does it right.
//! Gap: RFC 7766 §6.2.3: no limit on the number of connections, in all or per client, but that of file descriptors.
//! Gap: replies of a wildcard socket leave from the address that routing picks; list concrete addresses in
//! `[dns] listen` on a host with several.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::{Header, HeaderCounts, Metadata};
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use rand::rngs::SmallRng;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;

use crate::count;
use crate::engine::Engine;
use crate::reply::{Reply, Transport};

/// A TCP connection without a query for so long is closed. RFC 7766 §6.2.3 asks for "a few seconds".
pub const TCP_IDLE: Duration = Duration::from_secs(10);
/// Replies that may wait in one TCP connection for a slow reader.
pub const TCP_BACKLOG: usize = 32;
/// Connections that the kernel keeps for us until we accept them.
const LISTEN_BACKLOG: i32 = 1024;
/// Tries to find a port that is free in both UDP and TCP, where port 0 leaves the choice to us.
const PORT_TRIES: usize = 16;

/// Bound sockets that do not answer yet.
#[derive(Debug)]
pub struct Server {
    sockets: Vec<(UdpSocket, TcpListener, SocketAddr)>,
}

impl Server {
    /// Binds UDP and TCP on every address, or nothing at all. Port 0 takes a port that is free in both. The
    /// error names protocol and address, and the process that holds it where that can be seen.
    ///
    /// Needs a tokio runtime around it, but waits for nothing.
    #[expect(
        clippy::unused_async,
        reason = "tells callers that a runtime is needed, and leaves room to wait"
    )]
    pub async fn bind(listen: &[SocketAddr]) -> io::Result<Self> {
        let sockets = listen
            .iter()
            .map(|address| bind_both(*address))
            .collect::<io::Result<_>>()?;
        Ok(Self { sockets })
    }

    /// The addresses in the order of `bind`, with the port that was taken for port 0.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.sockets.iter().map(|(_, _, address)| *address).collect()
    }

    /// Answers until `shutdown`; queries under way get their reply.
    pub async fn run(self, engine: Arc<Engine>, shutdown: CancellationToken) {
        let mut server = hickory_server::Server::new(Handler { engine });
        for (udp, tcp, address) in self.sockets {
            tracing::info!(%address, "answering DNS over UDP and TCP");
            server.register_socket(udp);
            server.register_listener(tcp, TCP_IDLE, TCP_BACKLOG);
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            result = server.block_until_done() => {
                if let Err(error) = result {
                    tracing::error!(%error, "a DNS listener ended");
                }
            }
        }
        if let Err(error) = server.shutdown_gracefully().await {
            tracing::warn!(%error, "a DNS listener did not end cleanly");
        }
    }
}

fn bind_both(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener, SocketAddr)> {
    let mut tries = if address.port() == 0 { PORT_TRIES } else { 1 };
    loop {
        tries -= 1;
        let tcp = TcpListener::from_std(socket(address, Type::STREAM)?.into())?;
        let bound = tcp.local_addr()?;
        match socket(bound, Type::DGRAM) {
            Ok(udp) => return Ok((UdpSocket::from_std(udp.into())?, tcp, bound)),
            Err(error) if tries == 0 || error.kind() != io::ErrorKind::AddrInUse => return Err(error),
            Err(_) => {}
        }
    }
}

fn socket(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), kind, None)?;
        socket.set_nonblocking(true)?;
        if address.is_ipv6() {
            // `[::]` beside `0.0.0.0` on the same port
            socket.set_only_v6(true)?;
        }
        if kind == Type::STREAM {
            // a restart does not wait for connections of the last run
            socket.set_reuse_address(true)?;
        }
        socket.bind(&address.into())?;
        if kind == Type::STREAM {
            socket.listen(LISTEN_BACKLOG)?;
        }
        Ok(socket)
    };
    open().map_err(|error: io::Error| {
        let protocol = if kind == Type::STREAM { "TCP" } else { "UDP" };
        let is_held = error.kind() == io::ErrorKind::AddrInUse;
        let holder = is_held
            .then(|| crate::holder::of(address, kind == Type::STREAM))
            .flatten();
        let holder = holder.map_or_else(String::new, |holder| format!(" (held by {holder})"));
        io::Error::new(
            error.kind(),
            format!("cannot listen on {protocol} {address}: {error}{holder}"),
        )
    })
}

/// hickory-server's view of the engine.
struct Handler {
    engine: Arc<Engine>,
}

thread_local! {
    static RNG: std::cell::RefCell<SmallRng> = std::cell::RefCell::new(rand::make_rng());
}

impl Handler {
    fn answer(&self, query: &[u8], client: IpAddr, transport: Transport) -> Option<Reply> {
        let began = Instant::now();
        let reply = RNG.with_borrow_mut(|rng| self.engine.answer(query, client, transport, rng));
        count::took(began.elapsed());
        reply
    }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut sender: R,
    ) -> ResponseInfo {
        let transport = if request.protocol() == Protocol::Udp {
            Transport::Udp
        } else {
            Transport::Tcp
        };
        let Some(reply) = self.answer(request.as_slice(), request.src().ip(), transport) else {
            return info(request.metadata, HeaderCounts::default());
        };
        let builder = MessageResponseBuilder::new(&request.queries, reply.edns.as_ref());
        let Reply {
            metadata,
            answers,
            authorities,
            additionals,
            ..
        } = &reply;
        let response = builder.build(*metadata, answers, authorities, [], additionals);
        match sender.send_response(response).await {
            Ok(info) => info,
            Err(error) => {
                count::unsent();
                tracing::debug!(%error, "reply not sent");
                info(reply.metadata, reply.counts())
            }
        }
    }
}

fn info(metadata: Metadata, counts: HeaderCounts) -> ResponseInfo {
    ResponseInfo::from(Header { metadata, counts })
}
