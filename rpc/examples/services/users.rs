//! Users in memory: each kind of stream once.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::Stream;
use futures_util::stream;
use tokio::sync::broadcast;
use tonic::{Request, Response, Status, Streaming};

use super::shop::user_service_server::UserService;
use super::shop::{ChatMessage, CreateUsersReply, GetUserRequest, ListUsersRequest, User};

/// Messages of the chat that a slow reader may be behind; what is older is lost to it, and it is told so.
const BEHIND_MAX: usize = 256;

#[derive(Debug)]
pub(super) struct Users {
    by_name: Mutex<BTreeMap<String, User>>,
    chat: broadcast::Sender<ChatMessage>,
}

impl Default for Users {
    fn default() -> Self {
        Self {
            by_name: Mutex::default(),
            chat: broadcast::Sender::new(BEHIND_MAX),
        }
    }
}

impl Users {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, User>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
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
        let heard = self.chat.subscribe();
        let mut said = request.into_inner();
        let chat = self.chat.clone();
        let saying = tokio::spawn(async move {
            while let Ok(Some(message)) = said.message().await {
                // Nobody else may be there to hear it.
                _ = chat.send(message);
            }
        });
        let hearing = stream::unfold((heard, saying), async |(mut heard, saying)| {
            if saying.is_finished() && heard.is_empty() {
                return None;
            }
            let message = match heard.recv().await {
                Ok(message) => Ok(message),
                Err(broadcast::error::RecvError::Lagged(lost)) => {
                    Err(Status::resource_exhausted(format!("{lost} messages behind")))
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            };
            Some((message, (heard, saying)))
        });
        Ok(Response::new(Box::pin(hearing)))
    }
}
