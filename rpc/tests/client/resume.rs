//! Streams over connections that are cut at any octet: each message once, in its order, or the application is told.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use http::HeaderMap;
use prost::Message as _;
use steer_rpc::client::{Client, Resuming};
use steer_rpc::fate::{Code, Deadline};
use steer_rpc::key::{
    Answer, Claim, Handled, Handler, IdempotencyKey, KEY_HEADER, KeyedCall, Memory, MemoryClaim, Terms,
    serve, system_clock,
};
use steer_rpc::resume::{Limits, Mark, StreamToken, Window};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::metadata::MetadataMap;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use crate::peers::{client, within};
use crate::shop::user_service_client::UserServiceClient;
use crate::shop::user_service_server::{UserService, UserServiceServer};
use crate::shop::{ChatMessage, CreateUsersReply, GetUserRequest, ListUsersRequest, User};

const LIST: &str = "/shop.UserService/ListUsers";
const CREATE: &str = "/shop.UserService/CreateUsers";

/// Users that are there.
const COUNT: u64 = 300;

fn user(number: u64) -> User {
    User {
        name: format!("user {number}"),
        email: "x".repeat(40),
    }
}

/// How the service lists.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Lists {
    /// From where it is asked to.
    Well,
    /// Three messages earlier than that.
    Early,
    /// It leaves one out.
    Gap,
    /// It keeps only the last ones.
    Window(usize),
    /// Without a place.
    Nameless,
}

#[derive(Clone)]
struct Users {
    lists: Lists,
    asked: Arc<AtomicUsize>,
    store: Memory<String>,
}

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl UserService for Users {
    type ListUsersStream = Messages<User>;
    type ChatStream = Messages<ChatMessage>;

    async fn get_user(&self, _: Request<GetUserRequest>) -> Result<Response<User>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn list_users(
        &self,
        request: Request<ListUsersRequest>,
    ) -> Result<Response<Messages<User>>, Status> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let asked = Mark::read(&request.metadata().clone().into_headers());
        let asked = asked.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let token = StreamToken::parse(b"all-users").unwrap();
        let wanted = match asked {
            None => 0,
            Some(mark) if mark.token == token => mark.next,
            Some(_) => return Err(Status::out_of_range("this stream is not known")),
        };
        let is_again = wanted > 0;
        let next = match self.lists {
            Lists::Early if is_again => wanted.saturating_sub(3),
            Lists::Gap if is_again => wanted + 1,
            Lists::Well | Lists::Early | Lists::Gap | Lists::Window(_) | Lists::Nameless => wanted,
        };
        let users: Vec<_> = match self.lists {
            Lists::Window(max) if is_again => {
                let mut window = Window::new(max);
                for number in 0..COUNT {
                    window.push(user(number));
                }
                window
                    .from(next)
                    .map_err(|gone| Status::out_of_range(gone.to_string()))?
            }
            Lists::Well | Lists::Early | Lists::Gap | Lists::Window(_) | Lists::Nameless => {
                (next..COUNT).map(user).collect()
            }
        };
        // Each in a frame of its own; a frame that is cut is lost whole.
        let messages = stream::iter(users).then(async |user| {
            tokio::task::yield_now().await;
            Ok(user)
        });
        let messages: Messages<User> = Box::pin(messages);
        let mut response = Response::new(messages);
        if self.lists != Lists::Nameless {
            let mut headers = HeaderMap::new();
            Mark { token, next }.write(&mut headers);
            *response.metadata_mut() = MetadataMap::from_headers(headers);
        }
        Ok(response)
    }

    /// Each message is a keyed call of its own.
    async fn create_users(
        &self,
        request: Request<Streaming<User>>,
    ) -> Result<Response<CreateUsersReply>, Status> {
        let key = request.metadata().get(KEY_HEADER).unwrap().as_bytes().to_vec();
        let key = IdempotencyKey::parse(&key).unwrap();
        let mut users = request.into_inner();
        let mut number = 0;
        while let Some(user) = users.message().await? {
            let octets = user.encode_to_vec();
            let call = KeyedCall::new("ana", CREATE, key.of_message(number), &octets).unwrap();
            let reply = serve(&self.store, &call, Deadline::NONE, &mut Create(user)).await;
            assert_eq!(reply.answer.code, Code::Ok);
            number += 1;
        }
        let created = u32::try_from(number).unwrap();
        Ok(Response::new(CreateUsersReply { created }))
    }

    async fn chat(
        &self,
        _: Request<Streaming<ChatMessage>>,
    ) -> Result<Response<Messages<ChatMessage>>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

struct Create(User);

impl Handler<MemoryClaim<String>> for Create {
    async fn run(&mut self, claim: &mut MemoryClaim<String>) -> Handled {
        claim.transaction().await.unwrap().push(self.0.name.clone());
        Handled::Keep(Answer::ok(Vec::new()), Vec::new())
    }
}

async fn service(lists: Lists) -> (SocketAddr, Users) {
    let users = Users {
        lists,
        asked: Arc::default(),
        store: Memory::new(Terms::default(), system_clock()),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder().add_service(UserServiceServer::new(users.clone()));
    tokio::spawn(async move {
        server
            .serve_with_incoming(TcpIncoming::from(listener))
            .await
            .unwrap();
    });
    (address, users)
}

/// Where a connection is cut.
#[derive(Clone, Copy)]
enum Cut {
    /// After so many octets of answers.
    Answers(usize),
    /// After so many octets of requests.
    Requests(usize),
}

/// What stands between: passes octets on, and cuts the first so many connections.
async fn between(to: SocketAddr, cut: Cut, cuts: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut number = 0;
        while let Ok((near, _)) = listener.accept().await {
            // Each time another octet of a frame.
            let (down, up) = match (cut, number < cuts) {
                (Cut::Answers(octets), true) => (octets + number, usize::MAX),
                (Cut::Requests(octets), true) => (usize::MAX, octets + number),
                (Cut::Answers(_) | Cut::Requests(_), false) => (usize::MAX, usize::MAX),
            };
            number += 1;
            tokio::spawn(async move {
                let far = TcpStream::connect(to).await.unwrap();
                let (near_read, near_write) = near.into_split();
                let (far_read, far_write) = far.into_split();
                tokio::select! {
                    near = pass(near_read, far_write, up) => drop(near),
                    mut near = pass(far_read, near_write, down) => {
                        // The end, and not a reset, which would take along what is on its way.
                        _ = near.shutdown().await;
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                }
            });
        }
    });
    address
}

async fn pass<W: AsyncWriteExt + Unpin>(from: impl AsyncReadExt + Unpin, mut to: W, octets: usize) -> W {
    let mut from = from.take(octets as u64);
    let mut buffer = [0; 700];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..length]).await.is_err() {
            break;
        }
    }
    to
}

const SEMANTICS: &str = "semantics = \"at-least-once\"";

fn reader(targets: &[SocketAddr]) -> UserServiceClient<Resuming> {
    UserServiceClient::new(client(targets, SEMANTICS).resuming(&[LIST], Limits::DEFAULT))
}

/// Reads to the end: the names, and the status.
async fn read(mut users: UserServiceClient<Resuming>) -> (Vec<String>, Result<(), Status>) {
    let mut names = Vec::new();
    let mut listed = match within(users.list_users(ListUsersRequest {})).await {
        Ok(listed) => listed.into_inner(),
        Err(status) => return (names, Err(status)),
    };
    loop {
        match within(listed.message()).await {
            Ok(Some(user)) => names.push(user.name),
            Ok(None) => return (names, Ok(())),
            Err(status) => return (names, Err(status)),
        }
    }
}

fn names(count: u64) -> Vec<String> {
    (0..count).map(|number| user(number).name).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_cut_again_and_again_goes_on_through_another_and_each_message_comes_once() {
    for lists in [Lists::Well, Lists::Early] {
        let (address, service) = service(lists).await;
        let (one, other) = (
            between(address, Cut::Answers(1500), 8).await,
            between(address, Cut::Answers(2300), 8).await,
        );
        let (had, end) = read(reader(&[one, other])).await;
        end.unwrap();
        assert_eq!(had, names(COUNT), "{lists:?}");
        let asked = service.asked.load(Ordering::SeqCst);
        println!("{COUNT} messages in {asked} pieces ({lists:?})");
        assert!(asked > 5, "{asked}: it was cut");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_leaves_a_message_out_is_found_out() {
    let (address, _) = service(Lists::Gap).await;
    let (had, end) = read(reader(&[between(address, Cut::Answers(1500), 1).await])).await;
    let status = end.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DataLoss);
    assert!(status.message().contains("is wanted"), "{}", status.message());
    assert_eq!(had, names(had.len() as u64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_whose_window_has_passed_says_so_and_one_that_still_has_it_goes_on() {
    let (address, _) = service(Lists::Window(10)).await;
    let (had, end) = read(reader(&[between(address, Cut::Answers(1500), 1).await])).await;
    assert_eq!(end.unwrap_err().code(), tonic::Code::OutOfRange);
    assert_eq!(had, names(had.len() as u64));

    let (address, _) = service(Lists::Window(COUNT as usize)).await;
    let (had, end) = read(reader(&[between(address, Cut::Answers(1500), 3).await])).await;
    end.unwrap();
    assert_eq!(had, names(COUNT));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_without_a_place_ends_where_it_was_cut() {
    let (address, service) = service(Lists::Nameless).await;
    let (had, end) = read(reader(&[between(address, Cut::Answers(1500), 1).await])).await;
    let status = end.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert_eq!(status.metadata().get("steer-fate").unwrap(), "ambiguous");
    assert_eq!(had, names(had.len() as u64));
    assert_eq!(service.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_does_not_go_on_after_its_deadline() {
    let (address, _) = service(Lists::Well).await;
    let all_cut = between(address, Cut::Answers(200), usize::MAX).await;
    let mut users = reader(&[all_cut]);
    let mut request = Request::new(ListUsersRequest {});
    request.set_timeout(Duration::from_millis(400));
    let began = std::time::Instant::now();
    let ended = match within(users.list_users(request)).await {
        Err(status) => status,
        Ok(listed) => {
            let mut listed = listed.into_inner();
            loop {
                match within(listed.message()).await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("it cannot have come to its end"),
                    Err(status) => break status,
                }
            }
        }
    };
    assert!(
        matches!(
            ended.code(),
            tonic::Code::DeadlineExceeded | tonic::Code::Unavailable
        ),
        "{ended}"
    );
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_stream_that_is_sent_again_does_each_message_once() {
    let (address, service) = service(Lists::Well).await;
    let keyed: Client = client(
        &[
            between(address, Cut::Requests(2000), 1).await,
            between(address, Cut::Requests(4000), 1).await,
        ],
        "semantics = \"keyed\"\nmax_attempts = 5",
    );
    let users: Vec<_> = (0..200).map(user).collect();
    let created = within(UserServiceClient::new(keyed).create_users(stream::iter(users))).await;
    let created = created.unwrap();
    let outcome = created
        .extensions()
        .get::<steer_rpc::client::Outcome>()
        .unwrap()
        .known();
    assert!(outcome.attempts > 1, "it was cut");
    assert_eq!(created.get_ref().created, 200);
    assert_eq!(service.store.effects(), names(200));
}
