//! TCP, RFC 7766: a listener and its connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

use super::gate::{Full, Gate};
use super::stream::{self, Service};
use crate::count::{self, Dropped};
use crate::reply::Transport;

/// Pause after an error that will not go away at once, such as too few file descriptors.
const BREATH: Duration = Duration::from_millis(50);

/// Takes connections until the service stops, then ends when the last of them has.
pub(super) async fn listen(listener: TcpListener, gate: Arc<Gate>, service: Service) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = service.stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => enter(stream, peer, &gate, &service, &connections),
            Err(error) if is_of_one_connection(&error) => count::dropped(Dropped::Accept),
            Err(error) => {
                count::dropped(Dropped::Accept);
                tracing::warn!(%error, "no TCP connection can be taken");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// accept(2): errors that were pending on the new connection.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

fn enter(
    stream: TcpStream,
    peer: SocketAddr,
    gate: &Arc<Gate>,
    service: &Service,
    connections: &TaskTracker,
) {
    let place = match gate.enter(peer.ip()) {
        Ok(place) => place,
        Err(full) => {
            count::dropped(match full {
                Full::InAll => Dropped::Connections,
                Full::OfClient => Dropped::ConnectionsOfClient,
            });
            return;
        }
    };
    // RFC 7766 §8 asks for one segment per reply; a delay would only add to it.
    let _ = stream.set_nodelay(true);
    let service = service.clone();
    connections.spawn(async move {
        let open = count::Open::new(Transport::Tcp);
        let end = stream::serve(stream, peer.ip(), Transport::Tcp, &service).await;
        count::closed(Transport::Tcp, end);
        drop((open, place));
    });
}
