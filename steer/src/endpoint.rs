//! A small endpoint that answers with its name, over HTTP, as a gRPC health service, and over UDP if asked to: what
//! quickstart and labs kill and revive.

mod behave;
mod datagrams;
mod grpc;

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::IntoResponse as _;
use axum::routing::any;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{oneshot, watch};

use crate::cli::EndpointArgs;
use crate::exit::Failure;
use crate::{run, runtimes};
use behave::Behaviour;

/// Serves until SIGTERM or SIGINT.
pub(crate) fn run(args: &EndpointArgs) -> Result<(), Failure> {
    runtimes::serving()?.block_on(async {
        let mut stop = run::stop_on_signal()?;
        let doing = format!("cannot serve on {}", args.listen);
        let failed = |error: io::Error| Failure::runtime(&doing, &error);
        let (_well, always_well) = watch::channel(Behaviour::Well);
        let behaviour = args.behave.clone().map_or(always_well, behave::follow);
        let app = app(format!("{}\n", args.name).into(), behaviour.clone());
        let listen = args.listen;
        let datagrams = async {
            match args.udp {
                Some(udp) => datagrams::serve(udp, &args.name, behaviour.clone()).await,
                None => std::future::pending().await,
            }
        };
        let listener = behave::Listener::new(move || bind(listen), behaviour.clone()).map_err(failed)?;
        tokio::select! {
            () = stop.wait() => Ok(()),
            () = stdin_closes(), if args.with_stdin => Ok(()),
            ended = datagrams => ended.map_err(failed),
            ended = axum::serve(listener, app) => ended.map_err(failed),
        }
    })
}

/// Answers everything with the name, unless the behaviour of the moment is another.
fn app(name: Arc<str>, behaviour: watch::Receiver<Behaviour>) -> Router {
    Router::new().fallback(any(move |request: Request<Body>| async move {
        let now = *behaviour.borrow();
        let well = match now {
            Behaviour::Error => false,
            Behaviour::Slow(time) => {
                tokio::time::sleep(time).await;
                true
            }
            Behaviour::Well | Behaviour::Refuse | Behaviour::Reset | Behaviour::HalfOpen => true,
        };
        if grpc::is_call(&request) {
            return grpc::answer(request, &name, well).await;
        }
        let status = if well {
            StatusCode::OK
        } else {
            StatusCode::INTERNAL_SERVER_ERROR
        };
        (status, name.to_string()).into_response()
    }))
}

/// Returns when the other end of standard input is gone.
async fn stdin_closes() {
    let (closed, wait) = oneshot::channel();
    // A thread of its own: the runtime would wait for a blocking read when it ends.
    std::thread::spawn(move || {
        // An error ends the wait just as the end of the stream does; nobody may wait any more.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        let _ = closed.send(());
    });
    let _ = wait.await;
}

/// Connections that may wait to be accepted. Labs stop an endpoint under load; the kernel then goes on for so long.
const BACKLOG: u32 = 4096;

fn bind(listen: std::net::SocketAddr) -> io::Result<TcpListener> {
    let socket = if listen.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(listen)?;
    socket.listen(BACKLOG)
}
