//! TCP, RFC 7766, and what stands on it: a listener and its connections.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::certificate::{Certificate, Inside};
use super::gate::Gate;
use super::https;
use super::stream::{self, Service};
use crate::count::{self, Dropped};
use crate::reply::Transport;

/// Pause after an error that will not go away at once, such as too few file descriptors.
const BREATH: Duration = Duration::from_millis(50);

/// What is spoken on a connection.
#[derive(Debug, Clone)]
pub(super) enum Speech {
    /// DNS, RFC 7766.
    Plain,
    /// Something inside TLS.
    Tls(Arc<Certificate>, Inside),
}

/// Takes connections until the service stops, then ends when the last of them has.
pub(super) async fn listen(listener: TcpListener, speech: Speech, gate: Arc<Gate>, service: Service) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = service.stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => enter(stream, peer, &speech, &gate, &service, &connections),
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
    speech: &Speech,
    gate: &Arc<Gate>,
    service: &Service,
    connections: &TaskTracker,
) {
    let place = match gate.enter(peer.ip()) {
        Ok(place) => place,
        Err(full) => {
            count::dropped(full.into());
            return;
        }
    };
    // RFC 7766 §8 asks for one segment per reply; a delay would only add to it.
    let _ = stream.set_nodelay(true);
    let (speech, service) = (speech.clone(), service.clone());
    connections.spawn(async move {
        converse(stream, peer.ip(), speech, &service).await;
        drop(place);
    });
}

async fn converse(stream: TcpStream, client: IpAddr, speech: Speech, service: &Service) {
    let transport = match &speech {
        Speech::Plain => Transport::Tcp,
        Speech::Tls(_, Inside::Dns) => Transport::Tls,
        Speech::Tls(_, Inside::Http) => Transport::Https,
    };
    let _open = count::Open::new(transport);
    let end = match speech {
        Speech::Plain => stream::serve(stream, client, transport, service).await,
        Speech::Tls(certificate, inside) => {
            let handshake = TlsAcceptor::from(certificate.config(inside)).accept(stream);
            let stream = tokio::select! {
                stream = timeout(service.idle, handshake) => stream,
                () = service.stop.cancelled() => return,
            };
            let Ok(Ok(stream)) = stream else {
                count::dropped(Dropped::Handshake);
                return;
            };
            match inside {
                Inside::Dns => stream::serve(stream, client, transport, service).await,
                Inside::Http => https::serve(stream, client, service).await,
            }
        }
    };
    count::closed(transport, end);
}
