//! A thread that serves: its clients, their calls, and connections to backends of its own. On the way of a call no other
//! thread has to wake, and what comes together is answered together.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::client::Client;
use super::live::Live;
use super::phase::Phase;
use super::places::{Place, Places};
use crate::edge::proxy::Caller;

/// Clients on their way to a thread. Where there are as many, the next waits in the queue of the listener.
const WAITING: usize = 64;

/// A client that has come.
pub(super) struct Newcomer {
    pub(super) stream: std::net::TcpStream,
    pub(super) address: SocketAddr,
    pub(super) tls: Option<Arc<ServerConfig>>,
    /// It is this host.
    pub(super) is_own: bool,
    /// Among the connections of the edge.
    pub(super) place: Place,
}

/// What holds for the clients of a thread.
pub(super) struct Clients {
    pub(super) live: Arc<ArcSwap<Live>>,
    pub(super) calls: Places,
    pub(super) phase: watch::Receiver<Phase>,
}

enum Job {
    Serve(Newcomer, Place),
    /// No more will come: end when those that are there have.
    Finish,
}

/// A thread, as the listener sees it. One that is dropped, and not finished, ends at once.
pub(super) struct Worker {
    jobs: mpsc::Sender<Job>,
    clients: Places,
    ended: oneshot::Receiver<()>,
}

impl Worker {
    pub(super) fn start(number: usize, clients: Clients) -> io::Result<Self> {
        let (jobs, coming) = mpsc::channel(WAITING);
        let (end, ended) = oneshot::channel();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let body = move || {
            clients.run(&runtime, coming);
            drop(runtime);
            drop(end);
        };
        thread::Builder::new()
            .name(format!("steer-edge-{number}"))
            .spawn(body)?;
        Ok(Self {
            jobs,
            clients: Places::default(),
            ended,
        })
    }

    /// Whether it takes clients.
    pub(super) fn is_there(&self) -> bool {
        !self.jobs.is_closed()
    }

    /// How many clients it has.
    pub(super) fn clients(&self) -> usize {
        self.clients.taken()
    }

    pub(super) async fn serve(&self, newcomer: Newcomer) {
        // A thread that goes in this moment loses its clients; this one finds a closed connection.
        if let Some(place) = self.clients.take(usize::MAX) {
            _ = self.jobs.send(Job::Serve(newcomer, place)).await;
        }
    }

    /// Waits until its clients are gone.
    pub(super) async fn finish(self) {
        _ = self.jobs.send(Job::Finish).await;
        _ = self.ended.await;
    }
}

impl Clients {
    fn run(self, runtime: &Runtime, mut coming: mpsc::Receiver<Job>) {
        runtime.block_on(async {
            let mut clients = JoinSet::new();
            loop {
                match coming.recv().await {
                    Some(Job::Serve(newcomer, place)) => {
                        while clients.try_join_next().is_some() {}
                        let client = self.client(&newcomer);
                        clients.spawn(async move {
                            client.serve(newcomer).await;
                            drop(place);
                        });
                    }
                    Some(Job::Finish) => break,
                    None => return,
                }
            }
            while clients.join_next().await.is_some() {}
        });
    }

    fn client(&self, newcomer: &Newcomer) -> Client {
        let now = self.live.load();
        Client {
            rules: now.clients.clone(),
            drain: now.drain,
            live: self.live.clone(),
            caller: Caller {
                address: newcomer.address.ip(),
                name: None,
            },
            calls: self.calls.clone(),
            phase: self.phase.clone(),
            is_own: newcomer.is_own,
        }
    }
}
