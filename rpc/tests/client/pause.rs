//! A process that stands still for two seconds, as in a pause of a collector: what has become stale is discarded when it
//! wakes up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use steer_rpc::stale::Discard;
use tokio::sync::{mpsc, oneshot};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use crate::peers::{LONG, Peer, Say, UNAVAILABLE, View, call, client, until};
use crate::shop::user_service_server::{UserService, UserServiceServer};
use crate::shop::{ChatMessage, CreateUsersReply, GetUserRequest, ListUsersRequest, User};

const PAUSE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_client_that_stood_still_sends_nothing_whose_time_is_over() {
    // The first attempt fails, and the process stops while the second one waits for its turn.
    const LATER: Say = Say::Trailers(&[("grpc-status", "14"), ("grpc-retry-pushback-ms", "300")]);
    let peers = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let peer = runtime.block_on(Peer::start(&[LATER, LATER, UNAVAILABLE]));
        (runtime, peer)
    });
    let (runtime, peer) = peers.join().unwrap();
    let (address, peer) = (peer.address, Arc::new(peer));
    let (stop, stopped) = oneshot::channel::<()>();
    let running = std::thread::spawn(move || runtime.block_on(stopped));
    let client = client(&[address], "semantics = \"keyed\"");
    let waiting = tokio::spawn(async move { call(&client, Duration::from_secs(1)).await.told() });
    until("the first attempt is there", || peer.seen() == 1).await;
    // Time for its answer to be read; where it is not, the call is as stale.
    tokio::time::sleep(Duration::from_millis(100)).await;
    std::thread::sleep(PAUSE);
    assert_eq!(waiting.await.unwrap(), (4, "ambiguous".to_owned()));
    assert_eq!(peer.seen(), 1, "what was stale is not sent");
    drop(stop);
    _ = running.join().unwrap();
}

/// A service whose process stands still when it is asked for `pause`.
#[derive(Default, Clone)]
struct Users {
    done: Arc<AtomicUsize>,
}

type Never<T> = futures_util::stream::Pending<Result<T, Status>>;

#[tonic::async_trait]
impl UserService for Users {
    type ListUsersStream = Never<User>;
    type ChatStream = Never<ChatMessage>;

    async fn get_user(&self, request: Request<GetUserRequest>) -> Result<Response<User>, Status> {
        let name = request.into_inner().name;
        self.done.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(User {
            name,
            email: String::new(),
        }))
    }

    async fn list_users(&self, _: Request<ListUsersRequest>) -> Result<Response<Never<User>>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn create_users(&self, _: Request<Streaming<User>>) -> Result<Response<CreateUsersReply>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn chat(&self, _: Request<Streaming<ChatMessage>>) -> Result<Response<Never<ChatMessage>>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

/// A server on a thread of its own, which can be made to stand still.
struct Standing {
    address: SocketAddr,
    users: Users,
    /// It stands still when it has answered.
    pause: mpsc::UnboundedSender<oneshot::Sender<()>>,
}

fn start() -> Standing {
    let users = Users::default();
    let (pause, mut paused) = mpsc::unbounded_channel::<oneshot::Sender<()>>();
    let (tell, told) = std::sync::mpsc::channel();
    let served = users.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            tokio::spawn(async move {
                while let Some(begins) = paused.recv().await {
                    begins.send(()).unwrap();
                    std::thread::sleep(PAUSE);
                }
            });
            let server = Server::builder()
                .layer(Discard::start())
                .add_service(UserServiceServer::new(served));
            server
                .serve_with_incoming(TcpIncoming::from(listener))
                .await
                .unwrap();
        });
    });
    Standing {
        address: told.recv().unwrap(),
        users,
        pause,
    }
}

#[tokio::test]
async fn a_server_that_stood_still_costs_its_client_the_deadline_and_no_more_and_does_not_do_the_stale_work()
{
    let standing = start();
    let client = client(&[standing.address], "semantics = \"at-most-once\"");
    assert_eq!(call(&client, LONG).await.told(), (0, "committed".to_owned()));
    let (begins, begun) = oneshot::channel();
    standing.pause.send(begins).unwrap();
    begun.await.unwrap();
    let began = Instant::now();
    // The server stands still, with all of them in its socket.
    let calls = (0..5).map(|_| call(&client, Duration::from_millis(400)));
    let told: Vec<_> = futures_util::future::join_all(calls)
        .await
        .iter()
        .map(View::told)
        .collect();
    assert!(
        told.iter().all(|told| *told == (4, "ambiguous".to_owned())),
        "{told:?}"
    );
    assert!(
        began.elapsed() < PAUSE - Duration::from_millis(500),
        "{:?}",
        began.elapsed()
    );
    // A call after it is answered, so what lay before it in the socket was read.
    assert_eq!(call(&client, LONG).await.told(), (0, "committed".to_owned()));
    let done = standing.users.done.load(Ordering::SeqCst);
    assert_eq!(done, 2, "the stale ones are not begun");
}
