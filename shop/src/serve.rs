//! All services of the shop on one address.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use steer_rpc::key::StoreError;
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::generated::health::health_server::HealthServer;
use crate::generated::shop::payment_service_server::PaymentServiceServer;
use crate::generated::shop::user_service_server::UserServiceServer;
use crate::health::Serving;
use crate::payment::Payments;
use crate::users::Users;

/// A database that starts beside us may take so long.
const DATABASE_MAX: Duration = Duration::from_secs(30);

/// Between two attempts to reach it.
const AGAIN: Duration = Duration::from_millis(100);

/// Calls under way may take so long to end after the stop.
const END_MAX: Duration = Duration::from_secs(1);

/// Services that are bound and do not serve yet.
#[derive(Debug)]
pub struct Shop {
    listener: TcpListener,
    /// Absent: without a database.
    payments: Option<Payments>,
}

/// Why it does not begin.
#[derive(Debug, thiserror::Error)]
pub enum OpenFailed {
    /// The address cannot be had.
    #[error("cannot listen on {listen}")]
    Listen {
        /// Which.
        listen: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// PostgreSQL does not let us in.
    #[error("no database within {DATABASE_MAX:?}")]
    Database(#[source] StoreError),
}

impl Shop {
    /// Waits for the database (`host=/run/postgresql user=pay dbname=pay`), makes the tables that are missing, and binds. Without a
    /// database there are no payments.
    ///
    /// # Errors
    ///
    /// See [`OpenFailed`].
    pub async fn open(listen: SocketAddr, database: Option<&str>) -> Result<Self, OpenFailed> {
        let payments = match database {
            Some(database) => Some(connected(database).await.map_err(OpenFailed::Database)?),
            None => None,
        };
        let listener = TcpListener::bind(listen).await;
        let listener = listener.map_err(|source| OpenFailed::Listen { listen, source })?;
        Ok(Self { listener, payments })
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// When the system does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` comes true, and a little longer for calls under way.
    ///
    /// # Errors
    ///
    /// When the server fails.
    pub async fn serve(self, stop: impl Future<Output = ()>) -> Result<(), tonic::transport::Error> {
        let (ending, ended) = tokio::sync::oneshot::channel::<()>();
        let serving = Server::builder()
            .add_service(HealthServer::new(Serving))
            .add_service(UserServiceServer::new(Users::default()))
            .add_optional_service(self.payments.map(PaymentServiceServer::new))
            .serve_with_incoming_shutdown(TcpIncoming::from(self.listener).with_nodelay(Some(true)), async {
                _ = ended.await;
            });
        tokio::pin!(serving);
        tokio::select! {
            served = &mut serving => return served,
            () = stop => {}
        }
        _ = ending.send(());
        // Streams of clients that do not go are cut.
        tokio::time::timeout(END_MAX, serving).await.unwrap_or(Ok(()))
    }
}

async fn connected(database: &str) -> Result<Payments, StoreError> {
    let began = Instant::now();
    loop {
        match Payments::open(database).await {
            Err(error) if began.elapsed() < DATABASE_MAX => {
                tracing::info!(%error, "no database yet");
                tokio::time::sleep(AGAIN).await;
            }
            opened => return opened,
        }
    }
}
