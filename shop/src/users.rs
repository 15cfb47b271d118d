//! Users in memory: each kind of stream once.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::Stream;
use futures_util::stream;
use tokio::sync::broadcast;
use tonic::{Request, Response, Status, Streaming};

use crate::generated::shop::user_service_server::UserService;
use crate::generated::shop::{ChatMessage, CreateUsersReply, GetUserRequest, ListUsersRequest, User};

/// Messages of a room that a slow reader may be behind; what is older is lost to it, and it is told so.
const BEHIND_MAX: usize = 64;

/// Rooms at the same time.
const ROOMS_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub(crate) struct Users {
    by_name: Mutex<BTreeMap<String, User>>,
    rooms: Arc<Rooms>,
}

impl Users {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, User>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rooms with somebody in them.
#[derive(Debug, Default)]
struct Rooms(Mutex<BTreeMap<String, broadcast::Sender<ChatMessage>>>);

impl Rooms {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, broadcast::Sender<ChatMessage>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(self: &Arc<Self>, name: &str) -> Result<Seat, Status> {
        let mut rooms = self.lock();
        if rooms.len() >= ROOMS_MAX && !rooms.contains_key(name) {
            return Err(Status::resource_exhausted(format!(
                "there are {ROOMS_MAX} rooms already"
            )));
        }
        let room = rooms
            .entry(name.to_owned())
            .or_insert_with(|| broadcast::Sender::new(BEHIND_MAX));
        Ok(Seat {
            hear: room.subscribe(),
            say: room.clone(),
            leave: Leave {
                rooms: Arc::clone(self),
                name: name.to_owned(),
            },
        })
    }
}

/// A place in a room.
struct Seat {
    hear: broadcast::Receiver<ChatMessage>,
    say: broadcast::Sender<ChatMessage>,
    leave: Leave,
}

/// The room goes with the last who leaves it.
struct Leave {
    rooms: Arc<Rooms>,
    name: String,
}

impl Drop for Leave {
    fn drop(&mut self) {
        let mut rooms = self.rooms.lock();
        // Our own receiver may still be there, or be dropped already.
        if rooms
            .get(&self.name)
            .is_some_and(|room| room.receiver_count() <= 1)
        {
            rooms.remove(&self.name);
        }
    }
}

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl UserService for Users {
    type ListUsersStream = Messages<User>;
    type ChatStream = Messages<ChatMessage>;

    async fn get_user(&self, request: Request<GetUserRequest>) -> Result<Response<User>, Status> {
        let name = request.into_inner().name;
        let user = self.lock().get(&name).cloned();
        user.map(Response::new)
            .ok_or_else(|| Status::not_found(format!("there is no user {name:?}")))
    }

    async fn list_users(&self, _: Request<ListUsersRequest>) -> Result<Response<Messages<User>>, Status> {
        let all: Vec<_> = self.lock().values().cloned().map(Ok).collect();
        Ok(Response::new(Box::pin(stream::iter(all))))
    }

    async fn create_users(
        &self,
        request: Request<Streaming<User>>,
    ) -> Result<Response<CreateUsersReply>, Status> {
        let mut users = request.into_inner();
        let mut created = 0;
        while let Some(user) = users.message().await? {
            let mut by_name = self.lock();
            created += u32::from(!by_name.contains_key(&user.name));
            by_name.entry(user.name.clone()).or_insert(user);
        }
        Ok(Response::new(CreateUsersReply { created }))
    }

    async fn chat(
        &self,
        request: Request<Streaming<ChatMessage>>,
    ) -> Result<Response<Messages<ChatMessage>>, Status> {
        let mut said = request.into_inner();
        let first = said.message().await?;
        let first = first.ok_or_else(|| Status::invalid_argument("the first message names the room"))?;
        let Seat { hear, say, leave } = self.rooms.join(&first.room)?;
        let saying = tokio::spawn(async move {
            let mut next = Some(first);
            while let Some(message) = next {
                // Nobody else may be there to hear it.
                _ = say.send(message);
                next = said.message().await.unwrap_or(None);
            }
        });
        Ok(Response::new(Box::pin(stream::unfold(
            (hear, saying, leave),
            hear_next,
        ))))
    }
}

type Hearing = (
    broadcast::Receiver<ChatMessage>,
    tokio::task::JoinHandle<()>,
    Leave,
);

/// The next message; the end once all that oneself said was heard.
async fn hear_next((mut hear, mut saying, leave): Hearing) -> Option<(Result<ChatMessage, Status>, Hearing)> {
    loop {
        if saying.is_finished() && hear.is_empty() {
            return None;
        }
        let heard = tokio::select! {
            heard = hear.recv() => heard,
            // Looked at again: what was said last may be there to be heard.
            _ = &mut saying, if !saying.is_finished() => continue,
        };
        let message = match heard {
            Ok(message) => Ok(message),
            Err(broadcast::error::RecvError::Lagged(lost)) => {
                Err(Status::resource_exhausted(format!("{lost} messages behind")))
            }
            Err(broadcast::error::RecvError::Closed) => return None,
        };
        return Some((message, (hear, saying, leave)));
    }
}
