//! A small HTTP endpoint that answers 200 with its name: what quickstart and labs kill and revive.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::routing::any;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::oneshot;

use crate::cli::EndpointArgs;
use crate::exit::Failure;
use crate::{run, runtimes};

/// Serves until SIGTERM or SIGINT.
pub(crate) fn run(args: &EndpointArgs) -> Result<(), Failure> {
    runtimes::serving()?.block_on(async {
        let mut stop = run::stop_on_signal()?;
        let doing = format!("cannot serve on {}", args.listen);
        let listener = bind(args).map_err(|error| Failure::runtime(&doing, &error))?;
        let name: Arc<str> = format!("{}\n", args.name).into();
        let app = Router::new().fallback(any(move || async move { name.to_string() }));
        tokio::select! {
            () = stop.wait() => Ok(()),
            () = stdin_closes(), if args.with_stdin => Ok(()),
            ended = axum::serve(listener, app) => ended.map_err(|error| Failure::runtime(&doing, &error)),
        }
    })
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

fn bind(args: &EndpointArgs) -> io::Result<TcpListener> {
    let socket = if args.listen.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(args.listen)?;
    socket.listen(BACKLOG)
}
